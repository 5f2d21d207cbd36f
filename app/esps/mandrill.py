"""Mandrill's (Mailchimp Transactional's) webhooks: a form with one field, `mandrill_events`, a JSON array.

Source: "Webhooks", mailchimp.com/developer/transactional/docs/webhooks, and "Webhook Format", "Message Event Webhook
Format", "How to Authenticate Webhook Requests" and "Why can't my webhook or inbound route URL be verified?" of
mandrill.zendesk.com, read 2026-11-24. What is not plain from them:
- The signature is over the address as it was typed in at Mandrill, so `public_url` must be that, to the last slash;
  what the request says of its host is never looked at.
- A new address is tried with HEAD; only where that isn't answered 200 comes a POST signed with a key that everybody
  knows (`test-webhook`). HEAD is answered, so that key opens nothing here.
- `send` means that Mandrill has sent the message: our `sent`. That the receiving server took it is `delivered`.
- `soft_bounce` is given up, `deferral` isn't. The documentation writes `hard-bounce` and its events `hard_bounce`.
- `_id` is the message's, not the event's: no id makes the identity.
- `location` and `user_agent_parsed` are null where not known; an empty one is sent as `[]` (from memory).
- What the receiving server said stands in `msg.diag`, or in the last of `msg.smtp_events`.
- Changes of the allowlist or denylist (`type`, `action`, `reject`) and received mail are no events of a message sent.
Rule: a dead letter, and what `split` gives, is the JSON alone (`[{…}]`), which `parse` takes as well.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from typing import Final
from urllib.parse import urlsplit

from app.errors import ConfigError
from app.esps import documents, fields, forms
from app.esps.credentials import verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

SIGNATURE: Final = b"x-mandrill-signature"
MAX_SIGNATURE_BYTES: Final = 64
"""Base64 of an HMAC over SHA-1 has 28 characters."""
FIELD: Final = "mandrill_events"

# event → our type, hard or soft.
_TYPES: Final = {
    "send": ("sent", None),
    "delivered": ("delivered", None),
    "deferral": ("deferred", None),
    "hard_bounce": ("bounced", "hard"),
    "soft_bounce": ("bounced", "soft"),
    "reject": ("rejected", None),
    "open": ("opened", None),
    "click": ("clicked", None),
    "spam": ("complained", None),
    "unsub": ("unsubscribed", None),
}

_KEPT: Final = ("subject", "sender", "template", "subaccount")
"""Metadata under Mandrill's own names, where the sender's has no such name."""


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """HMAC-SHA1 over the address and each form field's name and value, in order of the names, under any secret."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    encoded = headers.get(SIGNATURE, b"")
    if not encoded or len(encoded) > MAX_SIGNATURE_BYTES or not source.public_url:
        raise refused()
    try:
        signature = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise refused() from None
    form = forms.read(body)
    if form is None:
        raise refused()
    parts = [source.public_url]
    for name, value in sorted(form, key=lambda field: field[0]):
        parts += (name, value)
    signed = "".join(parts).encode()
    fits = False
    for secret in source.secrets:
        # SHA-1 is Mandrill's choice; as an HMAC it is not known to be broken.
        fits |= hmac.compare_digest(hmac.digest(secret, signed, "sha1"), signature)
    if not fits:
        raise refused()


def check(source: Source) -> None:
    if not source.secrets:
        return
    where = f"orgs.{source.org}.sources.{source.name}.public_url"
    if not source.public_url:
        raise ConfigError(
            where, "is missing: Mandrill signs the address, write it exactly as you typed it in there"
        )
    try:
        address = urlsplit(source.public_url)
    except ValueError:
        address = urlsplit("")
    if address.scheme not in ("http", "https") or not address.netloc:
        raise ConfigError(where, "is no address (https://…)")


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(_items(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(_items(body), wrapped=False)


def _items(body: bytes) -> list[documents.JsonObject | Poison]:
    if body[:1] in (b"[", b"{"):
        return documents.read_list(body)
    form = forms.read(body, (FIELD,))
    if not form:
        return [Poison(f"no form with the field {FIELD}", None, body)]
    return documents.read_list(form[-1][1].encode())


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    get = item.get
    word = get("event")
    if word is None and "action" in item:
        return "about the allowlist or denylist, not a message"
    if word == "inbound":
        return "a received message, not an event of a sent one"
    message = fields.members(get("msg"))
    said = message.get
    recipient = said("email") or get("email")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    known = _TYPES.get(word.replace("-", "_")) if type(word) is str else None
    kind, bounce = known or ("unknown", None)
    place = fields.members(get("location"))
    parsed = fields.members(get("user_agent_parsed"))
    agent = fields.text(get("user_agent"))
    reason = fields.text(said("bounce_description"))
    if kind == "rejected":
        reason = (
            fields.text(fields.members(said("reject")).get("reason")) or reason or fields.text(said("state"))
        )
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(get("ts")),
        message_id=fields.text(get("_id")) or fields.text(said("_id")),
        link=fields.text(get("url")),
        ip=fields.text(get("ip")),
        user_agent=agent,
        country=fields.text(place.get("country_short")),
        city=fields.text(place.get("city")),
        client=None if agent else fields.text(parsed.get("ua_family")),
        device="mobile" if parsed.get("mobile") is True and not agent else None,
        bounce=bounce,
        reason=reason,
        smtp_reply=_reply(message),
        machine=True if parsed.get("type") == "robot" else None,
        tags=fields.texts(said("tags")),
        metadata=fields.metadata(message.get("metadata"), message, _KEPT, None if known else word),
    )


def _reply(message: documents.JsonObject) -> str | None:
    found = fields.text(message.get("diag"))
    if found is None:
        events = message.get("smtp_events")
        if type(events) is list and events:
            found = fields.text(fields.members(events[-1]).get("diag"))
    return found


ESP: Final = Esp(
    name="mandrill", verify=verify, parse=parse, split=split, check=check, probes=frozenset({"HEAD"})
)
