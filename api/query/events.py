"""Pages of the event log, and all events of one recipient.

Rules:
- The log stands in the order of the list, so a page is a walk through it with a look at each fact. A recipient's facts
  are known from their state, and so are those of the few recipients who have one of a rare type: these are looked up.
- A verdict depends on the recipient's other facts: their state is read for every open and click that is shown. A fact
  beyond the state's bound is judged by its own evidence, as it is counted.
- What an erased person did stands in the log without them, and is not found by their address.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from api.query import event_counts
from api.query.answering import Books, Budget, Readers, fences_of, rules_of, stamp_of
from api.query.taking import take
from api.query.walks import GATHERED, states_of
from api.query.wire import EventsRequest, Page, RecipientAnswer, RecipientRequest
from app import contribution as c
from app import facts as f
from app.contribution import contribution
from app.errors import UNDECODABLE
from app.facts import CampaignKey, Detail, Entry, Fact, Identity, RecipientKey, decode_detail
from app.filters import EventTest
from app.fold import log_key
from app.items import event_item, recipient_item
from app.state import RecipientState
from app.verdicts import Rules, judge_with_reasons, own_reason, own_verdict
from tables import paging
from tables.lookups import PagedReader, decode_entry
from tables.names import NameBook
from tables.paging import Step

EVENTS_OF_ONE: Final = 10_000
"""At most so many events of one recipient in one answer: 5 MB."""
SCAN_OF_ONE_MS: Final = 500
"""How long the log is searched for facts of one recipient that fell out of their state."""

_JUDGED: Final = (f.OPENED, f.CLICKED)
# Type → the bit of those who have such a fact, where few do.
_BITS: Final = {
    f.CLICKED: c.CLICKED,
    f.BOUNCED: c.BOUNCED,
    f.COMPLAINED: c.COMPLAINED,
    f.UNSUBSCRIBED: c.UNSUBSCRIBED,
    f.DEFERRED: c.DEFERRED,
    f.REJECTED: c.REJECTED,
    f.FAILED: c.FAILED,
}
_encode = msgspec.json.Encoder().encode

Verdict = tuple[int, str] | None


class _Row(NamedTuple):
    order: bytes
    entry: Entry
    verdict: Verdict


def page(readers: Readers, books: Books, request: EventsRequest) -> Page:
    book = books.of(request.campaign)
    wanted = request.wanted
    matching = event_counts.matching(readers, request.campaign, wanted)
    if wanted.recipient is not None:
        walk, known = _of_recipient(readers, request, RecipientKey(wanted.recipient))
        matching = known if wanted.parts == 1 else None
    elif (places := _rare(readers, books, request)) is not None:
        walk = _placed(readers, request, places)
    else:
        walk = paging.by_time(
            readers,
            request.campaign,
            descending=request.descending,
            after=request.after,
            from_ms=wanted.from_ms,
            to_ms=wanted.to_ms,
        )
    rows, stopped = take(walk, _Check(readers, book, request), request.limit)
    if wanted.one_thing and request.after is None and stopped is None:
        matching = len(rows)  # the page is the whole list
    return Page(
        [(row.order, event_json(row.entry, row.verdict)) for row in rows],
        stopped,
        matching,
        fences_of(readers),
    )


class _Check:
    """Steps of a walk → the events among them that belong to the list."""

    def __init__(self, readers: Readers, book: NameBook, request: EventsRequest) -> None:
        self._readers = readers
        self._book = book
        self._campaign = request.campaign
        self._recipient = request.wanted.recipient
        self._test = EventTest(request.wanted, book)
        self._verdict = request.wanted.verdict
        self._names = bool(request.wanted.variant)
        self._rules = rules_of(readers)

    def rows(self, steps: list[Step], most: int) -> Iterator[_Row]:
        found: list[tuple[Step, Entry]] = []
        for step in steps:
            if self._test.holding not in step.value:
                continue
            entry = decode_entry(step.value)
            if self._recipient is not None and entry.recipient != self._recipient:
                continue
            if self._names:
                self._book.know(self._readers[step.partition], (entry.fact,))
            if self._test.may_match(entry.fact):
                found.append((step, entry))
                if self._verdict is None and len(found) == most:
                    break
        judged = [(step.partition, entry.recipient) for step, entry in found if entry.fact.type in _JUDGED]
        verdicts = self._verdicts(list(dict.fromkeys(judged)))
        for step, entry in found:
            verdict = verdict_of(entry.fact, verdicts)
            if self._verdict is None or (verdict is not None and verdict[0] == self._verdict):
                yield _Row(step.order, entry, verdict)

    def _verdicts(self, recipients: list[tuple[int, RecipientKey]]) -> dict[Identity, tuple[int, str]]:
        states = states_of(self._readers, self._campaign, [(p, recipient) for p, recipient in recipients])
        verdicts: dict[Identity, tuple[int, str]] = {}
        for state in states:
            if state is not None:
                verdicts.update(verdicts_of(state, self._rules))
        return verdicts


def verdicts_of(state: RecipientState, rules: Rules) -> dict[Identity, tuple[int, str]]:
    """Verdict and reason of each fact of a recipient, by its identity."""
    judged = judge_with_reasons(state.facts, rules)
    return {fact.identity: verdict for fact, verdict in zip(state.facts, judged, strict=True)}


def verdict_of(fact: Fact, verdicts: Mapping[Identity, tuple[int, str]]) -> Verdict:
    """None for what is neither an open nor a click."""
    if fact.type not in _JUDGED:
        return None
    return verdicts.get(fact.identity) or (own_verdict(fact), own_reason(fact))


def event_json(entry: Entry, verdict: Verdict) -> bytes:
    try:
        detail = decode_detail(entry.detail)
    except UNDECODABLE:
        detail = Detail("")
    return _encode(event_item(entry, detail, *(verdict or (None, None))))


def _order(fact: Fact, descending: bool) -> bytes:
    place = fact.at_ms.to_bytes(8, "big") + fact.identity
    return paging.flipped(place) if descending else place


def _within(fact: Fact, request: EventsRequest) -> bool:
    wanted = request.wanted
    return (wanted.from_ms is None or fact.at_ms >= wanted.from_ms) and (
        wanted.to_ms is None or fact.at_ms < wanted.to_ms
    )


class _Place(NamedTuple):
    order: bytes
    partition: int
    at_ms: int
    identity: Identity


def _rare(readers: Readers, books: Books, request: EventsRequest) -> list[_Place] | None:
    """Where the facts of a rare type stand, in order; None where that can't be told from the states."""
    wanted, campaign = request.wanted, request.campaign
    kind = wanted.type if wanted.link is None else f.CLICKED
    bit = _BITS.get(kind) if kind is not None else None
    if kind is None or bit is None:
        return None
    there = event_counts.of_types(readers, campaign, (kind,))
    if there > GATHERED:
        return None
    key = "events", campaign, tuple(readers), kind, request.descending, wanted.from_ms, wanted.to_ms
    return books.gathered.get(
        key, stamp_of(readers, campaign), lambda: _gather(readers, request, kind, bit, there)
    )


