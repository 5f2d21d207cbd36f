"""Mailtrap's webhooks of e-mail sending, as JSON Lines: up to 500 events, under an HMAC of the body.

`event_id` survives resends and makes the identity. There is no event before the delivery; places, positions and
machines are not told.
"""

from __future__ import annotations

import hmac
from typing import Final

from cli.traffic.esps.writer import (
    Credentials,
    Event,
    Said,
    Signed,
    Writer,
    encode,
    meant,
    message_id,
    metadata,
)
from cli.traffic.happening import Happening

WORDS: Final = {
    "delivered": "delivery",
    "deferred": "soft bounce",
    "bounced": "bounce",
    "rejected": "reject",
    "opened": "open",
    "clicked": "click",
    "complained": "spam",
    "unsubscribed": "unsubscribe",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    said: Event = {
        "event": WORDS[kind],
        "timestamp": happening.at_ms // 1000,
        "sending_stream": "bulk",
        "category": "newsletter",
        "custom_variables": metadata(mail),
        "message_id": message_id(mail),
        "email": mail.recipient,
        "event_id": event_id,
        "sending_domain_name": "acme.example",
    }
    reason = None
    if kind in ("opened", "clicked"):
        said |= {"ip": happening.ip, "user_agent": happening.user_agent}
        if kind == "clicked":
            said["url"] = happening.link
    elif kind in ("bounced", "deferred"):
        reason = "badmailbox" if happening.bounce == "hard" else "overquota"
        said |= {
            "bounce_category": reason,
            "response": happening.reason,
            "response_code": int((happening.reason or "0").split()[0]),
        }
    elif kind == "rejected":
        reason = happening.reason
        said["reason"] = reason
    return said, meant(happening, own_id=event_id, reason=reason)


def body(events: list[Event]) -> bytes:
    return b"\n".join([*map(encode, events), b""])


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    signature = hmac.digest(credentials.secret, body, "sha256").hex()
    return {"content-type": "application/jsonl", "mailtrap-signature": signature}, body


WRITER: Final = Writer(
    name="mailtrap", types=frozenset(WORDS), event=event, body=body, sign=sign, largest=500
)
