"""Resend's webhooks, sent through Svix: one object for each event of one message.

Sources: "Event Types" and the page of each event below resend.com/docs/webhooks, "Verify Webhooks Requests" and
"Retries and Replays" beside them; "Verifying Webhooks Manually", docs.svix.com/receiving/verifying-payloads/how-manual;
read 2026-11-24. What is not plain from them:
- The timestamp is signed and new with each attempt, so five minutes are enough for the clocks' difference; Svix' own
  libraries allow the same. The header may hold several signatures while a secret is changed.
- `svix-id` stays the same when a message is sent again, and so does the body. The identity goes by the body (its times
  have milliseconds), so that a body that was saved without its headers is the same event; the id is shown.
- `to` holds the "impacted" recipients: each one is an event of its own here.
- `tags` is an object on the events' pages and a list of `{name, value}` on the older page "Body Parameters": both are
  metadata. So are `template_id` and `broadcast_id`, which is `campaign_id` too (the default template reads that) where
  the sender has no tag of that name.
- `email.sent` means that Resend took the message: our `queued`. `email.scheduled` is a plan that may be cancelled: it
  stays in the log as `unknown` and counts nowhere.
- `email.bounced` is given up: soft with type `Transient` or `Undetermined`, else hard. `email.delivery_delayed` is
  tried again. `created_at` within `data` is the message's time, not the event's.
- Opens come without address and agent. That `email.suppressed` has its reason in `data.suppressed` is from memory.
- `contact.*`, `domain.*` and `email.received` are not about a sent message: dead letters that say so.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Final

from app.esps import documents, fields
from app.esps.credentials import verify_signed
from app.esps.esp import NOW, Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

ID: Final = b"svix-id"
TIMESTAMP: Final = b"svix-timestamp"
SIGNATURE: Final = b"svix-signature"
WINDOW_S: Final = 300
MAX_SIGNATURE_BYTES: Final = 2_048
"""About forty signatures: Svix sends one for each secret that is valid at the time."""

_ID: Final = re.compile(rb"[!-~]{1,256}")
_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_PREFIX: Final = b"whsec_"

_TYPES: Final = {
    "email.sent": "queued",
    "email.delivered": "delivered",
    "email.delivery_delayed": "deferred",
    "email.bounced": "bounced",
    "email.suppressed": "rejected",
    "email.failed": "failed",
    "email.opened": "opened",
    "email.clicked": "clicked",
    "email.complained": "complained",
}
_SOFT: Final = frozenset({"Transient", "Undetermined"})
_KEPT: Final = ("broadcast_id", "template_id")


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """HMAC-SHA256 of id, timestamp and raw body, under any of the secrets, within five minutes of `NOW`."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    message_id = headers.get(ID, b"")
    timestamp = headers.get(TIMESTAMP, b"")
    given = headers.get(SIGNATURE, b"")
    now = headers.get(NOW, b"")
    if (
        len(given) > MAX_SIGNATURE_BYTES
        or not _ID.fullmatch(message_id)
        or not _SECONDS.fullmatch(timestamp)
        or not _SECONDS.fullmatch(now)
        or abs(int(timestamp) - int(now)) > WINDOW_S
    ):
        raise refused()
    signatures = [part[3:] for part in given.split(b" ") if part.startswith(b"v1,")]
    signed = b"%b.%b.%b" % (message_id, timestamp, body)
    fits = False
    for secret in source.secrets:
        key = _key(secret)
        if key is None:
            continue
        expected = b64encode(hmac.digest(key, signed, sha256))
        for signature in signatures:
            fits |= hmac.compare_digest(expected, signature)
    if not fits:
        raise refused()


@lru_cache(maxsize=1024)
def _key(secret: bytes) -> bytes | None:
    """A signing secret as the dashboard shows it. None: it is no such secret."""
    try:
        key = b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key or None


def unusable(secret: bytes) -> str | None:
    return None if _key(secret) is not None else "is not a signing secret of Resend (whsec_ and base64)"


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    message_id = fields.text(headers.get("svix-id"))

    def read_event(item: documents.JsonObject) -> Event | str:
        return _event(item, message_id)

    return documents.events(_items(body), read_event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(_items(body), wrapped=False)


def _items(body: bytes) -> list[documents.JsonObject | Poison]:
    """The body's objects, those about several recipients as one object for each of them."""
    result: list[documents.JsonObject | Poison] = []
    for item in documents.read_list(body):
        data = None if isinstance(item, Poison) else item.get("data")
        to = data.get("to") if type(data) is dict else None
        if type(to) is not list or len(to) < 2:
            result.append(item)
            continue
        assert not isinstance(item, Poison)
        result += [{**item, "data": {**fields.members(data), "to": [recipient]}} for recipient in to]
    return result


def _event(item: documents.JsonObject, message_id: str | None) -> Event | str:
    """The event, or why it is none."""
    word = fields.text(item.get("type"))
    if word is not None and (not word.startswith("email.") or word == "email.received"):
        return f"{word}: not about a sent message"
    data = fields.members(item.get("data"))
    recipient = _recipient(data.get("to"))
    if recipient is None:
        return "no recipient"
    kind = _TYPES.get(word, "unknown") if word else "unknown"
    click = fields.members(data.get("click"))
    bounce = fields.members(data.get("bounce"))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(click.get("timestamp")) or fields.time_ms(item.get("created_at")),
        esp_event_id=message_id,
        message_id=fields.text(data.get("email_id")),
        link=fields.text(click.get("link")),
        ip=fields.text(click.get("ipAddress")),
        user_agent=fields.text(click.get("userAgent")),
        bounce=("soft" if fields.text(bounce.get("type")) in _SOFT else "hard")
        if kind == "bounced"
        else None,
        reason=_reason(kind, data, bounce),
        smtp_reply="; ".join(fields.texts(bounce.get("diagnosticCode"))) or None,
        metadata=_metadata(data, word if kind == "unknown" else None),
    )


def _recipient(to: object) -> str | None:
    """The first address, without the name that may stand before it."""
    first = to[0] if type(to) is list and to else to
    if type(first) is not str or not first.strip():
        return None
    if first.rstrip().endswith(">") and "<" in first:
        first = first.rstrip()[:-1].rpartition("<")[2]
    return first if first.strip() else None


def _reason(kind: str, data: documents.JsonObject, bounce: documents.JsonObject) -> str | None:
    if kind == "bounced":
        return fields.text(bounce.get("subType")) or fields.text(bounce.get("message"))
    if kind == "failed":
        return fields.text(fields.members(data.get("failed")).get("reason"))
    if kind == "rejected":
        suppressed = fields.members(data.get("suppressed"))
        return fields.text(suppressed.get("type")) or fields.text(suppressed.get("message"))
    return None


def _metadata(data: documents.JsonObject, word: str | None) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for name in _KEPT:
        if found := fields.text(data.get(name)):
            metadata[name] = found
    tags = data.get("tags")
    if type(tags) is dict:
        metadata |= fields.strings(tags)
    elif type(tags) is list:
        for tag in tags:
            pair = fields.members(tag)
            key, value = fields.text(pair.get("name")), fields.plain(pair.get("value"))
            if key is not None and value is not None:
                metadata[key] = value
    if "broadcast_id" in metadata:
        metadata.setdefault("campaign_id", metadata["broadcast_id"])
    if word:
        metadata["event"] = word
    return metadata


ESP: Final = Esp(
    name="resend",
    verify=verify,
    parse=parse,
    split=split,
    unusable=unusable,
    headers=frozenset({"svix-id"}),
    timed=True,
)
