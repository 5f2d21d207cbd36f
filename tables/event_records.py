"""A partition's event log as records of an export (`tables.exports`): the place in the list, and the row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from app import facts as f
from app.csv_events import EventRows, Verdict
from app.facts import CampaignKey, Entry, Identity, RecipientKey
from app.filters import EventFilter, EventTest
from app.fold import log_key
from app.state import RecipientState
from app.verdicts import Rules, judge_with_reasons, own_reason, own_verdict
from tables.event_blocks import EventBlock, blocks
from tables.moments import Moment
from tables.recipient_records import Tell, Texts
from tables.sorting import Block

BATCH: Final = 100
_TIME_LENGTH: Final = len("2026-09-21T14:13:20.000Z")
_LATEST_MS: Final = 10**_TIME_LENGTH - 1
_ID_DIGITS: Final = 32
_FLIP: Final = str.maketrans("0123456789abcdef", "fedcba9876543210")
_JUDGED: Final = (f.OPENED, f.CLICKED)


def event_rows_of(block: Block) -> list[str]:
    """The rows of a block of events' records."""
    return [record[_TIME_LENGTH:] for record in block]


def event_rows_of_descending(block: Block) -> list[str]:
    return [record[_TIME_LENGTH + _ID_DIGITS :] for record in block]


def events(
    moment: Moment,
    campaign: CampaignKey,
    wanted: EventFilter,
    make: EventRows,
    *,
    descending: bool,
    tell: Tell = lambda read: None,
) -> Iterator[Block]:
    """One partition's records of events that match, in order. All partitions may share what makes the rows."""
    check = _EventCheck(moment, campaign, wanted)
    begins = _descending if descending else _ascending
    read = 0
    stored = _entries(moment, campaign, wanted, descending)
    for found in blocks(stored, moment.rules(), descending=descending, whole=_is_whole(wanted)):
        read += len(found.entries)
        entries, verdicts = check.judged(found)
        tell(read)
        times = make.times(entries)
        yield make.rows(entries, verdicts, times, begins(entries, times))


def _is_whole(wanted: EventFilter) -> bool:
    """Whether all events of the campaign are read, so that what happened about the same time is seen."""
    return wanted.recipient is None and wanted.from_ms is None and wanted.to_ms is None


def _ascending(entries: list[Entry], times: list[str]) -> list[str]:
    """A time as the row has it is as long as any other, and stands in order."""
    if "" not in times:
        return times
    return [
        text or f"~{entry.fact.at_ms:0{_TIME_LENGTH - 1}d}"
        for entry, text in zip(entries, times, strict=True)
    ]


def _descending(entries: list[Entry], times: list[str]) -> list[str]:
    facts = [entry.fact for entry in entries]
    return [
        f"{_LATEST_MS - fact.at_ms:0{_TIME_LENGTH}d}{fact.identity.hex().translate(_FLIP)}" for fact in facts
    ]


def _entries(
    moment: Moment, campaign: CampaignKey, wanted: EventFilter, descending: bool
) -> Iterator[list[bytes]]:
    """Stored entries in order, those that a filter by time or recipient leaves out left out as far as it is cheap."""
    first = max(0, wanted.from_ms or 0)
    behind = 1 << 62 if wanted.to_ms is None else max(0, wanted.to_ms)
    needle = b""
    if wanted.recipient is not None:
        recipient = RecipientKey(wanted.recipient)
        (state,) = moment.states(campaign, [recipient])
        if state is None or state.erased:
            return
        if not state.overflow:
            yield _of_state(moment, campaign, state, first, behind, descending)
            return
        # Of each class the first and the last fact are kept: what fell out is between them.
        first, behind = max(first, state.facts[0].at_ms), min(behind, state.facts[-1].at_ms + 1)
        needle = bytes(recipient)
    low, high = campaign + first.to_bytes(8, "big"), campaign + behind.to_bytes(8, "big")
    walk = moment.log_items(high, backwards=True) if descending else moment.log_items(low)
    while batch := list(islice(walk, BATCH)):
        ends = batch[0][0], batch[-1][0]
        if not needle and low <= min(ends) and max(ends) < high:
            yield [stored for _, stored in batch]
            continue
        yield [stored for name, stored in batch if low <= name < high and needle in stored]
        if ends[1] < low if descending else ends[1] >= high:
            return


def _of_state(
    moment: Moment, campaign: CampaignKey, state: RecipientState, first: int, behind: int, descending: bool
) -> list[bytes]:
    places = [log_key(fact) for fact in state.facts if first <= fact.at_ms < behind]
    if descending:
        places.reverse()
    return [stored for stored in moment.stored_entries(campaign, places) if stored is not None]


class _EventCheck:
    """Which events match, and the verdicts of opens and clicks."""

    def __init__(self, moment: Moment, campaign: CampaignKey, wanted: EventFilter) -> None:
        self._moment = moment
        self._campaign = campaign
        self._test = EventTest(wanted, Texts([moment], campaign))
        self._asks = bool(wanted.variant) or (wanted.type, wanted.link, wanted.verdict) != (None, None, None)
        self._verdict = wanted.verdict
        self._recipient = wanted.recipient
        self._rules = moment.rules()

    def judged(self, block: EventBlock) -> tuple[list[Entry], list[Verdict | None]]:
        found = block.entries
        if self._asks:
            may_match = self._test.may_match
            found = [entry for entry in found if may_match(entry.fact)]
        if self._recipient is not None:
            found = [entry for entry in found if entry.recipient == self._recipient]
        engaged = [entry for entry in found if entry.fact.type in _JUDGED]
        others = self._by_others([entry for entry in engaged if block.may_be_judged_by_others(entry)])
        verdicts: list[Verdict | None] = [
            (others.get(fact.identity) or (own_verdict(fact), own_reason(fact)))
            if (fact := entry.fact).type in _JUDGED
            else None
            for entry in found
        ]
        if self._verdict is None:
            return found, verdicts
        kept = [
            (entry, verdict)
            for entry, verdict in zip(found, verdicts, strict=True)
            if verdict is not None and verdict[0] == self._verdict
        ]
        return [entry for entry, _ in kept], [verdict for _, verdict in kept]

    def _by_others(self, entries: list[Entry]) -> dict[Identity, Verdict]:
        """Verdicts that the recipients' other facts may have a say in, by the fact's identity."""
        recipients = list(dict.fromkeys([entry.recipient for entry in entries]))
        verdicts: dict[Identity, Verdict] = {}
        if not recipients:
            return verdicts
        for state in self._moment.states(self._campaign, recipients):
            if state is not None:
                verdicts.update(_verdicts(state, self._rules))
        return verdicts


def _verdicts(state: RecipientState, rules: Rules) -> Iterator[tuple[Identity, Verdict]]:
    judged = judge_with_reasons(state.facts, rules)
    for fact, verdict in zip(state.facts, judged, strict=True):
        yield fact.identity, verdict