def _gather(readers: Readers, request: EventsRequest, kind: int, bit: int, there: int) -> list[_Place] | None:
    steps = list(islice(paging.by_bit(readers, request.campaign, bit), there + 1))
    states = states_of(readers, request.campaign, [(step.partition, step.value) for step in steps])
    found = [
        (step.partition, fact)
        for step, state in zip(steps, states, strict=True)
        if state is not None
        for fact in state.facts
        if fact.type == kind
    ]
    if len(found) != there:
        return None  # some are of excluded addresses, were undone, or fell out of their state
    return sorted(
        _Place(_order(fact, request.descending), partition, fact.at_ms, fact.identity)
        for partition, fact in found
        if _within(fact, request)
    )


def _placed(readers: Readers, request: EventsRequest, places: Iterable[_Place]) -> Iterator[Step]:
    """Entries at places of the log, from behind `after` on."""
    after = request.after
    ahead = [place for place in places if after is None or place.order > after]
    size = request.limit + 1
    for first in range(0, len(ahead), size):
        some = ahead[first : first + size]
        by_partition: dict[int, list[_Place]] = {}
        for place in some:
            by_partition.setdefault(place.partition, []).append(place)
        steps = []
        for partition, here in by_partition.items():
            keys = [(place.at_ms, place.identity) for place in here]
            stored = readers[partition].stored_entries(request.campaign, keys)
            steps += [
                Step(place.order, partition, entry)
                for place, entry in zip(here, stored, strict=True)
                if entry is not None
            ]
        yield from sorted(steps)


