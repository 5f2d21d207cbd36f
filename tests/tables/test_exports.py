"""Exports hold every row that a filter holds for, in order, as of one moment, whatever is written meanwhile."""

from __future__ import annotations

import csv
import io
import random
import threading
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import contribution as c
from app import csv_recipients, keys
from app import facts as f
from app import fold as folding
from app.breakdown import SPECIAL_NAMES
from app.csv_rows import encoded, quoted, row, text_cell
from app.errors import StateError, TryLater
from app.facts import Detail, Entry, decode_detail, encode
from app.filters import STATUSES, EventFilter, RecipientFilter, RecipientTest
from app.items import event_item, recipient_item
from app.state import RecipientState
from app.summary import Count
from app.verdicts import Rules, judge_with_reasons, own_reason, own_verdict
from tables import event_records, exports, layout, recipient_records
from tables.exports import Asked
from tables.layout import LAYOUT_VERSION, Meta
from tables.moments import Moment, small_cache
from tables.recipient_records import Moments
from tables.sorting import Sorter
from tests.support.databases import PARTITIONS, databases, names_of
from tests.support.facts import KEY, LINKS, ORG, SECRET, START_MS, entries, entry

ADDRESSES = (
    "a@example.com",
    "ab@example.com",
    "Z@Example.org",
    "ä@example.com",
    "=1@example.net",
    'q",@example.com',
)
COUNTS: tuple[Count, ...] = get_args(Count)
LINK_IDS = tuple(keys.text_id(link) for link in LINKS)


def rows(moments: Moments, asked: Asked, run_bytes: int = 1 << 20) -> list[str]:
    sorter = Sorter(None, run_bytes, 100)
    rows_of = exports.rows_of(asked)
    texts = [text for block in exports.records(asked, moments, sorter) if block for text in rows_of(block)]
    sorter.close()
    read = csv.reader(io.StringIO(encoded("".join(texts)).decode(), newline=""), strict=True)
    return [",".join(map(cell_again, row)) + "\r\n" for row in read]


def cell_again(text: str) -> str:
    """A cell as it was written: an apostrophe before a formula is there already."""
    return quoted(text) if set(text) & set(',"\r\n') else text


def recipient_rows(
    moments: Moments, wanted: RecipientFilter, count: Count, run_bytes: int = 1 << 20
) -> list[str]:
    return rows(moments, Asked(campaign=KEY, recipients=wanted, count=count), run_bytes)


def event_rows(moments: Moments, wanted: EventFilter, descending: bool) -> list[str]:
    return rows(moments, Asked(campaign=KEY, events=wanted, descending=descending))


def expected_recipients(moments: Moments, wanted: RecipientFilter, count: Count) -> list[str]:
    """By the definitions, one by one."""
    found = []
    for moment in moments.values():
        names = names_of(moment, KEY)
        test = RecipientTest(wanted, count, names)
        for _, recipient, state in moment.recipients(KEY):
            contributed = c.contribution(state, names, moment.rules())
            address = layout.indexed_address(state, recipient)
            if test.address_matches(address) and test.matches(contributed):
                found.append((address, row(recipient_item(state, names, count, moment.rules()))))
    return [text for _, text in sorted(found)]


def expected_events(moments: Moments, wanted: EventFilter, descending: bool) -> list[str]:
    found = []
    for moment in moments.values():
        states = {recipient: state for _, recipient, state in moment.recipients(KEY)}
        for one in moment.log(KEY):
            fact, state = one.fact, states[one.recipient]
            detail = decode_detail(one.detail) if len(one.detail) > 1 else Detail("")
            verdict = None
            if fact.type in (f.OPENED, f.CLICKED):
                judged = judge_with_reasons(state.facts, moment.rules())
                by_identity = {kept.identity: said for kept, said in zip(state.facts, judged, strict=True)}
                verdict = by_identity.get(fact.identity, (own_verdict(fact), own_reason(fact)))
            if (
                wanted.type in (None, fact.type)
                and (wanted.recipient is None or (wanted.recipient == one.recipient and not state.erased))
                and (wanted.link is None or (wanted.link == fact.link and fact.type == f.CLICKED))
                and (wanted.verdict is None or (verdict is not None and verdict[0] == wanted.verdict))
                and all((detail.variant or {}).get(name) == value for name, value in wanted.variant)
                and (wanted.from_ms or 0)
                <= fact.at_ms
                < (wanted.to_ms if wanted.to_ms is not None else 1 << 62)
            ):
                found.append(
                    ((fact.at_ms, fact.identity), row(event_item(one, detail, *(verdict or (None, None)))))
                )
    return [text for _, text in sorted(found, reverse=descending)]


