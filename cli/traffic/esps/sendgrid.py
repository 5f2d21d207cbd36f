"""SendGrid's Event Webhook: an array of events, signed with ECDSA over timestamp and body.

Bots that click are not told apart, machines that open are (`sg_machine_open`).
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.traffic.esps.writer import Credentials, Event, Said, Signed, Writer, encode, meant, metadata
from cli.traffic.happening import Happening

SIGNATURE_HEADER: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER: Final = "X-Twilio-Email-Event-Webhook-Timestamp"

WORDS: Final = {
    "queued": "processed",
    "delivered": "delivered",
    "deferred": "deferred",
    "bounced": "bounce",
    "rejected": "dropped",
    "opened": "open",
    "clicked": "click",
    "complained": "spamreport",
    "unsubscribed": "unsubscribe",
    "subscribed": "group_resubscribe",
}
REASON_FIELDS: Final = {"bounced": "reason", "rejected": "reason", "deferred": "response"}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    said: Event = {
        "email": mail.recipient,
        "timestamp": happening.at_ms // 1000,
        "smtp-id": f"<{mail.number}.{mail.campaign}@ismtpd.example.com>",
        "event": WORDS[kind],
        "category": ["newsletter", mail.campaign],
        "sg_event_id": event_id,
        "sg_message_id": f"m{mail.number}.{mail.campaign}.recvd-0",
        **metadata(mail),
    }
    if happening.reason is not None:
        said[REASON_FIELDS[kind]] = happening.reason
    if kind == "opened" or kind == "clicked":
        said["ip"] = happening.ip
        said["useragent"] = happening.user_agent
        if kind == "opened":
            said["sg_machine_open"] = happening.machine
        else:
            said["url"] = happening.link
            if happening.position is not None:
                said["url_offset"] = {"index": happening.position - 1, "type": "html"}
    elif kind == "bounced":
        hard = happening.bounce == "hard"
        said["type"] = "bounce" if hard else "blocked"
        said["status"] = "5.1.1" if hard else "4.2.2"
    elif kind == "delivered":
        said["response"] = "250 2.0.0 OK"
    elif kind == "deferred":
        said["attempt"] = "1"
    elif kind == "subscribed":
        said["asm_group_id"] = 10
    return said, meant(
        happening,
        position=True,
        machine=kind == "opened" and happening.machine,
        reason=happening.reason if REASON_FIELDS.get(kind) == "reason" else None,
    )


def renew(said: Event, word: str) -> None:
    said["sg_event_id"] = f"{word}.{said['sg_event_id']}"


class Signer:
    """Signs bodies with a private key (PEM) as SendGrid would."""

    def __init__(self, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an ECDSA key")
        self._key = key
        self._algorithm = ec.ECDSA(hashes.SHA256())

    def headers(self, body: bytes, timestamp_s: int) -> dict[str, str]:
        timestamp = str(timestamp_s)
        signature = self._key.sign(timestamp.encode() + body, self._algorithm)
        return {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: timestamp}


_signer: Final = lru_cache(maxsize=64)(Signer)


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    headers = {"content-type": "application/json"}
    if credentials.private_key:
        headers |= _signer(credentials.private_key).headers(body, now_s)
    return headers, body


WRITER: Final = Writer(
    name="sendgrid", types=frozenset(WORDS), event=event, body=encode, sign=sign, largest=4000, renew=renew
)
