"""Mailtrap's webhooks of e-mail sending: batches of up to 500 events, as JSON (`{"events": […]}`) or JSON Lines.

Sources: "Webhooks" (docs.mailtrap.io/email-api-smtp/advanced/webhooks), "Statuses and Events" and "Bounce
Categorization" beside it, and the payloads' description, specs/webhooks.openapi.yml of
github.com/mailtrap/mailtrap-openapi (shown as docs.mailtrap.io/developers/webhooks); read 2026-11-24. What is not plain
from them:
- `Mailtrap-Signature` is the hexadecimal HMAC-SHA256 of the raw body (the page's section "Webhook signature
  verification"). A name and password, or a token in the address, may stand beside or in place of it.
- `event_id` is "unique … (use for idempotency)": it makes the identity.
- `soft bounce` is tried again, ten times: our `deferred`. `bounce` is given up, and hard but for the categories of
  passing troubles (a full mailbox, a time-out, greylisting …).
- `suspension` is a message that Mailtrap still holds (unverified domain, daily limit): `queued`, since it may end as a
  `reject` without having been sent.
- The bounces' page writes `soft_bounce` for `soft bounce`: both are taken.
- `activity_log.*` is about the account, `inbound*` about received mail: dead letters that say so.
- Places, positions and machines are not given.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

from app.esps import documents, fields
from app.esps.credentials import fits, verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

SIGNATURE: Final = b"mailtrap-signature"
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64}")
_WRAPPED: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*+\{\s*+"events"')

_TYPES: Final = {
    "delivery": "delivered",
    "soft bounce": "deferred",
    "bounce": "bounced",
    "suspension": "queued",
    "reject": "rejected",
    "open": "opened",
    "click": "clicked",
    "spam": "complained",
    "unsubscribe": "unsubscribed",
}
_SOFT: Final = frozenset({"transientfail", "greylisting", "timeout", "overquota", "serverfail", "dnsfail"})
_NO_RECIPIENT: Final = ("activity_log", "inbound")
_OWN: Final = ("category", "sending_stream", "sending_domain_name")
"""Metadata under Mailtrap's own names, where the sender's `custom_variables` have no such name."""


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """HMAC-SHA256 of the raw body, in hexadecimal, under any of the secrets."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    given = headers.get(SIGNATURE, b"")
    if not _HEX.fullmatch(given):
        raise refused()
    expected = (hmac.digest(secret, body, sha256).hex().encode() for secret in source.secrets)
    if not fits(expected, given.lower()):
        raise refused()


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(_items(body), _event, wrapped=True)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(_items(body), wrapped=True)


def _items(body: bytes) -> list[documents.JsonObject | Poison]:
    if _WRAPPED.match(body):
        return documents.read_wrapped(body)
    if body.lstrip()[:1] == b"[":
        return documents.read_list(body)
    return documents.read_lines(body)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    get = item.get
    word = fields.text(get("event"))
    if word is not None and word.startswith(_NO_RECIPIENT):
        return (
            "about the account, not a recipient" if word.startswith("activity_log") else "about incoming mail"
        )
    recipient = get("email")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    kind = _TYPES.get(word.lower().replace("_", " "), "unknown") if word else "unknown"
    event_id = fields.text(get("event_id"))
    category = fields.text(get("bounce_category"))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(get("timestamp")),
        event_id=event_id,
        esp_event_id=event_id,
        message_id=fields.text(get("message_id")),
        link=fields.text(get("url")),
        ip=fields.text(get("ip")),
        user_agent=fields.text(get("user_agent")),
        bounce=("soft" if category and category.lower() in _SOFT else "hard") if kind == "bounced" else None,
        reason=category or fields.text(get("reason")),
        smtp_reply=_reply(get("response_code"), fields.text(get("response"))),
        tags=fields.texts(get("category")),
        metadata=_metadata(item, word if kind == "unknown" else None),
    )


def _reply(code: object, response: str | None) -> str | None:
    number = fields.whole(code)
    if not number:
        return response
    if response is None or response.startswith(str(number)):
        return response or str(number)
    return f"{number} {response}"


def _metadata(item: documents.JsonObject, word: str | None) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for name in _OWN:
        if found := fields.text(item.get(name)):
            metadata[name] = found
    metadata |= fields.strings(item.get("custom_variables"))
    if word:
        metadata["event"] = word
    return metadata


ESP: Final = Esp(name="mailtrap", verify=verify, parse=parse, split=split)
