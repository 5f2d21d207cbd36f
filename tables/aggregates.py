"""A campaign's sums at rest: its row, its days, the rows and names of its sections. Written through, cached.

`Aggregates.add` takes a batch's differences and puts what becomes of the rows into the batch that also moves states and
offset: after a crash all of it is there or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from rocksdict import Rdict, WriteBatch

from app import breakdown as b
from app import tally
from app.contribution import METRICS
from app.facts import CampaignKey, RecipientKey, encode
from tables import layout
from tables.book import Book, read_book
from tables.cache import RecipientCache
from tables.layout import CampaignRow, DayRow, LabelsRow
from tables.link_ends import NO_ENDS, ends_bytes, moved_ends
from tables.sums import Sums, add_counts

_CACHED_ROWS: Final = 20_000
_CACHED_DAYS: Final = 20_000
_CACHED_BOOK_ROWS: Final = 500_000
"""Rows and names of sections in memory: about 200 bytes each."""

campaign_decoder: msgspec.msgpack.Decoder[CampaignRow] = msgspec.msgpack.Decoder(CampaignRow)
day_decoder: msgspec.msgpack.Decoder[DayRow] = msgspec.msgpack.Decoder(DayRow)
labels_decoder: msgspec.msgpack.Decoder[LabelsRow] = msgspec.msgpack.Decoder(LabelsRow)


class Aggregates:
    def __init__(self, db: Rdict, index: Rdict, cache: RecipientCache) -> None:
        self._db = db
        self._index = index
        self._cache = cache
        self._rows: dict[CampaignKey, CampaignRow] = {}
        self._days: dict[tuple[CampaignKey, int], DayRow] = {}
        self._books: dict[CampaignKey, Book] = {}
        self.open_gaps: list[int] = []
        """Gaps that may have taken facts of a campaign that appears now (`tables.gaps`)."""

    def book(self, campaign: CampaignKey) -> Book:
        """A campaign's names and section rows."""
        book = self._books.get(campaign)
        if book is None:
            book = self._books[campaign] = read_book(self._db, campaign)
        return book

    def labels_row(self, campaign: CampaignKey) -> LabelsRow | None:
        stored = self._db.get(layout.labels_name(campaign))
        return labels_decoder.decode(stored) if stored is not None else None

    def campaign_row(self, campaign: CampaignKey) -> CampaignRow | None:
        row = self._rows.get(campaign)
        if row is None:
            stored = self._db.get(layout.campaign_name(campaign))
            if stored is not None:
                row = self._rows[campaign] = campaign_decoder.decode(stored)
        return row

    def day_row(self, campaign: CampaignKey, day: int) -> DayRow:
        row = self._days.get((campaign, day))
        if row is None:
            stored = self._db.get(layout.day_name(campaign, day))
            row = day_decoder.decode(stored) if stored is not None else DayRow(0, {})
            self._days[campaign, day] = row
        return row

    def add(
        self,
        campaign: CampaignKey,
        owner: tuple[str, str],
        differences: Sums,
        offset: int,
        batch: WriteBatch,
    ) -> tuple[set[int], set[int]]:
        """Adds a batch's differences to a campaign's rows; returns the days and the sections that changed."""
        row = self.campaign_row(campaign)
        if row is None:
            row = self._rows[campaign] = _empty_row(offset, owner, self.open_gaps)
        row.offset = offset
        add_counts(row.patterns, differences.patterns)
        totals = row.totals
        days: dict[int, DayRow] = {}
        for cell, count in differences.cells.items():
            if not count:
                continue
            metric, quarter = cell >> 32, cell & 0xFFFFFFFF
            totals[metric] += count
            number = quarter // layout.DAY_QUARTERS
            day = days.get(number)
            if day is None:
                day = days[number] = self.day_row(campaign, number)
            counts = day.quarters.get(quarter)
            if counts is None:
                counts = day.quarters[quarter] = [0] * METRICS
            counts[metric] += count
        for metric, count in differences.overflow.items():
            totals[metric] += count
            row.overflow[metric] += count
        if differences.as_of_ms > row.as_of_ms:
            row.as_of_ms = differences.as_of_ms
        if differences.lowered:
            # A recipient's newest fact moved back in time: the maximum can't be subtracted from, the index knows it.
            row.as_of_ms = self._newest(campaign, differences.as_of_ms)
        sections = self._add_rows(campaign, differences, batch) | differences.renamed
        for section in sections:
            row.sections[section] = offset
        batch.put(layout.campaign_name(campaign), encode(row))
        for number, day in days.items():
            day.offset = offset
            for quarter in [quarter for quarter, counts in day.quarters.items() if not any(counts)]:
                del day.quarters[quarter]
            batch.put(layout.day_name(campaign, number), encode(day))
        return set(days), sections

    def _add_rows(self, campaign: CampaignKey, differences: Sums, batch: WriteBatch) -> set[int]:
        sections = set()
        book = self.book(campaign)
        if differences.clicks or differences.unclicks:
            ends = moved_ends(self._index, campaign, differences.clicks, differences.unclicks, book.ends)
            if ends:
                sections.add(b.LINK)
            for link, pair in ends.items():
                if pair == NO_ENDS:
                    book.ends.pop(link, None)
                    batch.delete(layout.ends_name(campaign, link))
                else:
                    book.ends[link] = pair
                    batch.put(layout.ends_name(campaign, link), ends_bytes(pair))
        rows = book.rows
        for key, difference in differences.rows.items():
            if not difference:
                continue
            sections.add(key[0])
            value = rows.get(key, 0) + difference
            if value:
                rows[key] = value
                batch.put(layout.row_name(campaign, key), tally.to_bytes(value))
            else:
                rows.pop(key, None)
                batch.delete(layout.row_name(campaign, key))
        return sections

    def _newest(self, campaign: CampaignKey, at_least_ms: int) -> int:
        """The newest time in the index by activity, as it will be when this batch is written.

        Entries of recipients that this batch moved stand at their old places still; the cache knows the new ones.
        """
        newest = at_least_ms
        for name in layout.scan_back(self._index, b"T" + campaign):
            at_ms = int.from_bytes(name[9:17], "big")
            known = self._cache.young.get(RecipientKey(name[17:]))
            now_ms = known.contribution.last_at_ms if known is not None else at_ms
            newest = max(newest, now_ms)
            if now_ms == at_ms:
                break
        return newest

    def forget_many(self) -> None:
        """Bounds what is kept in memory: rows are written through, so dropping them costs a read and nothing else."""
        if len(self._rows) > _CACHED_ROWS:
            self._rows.clear()
        if len(self._days) > _CACHED_DAYS:
            self._days.clear()
        if sum(len(book.rows) + len(book.texts) for book in self._books.values()) > _CACHED_BOOK_ROWS:
            self._books.clear()

    def forget_all(self) -> None:
        for known in (self._rows, self._days, self._books):
            known.clear()

    def begin_anew(self, campaign: CampaignKey, owner: tuple[str, str]) -> None:
        """The campaign's row without any numbers; in the database with the next `add`."""
        known = self.campaign_row(campaign)
        self._rows[campaign] = _empty_row(0, owner, known.gaps if known is not None else ())


def _empty_row(offset: int, owner: tuple[str, str], gaps: Iterable[int]) -> CampaignRow:
    return CampaignRow(offset, *owner, -1, {}, [0] * METRICS, [0] * METRICS, {}, list(gaps))
