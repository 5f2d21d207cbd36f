"""Mailgun's webhooks, current form: one event a request, and a signed token beside it in the body.

The token is the body's own, so that a resend of it is taken for one. Places and bots are told, positions aren't.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
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
    one,
)
from cli.traffic.happening import Happening
from cli.traffic.world import NOBODY

WORDS: Final = {
    "queued": "accepted",
    "delivered": "delivered",
    "deferred": "failed",
    "bounced": "failed",
    "rejected": "rejected",
    "opened": "opened",
    "clicked": "clicked",
    "complained": "complained",
    "unsubscribed": "unsubscribed",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    said: Event = {
        "event": WORDS[kind],
        "id": event_id,
        "timestamp": happening.at_ms / 1000,
        "log-level": "info",
        "message": {"headers": {"message-id": f"{message_id(mail)}@mg.acme.example"}},
        "recipient": mail.recipient,
        "recipient-domain": mail.recipient.rpartition("@")[2],
        "tags": ["newsletter"],
        "user-variables": metadata(mail),
    }
    reason = None
    engaged = kind in ("opened", "clicked")
    if kind in ("bounced", "deferred"):
        code, _, words = (happening.reason or "").partition(" ")
        reason = "bounce" if happening.bounce == "hard" else "generic"
        said["severity"] = "permanent" if kind == "bounced" else "temporary"
        said["reason"] = reason
        status: Event = {"code": int(code), "message": words, "attempt-no": 1}
        if kind == "bounced":
            status["bounce-type"] = happening.bounce
        said["delivery-status"] = status
    elif kind == "rejected":
        said["reject"] = {"reason": happening.reason, "description": ""}
    elif engaged:
        said["ip"] = happening.ip
        said["geolocation"] = {"country": mail.country, "region": "Unknown", "city": mail.city}
        agent = happening.agent or NOBODY
        said["client-info"] = {
            "client-type": "email client" if agent.client else "unknown",
            "client-name": agent.client or "unknown",
            "device-type": agent.device or "unknown",
            "user-agent": agent.user_agent,
            "bot": "generic" if happening.machine else "",
        }
        if kind == "clicked":
            said["url"] = happening.link
    found = meant(happening, precision_ms=1, place=True, machine=engaged and happening.machine, reason=reason)
    return {"event-data": said}, found


def renew(said: Event, word: str) -> None:
    data = said["event-data"]
    assert isinstance(data, dict)
    data["id"] = f"{word}.{data['id']}"


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    token = sha256(body).hexdigest()[:50]
    timestamp = str(now_s)
    signed = hmac.digest(credentials.secret, (timestamp + token).encode(), "sha256").hex()
    triple = encode({"timestamp": timestamp, "token": token, "signature": signed})
    return {"content-type": "application/json"}, b'{"signature":' + triple + b"," + body[1:]


WRITER: Final = Writer(name="mailgun", types=frozenset(WORDS), event=event, body=one, sign=sign, renew=renew)
