"""Databases leave out what another secret has keyed, say what that was, and notice what earlier versions counted."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app import keys
from app.erasure import erased_records
from app.facts import Entry, ErasedRecord, FactsRecord, encode
from tables.conditions import Accepted
from tables.foreign import ForeignRow, accepted_of, condition_of
from tables.partition import PartitionDatabase
from tables.section_parts import PUBLISHED
from tests.support.facts import KEY, ORG, SECRET, START_MS, entries, entry
from tests.support.foreign import FOREIGN, first_erased, first_facts, first_version, foreign
from tests.tables.test_partition import ADDRESSES, CAMPAIGNS, Lines, database, dump

OURS, THEIRS = keys.secret_fingerprint(SECRET), keys.secret_fingerprint(FOREIGN)
MINUTE_MS = 60_000


def facts(
    line: list[Entry], secret: str, campaign: str = "spring", org: str = ORG, at_ms: int = START_MS
) -> bytes:
    return encode(FactsRecord(f.FACTS_VERSION, org, campaign, at_ms, line, secret))


def renormalized(from_ms: int, org: str = "", secret: str = OURS, below: int | None = None) -> bytes:
    return encode(FactsRecord(f.FACTS_VERSION, org, "", START_MS, [], secret, from_ms, below))


def apply(base: PartitionDatabase, *values: bytes) -> None:
    base.apply(list(enumerate(values, base.next_offset)))


def said(base: PartitionDatabase) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(campaign, fingerprint) → facts, erasures, first and last offset."""
    return {
        (row.campaign, secret): (row.facts, row.erasures, row.first_offset, row.last_offset)
        for secret, row in base.foreign.rows()
    }


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(entries(addresses=ADDRESSES, campaigns=CAMPAIGNS), st.sampled_from("oOfF")), max_size=25
    ),
    st.integers(0, 2**32),
)
def test_what_is_counted_is_what_our_secret_has_keyed(
    made: list[tuple[tuple[str, Entry], str]], seed: int
) -> None:
    """Ours and foreign ones (o, f), of the first version and of this one (capital), in any order and batching."""
    chance = random.Random(seed)
    values = []
    ours: Lines = []
    for (campaign, one), kind in made:
        stands = one if kind in "oO" else foreign(one, campaign)
        if kind in "oO":
            ours.append((campaign, one))
        if kind.isupper():
            values.append(facts([stands], OURS if kind == "O" else THEIRS, campaign))
        else:
            values.append(first_facts([stands], campaign))
    with tempfile.TemporaryDirectory() as one_folder, tempfile.TemporaryDirectory() as other_folder:
        base = database(Path(one_folder))
        start = 0
        while start < len(values):
            size = chance.randint(1, 4)
            apply(base, *values[start : start + size])
            start += size
            if chance.random() < 0.2:
                base.close()
                base = database(Path(one_folder))
        left = sum(row.facts for _, row in base.foreign.rows())
        assert left == len(made) - len(ours)
        assert base.foreign.is_checked and not base.foreign.has_counted_any(lambda _: None)
        base.close()
        base = database(Path(other_folder))
        for campaign, one in ours:
            apply(base, facts([one], OURS, campaign))
        base.close()
        names = {keys.campaign_key(SECRET, ORG, campaign) for campaign, _ in ours}
        # A campaign of which only foreign facts came is there and has no numbers.
        assert only(dump(Path(one_folder)), names) == only(dump(Path(other_folder)), names)


def only(dumped: dict[str, object], campaigns: set[f.CampaignKey]) -> dict[str, object]:
    return {
        name: [row for row in cast("list[tuple[f.CampaignKey]]", rows) if row[0] in campaigns]
        for name, rows in dumped.items()
    }


def test_a_fingerprint_is_believed(tmp_path: Path) -> None:
    """Ours although the address does not give the key (another way to normalise), theirs although it does."""
    base = database(tmp_path)
    one, other = entry(f.OPENED, START_MS, address="a@x.org"), entry(f.OPENED, START_MS, address="b@x.org")
    apply(base, facts([foreign(one)], OURS), facts([other], THEIRS))
    row = base.aggregates.campaign_row(KEY)
    assert row is not None and sum(row.patterns.values()) == 1
    assert said(base) == {("spring", THEIRS): (1, 0, 1, 1)}
    base.close()


