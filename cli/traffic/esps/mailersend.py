"""MailerSend's webhooks, version 2: one activity a request, under an HMAC of the body.

A campaign is a tag; there are no fields of the sender's own (so no variants), no places, positions or bot flags.
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
    code_of,
    meant,
    message_id,
    one,
    rfc3339,
)
from cli.traffic.happening import Happening

WORDS: Final = {
    "sent": "sent",
    "delivered": "delivered",
    "deferred": "deferred",
    "bounced": "hard_bounced",
    "opened": "opened",
    "clicked": "clicked",
    "complained": "spam_complaint",
    "unsubscribed": "unsubscribed",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    word = "soft_bounced" if happening.bounce == "soft" else WORDS[kind]
    meta: dict[str, str | None] = {}
    reason = None
    if kind in ("bounced", "deferred"):
        meta["reason"] = happening.reason
        reason = code_of(happening.reason)
    elif kind in ("opened", "clicked"):
        meta |= {"ip": happening.ip, "user_agent": happening.user_agent}
        if kind == "clicked":
            meta["url"] = happening.link
    said: Event = {
        "type": f"activity.{word}",
        "created_at": rfc3339(happening.at_ms).replace("Z", "000Z"),
        "data": {
            "id": event_id,
            "domain_id": "yv69oxl5kl785kw2",
            "message_id": message_id(mail),
            "type": word,
            "subject": "Spring is here",
            "email": mail.recipient,
            "tags": [mail.campaign],
            "meta": meta or [],
        },
    }
    return said, meant(happening, precision_ms=1, variant=False, reason=reason)


def renew(said: Event, word: str) -> None:
    data = said["data"]
    assert isinstance(data, dict)
    data["id"] = f"{word}.{data['id']}"


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    # The console writes `\\/` for `/`, and signs that.
    body = body.replace(b"/", b"\\/")
    signature = hmac.digest(credentials.secret, body, "sha256").hex()
    return {"content-type": "application/json", "signature": signature}, body


WRITER: Final = Writer(
    name="mailersend", types=frozenset(WORDS), event=event, body=one, sign=sign, renew=renew
)