variants = st.sampled_from(
    [(), (), (("subject", "A"),), (("content", "1"), ("subject", "B")), (("none", "x"),)]
)
recipient_filters = st.builds(
    RecipientFilter,
    st.none() | st.sampled_from(STATUSES),
    variants,
    st.sampled_from([None, None, *LINK_IDS, 7]),
    st.sampled_from([None, None, "DE", "FR", "XX", *SPECIAL_NAMES.values()]),
    st.sampled_from([None, None, "a", "ab", "ä", "=", "@example.", "@example.org", "@x"]),
)
times = st.sampled_from([None, None, 0, START_MS, START_MS + 400_000, START_MS + 1_200_000, 1 << 50])
event_filters = st.builds(
    EventFilter,
    st.none() | st.sampled_from(range(len(f.TYPE_NAMES))),
    st.sampled_from(
        [
            None,
            None,
            None,
            *(keys.recipient_key(SECRET, KEY, keys.normalise_address(one)) for one in ADDRESSES),
        ]
    ),
    st.sampled_from([None, None, None, *LINK_IDS]),
    st.sampled_from([None, None, 0, 1, 2]),
    variants,
    times,
    times,
)
lines = st.lists(entries(addresses=ADDRESSES).map(lambda pair: pair[1]), max_size=40)
near_lines = st.lists(
    st.builds(
        lambda kind, step, link, who: entry(
            kind, START_MS + step, address=who, link=link, number=step, agent=5
        ),
        st.sampled_from([f.DELIVERED, f.OPENED, f.CLICKED, f.CLICKED]),
        st.integers(0, 3_000),
        st.sampled_from(LINK_IDS),
        st.sampled_from(ADDRESSES),
    ),
    max_size=30,
)  # bursts and clicks too soon


