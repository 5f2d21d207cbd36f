"""Bursts: several links followed within seconds by one and the same machine.

Rules:
1. A burst is a window of `within_ms` in which one actor clicked `links` different links, or a hidden one. All that the
   actor clicked or opened in such a window belongs to it, and so does an unsubscription.
2. An actor is an agent in a network. What is in no burst of an actor is looked at again by agent alone (a scanner
   with many addresses) and by network alone (a scanner with many agents).
3. So a person's click in the middle of a scanner's burst is not part of it, where agent or network tell them apart.
   Where the ESP gives neither, nothing does.
4. An unsubscription of which the ESP gives neither agent nor network belongs to whatever burst it stands in.
5. Only times that the ESP gave count. Whole seconds do no harm: what they put within two was within less than three.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from app.facts import CLAMPED, CLICKED, HIDDEN_LINK, OPENED, UNSUBSCRIBED, UNTIMED, Fact

NO_TIME: Final = UNTIMED | CLAMPED
_ACTS: Final = (OPENED, CLICKED, UNSUBSCRIBED)

_Spans = list[tuple[int, int]]
"""Times from and to in ms, both inclusive, in order and apart from each other."""


def in_bursts(facts: Sequence[Fact], links: int, within_ms: int) -> set[int]:
    """Facts in order of time → the places of those that belong to a burst. `links` 0: bursts of hidden links alone."""
    if not _likely(facts, links, within_ms):
        return set()
    acts = [place for place, fact in enumerate(facts) if fact.type in _ACTS and not fact.evidence & NO_TIME]
    found: set[int] = set()
    spans: _Spans = []
    by_actor: dict[tuple[int, int], list[int]] = {}
    for place in acts:
        fact = facts[place]
        by_actor.setdefault((fact.agent, fact.network), []).append(place)
    for places in by_actor.values():
        spans += _collect(facts, places, links, within_ms, found)
    rest: dict[tuple[str, int], list[int]] = {}
    for place in acts:
        if place not in found:
            fact = facts[place]
            if fact.agent:
                rest.setdefault(("agent", fact.agent), []).append(place)
            if fact.network:
                rest.setdefault(("network", fact.network), []).append(place)
    for places in rest.values():
        spans += _collect(facts, places, links, within_ms, found)
    spans = _joined(spans)
    for place in acts:
        fact = facts[place]
        if fact.type == UNSUBSCRIBED and not fact.agent and not fact.network and _within(spans, fact.at_ms):
            found.add(place)
    return found


def _likely(facts: Sequence[Fact], links: int, within_ms: int) -> bool:
    """Whether so many clicks are so near to each other at all, whoever made them: mostly not, and cheaply told."""
    times: list[int] = []
    for fact in facts:
        if fact.type == CLICKED and not fact.evidence & NO_TIME:
            if fact.evidence & HIDDEN_LINK:
                return True
            times.append(fact.at_ms)
            if 0 < links <= len(times) and fact.at_ms - times[-links] <= within_ms:
                return True
    return False


def _collect(facts: Sequence[Fact], places: list[int], links: int, within_ms: int, found: set[int]) -> _Spans:
    """Adds to `found` which of an actor's places are in its bursts; returns the times of these."""
    spans = _joined(_windows([facts[place] for place in places], links, within_ms))
    if spans:
        found.update(place for place in places if _within(spans, facts[place].at_ms))
    return spans


def _windows(facts: list[Fact], links: int, within_ms: int) -> _Spans:
    """The times that are in one window with enough links, for the shortest run of clicks up to each click."""
    spans: _Spans = []
    clicks: list[Fact] = []
    counts: dict[int, int] = {}
    first = 0
    for fact in facts:
        if fact.type != CLICKED:
            continue
        if fact.evidence & HIDDEN_LINK:
            spans.append((fact.at_ms - within_ms, fact.at_ms + within_ms))
        if not links or not fact.link:
            continue
        clicks.append(fact)
        counts[fact.link] = counts.get(fact.link, 0) + 1
        while len(counts) > links or counts[clicks[first].link] > 1:
            link = clicks[first].link
            counts[link] -= 1
            if not counts[link]:
                del counts[link]
            first += 1
        begin_ms = clicks[first].at_ms
        if len(counts) == links and fact.at_ms - begin_ms <= within_ms:
            spans.append((fact.at_ms - within_ms, begin_ms + within_ms))
    return spans


def _joined(spans: _Spans) -> _Spans:
    joined: _Spans = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _within(spans: _Spans, at_ms: int) -> bool:
    place = bisect_right(spans, at_ms, key=lambda span: span[0])
    return place > 0 and spans[place - 1][1] >= at_ms
