"""What may be committed, and how records are merged."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agents.normalize import ENTRIES_PER_RECORD, Deliveries, merge
from app import facts as f
from app.facts import FactsRecord
from tests.support.facts import START_MS, entry


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 2**32))
def test_an_offset_is_committable_when_all_below_it_is_delivered(chunks: list[int], seed: int) -> None:
    """Each chunk has some records; their delivery reports come in any order."""
    deliveries = Deliveries()
    reports = []
    left = {}
    for number, records in enumerate(chunks):
        delivered = deliveries.expect(0, 10 * (number + 1), records)
        left[number] = records
        reports += [(number, delivered)] * records
    random.Random(seed).shuffle(reports)

    def expected() -> dict[int, int]:
        done = 0
        while done < len(chunks) and not left[done]:
            done += 1
        return {0: 10 * done} if done else {}

    assert deliveries.positions() == expected()
    for number, delivered in reports:
        delivered()
        left[number] -= 1
        assert deliveries.positions() == expected()
        assert deliveries.under_way == sum(left.values())


def test_partitions_do_not_wait_for_each_other() -> None:
    deliveries = Deliveries()
    first = deliveries.expect(0, 5, 1)
    deliveries.expect(1, 7, 0)
    assert deliveries.positions() == {1: 7}
    first()
    assert deliveries.positions() == {0: 5, 1: 7}


def test_a_late_report_of_a_revoked_partition_commits_nothing() -> None:
    deliveries = Deliveries()
    old = deliveries.expect(0, 5, 1)
    deliveries.forget(0)
    deliveries.expect(0, 3, 1)
    old()
    assert deliveries.positions() == {}


@given(st.lists(st.integers(1, ENTRIES_PER_RECORD), min_size=1, max_size=8))
def test_merging_keeps_entries_and_their_order(sizes: list[int]) -> None:
    number = iter(range(10_000))
    records = [
        FactsRecord(
            1,
            "acme",
            "spring",
            100 - index,
            [entry(f.OPENED, START_MS, number=next(number)) for _ in range(size)],
        )
        for index, size in enumerate(sizes)
    ]
    merged = merge(records)
    assert [one for record in merged for one in record.entries] == [
        one for record in records for one in record.entries
    ]
    assert all(len(record.entries) <= ENTRIES_PER_RECORD for record in merged)
    assert min(record.accepted_at_ms for record in merged) == min(record.accepted_at_ms for record in records)