def test_who_was_erased_can_not_be_judged_and_stays(tmp_path: Path) -> None:
    base = database(tmp_path)
    one = entry(f.OPENED, START_MS)
    with first_version():
        apply(base, first_facts([foreign(one)]), first_erased([foreign(one).recipient]))
    base.close()
    base = database(tmp_path)
    assert not base.foreign.is_checked
    assert not base.foreign.has_counted_any(lambda _: None)
    base.close()


def test_an_erasure_of_another_secret_erases_nobody_and_is_said(tmp_path: Path) -> None:
    base = database(tmp_path)
    one = entry(f.OPENED, START_MS)
    ((_, ours),) = erased_records(SECRET, ORG, ["spring"], "a@example.com", now_ms=START_MS, partitions=1)
    ((_, theirs),) = erased_records(FOREIGN, ORG, ["spring"], "a@example.com", now_ms=START_MS, partitions=1)
    assert (ours.secret, theirs.secret) == (OURS, THEIRS)
    apply(base, facts([one], OURS), encode(theirs))
    assert said(base) == {("spring", THEIRS): (0, 1, 1, 1)}
    base.close()
    assert b"erased:" not in str(dump(tmp_path)["addresses"]).encode()
    base = database(tmp_path)
    message = condition_of(base.foreign.rows(), [])
    assert message is not None and "1 erasure too, which erased nobody: ask again" in message
    apply(base, encode(ours))
    base.close()
    assert b"erased:" in str(dump(tmp_path)["addresses"]).encode()
    assert isinstance(ours, ErasedRecord)


def test_what_is_left_out_is_kept_and_said(tmp_path: Path) -> None:
    base = database(tmp_path)
    line = [foreign(entry(f.OPENED, START_MS, number=n), "spring") for n in range(3)]
    apply(base, facts(line, THEIRS), first_facts(line, "spring", at_ms=START_MS + MINUTE_MS))
    apply(base, facts(line[:1], THEIRS, "autumn", at_ms=START_MS - MINUTE_MS))
    base.close()
    base = database(tmp_path)
    assert said(base) == {
        ("spring", THEIRS): (3, 0, 0, 0),
        ("spring", ""): (3, 0, 1, 1),
        ("autumn", THEIRS): (1, 0, 2, 2),
    }
    rows = base.foreign.rows()
    message = condition_of(rows, [])
    base.close()
    assert message is not None
    assert message.startswith(
        "7 facts of 2 campaigns, accepted from 2026-09-21T14:12:20.000Z to 2026-09-21T14:14:20."
    )
    assert f"{THEIRS}, unknown" in message
    assert "`reports renormalize` reads their webhooks again" in message
    assert accepted_of(rows) == Accepted(START_MS - MINUTE_MS, START_MS + MINUTE_MS)
    assert accepted_of([]) is None


@pytest.mark.parametrize(
    ("marker", "left"),
    [
        (renormalized(START_MS), set()),
        (renormalized(START_MS - MINUTE_MS), set()),
        (renormalized(START_MS + 1), {"acme", "globex"}),
        (renormalized(START_MS, "acme"), {"globex"}),
        (renormalized(START_MS, "others"), {"acme", "globex"}),
        (renormalized(START_MS, secret=THEIRS), {"acme", "globex"}),
    ],
)
def test_it_ends_when_the_webhooks_were_read_again(tmp_path: Path, marker: bytes, left: set[str]) -> None:
    base = database(tmp_path)
    line = [foreign(entry(f.OPENED, START_MS))]
    values = [facts(line, THEIRS, org=org) for org in ("acme", "globex")]
    apply(base, *values)
    apply(base, marker)
    assert {row.org for _, row in base.foreign.rows()} == left
    base.close()
    base = database(tmp_path)
    assert {row.org for _, row in base.foreign.rows()} == left
    # What is left out behind it is said anew.
    apply(base, values[0])
    assert {row.org for _, row in base.foreign.rows()} == left | {"acme"}
    base.close()


