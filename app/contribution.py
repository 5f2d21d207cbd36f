"""What one recipient's state adds to every number of the report. The definition: everything else is a sum of it.

A contribution has these parts:
- `pattern`: a bit set of what holds for the recipient (sent, opened by a person, …). Every number of the summary that
  counts recipients is a sum over patterns, so numbers about combinations ("clicked without open") cost nothing.
- `cells`: one entry for each thing that is counted by time: `metric << 32 | quarter`, the quarter being minutes since
  1970 UTC // 15. The same cell stands as often as it counts.
- `rows`: what is added to rows of the sections (`app.breakdown`): links, places, clients, bounce reasons, types.
- `groups`: the rows to which the whole recipient is added: provider, variant, country.
- `clicks`: per link, what the ordered index keys are made of (top clickers, first and last click).

A new number of the report is one bit, metric or row here, and one line where it is shown (`app.summary`,
`app.timeline`, `app.sections`).
The numbers of bits and metrics are on disk: they never change; new ones go to the end.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from app import breakdown as b
from app import facts as f
from app.breakdown import Names, RowKey, row_key
from app.state import UNCOUNTED, RecipientState
from app.verdicts import DEFAULT_RULES, HUMAN, PROXY, Rules, judge, suspected_unsubscribes

QUARTER_MS: Final = 900_000

# Bits of a pattern.
SENT: Final = 1 << 0
SENT_INFERRED: Final = 1 << 1
DELIVERED: Final = 1 << 2
DELIVERED_INFERRED: Final = 1 << 3
BOUNCED: Final = 1 << 4
OPENED: Final = 1 << 5
OPENED_PEOPLE: Final = 1 << 6
CLICKED: Final = 1 << 7
CLICKED_PEOPLE: Final = 1 << 8
COMPLAINED: Final = 1 << 9
UNSUBSCRIBED: Final = 1 << 10
UNSUBSCRIBED_SUSPECTED: Final = 1 << 11
DEFERRED: Final = 1 << 12
REJECTED: Final = 1 << 13
FAILED: Final = 1 << 14
QUEUED: Final = 1 << 15
SENT_FACT: Final = 1 << 16
SCANNED: Final = 1 << 17
"""At least one open or click was a scanner's."""

# Metrics of a cell. Opens and clicks stand in the order of `app.verdicts`: human, proxy, scanner.
FIRST_SENT: Final = 0
FIRST_OPENED: Final = 1
FIRST_OPENED_PEOPLE: Final = 2
FIRST_CLICKED: Final = 3
FIRST_CLICKED_PEOPLE: Final = 4
OPENS: Final = 5
CLICKS: Final = 8
METRICS: Final = 11


class LinkClicks(NamedTuple):
    """One recipient's clicks on one link. Times in ms since 1970; `people` counts verdict human, times -1 for none."""

    link: int
    clicks: int
    first_at_ms: int
    last_at_ms: int
    people: int
    people_first_at_ms: int
    people_last_at_ms: int


_NO_ROWS: Final[dict[RowKey, int]] = {}


class Contribution(NamedTuple):
    pattern: int
    cells: tuple[int, ...]
    overflow: tuple[tuple[int, int], ...]
    """(metric, count) of facts beyond the recipient's bound, whose quarters are not kept."""
    last_at_ms: int
    """Time of the newest counted fact: the recipient's place in the index by activity. -1: nothing is counted."""
    engagement: int = 0
    """Tally of opens and clicks by verdict, in the fields of `breakdown.E_OPENS` and `E_CLICKS`."""
    groups: tuple[RowKey, ...] = ()
    rows: dict[RowKey, int] = _NO_ROWS
    clicks: tuple[LinkClicks, ...] = ()


NOTHING: Final = Contribution(0, (), (), -1)

_TYPE_KEYS: Final = tuple(row_key(b.TYPE, number) for number in range(len(f.TYPE_NAMES)))
_SCANNER: Final = 2


