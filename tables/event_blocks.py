"""Blocks of a partition's log, and which of their opens and clicks other facts may have a say in.

To judge an open or a click takes its recipient's state, and to look that up takes longer than all else that an export
does with an event. But only what happened to the same recipient within seconds can change a verdict: a delivery just
before, or a click about the same time (`app.verdicts`, rules 2 and 3). That stands near it in the log, where every
fact is. So a block is looked at together with those beside it, as far as the seconds go, and the states of those alone
are looked up who were delivered to, or clicked, near enough, or of whom that can't be told.
Blocks are small: what is decoded is still in the processor's caches when its row is made, which halves the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from app import facts as f
from app.facts import Entry, RecipientKey
from app.verdicts import HUMAN, Rules, own_verdict
from tables.lookups import decode_entry

_JUDGED: Final = (f.OPENED, f.CLICKED)
_SAY: Final = (f.DELIVERED, f.CLICKED)
"""Types of facts that change the verdicts of others."""
AHEAD: Final = 16
"""At most so many blocks are read ahead, and remembered: where more happens within seconds, states are looked up."""
_EVER: Final = 1 << 64


class EventBlock:
    """Some entries that stand one after the other in the log.

    Its times run in the order of the list: they are negative where the newest one comes first.
    """

    def __init__(self, stored: Iterable[bytes], sign: int) -> None:
        self.entries = [decode_entry(one) for one in stored]
        self.sign = sign
        self.begin = sign * self.entries[0].fact.at_ms if self.entries else 0
        self.end = sign * self.entries[-1].fact.at_ms if self.entries else 0
        self.says = [
            (entry.recipient, sign * entry.fact.at_ms) for entry in self.entries if entry.fact.type in _SAY
        ]
        self.around: _Around | None = None

    def may_be_judged_by_others(self, entry: Entry) -> bool:
        """No is certain. To be asked before the next block is."""
        fact = entry.fact
        if fact.type not in _JUDGED or own_verdict(fact) != HUMAN:
            return False
        assert self.around is not None
        return self.around.may_say(entry.recipient, self.sign * fact.at_ms, fact.type == f.CLICKED)


class _Around:
    """What is known of the facts around a block."""

    def __init__(self, within_ms: int) -> None:
        self._within_ms = within_ms
        self._near: dict[RecipientKey, list[int]] = {}
        self.begin = self.end = 0
        """All facts between are known; of those at one of these times perhaps not all."""

    def add(self, block: EventBlock) -> None:
        for recipient, at in block.says:
            self._near.setdefault(recipient, []).append(at)

    def forget(self, block: EventBlock) -> None:
        for recipient, at in block.says:
            times = self._near[recipient]
            times.remove(at)
            if not times:
                del self._near[recipient]

    def may_say(self, recipient: RecipientKey, at: int, clicked: bool) -> bool:
        if not (self.begin < at - self._within_ms and at + self._within_ms < self.end):
            return True
        near = [one for one in self._near.get(recipient, ()) if abs(one - at) <= self._within_ms]
        return len(near) > clicked  # a click is near to itself


def blocks(
    stored: Iterable[list[bytes]], rules: Rules, *, descending: bool, whole: bool
) -> Iterator[EventBlock]:
    """Lists of stored entries in order, perhaps empty ones → blocks. `whole`: they are all that the log has."""
    within_ms = max(rules.burst_ms, rules.click_after_ms, rules.open_after_ms)
    around = _Around(within_ms)
    around.begin = -_EVER if whole else _EVER
    waiting: deque[EventBlock] = deque()
    done: deque[EventBlock] = deque()

    def next_one(*, over: bool) -> EventBlock:
        block = waiting.popleft()
        while done and (len(done) > AHEAD or (len(done) > 1 and done[1].begin < block.begin - within_ms)):
            around.forget(done.popleft())
            around.begin = done[0].begin if done else block.begin
        if around.begin == _EVER:
            around.begin = block.begin
        last = waiting[-1].end if waiting else block.end
        around.end = _EVER if over and whole else last
        block.around = around
        return block

    def passed(block: EventBlock) -> None:
        block.entries = []
        done.append(block)

    for some in stored:
        block = EventBlock(some, -1 if descending else 1)
        if not some:
            yield block
            continue
        waiting.append(block)
        around.add(block)
        while len(waiting) > 1 and (len(waiting) > AHEAD or waiting[-1].end > waiting[0].end + within_ms):
            found = next_one(over=False)
            yield found
            passed(found)
    while waiting:
        found = next_one(over=True)
        yield found
        passed(found)