def test_what_came_while_the_webhooks_were_read_again_stays(tmp_path: Path) -> None:
    """Copies carry the accepted time of the first ones: only where they stand in the log tells who came meanwhile."""
    base = database(tmp_path)
    line = [foreign(entry(f.OPENED, START_MS))]
    spring, autumn, live = (facts(line, THEIRS, name) for name in ("spring", "autumn", "live"))
    apply(base, spring, autumn)
    # The run began at offset 2, and a host with the other secret still read one of the copies and what came.
    apply(base, spring, live, renormalized(START_MS, below=2))
    left = {("spring", THEIRS): (2, 0, 0, 2), ("live", THEIRS): (1, 0, 3, 3)}
    assert said(base) == left
    base.close()
    base = database(tmp_path)
    assert said(base) == left
    # Its host stopped, another run heals all of it.
    apply(base, renormalized(START_MS, below=5))
    assert said(base) == {}
    base.close()


def test_what_an_earlier_topic_had_is_not_what_came_meanwhile(tmp_path: Path) -> None:
    """Topic `facts` was recreated: its offsets begin again, and those of rows are higher."""
    base = database(tmp_path)
    line = [foreign(entry(f.OPENED, START_MS))]
    apply(base, *[facts(line, THEIRS)] * 3)
    row = base.foreign.rows()[0][1]
    row.last_offset = 1_000
    apply(base, renormalized(START_MS, below=2))
    assert said(base) == {}
    base.close()


def test_a_record_of_a_run_of_an_earlier_version_is_understood(tmp_path: Path) -> None:
    """It doesn't say where the log ended: it ends what stands before it, as it did."""
    base = database(tmp_path)
    earlier = msgspec.msgpack.encode(
        (FactsRecord.__struct_config__.tag, f.FACTS_VERSION, "", "", START_MS, [], OURS, START_MS)
    )
    apply(base, facts([foreign(entry(f.OPENED, START_MS))], THEIRS), earlier)
    assert said(base) == {}
    base.close()


def test_a_database_that_an_earlier_version_counted_is_looked_at_once(tmp_path: Path) -> None:
    line = [entry(f.OPENED, START_MS, address=f"{n}@example.com") for n in range(5)]
    base = database(tmp_path)
    assert base.foreign.is_checked
    with first_version():
        apply(base, first_facts(line))
    base.close()
    base = database(tmp_path)
    assert not base.foreign.is_checked
    # Counting on doesn't make it one that was looked at.
    apply(base, facts(line[:1], OURS))
    base.close()
    base = database(tmp_path)
    assert not base.foreign.is_checked
    assert not base.foreign.has_counted_any(lambda _: None)
    base.foreign.note_checked()
    apply(base, facts(line[:1], OURS))
    base.close()
    base = database(tmp_path)
    assert base.foreign.is_checked
    # Another worker of the first version had it in between.
    with first_version():
        apply(base, first_facts([foreign(line[0])]))
    base.close()
    base = database(tmp_path)
    assert not base.foreign.is_checked
    assert base.foreign.has_counted_any(lambda _: None)
    base.close()


def test_what_only_foreign_facts_published_is_published_anew(tmp_path: Path) -> None:
    """A view of the generation before has them: every section has to be written over, also where nothing is left."""
    base = database(tmp_path)
    applied = base.apply([(0, facts([foreign(entry(f.CLICKED, START_MS))], THEIRS))])
    assert applied.days == {KEY: set()}
    assert applied.sections == {KEY: set(PUBLISHED)}
    assert list(filter(None, base.touched_sections(0))) == [(KEY, set(PUBLISHED))]
    assert (applied.facts, applied.accepted_at_ms) == (0, [])
    base.close()


def test_the_condition_says_what_can_not_be_counted_again() -> None:
    assert condition_of([], []) is None
    message = condition_of([], [3, 1])
    assert message is not None and message.startswith("partitions 1, 3 have counted such facts")
    row = ForeignRow("acme", "spring", 2, 0, 0, 0, START_MS, START_MS)
    both = condition_of([("", row)], [3])
    assert both is not None and "2 facts" in both and "; partitions 3" in both
