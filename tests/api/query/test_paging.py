"""Whatever the limit and whatever comes in between: rows that stay in their place stand once, and in order."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.queries import merge_pages
from api.query import events as query_events
from api.query import recipients as query_recipients
from api.query import taking, walks, wire
from api.query.answering import Books
from api.query.partitions import Partitions
from app import facts as f
from app.contribution import contribution
from app.facts import Entry, FactsRecord, encode
from app.filters import STATUSES, EventFilter, RecipientFilter, recipients_by_status
from app.keys import recipient_partition, secret_fingerprint, text_id
from app.summary import Count
from tables import paging
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tests.support.facts import CAMPAIGN, KEY, LINKS, ORG, SECRET, START_MS, entries, entry

ADDRESSES = tuple(
    f"{name}@example.{domain}" for name in ("a", "b", "ab", "z", "ä") for domain in ("com", "org")
)
PARTITIONS = 3


class Databases:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cache = RecipientCache(1_000)
        self._databases = {
            partition: PartitionDatabase(
                folder / f"p{partition}",
                Meta(LAYOUT_VERSION, partition, PARTITIONS, "topic", secret_fingerprint(SECRET), 1),
                SECRET,
                cache,
            )
            for partition in range(PARTITIONS)
        }
        self.partitions = Partitions(folder, SECRET)
        self.books = Books()
        assert self.partitions.refresh() == set(range(PARTITIONS))

    def write(self, line: list[Entry]) -> None:
        for partition, database in self._databases.items():
            own = [one for one in line if recipient_partition(one.recipient, PARTITIONS) == partition]
            if own:
                record = FactsRecord(
                    f.FACTS_VERSION, ORG, CAMPAIGN, START_MS, own, secret_fingerprint(SECRET)
                )
                database.apply([(database.next_offset, encode(record))])

    def close(self) -> None:
        self.partitions.close()
        for database in self._databases.values():
            database.close()

    def recipients(
        self, wanted: RecipientFilter, sort: wire.Sort, count: Count, limit: int, after: bytes | None
    ) -> tuple[list[bytes], bytes | None, int | None]:
        """A page as the API merges it, of two query processes: (order keys, where the next one begins, matching)."""
        pages = []
        for some in ((0, 1), (2,)):
            request = wire.RecipientsRequest(KEY, some, wanted, count, sort, after, limit)
            with self.partitions.using(some) as readers:
                pages.append(query_recipients.page(readers, self.books, request))
        return _merged(pages, limit)

    def events(
        self, wanted: EventFilter, descending: bool, limit: int, after: bytes | None
    ) -> tuple[list[bytes], bytes | None, int | None]:
        pages = []
        for some in ((0,), (1, 2)):
            request = wire.EventsRequest(KEY, some, wanted, descending, after, limit)
            with self.partitions.using(some) as readers:
                pages.append(query_events.page(readers, self.books, request))
        return _merged(pages, limit)

    def expected(self, wanted: RecipientFilter, count: Count) -> dict[str, tuple[bytes, bytes]]:
        """Address → its order keys by address and by activity, of all recipients that match."""
        found = {}
        with self.partitions.using(range(PARTITIONS)) as readers:
            for reader in readers.values():
                book = reader.book(KEY)
                for _, recipient, state in reader.recipients(KEY):
                    adds = contribution(state, book)
                    if adds.last_at_ms < 0:
                        continue
                    if wanted.status and not recipients_by_status({adds.pattern: 1}, wanted.status, count):
                        continue
                    if wanted.search and not state.address.lower().startswith(wanted.search):
                        continue
                    address = state.address.lower()
                    found[address] = (address.encode(), paging.activity_order(adds.last_at_ms, recipient))
        return found


def _merged(pages: list[wire.Page], limit: int) -> tuple[list[bytes], bytes | None, int | None]:
    # The order key in place of the item, so that the merge shows which rows it took.
    keyed = [msgspec.structs.replace(page, rows=[(key, key) for key, _ in page.rows]) for page in pages]
    merged = merge_pages(keyed, limit)
    return merged.items, merged.after, merged.matching


@contextlib.contextmanager
def databases() -> Iterator[Databases]:
    folder = Path(tempfile.mkdtemp(prefix="campaign-reports-test-"))
    world = Databases(folder)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)


def opened_or_delivered(number: int) -> Entry:
    kind = f.OPENED if number % 200 == 7 else f.DELIVERED
    return entry(kind, START_MS + number, address=f"p{number:04d}@example.com")


lines = st.lists(entries(addresses=ADDRESSES).map(lambda pair: pair[1]), max_size=40)
later_lines = st.lists(lines, max_size=4)
filters = st.one_of(
    st.just(RecipientFilter()),
    st.sampled_from(STATUSES).map(lambda status: RecipientFilter(status=status)),
    st.sampled_from(("a", "ab", "ä@", "q")).map(lambda start: RecipientFilter(search=start)),
)
sorts: st.SearchStrategy[wire.Sort] = st.sampled_from(("recipient", "-last_event_at"))
counts: st.SearchStrategy[Count] = st.sampled_from(("all", "people"))


@settings(deadline=None, max_examples=40)
@given(
    first=lines,
    later=st.lists(lines, max_size=4),
    wanted=filters,
    sort=sorts,
    count=counts,
    limit=st.integers(1, 7),
)
def test_recipients_that_did_not_move_stand_once(
    first: list[Entry],
    later: list[list[Entry]],
    wanted: RecipientFilter,
    sort: wire.Sort,
    count: Count,
    limit: int,
) -> None:
    with databases() as world:
        world.write(first)
        place = 0 if sort == "recipient" else 1
        at_first = world.expected(wanted, count)
        keys, _, matching = world.recipients(wanted, sort, count, 500, None)
        assert keys == sorted(orders[place] for orders in at_first.values())
        if not wanted.search:
            assert matching == len(keys)
        # Now page by page, with more coming in between.
        seen: list[bytes] = []
        after = None
        always = {orders[place] for orders in at_first.values()}
        ever = set(always)
        while True:
            keys, after, _ = world.recipients(wanted, sort, count, limit, after)
            assert len(keys) <= limit
            assert after is None or not keys or keys[-1] <= after
            seen += keys
            if after is None:
                break
            if later:
                world.write(later.pop())
                now = {orders[place] for orders in world.expected(wanted, count).values()}
                always &= now
                ever |= now
        assert seen == sorted(set(seen))
        assert always <= set(seen) <= ever


event_filters = st.one_of(
    st.just(EventFilter()),
    st.integers(0, 13).map(lambda kind: EventFilter(type=kind)),
    st.integers(0, 2).map(lambda verdict: EventFilter(verdict=verdict)),
    st.sampled_from((None, *LINKS)).map(lambda link: EventFilter(link=text_id(link) if link else 0)),
    st.builds(
        lambda low, high: EventFilter(from_ms=START_MS + low * 400_000, to_ms=START_MS + high * 400_000),
        st.integers(0, 6),
        st.integers(0, 6),
    ),
)


@settings(deadline=None, max_examples=40)
@given(
    first=lines,
    later=st.lists(lines, max_size=4),
    wanted=event_filters,
    descending=st.booleans(),
    limit=st.integers(1, 7),
)
def test_events_stand_once(
    first: list[Entry],
    later: list[list[Entry]],
    wanted: EventFilter,
    descending: bool,
    limit: int,
) -> None:
    with databases() as world:
        world.write(first)

        def everything() -> list[bytes]:
            keys, after, matching = world.events(wanted, descending, 500, None)
            assert after is None
            assert matching == len(keys)
            # A page that isn't the whole list knows it by the report's rows, or not at all.
            _, _, by_rows = world.events(wanted, descending, 1, None)
            if by_rows is None:
                assert keys and wanted.parts and wanted.type is None
            else:
                assert by_rows == len(keys)
            return keys

        always = set(everything())
        ever = set(always)
        seen: list[bytes] = []
        after = None
        while True:
            keys, after, _ = world.events(wanted, descending, limit, after)
            seen += keys
            if after is None:
                break
            if later:
                world.write(later.pop())
                now = set(everything())
                always &= now
                ever |= now
        assert seen == sorted(set(seen))
        assert always <= set(seen) <= ever


def test_a_page_that_looked_for_long_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with databases() as world:
        world.write([opened_or_delivered(number) for number in range(600)])
        monkeypatch.setattr(taking, "SCAN_MS", 0)
        wanted = RecipientFilter(status="opened")
        keys: list[bytes] = []
        after, pages = None, 0
        while True:
            some, after, matching = world.recipients(wanted, "recipient", "all", 5, after)
            keys += some
            pages += 1
            if after is None:
                break
        assert matching == len(keys) == 3
        assert pages > 10
        assert keys == sorted(keys)


def test_candidates_are_gathered_or_scanned_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    with databases() as world:
        world.write([opened_or_delivered(number) for number in range(300)])
        some = [entry(f.COMPLAINED, START_MS + n, address=f"p{n * 37:04d}@example.com") for n in range(5)]
        world.write(some)
        gathered = world.recipients(RecipientFilter(status="complained"), "-last_event_at", "all", 500, None)
        world.books = Books()
        monkeypatch.setattr(walks, "GATHERED", 0)
        scanned = world.recipients(RecipientFilter(status="complained"), "-last_event_at", "all", 500, None)
        assert gathered == scanned
        assert len(gathered[0]) == 5
