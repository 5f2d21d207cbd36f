"""A campaign's book in bounded memory is the whole book, whatever was dropped or counted by earlier versions."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app import keys
from app.facts import Detail, Entry, ErasedRecord, encode
from app.tally import from_bytes
from app.verdicts import Rules
from tables import campaign_book, layout, ranking
from tables.book import Book, read_book
from tables.layout import scan
from tables.lookups import PagedReader
from tables.partition import PartitionDatabase
from tables.ranking import cut_decoder, entries_of
from tables.section_parts import PUBLISHED, SectionPart, section_part
from tables.shelf import Shelf
from tests.support.facts import KEY, ORG, SECRET, START_MS
from tests.tables.test_partition import database, dump, record

LIMIT = 2
ADDRESSES = [f"r{number}@example.com" for number in range(12)]
EAGER = Rules(burst_links=2, burst_ms=60_000, click_after_ms=60_000, open_after_ms=60_000)
NEW = (b"P", b"Q", b"W")
"""Keys that earlier versions don't know."""


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "LIMITS", {})
        patch.setattr(ranking, "DEFAULT_LIMIT", LIMIT)
        patch.setattr(campaign_book, "NAMES_KEPT", 4)
        yield


def some_entry(chance: random.Random) -> Entry:
    """Of many links, cities, clients and reasons; bursts of clicks take some from their cities again."""
    address = chance.choice(ADDRESSES)
    kind = chance.choice((f.CLICKED, f.CLICKED, f.OPENED, f.BOUNCED, f.DELIVERED))
    own = f"?email={address}" if chance.random() < 0.3 else ""
    detail = Detail(
        "generic",
        link=f"https://example.com/{chance.randrange(25)}{own}" if kind == f.CLICKED else None,
        country=f"C{chance.randrange(9)}", city=f"City {chance.randrange(25)}",
        client=f"Client {chance.randrange(9)}", device="phone",
        reason=f"550 no {chance.randrange(25)}" if kind == f.BOUNCED else None,
        provider=f"Provider {chance.randrange(4)}",
    )  # fmt: skip
    recipient = keys.recipient_key(SECRET, KEY, address)
    at_ms = START_MS + chance.randrange(40) * 20_000
    fact = f.Fact(
        keys.identity(recipient, kind, str(at_ms), detail.link or ""), at_ms, kind,
        chance.choice((0, 0, f.SOFT_BOUNCE)) if kind == f.BOUNCED else 0, 1,
        link=keys.text_id(detail.link) if detail.link else 0,
        position=chance.randrange(3) if detail.link else 0,
        place=keys.text_id(f"{detail.country}\0{detail.city}"),
        agent=keys.text_id(f"{detail.client}\0phone\0\0"), network=7,
        reason=keys.text_id(detail.reason) if detail.reason else 0,
        provider=keys.text_id(detail.provider or ""),
    )  # fmt: skip
    return Entry(recipient, address, fact, encode(detail))


