"""Mailjet's Event API.

Sources, read 2026-11-24: "Event API: real-time notifications" (dev.mailjet.com/email/guides/webhooks, as it stands in
github.com/mailjet/api-documentation, guides/_event-api.md) and "Event Tracking API",
documentation.mailjet.com/hc/en-us/articles/360043578154. What is not plain from them:
- Nothing is signed. Mailjet recommends a user and a password in the address, which it sends as Basic.
- Version 1 posts one object, Version 2 (grouped) the events of the last second as an array, of mixed types.
- `sent` says that the receiving server took the message: our `delivered`. There is no event before that one.
- A bounce that is not `hard_bounce` was given up: soft. Only of `greylisted` the page says that Mailjet tries again.
- `blocked` is Mailjet's own refusal to send, for an address that bounced before or came twice: our `rejected`.
- No event has an id of its own. Numbers also come as texts (older accounts).
- `customcampaign`, else `mj_campaign_id`, is put into metadata as `campaign_id`, which the default template reads.
- `Payload` is the sender's own text, often JSON: an object's plain values become metadata.
- `comment`, the receiving server's words in a bounce, and `Message_GUID` are from memory.
"""

from __future__ import annotations

from typing import Any, Final

from app.esps import documents, fields
from app.esps.credentials import check_unsigned, verify_unsigned
from app.esps.esp import Esp, KeptHeaders
from app.facts import Event, Poison

_TYPES: Final = {
    "sent": "delivered",
    "open": "opened",
    "click": "clicked",
    "bounce": "bounced",
    "blocked": "rejected",
    "spam": "complained",
    "unsub": "unsubscribed",
}
_TRIED_AGAIN: Final = "greylisted"
_FLAGS: Final = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
# Fields that say nothing where they are empty, and they mostly are.
_EMPTY: Final = frozenset({"", "0"})


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(documents.read_list(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False)


def _event(item: documents.JsonObject) -> Event | str:
    rest = item.copy()
    take = rest.pop
    recipient = take("email", None)
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    word = take("event", None)
    kind = _TYPES.get(word, "unknown") if type(word) is str else "unknown"
    reason = fields.text(take("error", None))
    hard = _flag(take("hard_bounce", None))
    if kind == "bounced" and reason == _TRIED_AGAIN and not hard:
        kind = "deferred"
    bounce = None
    if kind == "bounced" and hard is not None:
        bounce = "hard" if hard else "soft"
    deprecated_id = take("mj_message_id", None)
    message_id = fields.plain(take("MessageID", None)) or fields.plain(deprecated_id)
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(take("time", None)),
        message_id=message_id or None,
        link=fields.text(take("url", None)),
        ip=fields.text(take("ip", None)),
        user_agent=fields.text(take("agent", None)),
        country=fields.text(take("geo", None)),
        bounce=bounce,
        reason=reason,
        smtp_reply=fields.text(take("smtp_reply", None)) or fields.text(take("comment", None)),
        metadata=_metadata(rest, word if kind == "unknown" else None),
    )


def _flag(value: object) -> bool | None:
    return _FLAGS.get(value) if isinstance(value, str | int) else None


def _metadata(rest: dict[str, Any], word: object) -> dict[str, str]:
    payload = fields.text(rest.pop("Payload", None))
    metadata = {name: value for name, value in fields.strings(rest).items() if value not in _EMPTY}
    campaign = metadata.get("customcampaign") or metadata.get("mj_campaign_id")
    if campaign:
        metadata["campaign_id"] = campaign
    if payload:
        values = documents.read_object(payload)
        if values is None:
            metadata["Payload"] = payload
        else:
            metadata |= fields.strings(values)
    if type(word) is str:
        metadata["event"] = word
    return metadata


ESP: Final = Esp(name="mailjet", verify=verify_unsigned, parse=parse, split=split, check=check_unsigned)
