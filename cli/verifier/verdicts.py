"""Who made an open or a click, and which unsubscriptions are suspected: the rules of `docs/report.md`, a second time.

Written from the words of "People and machines" there, trying every window and every actor, however slow that is. What
a fact shows of itself (agent, network, hidden link, the ESP's flag) is in the ledger: the generator knows what it made.
Readings: an agent is what is read in it (client, device, system, browser), so two spellings of the same are one; a
network is a /24 of IPv4 or a /48 of IPv6; a window of two seconds holds what is at both of its ends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from cli.traffic.ledger import FactLine


class Thresholds(msgspec.Struct, frozen=True):
    """0 turns a rule off."""

    burst_links: int = 3
    burst_ms: int = 2_000
    click_after_ms: int = 2_000
    open_after_ms: int = 1_000


USUAL: Final = Thresholds()

Actor = Callable[[FactLine], Hashable]


def verdicts_of(facts: Sequence[FactLine], limits: Thresholds = USUAL) -> list[str | None]:
    """Of one recipient's facts, in any order: a verdict for each open and click, None for the others."""
    burst = _in_bursts(facts, limits)
    delivered_at = min((fact.at for fact in facts if fact.type == "delivered"), default=None)
    found: list[str | None] = []
    for place, fact in enumerate(facts):
        if fact.type not in ("opened", "clicked"):
            found.append(None)
        elif fact.verdict not in (None, "human"):
            found.append(fact.verdict)
        elif place in burst:
            found.append("scanner")
        elif delivered_at is not None and _is_too_soon(fact, delivered_at, limits):
            found.append("proxy" if fact.type == "opened" else "scanner")
        else:
            found.append("human")
    return found


def suspected(facts: Sequence[FactLine], limits: Thresholds = USUAL) -> bool:
    """Whether one of the unsubscriptions looks like a machine's."""
    burst = _in_bursts(facts, limits)
    return any(
        fact.type == "unsubscribed"
        and (fact.machine or fact.hidden or fact.verdict == "scanner" or place in burst)
        for place, fact in enumerate(facts)
    )


def _is_too_soon(fact: FactLine, delivered_at: int, limits: Thresholds) -> bool:
    """Surely behind the delivery and surely within the limit, whatever fractions whole seconds have lost."""
    limit = limits.open_after_ms if fact.type == "opened" else limits.click_after_ms
    least = fact.at - _latest(delivered_at)
    most = _latest(fact.at) - delivered_at
    return least > 0 and most <= limit


def _latest(at_ms: int) -> int:
    """When that can have been at the latest."""
    return at_ms if at_ms % 1000 else at_ms + 999


def _in_bursts(facts: Sequence[FactLine], limits: Thresholds) -> set[int]:
    """Places of the acts that belong to a burst."""
    acts = [place for place, fact in enumerate(facts) if fact.type in ("opened", "clicked", "unsubscribed")]
    if not any(facts[place].type == "clicked" for place in acts):
        return set()
    groups = _grouped(facts, acts, lambda fact: (agent_of(fact), network_of(fact)))
    found = {place for group in groups for place in _members(facts, group, group, limits)}
    rest = [place for place in acts if place not in found]
    named = [place for place in rest if agent_of(facts[place]) is not None]
    placed = [place for place in rest if network_of(facts[place]) is not None]
    wider = [*_grouped(facts, named, agent_of), *_grouped(facts, placed, network_of)]
    for group in wider:
        found |= _members(facts, group, group, limits)
    nameless = [
        place
        for place in acts
        if facts[place].type == "unsubscribed"
        and agent_of(facts[place]) is None
        and network_of(facts[place]) is None
    ]
    for group in (*groups, *wider):
        found |= _members(facts, group, nameless, limits)
    return found


def _grouped(facts: Sequence[FactLine], places: Iterable[int], actor: Actor) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for place in places:
        groups.setdefault(actor(facts[place]), []).append(place)
    return list(groups.values())


def _members(
    facts: Sequence[FactLine], group: Sequence[int], asked: Sequence[int], limits: Thresholds
) -> set[int]:
    """Which of `asked` share a window with enough links that the group clicked."""
    clicks = [facts[place] for place in group if facts[place].type == "clicked"]
    # A window can be moved to the right until it begins with something that must be in it.
    begins = {click.at for click in clicks} | {facts[place].at for place in asked}
    found: set[int] = set()
    for begin in begins:
        end = begin + limits.burst_ms
        inside = [click for click in clicks if begin <= click.at <= end]
        links = {click.link for click in inside if click.link}
        if any(click.hidden for click in inside) or 0 < limits.burst_links <= len(links):
            found |= {place for place in asked if begin <= facts[place].at <= end}
    return found


def agent_of(fact: FactLine) -> tuple[str | None, ...] | None:
    """What is read in the agent, or said in its place; None where the ESP gives nothing."""
    words = (fact.client, fact.device, fact.system, fact.browser)
    return words if fact.user_agent or any(words) else None


def network_of(fact: FactLine) -> tuple[int, bytes] | None:
    if not fact.ip:
        return None
    try:
        address: IPv4Address | IPv6Address = ip_address(fact.ip)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return address.version, address.packed[: 3 if address.version == 4 else 6]
