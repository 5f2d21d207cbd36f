"""Postal's webhooks: one event a request, signed with RSA over the body.

`uuid` survives resends and makes the identity. A campaign is the message's one tag, so there are no variants; there is
no event before the delivery, and no place, position or machine.
"""

from __future__ import annotations

import base64
import uuid
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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
)
from cli.traffic.happening import Happening

# Our type → Postal's event and the delivery's status.
WORDS: Final = {
    "delivered": ("MessageSent", "Sent"),
    "deferred": ("MessageDelayed", "SoftFail"),
    "bounced": ("MessageDeliveryFailed", "HardFail"),
    "rejected": ("MessageHeld", "Held"),
    "opened": ("MessageLoaded", ""),
    "clicked": ("MessageLinkClicked", ""),
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    word, status = WORDS[kind]
    at_s = happening.at_ms / 1000
    payload: Event = {
        "message": {
            "id": mail.number,
            "token": "Kq3vTz8w",
            "direction": "outgoing",
            "message_id": f"{message_id(mail)}@rp.postal.example.com",
            "to": mail.recipient,
            "from": "news@acme.example",
            "subject": "Spring is here",
            "timestamp": at_s,
            "spam_status": "NotSpam",
            "tag": mail.campaign,
        }
    }
    reason = None
    if status:
        payload |= {"status": status, "timestamp": at_s, "time": 0.31, "sent_with_ssl": True}
        if kind in ("bounced", "deferred"):
            reason = code_of(happening.reason)
            payload |= {
                "details": "SMTP delivery error when sending to mx.example.com (192.0.2.25)",
                "output": happening.reason,
            }
        elif kind == "rejected":
            reason = happening.reason
            payload |= {"details": reason, "output": ""}
        else:
            payload |= {"details": "Message sent by SMTP", "output": "250 2.0.0 OK"}
    else:
        payload |= {"ip_address": happening.ip, "user_agent": happening.user_agent}
        if kind == "clicked":
            payload |= {"url": happening.link, "token": "Zt7cLm4s"}
    own_id = str(uuid.uuid5(uuid.NAMESPACE_OID, event_id))
    said: Event = {"event": word, "timestamp": at_s, "uuid": own_id, "payload": payload}
    return said, meant(happening, precision_ms=1, own_id=own_id, variant=False, reason=reason)


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    headers = {"content-type": "application/json"}
    if credentials.private_key:
        signature = _key(credentials.private_key).sign(body, padding.PKCS1v15(), SHA256())
        headers["x-postal-signature-256"] = base64.b64encode(signature).decode()
    return headers, body


@lru_cache(maxsize=64)
def _key(pem: bytes) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    return key


WRITER: Final = Writer(name="postal", types=frozenset(WORDS), event=event, body=one, sign=sign)
