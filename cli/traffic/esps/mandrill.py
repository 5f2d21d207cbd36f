"""Mandrill's webhooks: a form with an array of up to 1,000 events, under an HMAC of the address and the form.

Places and robots are told, positions aren't.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final
from urllib.parse import quote_plus, unquote_plus

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

FIELD: Final = "mandrill_events"
WORDS: Final = {
    "sent": "send",
    "delivered": "delivered",
    "deferred": "deferral",
    "bounced": "hard_bounce",
    "rejected": "reject",
    "opened": "open",
    "clicked": "click",
    "complained": "spam",
    "unsubscribed": "unsub",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    at_s = happening.at_ms // 1000
    message: Event = {
        "ts": at_s,
        "subject": "Spring is here",
        "email": mail.recipient,
        "sender": "news@acme.example",
        "tags": ["newsletter"],
        "state": "sent",
        "metadata": metadata(mail),
        "_id": message_id(mail),
    }
    word = "soft_bounce" if happening.bounce == "soft" else WORDS[kind]
    said: Event = {"event": word, "msg": message, "_id": message_id(mail), "ts": at_s}
    reason = None
    engaged = kind in ("opened", "clicked")
    if engaged:
        said |= {
            "ip": happening.ip,
            "location": {"country_short": mail.country, "city": mail.city},
            "user_agent": happening.user_agent,
            "user_agent_parsed": {"type": "robot" if happening.machine else "Email Client", "mobile": False},
        }
        if kind == "clicked":
            said["url"] = happening.link
    elif kind == "bounced":
        reason = "bad_mailbox" if happening.bounce == "hard" else "mailbox_full"
        message |= {"state": "bounced", "bounce_description": reason, "diag": happening.reason}
    elif kind == "deferred":
        message |= {"state": "deferred", "smtp_events": [{"ts": at_s, "diag": happening.reason}]}
    elif kind == "rejected":
        reason = happening.reason
        message |= {"state": "rejected", "reject": {"reason": reason}}
    return said, meant(happening, place=True, machine=engaged and happening.machine, reason=reason)


def body(events: list[Event]) -> bytes:
    return f"{FIELD}={quote_plus(encode(events))}".encode()


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    value = unquote_plus(body.partition(b"=")[2].decode())
    signed = f"{credentials.public_url}{FIELD}{value}".encode()
    # SHA-1 is Mandrill's choice.
    signature = base64.b64encode(hmac.digest(credentials.secret, signed, "sha1")).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-mandrill-signature": signature}
    return headers, body


WRITER: Final = Writer(
    name="mandrill", types=frozenset(WORDS), event=event, body=body, sign=sign, largest=1000
)
