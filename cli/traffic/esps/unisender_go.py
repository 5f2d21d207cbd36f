"""Unisender Go's webhooks: events by user, with an MD5 in the body's field `auth`.

No event has an id; places, positions and machines are not told.
"""

from __future__ import annotations

from hashlib import md5
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
    rfc3339,
)
from cli.traffic.esps.writer import metadata as metadata_of
from cli.traffic.happening import Happening

# Our type → status and delivery_status.
WORDS: Final = {
    "sent": ("sent", "ok_sent"),
    "delivered": ("delivered", "ok_delivered"),
    "deferred": ("soft_bounced", "err_will_retry"),
    "bounced": ("hard_bounced", "err_user_unknown"),
    "rejected": ("hard_bounced", "err_unsubscribed"),
    "failed": ("hard_bounced", "err_lost"),
    "opened": ("opened", "ok_read"),
    "clicked": ("clicked", "ok_link_visited"),
    "complained": ("spam", "ok_spam_folder"),
    "unsubscribed": ("unsubscribed", "ok_unsubscribed"),
    "subscribed": ("subscribed", "ok_delivered"),
}
_PLACE: Final = b"0" * 32


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    status, outcome = WORDS[kind]
    if happening.bounce == "soft":
        status, outcome = "soft_bounced", "err_mailbox_full"
    info: dict[str, str | None] = {"delivery_status": outcome}
    if kind in ("opened", "clicked"):
        info |= {"ip": happening.ip, "user_agent": happening.user_agent}
    elif happening.reason is not None:
        info["destination_response"] = happening.reason
    data: Event = {
        "job_id": message_id(mail),
        "metadata": metadata_of(mail),
        "email": mail.recipient,
        "status": status,
        "event_time": rfc3339(happening.at_ms)[:19].replace("T", " "),
        "delivery_info": info,
    }
    if kind == "clicked":
        data["url"] = happening.link
    said: Event = {"event_name": "transactional_email_status", "event_data": data}
    reason = outcome if kind in ("bounced", "deferred", "rejected", "failed") else None
    return said, meant(happening, reason=reason)


def body(events: list[Event]) -> bytes:
    user = {"user_id": 456, "project_id": "6432890213745872", "project_name": "Acme", "events": events}
    return encode({"auth": _PLACE.decode(), "events_by_user": [user]})


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    before, _, behind = body.partition(_PLACE)
    digest = md5(before + credentials.secret + behind, usedforsecurity=False).hexdigest().encode()
    return {"content-type": "application/json"}, before + digest + behind


WRITER: Final = Writer(
    name="unisender_go", types=frozenset(WORDS), event=event, body=body, sign=sign, largest=500
)
