"""A section's first rows and sums are those of all of its rows, however many there are and however they move."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app import breakdown as b
from app.breakdown import RowKey, row_key
from app.facts import encode
from app.sections import Weight
from app.tally import pack
from tables import ranking
from tables.ranking import Ranking, entries_of, key_of, read_ranking

KEYS = st.integers(4, 60).map(lambda number: row_key(b.CITY, number * 0x9E3779B97F4A7C15 % 2**64))
TALLIES = st.builds(
    lambda human, scanner, clicks: pack([human, 0, scanner, clicks]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 1),
)
LIMIT = 3


def first(rows: dict[RowKey, int], weight: Weight, zero: bool) -> list[RowKey]:
    found = sorted((-weight(value), key) for key, value in rows.items() if zero or weight(value))
    return [key for _, key in found[:LIMIT]]


class Moving(RuleBasedStateMachine):
    """As `tables.campaign_book` uses one: rows and index stand for the database."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ranking, "LIMITS", {b.CITY: LIMIT})
        self.rows: dict[RowKey, int] = {}
        self.index: set[bytes] = set()
        self.ranking = Ranking(b.CITY)

    def teardown(self) -> None:
        self.patch.undo()

    def write(self, ops: ranking.Ops) -> None:
        for puts, entry in ops:
            if puts:
                assert entry not in self.index
                self.index.add(entry)
            else:
                self.index.remove(entry)

    def read(self) -> None:
        """What `CampaignBook.ranking` does."""
        if self.ranking.short:
            self.ranking = read_ranking(b.CITY, self.rows.items())
            self.index = set(self.ranking.entries()) if self.ranking.cut else set()
        if self.ranking.rows is None:
            keys = {key_of(b.CITY, entry) for entry in self.index}
            self.ranking.rows = {key: self.rows[key] for key in keys}

    @rule(batch=st.dictionaries(KEYS, TALLIES, max_size=8))
    def count(self, batch: dict[RowKey, int]) -> None:
        if self.ranking.cut and self.ranking.overgrown:
            self.read()
            if self.ranking.overgrown:
                self.write(self.ranking.shrink())
        ops: ranking.Ops = []
        for key, value in batch.items():
            before = self.rows.pop(key, 0)
            if value:
                self.rows[key] = value
            if self.ranking.cut:
                self.ranking.move(key, before, value, ops)
            elif value:
                assert self.ranking.rows is not None
                self.ranking.rows[key] = value
            else:
                assert self.ranking.rows is not None
                self.ranking.rows.pop(key, None)
        self.write(ops)
        if not self.ranking.cut and self.ranking.overgrown:
            self.index.clear()
            self.write(self.ranking.shrink())

    @rule()
    def restart(self) -> None:
        if self.ranking.cut:
            stored = ranking.cut_decoder.decode(encode(self.ranking.stored(1, 2)))
            self.ranking = Ranking(b.CITY)
            self.ranking.take(stored)
        else:
            self.ranking = read_ranking(b.CITY, self.rows.items())

    @invariant()
    def sums_are_exact(self) -> None:
        total, numbers = self.ranking.sums()
        assert total == sum(self.rows.values())
        people = self.ranking.weights[1]
        assert numbers == [len(self.rows), sum(1 for value in self.rows.values() if people(value))]
        if self.ranking.cut:
            assert self.index == entries_of(b.CITY, self.rows, self.ranking.floors)
            for order, kept in enumerate(self.ranking.kept):
                assert kept == sum(1 for entry in self.index if entry[0] == order)

    @rule()
    def first_rows_are_the_first(self) -> None:
        self.read()
        for place, keys in enumerate(self.ranking.first()):
            assert keys == first(self.rows, self.ranking.weights[place], not place)
        assert self.ranking.rows is not None
        assert self.ranking.rows.items() <= self.rows.items()


TestMoving = Moving.TestCase
TestMoving.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def many(number: int) -> Iterator[tuple[RowKey, int]]:
    chance = random.Random(1)
    for place in range(number):
        yield row_key(b.CITY, chance.randrange(4, 2**64)), pack([1 + place % 3 // 2])


def test_what_is_kept_of_many_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "LIMITS", {b.CITY: LIMIT})
    rows = dict(many(5_000))
    found = read_ranking(b.CITY, rows.items())
    assert found.cut
    assert found.rows is not None
    assert len(found.rows) <= 2 * ranking.WHOLE * LIMIT
    assert found.first()[0] == first(rows, found.weights[0], True)
    found.rows = None  # as after it was dropped: nothing needs to be read for rows behind the floors
    ops: ranking.Ops = []
    for key, value in many(5_000):
        found.move(key, value, value + pack([0, 0, 1]), ops)
    assert found.total == sum(rows.values()) + 5_000 * pack([0, 0, 1])
