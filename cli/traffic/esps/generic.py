"""The generic source: events in our own words, through `POST /api/v1/events` with an API key."""

from __future__ import annotations

from typing import Final

from app.facts import TYPE_NAMES
from cli.traffic.esps.writer import ENGAGEMENT, Event, Said, Writer, encode, meant, unsigned
from cli.traffic.happening import Happening


def has_own_id(happening: Happening) -> bool:
    """Half of the senders number their events; the others leave it to time, link, address and agent."""
    return happening.mail.number % 2 == 0


def variant_of(happening: Happening) -> dict[str, str] | None:
    """Some senders name it only where they hand a mail over, and some contradict themselves later on."""
    mail = happening.mail
    if mail.number % 8 == 2 and happening.type not in ("queued", "sent"):
        return None
    if mail.number % 50 == 5 and happening.type in ENGAGEMENT:
        return {**mail.variant, "subject": "C"}
    return mail.variant


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    said: Event = {
        "type": happening.type,
        "campaign": mail.campaign,
        "recipient": mail.recipient,
        "at": happening.at_ms,
        "tags": ["newsletter"],
    }
    if mail.provider:
        said["provider"] = mail.provider
    variant = variant_of(happening)
    if variant is not None:
        said["variant"] = variant
    own_id = event_id if has_own_id(happening) else None
    if own_id:
        said["id"] = own_id
    if happening.type in ("opened", "clicked"):
        said["ip"] = happening.ip
        said["user_agent"] = happening.user_agent
        said["country"] = mail.country
        said["city"] = mail.city
        if happening.machine:
            said["machine"] = True
        if happening.link is not None:
            said["link"] = happening.link
            said["position"] = happening.position
    if happening.bounce is not None:
        said["bounce"] = happening.bounce
    if happening.reason is not None:
        said["reason"] = happening.reason
    found = meant(
        happening,
        precision_ms=1,
        own_id=own_id,
        place=True,
        position=True,
        machine=happening.machine,
        provider=True,
        reason=happening.reason,
    )
    found.variant = variant
    return said, found


def body(events: list[Event]) -> bytes:
    return encode({"events": events})


WRITER: Final = Writer(
    name="generic",
    types=frozenset(TYPE_NAMES) - {"unknown"},
    event=event,
    body=body,
    sign=unsigned,
    largest=4000,
)