class World:
    """A partition that is closed, opened and forgets now and then."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.base = self.open()

    def open(self) -> PartitionDatabase:
        base = database(self.folder, cache=self.chance.choice((1, 1_000)))
        base._cache.shelf = Shelf(self.chance.choice((0, 40, 10_000)))
        return base

    def reopen(self) -> None:
        self.base.close()
        self.base = self.open()

    def count(self, batches: int) -> None:
        for _ in range(batches):
            line = [some_entry(self.chance) for _ in range(self.chance.randint(1, 12))]
            value = record("spring", line)
            if self.chance.random() < 0.1:
                who = keys.recipient_key(SECRET, KEY, self.chance.choice(ADDRESSES))
                value = encode(ErasedRecord(f.FACTS_VERSION, ORG, "spring", START_MS, [who]))
            self.base.apply([(self.base.next_offset, value)])
            if self.chance.random() < 0.1:
                self.reopen()
            if self.chance.random() < 0.3:
                self.check()

    def forget_new_keys(self) -> None:
        """The folder is as an earlier version leaves it that knows none of these keys."""
        self.base.close()
        db = layout.open_database(self.folder / "p0")
        for letter in NEW:
            db.delete_range(letter, layout.after(letter))
        db.close()
        self.base = self.open()

    def new_keys(self) -> dict[bytes, bytes]:
        return {name: value for letter in NEW for name, value in scan(self.base._db, letter)}

    def put_back(self, stored: dict[bytes, bytes]) -> None:
        """As if an earlier version had counted since: it touches none of these keys."""
        self.forget_new_keys()
        self.base.close()
        db = layout.open_database(self.folder / "p0")
        for name, value in stored.items():
            db.put(name, value)
        db.close()
        self.base = self.open()

    def check(self) -> None:
        """Published is the same as from the whole book, and what is stored beside the rows is theirs."""
        kept = self.base.aggregates.book(KEY)
        whole = read_book(self.base._db, KEY)
        for section in PUBLISHED:
            found, wanted = section_part(kept, section), section_part(whole, section)
            assert sorted(found.rows) == sorted(wanted.rows), section
            assert dict(zip(_keys(found), found.ends, strict=False)) == dict(
                zip(_keys(wanted), wanted.ends, strict=False)
            )
            for part in (found, wanted):
                part.rows, part.ends = [], []
            assert found == wanted, section
        self.check_index(whole)
        self.base.aggregates.used((KEY,))

    def check_index(self, whole: Book) -> None:
        row = self.base.aggregates.campaign_row(KEY)
        assert row is not None
        for name, stored in scan(self.base._db, layout.cuts_name(KEY)):
            section, cut = name[9], cut_decoder.decode(stored)
            if (cut.generation, cut.offset) != (self.base.generation, row.sections[section]):
                continue
            rows = dict(whole.section(section))
            assert from_bytes(cut.total) == sum(rows.values())
            prefix = layout.ranks_name(KEY, section)
            index = {found[len(prefix) :] for found, _ in scan(self.base._db, prefix)}
            assert index == entries_of(section, rows, cut.floors)
        with contextlib.closing(PagedReader(self.folder / "p0")) as reader:
            for section in PUBLISHED:
                assert reader.total(KEY, section) in (None, sum(v for _, v in whole.section(section)))


def _keys(part: SectionPart) -> list[bytes]:
    return [key for key, _, _ in part.rows]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_book_in_bounded_memory_is_the_whole_book(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), random.Random(seed))
        world.count(25)
        world.check()
        world.base.close()


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_folder_of_an_earlier_version(seed: int) -> None:
    """It opens and says the same; so does one in which such a version counted in between."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), random.Random(seed))
        world.count(10)
        stored = world.new_keys()
        world.forget_new_keys()
        world.check()
        world.count(10)
        world.put_back(stored)
        world.check()
        world.count(10)
        world.check()
        world.base.close()


def test_a_rebuild_makes_the_index_anew() -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), random.Random(1))
        world.count(20)
        world.base.rebuild(EAGER, "request", 2, lambda _: None)
        world.check()
        world.count(5)
        world.reopen()
        world.check()
        world.base.close()
        assert dump(Path(folder))["rows"]


def test_memory_is_bounded(tmp_path: Path) -> None:
    """However many rows and names there are: those of a batch, and the first ones."""
    base = database(tmp_path)
    chance = random.Random(2)
    for number in range(60):
        line = [some_entry(chance) for _ in range(20)]
        base.apply([(number, record("spring", line))])
        book = base.aggregates.book(KEY)
        assert len(book.texts) <= campaign_book.NAMES_KEPT + 20 * 11
        for section in PUBLISHED:
            rows = book.known_ranking(section).rows
            assert rows is None or len(rows) <= 2 * ranking.WHOLE * LIMIT + 40
    assert base._cache.shelf.entries == base.aggregates.size_of(KEY)
    base.close()
    assert base._cache.shelf.entries == 0
