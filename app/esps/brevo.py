"""Brevo's transactional and marketing webhooks, single and batched.

Sources, read 2026-11-24, all below developers.brevo.com/docs: "Transactional webhooks", "Marketing webhooks", "Batched
webhooks", "Secure webhook calls", "Retry mechanism". What is not plain from them:
- Any 5xx, and any 4xx but 429, makes Brevo discard the event for good; 429 and silence are tried again after ten
  minutes, 1, 2 and 8 hours. So `busy` is 429, and a proxy in front of the API has to turn its own 502 and 503 into it.
- Nothing is signed: a user and a password in the address (sent as Basic), or a bearer token, are checked.
- A batch is an array of up to 500 events of five minutes; the page shows no body, the array is from others' receivers.
- `ts_event` and `ts_epoch` are UTC; `ts` is shifted by the account's zone (the marketing page's own example has it an
  hour ahead), and is read only where the other two are missing, so that a repeated event stays the same one.
- `id` is the webhook's, not the event's: no event has an id.
- `request` is Brevo's acceptance of the message: our `queued`. `invalid_email` and `blocked` were never sent:
  `rejected`.
- Temporary failures are `deferred` as long as Brevo tries; `soft_bounce` follows when it has given up (from memory).
- The first opening is `unique_opened`, later ones are `opened`, never both for one opening
  (github.com/anymail/django-anymail/issues/344, 2023-12). `proxy_open` and `unique_proxy_open` were loaded by a mailbox
  provider's proxy (github.com/anymail/django-anymail/pull/387, 2024-07): opens that no person made.
- `tag` is a text, or the JSON list that `tags` is too. `X-Mailin-custom` is the sender's own header: "name:value|…" or
  JSON becomes metadata.
- Marketing: `camp_id` is put into metadata as `campaign_id`, which the default template reads. Events about a contact
  and not about a mailing (added to a list, updated, deleted) are dead letters that say so; so is SMS, which has no
  address.
"""

from __future__ import annotations

from typing import Any, Final

from app.esps import documents, fields
from app.esps.credentials import check_unsigned, verify_unsigned
from app.esps.esp import Busy, Esp, KeptHeaders
from app.facts import Event, Poison

# Brevo's word → ours, the bounce's class, and whether a machine did it.
_TYPES: Final[dict[str, tuple[str, str | None, bool | None]]] = {
    "request": ("queued", None, None),
    "sent": ("sent", None, None),
    "delivered": ("delivered", None, None),
    "deferred": ("deferred", None, None),
    "soft_bounce": ("bounced", "soft", None),
    "hard_bounce": ("bounced", "hard", None),
    "invalid_email": ("rejected", None, None),
    "blocked": ("rejected", None, None),
    "error": ("failed", None, None),
    "opened": ("opened", None, None),
    "unique_opened": ("opened", None, None),
    "proxy_open": ("opened", None, True),
    "unique_proxy_open": ("opened", None, True),
    "click": ("clicked", None, None),
    "spam": ("complained", None, None),
    "complaint": ("complained", None, None),
    "unsubscribed": ("unsubscribed", None, None),
    "unsubscribe": ("unsubscribed", None, None),
}
_UNKNOWN: Final = ("unknown", None, None)
_OF_CONTACTS: Final = frozenset({"list_addition", "contact_updated", "contact_deleted"})
_CUSTOM: Final = "X-Mailin-custom"

# Brevo's own fields that nothing is made of.
_NOISE: Final = (
    "id", "date", "date_sent", "date_event", "ts_sent", "ts", "ts_epoch", "subject", "sending_ip", "mirror_link",
    "sender_email", "tag",
)  # fmt: skip
# "No contact", "no template".
_EMPTY: Final = frozenset({"", "0"})


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(documents.read_list(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False)


def _event(item: documents.JsonObject) -> Event | str:
    rest = item.copy()
    take = rest.pop
    word = take("event", None)
    if type(word) is str and word in _OF_CONTACTS:
        return "about a contact, not a mailing"
    recipient = take("email", None)
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    kind, bounce, machine = _TYPES.get(word, _UNKNOWN) if type(word) is str else _UNKNOWN
    reason, reply = fields.reason_and_reply(take("reason", None))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=_time(take("ts_event", None), item),
        message_id=fields.text(take("message-id", None)),
        link=fields.text(take("link", None)) or fields.text(take("URL", None)),
        ip=fields.text(take("ip", None)),
        user_agent=fields.text(take("user_agent", None)),
        device=fields.device(take("device_used", None)),
        bounce=bounce,
        reason=reason,
        smtp_reply=reply,
        machine=machine,
        tags=fields.texts(take("tags", None)) or _tag(item.get("tag")),
        metadata=_metadata(rest, word if kind == "unknown" else None),
    )


def _time(ts_event: object, item: documents.JsonObject) -> int | None:
    at_ms = fields.time_ms(ts_event)
    if at_ms is None:
        at_ms = fields.time_ms(item.get("ts_epoch"))
    return fields.time_ms(item.get("ts")) if at_ms is None else at_ms


def _tag(tag: object) -> tuple[str, ...]:
    found = documents.read_texts(tag) if isinstance(tag, str) else None
    return fields.texts(tag if found is None else found)


def _metadata(rest: dict[str, Any], word: object) -> dict[str, str]:
    custom = fields.text(rest.pop(_CUSTOM, None))
    for name in _NOISE:
        rest.pop(name, None)
    metadata = {name: value for name, value in fields.strings(rest).items() if value not in _EMPTY}
    if "camp_id" in metadata:
        metadata["campaign_id"] = metadata["camp_id"]
    if custom:
        values = _custom(custom)
        metadata |= values if values else {_CUSTOM: custom}
    if type(word) is str:
        metadata["event"] = word
    return metadata


def _custom(words: str) -> dict[str, str]:
    values = documents.read_object(words)
    if values is not None:
        return fields.strings(values)
    pairs = [part.partition(":") for part in words.split("|")]
    if not all(name.strip() and colon and not value.startswith("//") for name, colon, value in pairs):
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


ESP: Final = Esp(
    name="brevo",
    verify=verify_unsigned,
    parse=parse,
    split=split,
    check=check_unsigned,
    busy=Busy(status=429),
)
