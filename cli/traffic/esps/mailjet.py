"""Mailjet's Event API, version 2: an array of the events of a moment, with Basic.

There is no event before the delivery; a mail that is tried again is a bounce with the error `greylisted`. Countries are
told, positions and bots aren't, and no event has an id.
"""

from __future__ import annotations

from typing import Final

from cli.traffic.esps.writer import Event, Said, Writer, encode, meant, metadata, unsigned
from cli.traffic.happening import Happening

WORDS: Final = {
    "delivered": "sent",
    "opened": "open",
    "clicked": "click",
    "bounced": "bounce",
    "deferred": "bounce",
    "rejected": "blocked",
    "complained": "spam",
    "unsubscribed": "unsub",
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    said: Event = {
        "event": WORDS[kind],
        "time": happening.at_ms // 1000,
        "MessageID": 19_421_777_000_000_000 + mail.number,
        "Message_GUID": f"{mail.number:032x}",
        "email": mail.recipient,
        "mj_campaign_id": 7257,
        "mj_contact_id": mail.number,
        "customcampaign": mail.campaign,
        "CustomID": "",
        "Payload": encode(metadata(mail)).decode(),
    }
    reason = None
    if kind in ("opened", "clicked"):
        said |= {"ip": happening.ip, "geo": mail.country, "agent": happening.user_agent}
        if kind == "clicked":
            said["url"] = happening.link
    elif kind in ("bounced", "deferred"):
        hard = happening.bounce == "hard"
        reason = "greylisted" if kind == "deferred" else "user unknown" if hard else "mailbox inactive"
        said |= {
            "blocked": False,
            "hard_bounce": hard,
            "error_related_to": "recipient",
            "error": reason,
            "comment": happening.reason,
        }
    elif kind == "rejected":
        reason = "preblocked"
        said |= {"error_related_to": "mailjet", "error": reason}
    elif kind == "complained":
        said["source"] = "JMRPP"
    return said, meant(happening, place=True, city=False, reason=reason)


WRITER: Final = Writer(
    name="mailjet", types=frozenset(WORDS), event=event, body=encode, sign=unsigned, largest=500
)
