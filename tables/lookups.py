"""A reader of a partition's database for pages: point look-ups, and walks from any place on (`tables.paging`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import AccessType, Options, Rdict

from app import tally
from app.breakdown import RowKey
from app.facts import CampaignKey, Entry, RecipientKey
from app.fold import LogKey
from app.state import RecipientState, decode_state
from tables import layout
from tables.files import check_files
from tables.layout import CampaignRow, Meta, scan
from tables.link_ends import Ends, ends_of
from tables.own_files import OwnFiles
from tables.ranking import WHOLE, cut_decoder, limit_of
from tables.reading import PartitionReader
from tables.walking import walk, walk_keys

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_campaign_decoder: msgspec.msgpack.Decoder[CampaignRow] = msgspec.msgpack.Decoder(CampaignRow)
_meta_decoder: msgspec.msgpack.Decoder[Meta] = msgspec.msgpack.Decoder(Meta)

decode_entry = _entry_decoder.decode


def _open(path: Path, own_files: Path) -> Rdict:
    """As `layout.open_database` opens a reader. By default each catching up starts 15 threads that open files, which
    takes 2 ms instead of 0.03."""

    def options(*, bloom: bool = False) -> Options:
        chosen = layout._options(bloom=bloom, create=False)
        chosen.set_max_file_opening_threads(1)
        # Each catching up writes a line to RocksDB's own log.
        chosen.set_max_log_file_size(1 << 20)
        chosen.set_keep_log_file_num(2)
        return chosen

    layout.look_for_database(path)
    return Rdict(
        str(path),
        options=options(),
        column_families={
            layout.RECIPIENTS: options(bloom=True),
            layout.LOG: options(bloom=True),
            layout.INDEX: options(),
        },
        access_type=AccessType.secondary(str(own_files)),
    )


class PagedReader(PartitionReader):
    """A `PartitionReader` that is kept open and asked often, from several threads. Raises as that one."""

    def __init__(self, path: Path, own_files: Path | None = None) -> None:
        """`own_files`: the folder in which the reader makes one for its own files (`tables.own_files`)."""
        self._families: dict[str, Rdict] = {}
        self._path = path
        self._own_files = OwnFiles(own_files)
        try:
            self._db = _open(path, self._own_files.path)
            check_files(path, self._own_files.path)
            self._db.try_catch_up_with_primary()
        except BaseException:
            self._own_files.close()
            raise

    def close(self) -> None:
        for family in self._families.values():
            family.close()
        self._families.clear()
        super().close()

    def check_files(self) -> None:
        """Raises Exception where a file of the database is missing, cut short or can't be opened."""
        check_files(self._path, self._own_files.path)

    def campaign_row(self, campaign: CampaignKey) -> CampaignRow | None:
        stored = self._db.get(layout.campaign_name(campaign))
        return _campaign_decoder.decode(stored) if stored is not None else None

    def states(
        self, campaign: CampaignKey, recipients: Sequence[RecipientKey], holding: bytes = b""
    ) -> list[RecipientState | None]:
        """The states of recipients, None where there is none or its bytes don't hold `holding`."""
        if not recipients:
            return []
        names: list[Any] = [campaign + recipient for recipient in recipients]
        found: list[bytes | None] = self._family(layout.RECIPIENTS).get(names) or []
        return [
            decode_state(stored) if stored is not None and holding in stored else None for stored in found
        ]

    def stored_entries(self, campaign: CampaignKey, places: Sequence[LogKey]) -> list[bytes | None]:
        """Entries of the log at these places as they are stored, None where there is none."""
        if not places:
            return []
        names: list[Any] = [layout.log_name(campaign, at_ms, identity) for at_ms, identity in places]
        return self._family(layout.LOG).get(names) or []

    def entries(self, campaign: CampaignKey, places: Sequence[LogKey]) -> list[Entry | None]:
        """The same, decoded."""
        return [
            decode_entry(stored) if stored is not None else None
            for stored in self.stored_entries(campaign, places)
        ]

    def rows(self, campaign: CampaignKey, keys: Sequence[RowKey]) -> list[int]:
        """Tallies of rows of sections, 0 where there is none."""
        if not keys:
            return []
        names: list[Any] = [layout.row_name(campaign, key) for key in keys]
        found: list[bytes | None] = self._db.get(names) or []
        return [tally.from_bytes(stored) if stored is not None else 0 for stored in found]

    def section(self, campaign: CampaignKey, section: int) -> Iterator[tuple[RowKey, int]]:
        """All rows of a section."""
        for name, stored in scan(self._db, layout.row_name(campaign, bytes((section,)))):
            yield name[9:], tally.from_bytes(stored)

    def names(self, campaign: CampaignKey, names: Sequence[tuple[int, int]]) -> list[str | None]:
        """(section, number) → text."""
        if not names:
            return []
        keys: list[Any] = [
            layout.name_name(campaign, bytes((section,)) + number.to_bytes(8, "big"))
            for section, number in names
        ]
        found: list[bytes | None] = self._db.get(keys) or []
        return [text.decode("utf-8", "surrogatepass") if text is not None else None for text in found]

    def names_of(self, campaign: CampaignKey, section: int) -> Iterator[tuple[int, str]]:
        """Number → text of all names of a section (`tables.book.NAMED`)."""
        for name, text in scan(self._db, layout.name_name(campaign, bytes((section,)))):
            yield int.from_bytes(name[10:18], "big"), text.decode("utf-8", "surrogatepass")

    def ends_of(self, campaign: CampaignKey, links: Sequence[int]) -> list[Ends | None]:
        """First and last click of links, None where nobody clicked one."""
        if not links:
            return []
        names: list[Any] = [layout.ends_name(campaign, link) for link in links]
        found: list[bytes | None] = self._db.get(names) or []
        return [ends_of(stored) if stored is not None else None for stored in found]

    def total(self, campaign: CampaignKey, section: int) -> int | None:
        """The tally of all rows of a section; None where it can't be told from a bounded number of them."""
        row = self.campaign_row(campaign)
        if row is None or section not in row.sections:
            return 0
        stored = self._db.get(layout.cuts_name(campaign) + bytes((section,)))
        if stored is not None:
            cut = cut_decoder.decode(stored)
            if (cut.generation, cut.offset) == (self.fence().generation, row.sections[section]):
                return tally.from_bytes(cut.total)
        most = WHOLE * limit_of(section)
        rows = [value for _, value in islice(self.section(campaign, section), most + 1)]
        return sum(rows) if len(rows) <= most else None

    def index_from(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries of the index with a prefix, from a key on."""
        for name, value in walk(self._family(layout.INDEX), start):
            if not name.startswith(prefix):
                return
            yield name, value

    def index_back(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        """Keys of the index with a prefix, from a key on downwards (that key too, where it is there)."""
        for name in walk_keys(self._family(layout.INDEX), start, backwards=True):
            if name.startswith(prefix):
                yield name
            elif name < prefix:
                return

    def log_items(self, name: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """(key, stored entry) of the log from a key on, into other campaigns too."""
        return walk(self._family(layout.LOG), name, backwards=backwards)

    def log_from(self, campaign: CampaignKey, place: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, stored entry) of a campaign's log from a place (at_ms, identity) on."""
        for name, stored in walk(self._family(layout.LOG), campaign + place):
            if not name.startswith(campaign):
                return
            yield name, stored

    def log_back(self, campaign: CampaignKey, place: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same downwards (that place too, where it is there)."""
        for name, stored in walk(self._family(layout.LOG), campaign + place, backwards=True):
            if not name.startswith(campaign):
                return
            yield name, stored

    def _family(self, name: str) -> Rdict:
        found = self._families.get(name)
        if found is None:
            found = self._families[name] = self._db.get_column_family(name)
        return found
