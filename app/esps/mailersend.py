"""MailerSend's webhooks, version 2.0 and version 1.0 (legacy).

Sources, read 2026-11-24: "Webhooks", developers.mailersend.com/api/v1/webhooks.html; "Check out the new lighter, faster
webhooks", mailersend.com/whats-new/webhooks-v2 (2025-09-22); "Webhooks", mailersend.com/help/webhooks. What is not
plain from them:
- MailerSend tries the address before it saves a webhook: a body of type `webhook.test`, signed with a key that stands
  in its own documentation. Whoever reads that could sign anything, so under this key nothing is accepted but a small
  body that is such a test, and no event is ever made of one.
- Version 2.0's `created_at` is the activity's own time: in the page's example it is the second that is written in the
  activity's id. In version 1.0 that of `data` is, and the outer one is when the webhook was made.
- `data.id` is the activity's id. That it survives a repeated webhook is not said, so it is shown and makes no identity.
- `…_unique` says that it was the first of its kind, and comes beside the plain word where both are subscribed: an open
  or a click too, and one fact with the other where their times are the same. Subscribe to the plain words alone.
- `soft_bounced` was given up: as long as MailerSend tries, there is `deferred` (paid plans only).
- Surveys have no word among ours: kept as unknown, with their names.
- What is about the account (identities, maintenance, lists, SMS) has no message: a dead letter that says so.
- What is in version 1.0's `morph` besides `object` is from receivers that others have published; what version 2.0's
  `meta` holds (the page has only an empty list) is read by the same names, from memory.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

from app.esps import documents, fields
from app.esps.credentials import fits, verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

SIGNATURE: Final = b"signature"
SIGNATURE_BYTES: Final = 64
PUBLIC_KEY: Final = b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"
"""Of no secrecy: it is in MailerSend's documentation, and signs tests of the address alone."""
TEST: Final = "webhook.test"
MAX_TEST_BYTES: Final = 2_048

# MailerSend's word behind `activity.` → ours, and the bounce's class.
_TYPES: Final[dict[str, tuple[str, str | None]]] = {
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "deferred": ("deferred", None),
    "soft_bounced": ("bounced", "soft"),
    "hard_bounced": ("bounced", "hard"),
    "opened": ("opened", None),
    "opened_unique": ("opened", None),
    "clicked": ("clicked", None),
    "clicked_unique": ("clicked", None),
    "unsubscribed": ("unsubscribed", None),
    "spam_complaint": ("complained", None),
}
_UNKNOWN: Final = ("unknown", None)
_PREFIX: Final = "activity."
# Of `morph` and `meta`: read one by one, or about the record itself.
_READ: Final = ("object", "id", "created_at", "ip", "url", "user_agent", "reason", "readable_reason")
# Of `data`, beside those of `_event`.
_KEPT: Final = ("domain_id", "template_id", "email_id")


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """HMAC-SHA256 (hex) over the raw body, under any of the source's keys; the public one for tests of the address."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    given = headers.get(SIGNATURE, b"")
    if len(given) != SIGNATURE_BYTES:
        raise refused()
    keys = [key for key in source.secrets if key != PUBLIC_KEY]
    if not fits(_signatures(keys, body), given) and not _is_test(body, given):
        raise refused()


def _signatures(keys: list[bytes], body: bytes) -> list[bytes]:
    return [hmac.digest(key, body, sha256).hex().encode() for key in keys]


def _is_test(body: bytes, given: bytes) -> bool:
    if len(body) > MAX_TEST_BYTES or not fits(_signatures([PUBLIC_KEY], body), given):
        return False
    items = documents.read_list(body)
    return len(items) == 1 and isinstance(items[0], dict) and items[0].get("type") == TEST


def unusable(secret: bytes) -> str | None:
    if secret == PUBLIC_KEY:
        return "is the key of MailerSend's documentation, not that of your webhook"
    return None


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(_read(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(_read(body), wrapped=False)


def _read(body: bytes) -> list[documents.JsonObject | Poison]:
    return [
        item for item in documents.read_list(body) if isinstance(item, Poison) or item.get("type") != TEST
    ]


def _event(item: documents.JsonObject) -> Event | str:
    word = item.get("type")
    data = fields.members(item.get("data"))
    if isinstance(word, str) and not word.startswith(_PREFIX):
        return "about the account, not a recipient"
    email = data.get("email")
    mail = fields.members(email)
    recipient = fields.members(mail.get("recipient")).get("email") if mail else email
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    kind, bounce = _TYPES.get(word[len(_PREFIX) :], _UNKNOWN) if isinstance(word, str) else _UNKNOWN
    more = fields.members(data.get("morph")) or fields.members(data.get("meta"))
    reason, reply = fields.reason_and_reply(more.get("readable_reason") or more.get("reason"))
    at_ms = fields.time_ms(data.get("created_at"))
    message_id = fields.text(data.get("message_id"))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(item.get("created_at")) if at_ms is None else at_ms,
        esp_event_id=fields.text(data.get("id")),
        message_id=message_id or fields.text(fields.members(mail.get("message")).get("id")),
        link=fields.text(more.get("url")),
        ip=fields.text(more.get("ip")),
        user_agent=fields.text(more.get("user_agent")),
        bounce=bounce,
        reason=reason,
        smtp_reply=reply,
        tags=fields.texts(data.get("tags")) or fields.texts(mail.get("tags")),
        metadata=_metadata(item, data, more, word if kind == "unknown" else None),
    )


def _metadata(
    item: documents.JsonObject, data: documents.JsonObject, more: documents.JsonObject, word: object
) -> dict[str, str]:
    metadata = {name: value for name, value in fields.strings(more).items() if name not in _READ}
    for name in _KEPT:
        value = fields.plain(data.get(name)) or fields.plain(item.get(name))
        if value:
            metadata[name] = value
    if isinstance(word, str):
        metadata["event"] = word
    return metadata


ESP: Final = Esp(name="mailersend", verify=verify, parse=parse, split=split, unusable=unusable)
