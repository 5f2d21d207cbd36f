"""A reader of a partition's database beside its writer: a RocksDB secondary instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from app.facts import CampaignKey, Entry, RecipientKey
from app.fold import Place
from app.state import RecipientState, decode_state
from app.verdicts import DEFAULT_RULES, Rules
from tables import layout
from tables.book import Book, read_book
from tables.fallen import fallen_places, is_complete
from tables.files import check_files
from tables.layout import COUNTING, CampaignRow, DayRow, Meta, scan
from tables.own_files import OwnFiles
from tables.people import Kind, sketches_between, sketches_of
from tables.ranking import CutRow, cut_decoder
from tables.sketches import Sketch
from tables.views import Fence

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_campaign_decoder: msgspec.msgpack.Decoder[CampaignRow] = msgspec.msgpack.Decoder(CampaignRow)
_day_decoder: msgspec.msgpack.Decoder[DayRow] = msgspec.msgpack.Decoder(DayRow)
_meta_decoder: msgspec.msgpack.Decoder[Meta] = msgspec.msgpack.Decoder(Meta)


class PartitionReader:
    """Reads states, sums, log and index of one partition. Raises Exception where there is no database."""

    def __init__(self, path: Path) -> None:
        self._own_files = OwnFiles()
        try:
            self._db = layout.open_database(path, secondary=self._own_files.path)
            check_files(path, self._own_files.path)
            self._db.try_catch_up_with_primary()
        except BaseException:
            self._own_files.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        self._own_files.close()

    def catch_up(self) -> None:
        """Moves to what the writer has written by now."""
        self._db.try_catch_up_with_primary()

    def meta(self) -> Meta | None:
        """What the database belongs to; None before its writer has said so."""
        stored = self._db.get(layout.META)
        return _meta_decoder.decode(stored) if stored is not None else None

    def fence(self) -> Fence:
        meta = self.meta()
        offset = self._db.get(layout.OFFSET)
        return Fence(
            meta.generation if meta else 0,
            int.from_bytes(offset or b"", "big"),
            meta.topic_id if meta else "",
        )

    def rules(self) -> Rules:
        """The verdict rules that it is counted by."""
        meta = self.meta()
        return meta.rules if meta else DEFAULT_RULES

    def is_exact(self) -> bool:
        """Whether what goes with the states is as this version makes it (`layout.COUNTING`)."""
        meta = self.meta()
        return meta is not None and meta.counting >= COUNTING

    def recipients(
        self, campaign: CampaignKey | None = None
    ) -> Iterator[tuple[CampaignKey, RecipientKey, RecipientState]]:
        """All recipients (of one campaign), in the order of their keys."""
        for name, stored in scan(self._db.get_column_family(layout.RECIPIENTS), campaign or b""):
            yield CampaignKey(name[:8]), RecipientKey(name[8:]), decode_state(stored)

    def campaigns(self) -> Iterator[tuple[CampaignKey, CampaignRow]]:
        for name, stored in scan(self._db, b"C"):
            yield CampaignKey(name[1:]), _campaign_decoder.decode(stored)

    def book(self, campaign: CampaignKey) -> Book:
        """Names and section rows."""
        return read_book(self._db, campaign)

    def cuts(self, campaign: CampaignKey, row: CampaignRow) -> Iterator[tuple[int, CutRow, set[bytes]]]:
        """(section, what sums it up, its index) of the sections that have so many rows (`tables.ranking`)."""
        generation = self.fence().generation
        for name, stored in scan(self._db, layout.cuts_name(campaign)):
            section, cut = name[9], cut_decoder.decode(stored)
            if (cut.generation, cut.offset) == (generation, row.sections.get(section)):
                prefix = layout.ranks_name(campaign, section)
                yield section, cut, {found[len(prefix) :] for found, _ in scan(self._db, prefix)}

    def index(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries of the index (`tables.layout`) whose key starts with `prefix`."""
        yield from scan(self._db.get_column_family(layout.INDEX), prefix)

    def people(self, campaign: CampaignKey, kind: Kind, first: int, end: int) -> Iterator[bytes]:
        """Sketches whose union is the people of a kind (`tables.people`) between two quarters."""
        yield from sketches_between(self._db, campaign, kind, first, end)

    def sketches(self, campaign: CampaignKey) -> dict[bytes, Sketch]:
        """All sketches of people, by their keys (`tables.people`)."""
        return sketches_of(self._db, campaign)

    def fallen(self, campaign: CampaignKey) -> Iterator[tuple[RecipientKey, Place]]:
        """The keys of facts that fell out of the states."""
        yield from fallen_places(self._db, campaign)

    def knows_fallen(self, campaign: CampaignKey) -> bool:
        """Whether all of these keys must be there."""
        return self.is_exact() or is_complete(self._db, campaign)

    def everything(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(column family, key, value) of all that is stored."""
        for family in ("default", layout.RECIPIENTS, layout.LOG, layout.INDEX):
            for name, value in scan(self._db.get_column_family(family), b""):
                yield family, name, value

    def quarters(self, campaign: CampaignKey) -> Iterator[tuple[int, list[int]]]:
        """(quarter, count by metric) in order of time."""
        for _, stored in scan(self._db, b"D" + campaign):
            yield from sorted(_day_decoder.decode(stored).quarters.items())

    def log(self, campaign: CampaignKey) -> Iterator[Entry]:
        """Every fact of a campaign in this partition, in the order it happened."""
        for _, stored in scan(self._db.get_column_family(layout.LOG), campaign):
            yield _entry_decoder.decode(stored)

    def addresses(self, campaign: CampaignKey) -> Iterator[tuple[str, RecipientKey]]:
        """The index by address."""
        for name, recipient in scan(self._db.get_column_family(layout.INDEX), b"A" + campaign):
            yield name[9:].decode("utf-8", "surrogatepass"), RecipientKey(recipient)

    def activity(self, campaign: CampaignKey) -> Iterator[tuple[int, RecipientKey]]:
        """The index by newest activity, oldest first."""
        for name, _ in scan(self._db.get_column_family(layout.INDEX), b"T" + campaign):
            yield int.from_bytes(name[9:17], "big"), RecipientKey(name[17:])