@settings(deadline=None, max_examples=25)
@given(
    line=lines | near_lines,
    filters=st.lists(recipient_filters, min_size=4, max_size=8),
    count=st.sampled_from(COUNTS),
    kept=st.sampled_from([2, 200]),
    gone=st.sampled_from([None, *ADDRESSES]),
    batch=st.sampled_from([1, 3, 1_000]),
    run_bytes=st.sampled_from([0, 1_000, 1 << 20]),
)
def test_recipients_are_those_that_a_filter_holds_for(
    line: list[Entry],
    filters: list[RecipientFilter],
    count: Count,
    kept: int,
    gone: str | None,
    batch: int,
    run_bytes: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch, databases() as world:
        patch.setattr(folding, "KEPT", kept)
        patch.setattr(recipient_records, "BATCH", batch)
        patch.setattr(csv_recipients, "WORTH", 1)
        world.write(line)
        if gone is not None:
            world.erase(gone)
        with world.moments() as moments:
            everybody = recipient_rows(moments, RecipientFilter(), count, run_bytes)
            # Each partition twice, so that the second time rows are made by what was compiled the first time.
            twice = {p + PARTITIONS * again: moment for again in (0, 1) for p, moment in moments.items()}
            assert recipient_rows(twice, RecipientFilter(), count) == [
                text for text in everybody for _ in (0, 1)
            ]
            assert everybody == expected_recipients(moments, RecipientFilter(), count)
            assert len(everybody) == exports.total_of(Asked(campaign=KEY), moments)
            for wanted in filters:
                assert recipient_rows(moments, wanted, count, run_bytes) == expected_recipients(
                    moments, wanted, count
                )


@settings(deadline=None, max_examples=25)
@given(
    line=lines | near_lines,
    filters=st.lists(event_filters, min_size=4, max_size=8),
    descending=st.booleans(),
    kept=st.sampled_from([2, 200]),
    gone=st.sampled_from([None, *ADDRESSES]),
    batch=st.sampled_from([1, 3, 1_000]),
)
def test_events_are_those_that_a_filter_holds_for(
    line: list[Entry],
    filters: list[EventFilter],
    descending: bool,
    kept: int,
    gone: str | None,
    batch: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch, databases() as world:
        patch.setattr(folding, "KEPT", kept)
        patch.setattr(event_records, "BATCH", batch)
        world.write(line)
        if gone is not None:
            world.erase(gone)
        with world.moments() as moments:
            every = event_rows(moments, EventFilter(), descending)
            assert every == expected_events(moments, EventFilter(), descending)
            assert len(every) == exports.total_of(Asked(campaign=KEY, events=EventFilter()), moments)
            for wanted in filters:
                assert event_rows(moments, wanted, descending) == expected_events(moments, wanted, descending)


def test_other_rules_other_verdicts() -> None:
    line = [entry(f.CLICKED, START_MS + n, number=n, link=LINK_IDS[n]) for n in range(3)]
    for rules, clicked in ((Rules(), "false"), (Rules(burst_links=0), "true")):
        with databases(rules) as world:
            world.write(line)
            with world.moments() as moments:
                (text,) = recipient_rows(moments, RecipientFilter(), "people")
                assert text.split(",")[3] == clicked
                verdicts = {one.split(",")[4] for one in event_rows(moments, EventFilter(), False)}
                assert verdicts == {"scanner" if clicked == "false" else "human"}


def test_only_this_campaign() -> None:
    with databases() as world:
        other = keys.campaign_key(SECRET, ORG, "autumn")
        world.write([entry(f.SENT, START_MS)])
        world.write([entry(f.SENT, START_MS, campaign="autumn", address="b@example.com")], "autumn")
        with world.moments() as moments:
            assert len(recipient_rows(moments, RecipientFilter(), "all")) == 1
            assert len(event_rows(moments, EventFilter(), False)) == 1
            found = rows(moments, Asked(campaign=other, recipients=RecipientFilter()))
            assert [text.split(",")[0] for text in found] == ["b@example.com"]


def test_hostile_addresses_stay_in_their_cell() -> None:
    hostile = [
        "=1+1@x",
        "a\0b@x",
        "a\r\nb@x",
        '"@x',
        ",@x",
        "\uff21@x",
        "ß@x",
        "İ@x",
        "\ufeff@x",
        "a" * 3_000 + "@x",
    ]
    with databases() as world:
        world.write([entry(f.SENT, START_MS, address=one) for one in hostile])
        with world.moments() as moments:
            written = recipient_rows(moments, RecipientFilter(), "all", 0)
    found = list(csv.reader(io.StringIO(encoded("".join(written)).decode(), newline=""), strict=True))
    assert {one[0].removeprefix("'") for one in found} == set(hostile)
    assert {one[1] for one in found} == {"sent"}


spellings = st.sampled_from(
    (
        "a@x.com", "B@x.com", "=a@x", " a@x", "a@x ", "a b@x", "a,b@x", 'a"@x', "ä@x", "a\0@x", "-@x", "x=@x", "a\n@x",
        "\uff1d@x", "İ@x",
    )
)  # fmt: skip


@given(st.lists(spellings | st.text(max_size=4), min_size=1, max_size=6))
def test_records_of_many_begin_as_those_of_one(addresses: list[str]) -> None:
    states = [RecipientState(1, address, []) for address in addresses]
    begun = recipient_records._prefixes(states)
    assert begun == [recipient_records._prefix(address) for address in addresses]
    rows = recipient_records.recipient_rows_of([f"{one},x\0y\r\n" for one in begun])
    assert "".join(rows) == "".join(f"{text_cell(address)},x\0y\r\n" for address in addresses)


# One moment.


def test_a_moment_stays_while_the_writer_goes_on() -> None:
    with databases() as world:
        people = [f"p{number:03d}@example.com" for number in range(60)]
        world.write([entry(f.SENT, START_MS, address=one) for one in people])
        with world.moments() as moments:
            offsets = {partition: moment.offset for partition, moment in moments.items()}
            before = recipient_rows(moments, RecipientFilter(), "all")
            events_before = event_rows(moments, EventFilter(), False)
            for step in range(30):
                world.write(
                    [entry(f.OPENED, START_MS + step, address=one, number=step) for one in people]
                    + [entry(f.SENT, START_MS, address=f"new{step}@example.com")]
                )
                for database in world.databases.values():
                    database._db.flush()
                    database._recipients.flush()
                    database._log.flush()
                    if step % 10 == 0:
                        database._recipients.compact_range(None, None)
                        database._log.compact_range(None, None)
            assert recipient_rows(moments, RecipientFilter(), "all") == before
            assert event_rows(moments, EventFilter(), False) == events_before
            assert {partition: moment.offset for partition, moment in moments.items()} == offsets
        with world.moments() as moments:
            assert len(recipient_rows(moments, RecipientFilter(), "all")) == 90


def test_no_row_is_half_of_an_update() -> None:
    """A writer that counts and flushes all the time: in whatever moment, sums, recipients and log say the same."""
    with databases() as world:
        stop = threading.Event()

        def write() -> None:
            chance = random.Random(1)
            step = 0
            while not stop.is_set():
                step += 1
                who = [f"p{chance.randrange(200)}@example.com" for _ in range(5)]
                world.write([entry(f.OPENED, START_MS + step, address=one, number=step) for one in who])
                if step % 3 == 0:
                    for database in world.databases.values():
                        chance.choice([database._db, database._recipients, database._log]).flush()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen = 0
            deadline = time.monotonic() + 60
            while seen < 10:  # few: the writer goes on, so that each has more to read than the last
                assert time.monotonic() < deadline
                try:
                    moment = Moment(world.folder / "p0", small_cache())
                except StateError:
                    continue  # it says so rather than to show what was never there
                try:
                    opens = [
                        int(text.split(",")[4])
                        for text in recipient_rows({0: moment}, RecipientFilter(), "all")
                    ]
                    assert len(opens) == moment.expected(KEY)
                    assert sum(opens) == len(event_rows({0: moment}, EventFilter(), False))
                    assert sum(opens) == exports.total_of(
                        Asked(campaign=KEY, events=EventFilter()), {0: moment}
                    )
                    seen += bool(opens)
                finally:
                    moment.close()
        finally:
            stop.set()
            writer.join()


def test_no_database_another_version_or_one_in_the_making(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no database"):
        Moment(tmp_path / "p0", small_cache())
    with databases() as world:
        database = world.databases[0]
        for meta, error in (
            (Meta(LAYOUT_VERSION + 1, 0, PARTITIONS, "topic", "", 1), StateError),
            (Meta(LAYOUT_VERSION, 0, PARTITIONS, "topic", "", 1, rebuilding=True), TryLater),
        ):
            database._db.put(layout.META, encode(meta))
            with pytest.raises(error):
                Moment(database.path, small_cache())
