"""Sketches of people in a partition: the same as counting them, whatever the batches."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app import fold as folding
from app import keys
from app.facts import Entry
from app.verdicts import HUMAN, own_verdict
from tables import people, people_writer, sketches
from tables.reading import PartitionReader
from tables.sketches import Union
from tests.support.facts import KEY, ORG, SECRET, START_MS, entries, entry
from tests.tables.test_partition import ADDRESSES, CAMPAIGNS, count, database, erasure, record, records

START = START_MS // 900_000


def counted(reader: PartitionReader, kind: int, first: int, end: int) -> int:
    union = Union()
    for sketch in reader.people(KEY, kind, first, end):
        union.add(sketch)
    return union.count()


def by_hand(line: list[Entry], kind: int, humans: bool, first: int, end: int) -> int:
    smallest: dict[bytes, Entry] = {}
    for one in sorted(line, key=lambda one: (-one.fact.reading, one.fact.at_ms, one.fact.content)):
        smallest.setdefault(one.fact.identity, one)
    return len(
        {
            keys.normalise_address(one.address)
            for one in smallest.values()
            if one.fact.type == kind
            and not one.fact.evidence & f.EXCLUDED
            and first <= one.fact.at_ms // 900_000 < end
            and (not humans or own_verdict(one.fact) == HUMAN)
        }
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(entries(addresses=ADDRESSES, few=True), max_size=25),
    st.lists(st.sampled_from(ADDRESSES), unique=True),
    st.sampled_from([1, 1_500]),
    st.integers(0, 2**32),
    st.integers(-2, 5),
    st.integers(0, 300),
)
def test_people_of_any_window(
    lines: list[tuple[str, Entry]], gone: list[str], few: int, seed: int, first: int, length: int
) -> None:
    """Copies that move facts and erasures among them; as hashes and as registers, which at so few people are exact."""
    line = [one for _, one in lines]
    values = records([("spring", one) for one in line], seed)
    chance = random.Random(seed)
    for address in gone:
        values.insert(chance.randint(0, len(values)), erasure("spring", address))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "SPARSE", few)
        patch.setattr(sketches, "SURELY_DENSE", 2 * few)
        patch.setattr(people_writer, "TAIL", min(few, people_writer.TAIL))
        patch.setattr(folding, "KEPT", 3)
        count(Path(name), values, seed, cache=0)
        window = START + first, START + first + length
        with PartitionReader(Path(name) / "p0") as reader:
            for kind in (f.OPENED, f.CLICKED):
                for humans in (False, True):
                    found = counted(reader, people.kind_of(kind, humans), *window)
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
        with PartitionReader(Path(name) / "p0") as reader:
            exact = counted(reader, kind, START, START + 1)
            assert abs(exact - 3_000) < 3_000 * 0.04
            assert counted(reader, kind, START - 200, START + 200) == exact
            assert counted(reader, people.kind_of(f.CLICKED, True), START - 200, START + 200) == 0


def test_an_erasure_before_after_and_amid_its_facts_counts_the_same(tmp_path: Path) -> None:
    """400 people in two campaigns, ten of them erased while the worker is behind: in all orders and after a rebuild."""
    addresses = [f"r{number}@example.com" for number in range(400)]
    facts = {
        campaign: [
            entry(f.OPENED, START_MS, address=address, campaign=campaign, number=number)
            for number, address in enumerate(addresses)
        ]
        for campaign in CAMPAIGNS
    }
    erasures = [erasure(campaign, address) for campaign in CAMPAIGNS for address in addresses[:10]]
    opens = [record(campaign, line) for campaign, line in facts.items()]
    late = record("spring", [entry(f.CLICKED, START_MS, address=address) for address in addresses])
    orders = {
        "before": [[*erasures], [*opens]],
        "in one batch": [[opens[0], *erasures, opens[1]]],
        "after": [opens, erasures],
        "between": [[opens[0]], erasures, [opens[1]]],
    }
    for order, batches in orders.items():
        folder = tmp_path / order
        base = database(folder)
        for values in batches:
            base.apply(list(enumerate(values, base.next_offset)))
        assert several(folder, f.OPENED) == 400, order
        base.apply([(base.next_offset, late)])
        assert several(folder, f.CLICKED) == 400, f"{order}, and a late click"
        base.rebuild(base.meta.rules, "request", 2, lambda _: None)
        assert (several(folder, f.OPENED), several(folder, f.CLICKED)) == (400, 400), f"{order}, rebuilt"
        base.close()


def several(folder: Path, kind: int) -> int:
    union = Union()
    with PartitionReader(folder / "p0") as reader:
        for campaign in CAMPAIGNS:
            key = keys.campaign_key(SECRET, ORG, campaign)
            for sketch in reader.people(key, people.kind_of(kind, False), 0, 2**32):
                union.add(sketch)
    assert union.exact
    return union.count()


def test_who_leaves_a_dense_sketch_is_counted_out_of_it(tmp_path: Path) -> None:
    """Untimed opens of 4,000 people are resent with an earlier time: half of them leave their quarter, all the day."""
    base = database(tmp_path)
    days_ms = 30 * 86_400_000

    def opens(part: range, at_ms: int) -> bytes:
        return record(
            "spring",
            [entry(f.OPENED, at_ms, address=f"r{n}@example.com", evidence=f.UNTIMED) for n in part],
        )

    kind = people.kind_of(f.OPENED, False)
    base.apply([(0, opens(range(4_000), START_MS))])
    base.apply(
        [(1, opens(range(2_000), START_MS - days_ms)), (2, opens(range(2_000, 2_700), START_MS - days_ms))]
    )
    with PartitionReader(tmp_path / "p0") as reader:
        left = reader.sketches(KEY)[people.sketch_name(KEY, kind, people.QUARTER, START)]
        day = reader.sketches(KEY)[people.sketch_name(KEY, kind, people.DAY, START // 96)]
    expected = sketches.Sketch()
    expected.add(keys.person_id(SECRET, ORG, f"r{number}@example.com") for number in range(2_700, 4_000))
    assert expected.exact and left.encode() == day.encode() == expected.encode()
    base.apply([(3, opens(range(2_700, 4_000), START_MS - days_ms))])
    base.close()
    with PartitionReader(tmp_path / "p0") as reader:
        assert {people.time_of(name)[2] for name in reader.sketches(KEY)} == {
            START - 30 * 96, START // 96 - 30,
        }  # fmt: skip
