"""A partition's event log as records of an export (`tables.exports`): the place in the list, and the row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from app import facts as f
from app.csv_events import EventRows
from app.facts import CampaignKey, Entry, Fact, Identity, RecipientKey
from app.filters import EventFilter, EventTest
from app.fold import log_key
from app.state import RecipientState
from app.verdicts import HUMAN, Rules, judge_with_reasons, own_reason, own_verdict
from tables.lookups import decode_entry
from tables.moments import Moment
from tables.recipient_records import Tell, Texts
from tables.sorting import Block

BATCH: Final = 1_000
_TIME_DIGITS: Final = 16
_LATEST_MS: Final = 10**_TIME_DIGITS - 1
_ID_DIGITS: Final = 32
_FLIP: Final = str.maketrans("0123456789abcdef", "fedcba9876543210")
_JUDGED: Final = (f.OPENED, f.CLICKED)

Verdict = tuple[int, str]


def event_rows_of(block: Block) -> list[str]:
    """The rows of a block of events' records."""
    return [record[_TIME_DIGITS:] for record in block]


def event_rows_of_descending(block: Block) -> list[str]:
    return [record[_TIME_DIGITS + _ID_DIGITS :] for record in block]


def events(
    moment: Moment,
    campaign: CampaignKey,
    wanted: EventFilter,
    *,
    descending: bool,
    tell: Tell = lambda read: None,
) -> Iterator[Block]:
    """One partition's records of events that match, in order."""
    check = _EventCheck(moment, campaign, wanted)
    make = EventRows().row
    read = 0
    for found in _entries(moment, campaign, wanted, descending):
        read += len(found)
        block = []
        for entry, verdict in check.judged(found):
            row = make(entry, verdict)
            if descending:
                # An event's row begins with its identity.
                order = f"{_LATEST_MS - entry.fact.at_ms:016d}{row[:_ID_DIGITS].translate(_FLIP)}"
            else:
                order = f"{entry.fact.at_ms:016d}"
            block.append(order + row)
        tell(read)
        yield block


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
    low, high = first.to_bytes(8, "big"), behind.to_bytes(8, "big")
    walk = moment.log_back(campaign, high) if descending else moment.log_from(campaign, low)
    while batch := list(islice(walk, BATCH)):
        found = [stored for name, stored in batch if low <= name[8:] < high and needle in stored]
        yield found
        last = batch[-1][0][8:]
        if last < low if descending else last >= high:
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

    def judged(self, stored: list[bytes]) -> Iterator[tuple[Entry, Verdict | None]]:
        found = [decode_entry(one) for one in stored]
        if self._asks:
            may_match = self._test.may_match
            found = [entry for entry in found if may_match(entry.fact)]
        if self._recipient is not None:
            found = [entry for entry in found if entry.recipient == self._recipient]
        others = self._by_others([entry for entry in found if _may_be_judged_by_others(entry.fact)])
        for entry in found:
            fact = entry.fact
            verdict = None
            if fact.type in _JUDGED:
                verdict = others.get(fact.identity) or (own_verdict(fact), own_reason(fact))
            if self._verdict is None or (verdict is not None and verdict[0] == self._verdict):
                yield entry, verdict

    def _by_others(self, entries: list[Entry]) -> dict[Identity, Verdict]:
        """Verdicts that the recipients' other facts may have a say in, by the fact's identity."""
        recipients = list(dict.fromkeys([entry.recipient for entry in entries]))
        verdicts: dict[Identity, Verdict] = {}
        for state in self._moment.states(self._campaign, recipients):
            if state is not None:
                verdicts.update(_verdicts(state, self._rules))
        return verdicts


def _may_be_judged_by_others(fact: Fact) -> bool:
    return fact.type in _JUDGED and own_verdict(fact) == HUMAN


def _verdicts(state: RecipientState, rules: Rules) -> Iterator[tuple[Identity, Verdict]]:
    judged = judge_with_reasons(state.facts, rules)
    for fact, verdict in zip(state.facts, judged, strict=True):
        yield fact.identity, verdict