def _of_recipient(
    readers: Readers, request: EventsRequest, recipient: RecipientKey
) -> tuple[Iterator[Step], int]:
    """A walk through one recipient's events (and through others', where some fell out of the state); how many."""
    ((partition, reader),) = readers.items()
    (state,) = reader.states(request.campaign, [recipient])
    if state is None or state.erased:
        return iter(()), 0
    known = len(state.facts) + sum(count for _, _, count in state.overflow)
    if not state.overflow:
        places = sorted(
            _Place(_order(fact, request.descending), partition, fact.at_ms, fact.identity)
            for fact in state.facts
            if _within(fact, request)
        )
        return _placed(readers, request, places), known
    wanted = request.wanted
    # Of each class the first and the last fact are kept, so nothing that fell out is outside of these.
    walk = paging.by_time(
        readers,
        request.campaign,
        descending=request.descending,
        after=request.after,
        from_ms=max(state.facts[0].at_ms, wanted.from_ms or 0),
        to_ms=min(state.facts[-1].at_ms + 1, wanted.to_ms if wanted.to_ms is not None else 1 << 62),
    )
    return walk, known


def one(readers: Readers, books: Books, request: RecipientRequest) -> RecipientAnswer:
    """A recipient's row and all their events, the first one first."""
    campaign, recipient = request.campaign, request.recipient
    ((_, reader),) = readers.items()
    book, rules = books.of(campaign), rules_of(readers)
    (state,) = reader.states(campaign, [recipient])
    if state is None or state.erased:
        return RecipientAnswer(None, [], True, fences_of(readers))
    book.know(reader, state.facts)
    if contribution(state, book, rules).last_at_ms < 0:
        return RecipientAnswer(None, [], True, fences_of(readers))
    entries = {
        log_key(entry.fact): entry
        for entry in reader.entries(campaign, [log_key(fact) for fact in state.facts])
        if entry is not None
    }
    fallen = sum(count for _, _, count in state.overflow)
    missing = fallen
    if fallen:
        for entry in _fallen(reader, campaign, recipient, state):
            if log_key(entry.fact) not in entries:
                entries[log_key(entry.fact)] = entry
                missing -= 1
            if not missing:
                break
    ordered = heapq.nsmallest(EVENTS_OF_ONE, entries.values(), key=lambda entry: log_key(entry.fact))
    verdicts = verdicts_of(state, rules)
    return RecipientAnswer(
        _encode(recipient_item(state, book, request.count, rules)),
        [event_json(entry, verdict_of(entry.fact, verdicts)) for entry in ordered],
        not missing and len(ordered) == len(entries),
        fences_of(readers),
    )


def _fallen(
    reader: PagedReader, campaign: CampaignKey, recipient: RecipientKey, state: RecipientState
) -> Iterator[Entry]:
    """What the log has of a recipient, as far as the time allows."""
    budget = Budget(SCAN_OF_ONE_MS)
    behind = (state.facts[-1].at_ms + 1).to_bytes(8, "big")
    for number, (name, stored) in enumerate(
        reader.log_from(campaign, state.facts[0].at_ms.to_bytes(8, "big"))
    ):
        if name[8:] >= behind or (number % 256 == 0 and budget.spent):
            return
        if bytes(recipient) in stored:
            entry = decode_entry(stored)
            if entry.recipient == recipient:
                yield entry
