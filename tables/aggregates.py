"""A campaign's sums at rest: its row, its days, the rows and names of its sections. Written through, and kept in memory
while the process's budget lasts (`tables.shelf`).

`Aggregates.add` takes a batch's differences and puts what becomes of the rows into the batch that also moves states and
offset: after a crash all of it is there or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from rocksdict import Rdict, WriteBatch

from app import breakdown as b
from app.contribution import METRICS
from app.facts import CampaignKey, RecipientKey, encode
from tables import layout
from tables.cache import RecipientCache
from tables.campaign_book import CampaignBook
from tables.layout import CampaignRow, DayRow, LabelsRow
from tables.link_ends import moved_ends
from tables.sums import Sums, add_counts

_QUARTER_ENTRIES: Final = 2
"""What a quarter hour takes of the budget."""

campaign_decoder: msgspec.msgpack.Decoder[CampaignRow] = msgspec.msgpack.Decoder(CampaignRow)
day_decoder: msgspec.msgpack.Decoder[DayRow] = msgspec.msgpack.Decoder(DayRow)
labels_decoder: msgspec.msgpack.Decoder[LabelsRow] = msgspec.msgpack.Decoder(LabelsRow)


class _Kept:
    """What is in memory of one campaign."""

    __slots__ = ("book", "days", "row")

    def __init__(self) -> None:
        self.row: CampaignRow | None = None
        self.days: dict[int, DayRow] = {}
        self.book: CampaignBook | None = None

    def size(self) -> int:
        return (
            (len(self.row.patterns) + METRICS if self.row is not None else 0)
            + _QUARTER_ENTRIES * sum(len(day.quarters) for day in self.days.values())
            + (self.book.size if self.book is not None else 0)
        )


class Aggregates:
    def __init__(self, db: Rdict, index: Rdict, cache: RecipientCache) -> None:
        self._db = db
        self._index = index
        self._cache = cache
        self._kept: dict[CampaignKey, _Kept] = {}
        self.generation = 0
        """Of the database."""
        self.open_gaps: list[int] = []
        """Gaps that may have taken facts of a campaign that appears now (`tables.gaps`)."""

    def book(self, campaign: CampaignKey) -> CampaignBook:
        """A campaign's names and section rows."""
        kept = self._of(campaign)
        book = kept.book
        if book is None:
            row = self.campaign_row(campaign)
            touched = row.sections if row is not None else {}
            book = kept.book = CampaignBook(self._db, campaign, self.generation, touched)
        return book

    def _of(self, campaign: CampaignKey) -> _Kept:
        kept = self._kept.get(campaign)
        if kept is None:
            kept = self._kept[campaign] = _Kept()
            self._cache.shelf.touch(self, campaign)
        return kept

    def labels_row(self, campaign: CampaignKey) -> LabelsRow | None:
        stored = self._db.get(layout.labels_name(campaign))
        return labels_decoder.decode(stored) if stored is not None else None

    def campaign_row(self, campaign: CampaignKey) -> CampaignRow | None:
        kept = self._of(campaign)
        if kept.row is None:
            stored = self._db.get(layout.campaign_name(campaign))
            if stored is not None:
                kept.row = campaign_decoder.decode(stored)
        return kept.row

    def day_row(self, campaign: CampaignKey, day: int) -> DayRow:
        days = self._of(campaign).days
        row = days.get(day)
        if row is None:
            stored = self._db.get(layout.day_name(campaign, day))
            row = days[day] = day_decoder.decode(stored) if stored is not None else DayRow(0, {})
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
            row = self._of(campaign).row = _empty_row(offset, owner, self.open_gaps)
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
        self.book(campaign).settle(sections, offset, batch)
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
        book = self.book(campaign)
        book.learn_rest(batch)
        sections = book.add(differences.rows, batch)
        if differences.clicks or differences.unclicks:
            ends = moved_ends(self._index, campaign, differences.clicks, differences.unclicks, book.know_ends)
            if ends:
                sections.add(b.LINK)
                book.move_ends(ends, batch)
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

    def size_of(self, campaign: CampaignKey) -> int:
        kept = self._kept.get(campaign)
        return kept.size() if kept is not None else 0

    def drop(self, campaign: CampaignKey) -> None:
        self._kept.pop(campaign, None)

    def used(self, campaigns: Iterable[CampaignKey]) -> None:
        """Bounds what is in memory, beginning with what wasn't used for longest. Not while a batch is being made."""
        shelf = self._cache.shelf
        for campaign in campaigns:
            kept = self._kept.get(campaign)
            if kept is not None:
                if kept.book is not None:
                    kept.book.tidy()
                shelf.touch(self, campaign)
        shelf.trim()

    def forget_all(self) -> None:
        self._kept.clear()
        self._cache.shelf.forget(self)

    def begin_anew(self, campaign: CampaignKey, owner: tuple[str, str]) -> None:
        """The campaign's row without any numbers; in the database with the next `add`."""
        known = self.campaign_row(campaign)
        self._of(campaign).row = _empty_row(0, owner, known.gaps if known is not None else ())


def _empty_row(offset: int, owner: tuple[str, str], gaps: Iterable[int]) -> CampaignRow:
    return CampaignRow(offset, *owner, -1, {}, [0] * METRICS, [0] * METRICS, {}, list(gaps))
