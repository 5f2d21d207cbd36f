"""Resend's webhooks, through Svix: one event a request, under an HMAC of its id, the attempt's time and the body.

An open has neither address nor agent, so that of a proxy looks like a person's; a click has both. No unsubscription,
place, position or machine is told. The id is the body's: it stays the same when that is sent again.
"""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import Final

from cli.traffic.esps.writer import (
    Credentials,
    Event,
    Said,
    Signed,
    Writer,
    meant,
    message_id,
    metadata,
    one,
    rfc3339,
)
from cli.traffic.happening import Happening

WORDS: Final = {
    "queued": "email.sent",
    "delivered": "email.delivered",
    "deferred": "email.delivery_delayed",
    "bounced": "email.bounced",
    "rejected": "email.suppressed",
    "failed": "email.failed",
    "opened": "email.opened",
    "clicked": "email.clicked",
    "complained": "email.complained",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    at = rfc3339(happening.at_ms)
    data: Event = {
        "created_at": at,
        "email_id": message_id(mail),
        "from": "Acme <news@acme.example>",
        "to": [mail.recipient],
        "subject": "Spring is here",
        "tags": metadata(mail),
    }
    reason = None
    if kind == "clicked":
        data["click"] = {
            "ipAddress": happening.ip,
            "link": happening.link,
            "timestamp": at,
            "userAgent": happening.user_agent,
        }
    elif kind == "bounced":
        hard = happening.bounce == "hard"
        reason = "NoEmail" if hard else "MailboxFull"
        data["bounce"] = {
            "type": "Permanent" if hard else "Transient",
            "subType": reason,
            "message": "The recipient's mail server gave a bounce.",
            "diagnosticCode": [f"smtp; {happening.reason}"],
        }
    elif kind == "failed":
        reason = happening.reason
        data["failed"] = {"reason": reason}
    elif kind == "rejected":
        reason = "OnAccountSuppressionList"
        data["suppressed"] = {"type": reason, "message": happening.reason}
    said: Event = {"type": WORDS[kind], "created_at": at, "data": data}
    return said, meant(happening, precision_ms=1, agent=kind == "clicked", reason=reason)


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    key = base64.b64decode(credentials.secret.removeprefix(b"whsec_"))
    svix_id = f"msg_{sha256(body).hexdigest()[:27]}"
    signed = f"{svix_id}.{now_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "content-type": "application/json",
        "svix-id": svix_id,
        "svix-timestamp": str(now_s),
        "svix-signature": f"v1,{signature}",
    }, body


WRITER: Final = Writer(name="resend", types=frozenset(WORDS), event=event, body=one, sign=sign)
