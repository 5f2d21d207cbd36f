"""Sketches of people in a partition: the same as counting them, whatever the batches."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app import keys
from app.facts import Entry
from app.verdicts import HUMAN, own_verdict
from tables import people
from tables.reading import PartitionReader
from tables.sketches import Union
from tests.support.facts import KEY, START_MS, entries, entry
from tests.tables.test_partition import ADDRESSES, count, database, record, records

START = START_MS // 900_000


def counted(folder: Path, kind: int, first: int, end: int) -> int:
    union = Union()
    with PartitionReader(folder / "p0") as reader:
        for sketch in reader.people(KEY, kind, first, end):
            union.add(sketch)
    return union.count()


def by_hand(line: list[Entry], kind: int, humans: bool, first: int, end: int) -> int:
    return len(
        {
            keys.normalise_address(one.address)
            for one in line
            if one.fact.type == kind
            and not one.fact.evidence & f.EXCLUDED
            and first <= one.fact.at_ms // 900_000 < end
            and (not humans or own_verdict(one.fact) == HUMAN)
        }
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(entries(addresses=ADDRESSES, steady=True), max_size=25),
    st.integers(0, 2**32),
    st.integers(-2, 5),
    st.integers(0, 300),
)
def test_people_of_any_window(lines: list[tuple[str, Entry]], seed: int, first: int, length: int) -> None:
    # Copies whose evidence differs are left away: a sketch can't forget the copy that lost.
    line = list({one.fact.identity: one for _, one in lines}.values())
    with tempfile.TemporaryDirectory() as name:
        count(Path(name), records([("spring", one) for one in line], seed), seed, cache=0)
        window = START + first, START + first + length
        for kind in (f.OPENED, f.CLICKED):
            for humans in (False, True):
                found = counted(Path(name), people.kind_of(kind, humans), *window)
                assert found == by_hand(line, kind, humans, *window)


def test_many_people_in_one_quarter_and_again() -> None:
    """Beyond the tail and beyond what is kept as hashes; repeats change nothing."""
    with tempfile.TemporaryDirectory() as name:
        base = database(Path(name))
        offset = 0
        for start in (0, 1_000, 2_000, 1_000):
            line = [
                entry(f.OPENED, START_MS + number, address=f"r{number}@example.com")
                for number in range(start, start + 1_000)
            ]
            for part in range(0, 1_000, 100):
                base.apply([(offset, record("spring", line[part : part + 100]))])
                offset += 1
        base.close()
        kind = people.kind_of(f.OPENED, True)
        exact = counted(Path(name), kind, START, START + 1)
        assert abs(exact - 3_000) < 3_000 * 0.04
        assert counted(Path(name), kind, START - 200, START + 200) == exact
        assert counted(Path(name), people.kind_of(f.CLICKED, True), START - 200, START + 200) == 0
