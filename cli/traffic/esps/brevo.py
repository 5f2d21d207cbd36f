"""Brevo's transactional webhooks, batched: an array of up to 500 events, with Basic or a bearer token.

Opens that a proxy made have words of their own; machines that click have none. No event has an id or a position.
"""

from __future__ import annotations

from typing import Final

from cli.traffic.esps.writer import (
    Event,
    Said,
    Writer,
    code_of,
    encode,
    meant,
    message_id,
    metadata,
    unsigned,
)
from cli.traffic.happening import Happening

WORDS: Final = {
    "queued": "request",
    "delivered": "delivered",
    "deferred": "deferred",
    "bounced": "hard_bounce",
    "rejected": "blocked",
    "failed": "error",
    "opened": "opened",
    "clicked": "click",
    "complained": "spam",
    "unsubscribed": "unsubscribed",
}
ZONE_S: Final = 3600
"""The account's: `ts` is shifted by it, `ts_event` isn't."""


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    at_s = happening.at_ms // 1000
    word = WORDS[kind]
    if kind == "opened" and happening.machine:
        word = "unique_proxy_open"
    elif kind == "bounced" and happening.bounce == "soft":
        word = "soft_bounce"
    said: Event = {
        "event": word,
        "email": mail.recipient,
        "id": 26224,
        "date": "2026-11-09 00:00:00",
        "ts": at_s + ZONE_S,
        "message-id": f"<{message_id(mail)}@relay.example.com>",
        "ts_event": at_s,
        "ts_epoch": happening.at_ms,
        "subject": "Spring is here",
        "X-Mailin-custom": "|".join(f"{name}:{value}" for name, value in metadata(mail).items()),
        "template_id": 22,
        "tag": '["newsletter"]',
        "tags": ["newsletter"],
    }
    reason = happening.reason
    if reason is not None:
        said["reason"] = reason
        reason = code_of(reason) if kind in ("bounced", "deferred") else reason
    if kind == "opened" or kind == "clicked":
        said["ip"] = happening.ip
        said["user_agent"] = happening.user_agent
        if kind == "clicked":
            said["link"] = happening.link
    return said, meant(happening, machine=kind == "opened" and happening.machine, reason=reason)


WRITER: Final = Writer(
    name="brevo", types=frozenset(WORDS), event=event, body=encode, sign=unsigned, largest=500
)
