"""The event log: every fact stands in it once, with what the sender said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from cli.traffic.ledger import FactLine
from cli.verifier.erasures import blank
from cli.verifier.variants import text_of


class Entry(NamedTuple):
    """What both sides know of an entry."""

    recipient: str
    type: str
    at_ms: int
    link: str | None
    position: int
    """0: not known."""
    ip: str | None
    user_agent: str | None
    reason: str | None
    agent: tuple[str | None, ...]
    """Client, device, system, browser."""
    place: tuple[str | None, str | None]
    provider: str | None
    variant: str


def of_ledger(recipients: Mapping[str, list[FactLine]], erased: Mapping[str, str]) -> Counter[Entry]:
    """Excluded addresses too: they are in the log."""
    return Counter(
        _entry(erased[who], blank(fact, who, erased[who])) if who in erased else _entry(who, fact)
        for who, facts in recipients.items()
        for fact in facts
    )


def _entry(who: str, fact: FactLine) -> Entry:
    return Entry(
        recipient=who,
        type=fact.type,
        at_ms=fact.at,
        link=fact.link,
        position=fact.position or 0,
        ip=fact.ip,
        user_agent=fact.user_agent,
        reason=fact.reason,
        agent=(fact.client, fact.device, fact.system, fact.browser),
        place=(fact.country, fact.city),
        provider=fact.provider,
        variant=text_of(fact.variant),
    )