def contribution(state: RecipientState, names: Names, rules: Rules = DEFAULT_RULES) -> Contribution:
    """What `docs/report.md` says of one recipient. Facts stand in order of time, so the first one met is the first."""
    facts = state.facts
    pattern = 0
    cells: list[int] = []
    rows: dict[RowKey, int] = {}
    links: dict[int, list[int]] = {}
    suspected: list[bool] = []
    first_sent = first_proof = last_sent = last_refused = last_soft = last_alive = last_at = -1
    hard = inferring = False
    engagement = provider = variant = home = hard_reason = soft_reason = 0
    for place, (fact, verdict) in enumerate(zip(facts, judge(facts, rules), strict=True)):
        kind = fact.type
        evidence = fact.evidence
        key = _TYPE_KEYS[kind]
        rows[key] = rows.get(key, 0) + 1
        if evidence & f.EXCLUDED:
            continue
        at = last_at = fact.at_ms
        if not provider:
            provider = fact.provider
        if not variant:
            variant = fact.variant
        if not home and verdict == HUMAN:
            home = fact.place
        if kind == f.DELIVERED:
            pattern |= DELIVERED
            last_alive = at
        elif kind == f.SENT or kind == f.QUEUED:
            pattern |= SENT_FACT if kind == f.SENT else QUEUED
            if first_sent < 0:
                first_sent = at
            last_sent = at
            continue
        elif kind == f.OPENED:
            quarter = at // QUARTER_MS
            if not pattern & OPENED:
                pattern |= OPENED
                cells.append(FIRST_OPENED << 32 | quarter)
            if verdict == HUMAN and not pattern & OPENED_PEOPLE:
                pattern |= OPENED_PEOPLE
                cells.append(FIRST_OPENED_PEOPLE << 32 | quarter)
            cells.append((OPENS + verdict) << 32 | quarter)
            last_alive = at
            inferring = True
            if verdict == _SCANNER:
                pattern |= SCANNED
            unit = b.OPEN_UNITS[verdict]
            engagement += unit
            presence = b.OPEN_PRESENCE[verdict]
            country, city = _places(fact, verdict, names)
            client, device, system, _ = _agents(fact, verdict, names)
            rows[country] = rows.get(country, 0) + unit | presence
            rows[city] = rows.get(city, 0) + unit | presence
            rows[client] = rows.get(client, 0) + unit | presence
            rows[device] = rows.get(device, 0) + unit | presence
            rows[system] = rows.get(system, 0) + unit | presence
        elif kind == f.CLICKED:
            quarter = at // QUARTER_MS
            if not pattern & CLICKED:
                pattern |= CLICKED
                cells.append(FIRST_CLICKED << 32 | quarter)
            if verdict == HUMAN and not pattern & CLICKED_PEOPLE:
                pattern |= CLICKED_PEOPLE
                cells.append(FIRST_CLICKED_PEOPLE << 32 | quarter)
            cells.append((CLICKS + verdict) << 32 | quarter)
            last_alive = at
            inferring = True
            if verdict == _SCANNER:
                pattern |= SCANNED
            unit = b.CLICK_UNITS[verdict]
            engagement += unit
            presence = b.CLICK_PRESENCE[verdict]
            link = fact.link
            for key in (
                *_places(fact, verdict, names),
                *_agents(fact, verdict, names),
                row_key(b.LINK, link),
                *((row_key(b.POSITION, link, fact.position),) if fact.position else ()),
            ):
                rows[key] = rows.get(key, 0) + unit | presence
            if link:
                _click(links, link, at, verdict)
        elif kind == f.BOUNCED:
            if evidence & f.SOFT_BOUNCE:
                last_soft = at
                soft_reason = soft_reason or fact.reason
            else:
                hard = True
                hard_reason = hard_reason or fact.reason
        elif kind == f.COMPLAINED:
            pattern |= COMPLAINED
            inferring = True
        elif kind == f.UNSUBSCRIBED:
            if not pattern & UNSUBSCRIBED:  # all of them are judged together
                suspected = suspected_unsubscribes(facts, rules)
            if suspected[place]:
                pattern |= UNSUBSCRIBED_SUSPECTED
            pattern |= UNSUBSCRIBED
            inferring = True
        elif kind == f.DEFERRED:
            pattern |= DEFERRED
        elif kind == f.REJECTED or kind == f.FAILED:
            pattern |= REJECTED if kind == f.REJECTED else FAILED
            last_refused = at
            continue
        elif kind != f.AUTORESPONDED:
            continue  # subscribed and unknown prove nothing
        if first_proof < 0:
            first_proof = at
    overflow: list[tuple[int, int]] = []
    if state.overflow:
        bits, beyond = _add_overflow(state, pattern, rows, overflow)
        pattern |= bits
        engagement += beyond
    if last_at < 0:
        return Contribution(0, (), (), -1, rows=rows)
    # A soft bounce is undone by what could not have happened without a delivery after it.
    if hard or (last_soft >= 0 and last_alive <= last_soft):
        pattern |= BOUNCED
        reason = hard_reason if hard else soft_reason
        rows[row_key(b.REASON, provider, reason)] = 1
    if inferring and not pattern & (DELIVERED | BOUNCED):
        pattern |= DELIVERED | DELIVERED_INFERRED
    if first_proof >= 0 or last_sent > last_refused:
        pattern |= SENT
        if first_sent < 0:
            pattern |= SENT_INFERRED
            first_sent = first_proof
        cells.append(FIRST_SENT << 32 | first_sent // QUARTER_MS)
    groups = (
        row_key(b.PROVIDER, provider),
        row_key(b.VARIANT, variant),
        row_key(b.HOME, names.country(home) if home else 0),
    )
    clicks = tuple(LinkClicks(link, *counts) for link, counts in links.items())
    return Contribution(pattern, tuple(cells), tuple(overflow), last_at, engagement, groups, rows, clicks)


def _places(fact: f.Fact, verdict: int, names: Names) -> b.PlaceRows:
    if verdict != HUMAN:
        return b.PLACE_PROXY
    if fact.place:
        return names.place_rows(fact.place)
    return b.PLACE_UNKNOWN if fact.network else b.PLACE_NOT_PROVIDED


def _agents(fact: f.Fact, verdict: int, names: Names) -> b.AgentRows:
    if not fact.agent:
        return b.AGENT_NOT_PROVIDED if verdict == HUMAN else b.AGENT_PROXY
    if verdict == HUMAN:
        return names.agent_rows(fact.agent)
    # A mailbox provider's proxy tells the client (Gmail, Apple Mail), never the device; a scanner tells nothing.
    return names.proxied_rows(fact.agent) if verdict == PROXY else b.AGENT_PROXY


def _click(links: dict[int, list[int]], link: int, at_ms: int, verdict: int) -> None:
    counts = links.get(link)
    if counts is None:
        counts = links[link] = [0, at_ms, at_ms, 0, -1, -1]
    counts[0] += 1
    counts[2] = at_ms
    if verdict == HUMAN:
        if not counts[3]:
            counts[4] = at_ms
        counts[3] += 1
        counts[5] = at_ms


def _add_overflow(
    state: RecipientState, pattern: int, rows: dict[RowKey, int], overflow: list[tuple[int, int]]
) -> tuple[int, int]:
    """Counts facts beyond the bound; returns the bits that only they prove, and their tally of opens and clicks."""
    bits = engagement = 0
    for kind, verdict, count in state.overflow:
        key = _TYPE_KEYS[kind]
        rows[key] = rows.get(key, 0) + count
        if verdict == UNCOUNTED:
            continue
        if kind == f.OPENED:
            overflow.append((OPENS + verdict, count))
            people, first = OPENED_PEOPLE, FIRST_OPENED_PEOPLE
            unit, presence = b.OPEN_UNITS[verdict], b.OPEN_PRESENCE[verdict]
            keys: tuple[RowKey, ...] = (*b.PLACE_OVERFLOW, *b.AGENT_OVERFLOW[:3])
        elif kind == f.CLICKED:
            overflow.append((CLICKS + verdict, count))
            people, first = CLICKED_PEOPLE, FIRST_CLICKED_PEOPLE
            unit, presence = b.CLICK_UNITS[verdict], b.CLICK_PRESENCE[verdict]
            keys = (*b.PLACE_OVERFLOW, *b.AGENT_OVERFLOW, row_key(b.LINK, b.OVERFLOW))
        else:
            continue  # of the other types no number counts events
        engagement += unit * count
        for key in keys:
            rows[key] = rows.get(key, 0) + unit * count | presence
        if verdict == _SCANNER:
            bits |= SCANNED
        if verdict == HUMAN and not (pattern | bits) & people:
            bits |= people
            overflow.append((first, 1))
    return bits, engagement
