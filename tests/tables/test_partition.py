"""The partition database: one atomic batch, no order, nothing twice, and a clear word when it isn't its own log."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import contribution as c
from app import facts as f
from app import fold as folding
from app import keys
from app.errors import StateError
from app.facts import CampaignKey, CampaignRecord, Entry, ErasedRecord, FactsRecord, encode
from app.state import encode_state
from tables import layout, touched
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.link_ends import Ends
from tables.partition import PartitionDatabase
from tables.reading import PartitionReader
from tables.sums import Sums
from tables.touched import LABELS
from tests.support.facts import KEY, ORG, SECRET, START_MS, entries, entry

META = Meta(LAYOUT_VERSION, 0, 1, "topic-1", keys.secret_fingerprint(SECRET), 1)
ADDRESSES = ("a@example.com", "b@example.com", "c@example.org")
CAMPAIGNS = ("spring", "autumn")

Lines = list[tuple[str, Entry]]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="campaign-reports-test-"))
    yield path
    shutil.rmtree(path)


def database(folder: Path, *, meta: Meta = META, cache: int = 1_000) -> PartitionDatabase:
    return PartitionDatabase(folder / "p0", meta, SECRET, RecipientCache(cache))


def record(campaign: str, line: list[Entry]) -> bytes:
    return encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, line))


def records(lines: Lines, seed: int) -> list[bytes]:
    """Cuts lines into records, each of one campaign."""
    chance = random.Random(seed)
    made = []
    while lines:
        size = chance.randint(1, 5)
        part, lines = lines[:size], lines[size:]
        for campaign in {name for name, _ in part}:
            made.append(record(campaign, [one for name, one in part if name == campaign]))
    return made


def count(folder: Path, values: list[bytes], seed: int, *, cache: int = 1_000) -> dict[str, object]:
    """Applies records in batches of any size, closing and opening in between, and dumps what is then stored."""
    chance = random.Random(seed)
    base = database(folder, cache=cache)
    offset = 0
    while offset < len(values):
        size = chance.randint(1, 4)
        base.apply(list(enumerate(values))[offset : offset + size])
        offset = min(offset + size, len(values))
        if chance.random() < 0.2:
            base.close()
            base = database(folder, cache=cache)
        assert base.next_offset == offset
    base.close()
    return dump(folder)


def dump(folder: Path) -> dict[str, object]:
    """Everything that is stored, without the offsets."""
    with PartitionReader(folder / "p0") as reader:
        campaigns = list(reader.campaigns())
        return {
            "recipients": [(key, who, encode_state(state)) for key, who, state in reader.recipients()],
            "campaigns": [
                (key, row.as_of_ms, sorted(row.patterns.items()), row.totals, row.overflow)
                for key, row in campaigns
            ],
            "quarters": [(key, list(reader.quarters(key))) for key, _ in campaigns],
            "log": [(key, list(reader.log(key))) for key, _ in campaigns],
            # Names may stand there that only a copy brought which lost: nothing refers to them.
            "rows": [(key, sorted(reader.book(key).rows.items())) for key, _ in campaigns],
            "ends": [(key, sorted(reader.book(key).ends.items())) for key, _ in campaigns],
            "marks": [
                (key, list(reader.index(letter + key)))
                for key, _ in campaigns
                for letter in (b"S", b"K", b"F")
            ],
            "addresses": [(key, list(reader.addresses(key))) for key, _ in campaigns],
            "activity": [(key, list(reader.activity(key))) for key, _ in campaigns],
            "people": [
                (key, sorted((name, sketch.encode()) for name, sketch in reader.sketches(key).items()))
                for key, _ in campaigns
            ],
            "fallen": [(key, list(reader.fallen(key))) for key, _ in campaigns],
        }


def ends_by_hand(names: set[bytes]) -> dict[int, Ends]:
    """First and last click of each link, from all keys of the index."""
    times: dict[int, tuple[list[int], list[int]]] = {}
    for name in names:
        if name[:1] == b"F":
            of_link = times.setdefault(int.from_bytes(name[9:17], "big"), ([], []))
            of_link[name[17]].append(int.from_bytes(name[18:26], "big"))
    return {
        link: Ends(min(everyone), max(everyone), min(people, default=-1), max(people, default=-1))
        for link, (everyone, people) in times.items()
    }


def check_sums(folder: Path) -> None:
    """What is stored as a sum is the sum of the contributions of what is stored as states."""
    with PartitionReader(folder / "p0") as reader:
        for key, row in reader.campaigns():
            patterns: dict[int, int] = {}
            totals = [0] * c.METRICS
            quarters: dict[int, list[int]] = {}
            activity = []
            book = reader.book(key)
            sums = Sums()
            names: set[bytes] = set()
            for _, recipient, state in reader.recipients(key):
                contributed = c.contribution(state, book)
                sums.move(c.NOTHING, contributed)
                names |= layout.click_names(key, recipient, contributed.clicks)
                if contributed.last_at_ms < 0:
                    continue
                address = layout.indexed_address(state, recipient)
                names |= {
                    layout.bit_name(key, 1 << bit, address)
                    for bit in range(32)
                    if contributed.pattern & layout.INDEXED_BITS & 1 << bit
                }
                patterns[contributed.pattern] = patterns.get(contributed.pattern, 0) + 1
                activity.append((contributed.last_at_ms, recipient))
                for cell in contributed.cells:
                    totals[cell >> 32] += 1
                    quarters.setdefault(cell & 0xFFFFFFFF, [0] * c.METRICS)[cell >> 32] += 1
                for metric, number in contributed.overflow:
                    totals[metric] += number
            assert row.patterns == patterns
            assert row.totals == totals
            assert book.rows == {name: value for name, value in sums.rows.items() if value}
            assert {name for letter in (b"S", b"K", b"F") for name, _ in reader.index(letter + key)} == names
            assert book.ends == ends_by_hand(names)
            assert dict(reader.quarters(key)) == quarters
            assert list(reader.activity(key)) == sorted(activity)
            assert row.as_of_ms == max((at for at, _ in activity), default=-1)
            assert sorted(who for _, who in reader.addresses(key)) == sorted(who for _, who in activity)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(entries(addresses=ADDRESSES, campaigns=CAMPAIGNS), max_size=25),
    st.integers(0, 2**32),
    st.integers(0, 8),
)
def test_any_order_any_batches_any_repeats_give_the_same_database(
    lines: Lines, seed: int, repeats: int
) -> None:
    chance = random.Random(seed)
    again = lines + (chance.choices(lines, k=repeats) if lines else [])
    chance.shuffle(again)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = count(Path(one), records(lines, 1), 1)
        # A cache that forgets at once: states come from the disk.
        second = count(Path(other), records(again, seed), seed, cache=0)
        assert second == first
        check_sums(Path(one))


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(addresses=ADDRESSES[:1], steady=True), max_size=40), st.integers(0, 2**32))
def test_beyond_the_bound_too(lines: Lines, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as one:
        patch.setattr(folding, "KEPT", 2)
        with tempfile.TemporaryDirectory() as other:
            first = count(Path(one), records(lines, 1), 1)
            chance = random.Random(seed)
            again = lines + lines[: len(lines) // 2]
            chance.shuffle(again)
            assert count(Path(other), records(again, seed), seed, cache=0) == first
        check_sums(Path(one))


def erasure(campaign: str, address: str) -> bytes:
    key = keys.campaign_key(SECRET, ORG, campaign)
    recipient = keys.recipient_key(SECRET, key, address)
    return encode(ErasedRecord(f.FACTS_VERSION, ORG, campaign, START_MS, [recipient]))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(entries(addresses=ADDRESSES[:2], campaigns=CAMPAIGNS, steady=True), max_size=25),
    st.integers(0, 2**32),
    st.sampled_from([2, 200]),
)
def test_erased_whenever_it_comes_and_the_totals_stay(lines: Lines, seed: int, kept: int) -> None:
    chance = random.Random(seed)
    gone = ADDRESSES[0]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as plain:
        patch.setattr(folding, "KEPT", kept)
        before = count(Path(plain), records(lines, 1), 1)
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            erasures = [erasure(campaign, gone) for campaign in CAMPAIGNS]
            first = count(Path(one), [*records(lines, 1), *erasures], 1)
            again = lines + lines[: len(lines) // 2]
            chance.shuffle(again)
            mixed = records(again, seed)
            for made in erasures:
                mixed.insert(chance.randint(0, len(mixed)), made)
            assert count(Path(other), mixed, seed, cache=0) == first
            check_sums(Path(one))
            assert not holds(Path(one), gone)
        if any(one.address.lower() == gone for _, one in lines):
            assert holds(Path(plain), gone)
        for name in ("quarters", "rows", "ends", "activity"):
            there = [(key, what) for key, what in first[name] if what]  # type: ignore[attr-defined]
            assert there == [(key, what) for key, what in before[name] if what]  # type: ignore[attr-defined]


def holds(folder: Path, address: str) -> bool:
    """Whether an address stands anywhere in the database, in any spelling."""
    wanted = address.encode().lower()
    with PartitionReader(folder / "p0") as reader:
        return any(
            wanted in name.lower() or wanted in value.lower() for _, name, value in reader.everything()
        )


def test_records_below_the_offset_are_skipped(folder: Path) -> None:
    base = database(folder)
    value = record("spring", [entry(f.OPENED, START_MS)])
    base.apply([(0, value), (1, value)])
    before = base.aggregates.campaign_row(KEY)
    assert base.apply([(0, value), (1, value)]).facts == 0
    assert base.next_offset == 2 and base.aggregates.campaign_row(KEY) == before
    base.close()


def test_a_gap_stops_and_changes_nothing(folder: Path) -> None:
    base = database(folder)
    base.apply([(0, record("spring", [entry(f.OPENED, START_MS)]))])
    with pytest.raises(StateError, match=r"offset 1 is to be counted next but the log goes on with 3"):
        base.apply([(3, record("spring", [entry(f.OPENED, START_MS + 1)]))])
    base.close()
    assert database(folder).next_offset == 1


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (Meta(LAYOUT_VERSION + 1, 0, 1, "topic-1", META.secret, 1), "another version"),
        (Meta(LAYOUT_VERSION, 0, 2, "topic-1", META.secret, 1), "REPORTS_PARTITIONS=1"),
        (Meta(LAYOUT_VERSION, 1, 1, "topic-1", META.secret, 1), "put that of partition 1 in its place"),
        (Meta(LAYOUT_VERSION, 0, 1, "topic-2", META.secret, 1), "recreated"),
        (Meta(LAYOUT_VERSION, 0, 1, "topic-1", "other", 1), "REPORTS_SECRET"),
    ],
)
def test_what_belongs_to_something_else_is_refused(
    folder: Path, meta: Meta, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(folder).close()
    monkeypatch.setattr("tables.layout.LAYOUT_VERSION", meta.version)
    with pytest.raises(StateError, match=words):
        database(folder, meta=meta)


def test_what_a_newer_version_wrote_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = database(folder)
    newer = encode(FactsRecord(f.FACTS_VERSION + 1, ORG, "spring", START_MS, []))
    with pytest.raises(StateError, match="upgrade the workers that count"):
        base.apply([(0, newer)])
    base.apply([(0, record("spring", [entry(f.OPENED, START_MS)]))])
    base.close()
    monkeypatch.setattr("tables.partition.STATE_VERSION", 0)
    base = database(folder)
    with pytest.raises(StateError, match="newer version"):
        base.apply([(1, record("spring", [entry(f.OPENED, START_MS + 1)]))])
    base.close()


def test_what_was_touched_since_an_offset(folder: Path) -> None:
    base = database(folder)
    day_ms = 86_400_000
    other = keys.campaign_key(SECRET, ORG, "autumn")
    base.apply([(0, record("spring", [entry(f.OPENED, START_MS)]))])
    base.apply([(1, record("autumn", [entry(f.OPENED, START_MS, campaign="autumn")]))])
    base.apply([(2, record("spring", [entry(f.CLICKED, START_MS + day_ms)]))])
    base.apply([(3, encode(CampaignRecord(1, ORG, "spring", START_MS, name="Spring")))])
    day = START_MS // day_ms

    def numbers(offset: int) -> list[tuple[CampaignKey, set[int]]]:
        return sorted(
            filter(None, base.touched_numbers(offset)), key=lambda found: (found[1] == {LABELS}, found[0])
        )

    first, second = sorted([(KEY, {day, day + 1}), (other, {day})])
    assert numbers(-1) == numbers(0) == [first, second, (KEY, {LABELS})]
    assert numbers(1) == [*sorted([(KEY, {day + 1}), (other, {day})]), (KEY, {LABELS})]
    assert numbers(2) == [(KEY, {day + 1}), (KEY, {LABELS})]
    assert numbers(3) == [(KEY, {LABELS})]
    assert numbers(4) == []
    sections = [{campaign for campaign, _ in filter(None, base.touched_sections(n))} for n in range(4)]
    assert sections == [{KEY, other}, {KEY, other}, {KEY}, set()]
    base.close()


def test_what_was_touched_is_read_in_steps_between_which_the_database_is_written_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touched, "ROWS", 2)
    base = database(folder)
    names = [f"campaign {number}" for number in range(9)]
    for number, name in enumerate(names):
        base.apply([(number, record(name, [entry(f.OPENED, START_MS, campaign=name)]))])
    found = []
    for step in base.touched_numbers(3):
        if step is not None:
            found.append(step[0])
            base.apply(
                [(base.next_offset, record(names[-1], [entry(f.OPENED, START_MS, number=len(found))]))]
            )
    assert sorted(found) == sorted(keys.campaign_key(SECRET, ORG, name) for name in names[3:])
    base.close()


def test_labels_count_nothing_and_the_last_ones_win(folder: Path) -> None:
    base = database(folder)
    applied = base.apply(
        [
            (0, encode(CampaignRecord(1, ORG, "spring", START_MS, name="Old"))),
            (
                1,
                encode(
                    CampaignRecord(1, ORG, "spring", START_MS, name="New", fields={"subject": {"A": "Hi"}})
                ),
            ),
        ]
    )
    assert applied.labels == {KEY}
    row = base.aggregates.labels_row(KEY)
    assert row is not None and (row.name, row.fields) == ("New", {"subject": {"A": "Hi"}})
    sums = base.aggregates.campaign_row(KEY)
    assert sums is not None and sums.patterns == {} and sums.as_of_ms == -1
    base.close()


def test_a_reader_beside_the_writer_sees_what_was_written(folder: Path) -> None:
    base = database(folder)
    base.apply([(0, record("spring", [entry(f.OPENED, START_MS)]))])
    with PartitionReader(folder / "p0") as reader:
        assert reader.fence().offset == 1
        base.apply([(1, record("spring", [entry(f.OPENED, START_MS + 1)]))])
        reader.catch_up()
        assert reader.fence().offset == 2
        assert [len(state.facts) for _, _, state in reader.recipients(KEY)] == [2]
    base.close()
