"""What a report needs beyond the numbers in Redis: its rows, put together of all partitions, and the top clickers.

Rules:
- Redis holds the first rows of each partition. Rows that may be short there are asked for by their keys, some 2,000 of
  a section at most (`app.top_rows`). While nobody can tell them they are part of `other`; never is a number too small.
- Rows are put together once for all who look at a campaign, until the partitions have published others. That is done
  in a thread where it is much: webhooks are taken on the event loop.
- Top clickers are an extra: while the query process is away they are null, and the numbers go on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from api.building import build
from app import breakdown as b
from app.errors import TryLater
from app.facts import CampaignKey
from app.report import TopClickers
from app.sections import NO_ROWS, Rows, top_links
from app.summary import Count
from app.top_rows import completed, keys_of, shown_of, trimmed, wanted
from tables.views import PackedSections, Stamp, View, ViewReader

if TYPE_CHECKING:
    from api.queries import Queries

TOP_LINKS: Final = 20
"""Links whose top clickers stand in the report; those of the others are at `/links/{id}/clickers`."""
TOP_CLICKERS: Final = 10
_INLINE_BYTES: Final = 16_384
"""Packed parts of this size are put together on the event loop: that takes about as long as asking a thread to."""
_CAMPAIGNS: Final = 64
RETRY_S: Final = 1.0
"""How long rows that nobody can tell are not asked for again."""

Asked = dict[int, list[tuple[int, int]]]


class _Known:
    """A campaign's rows as of a stamp."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.stamp: Stamp = ()
        self.rows: dict[int, Rows | None] = {}
        """None: there are none."""
        self.until: float | None = None
        """When some of the rows are to be asked for again."""

    def rows_of(self, stamp: Stamp, sections: Collection[int]) -> dict[int, Rows] | None:
        """None where they are not all known as of then."""
        if self.stamp != stamp or (
            self.until is not None and asyncio.get_running_loop().time() >= self.until
        ):
            return None
        if any(section not in self.rows for section in sections):
            return None
        return self.given(sections)

    def given(self, sections: Collection[int]) -> dict[int, Rows]:
        return {section: rows for section in sections if (rows := self.rows[section]) is not None}


class Tops:
    """One per API process."""

    def __init__(self, views: ViewReader, queries: Queries) -> None:
        self._views = views
        self._queries = queries
        self._known: OrderedDict[CampaignKey, _Known] = OrderedDict()

    async def load(
        self, campaign: CampaignKey, *, epoch: str, hours: bool, sections: Collection[int] = ()
    ) -> View | None:
        """As `ViewReader.load`, with rows that are exact and no more than are shown. Raises RedisError."""
        known = self._known.get(campaign) or _Known()
        rows: dict[int, Rows] | None = None

        def have(stamp: Stamp) -> bool:
            # Taken now: while this waits, others may put newer ones in their place.
            nonlocal rows
            rows = known.rows_of(stamp, sections)
            return rows is not None

        found = await self._views.load_packed(
            campaign, epoch=epoch, hours=hours, sections=sections, have=have
        )
        if found is None:
            return None
        view, packed = found
        if packed is not None:
            view.sections = rows if rows is not None else await self._rows(campaign, packed, sections)
        return view

    async def _rows(
        self, campaign: CampaignKey, packed: PackedSections, sections: Collection[int]
    ) -> dict[int, Rows]:
        known = self._known.pop(campaign, None) or _Known()
        self._known[campaign] = known
        if len(self._known) > _CAMPAIGNS:
            self._known.popitem(last=False)
        async with known.lock:
            if (rows := known.rows_of(packed.stamp, sections)) is not None:
                return rows
            loop = asyncio.get_running_loop()
            if known.stamp != packed.stamp or (known.until is not None and loop.time() >= known.until):
                known.stamp, known.rows, known.until = packed.stamp, {}, None
            missing = [section for section in sections if section not in known.rows]
            made, complete = await self._made(campaign, packed, missing)
            known.rows.update({section: made.get(section) for section in missing})
            if not complete:
                known.until = loop.time() + RETRY_S
            return known.given(sections)

    async def _made(
        self, campaign: CampaignKey, packed: PackedSections, sections: Collection[int]
    ) -> tuple[dict[int, Rows], bool]:
        """Rows of sections, and whether none had to be left out."""
        parts = {section: packed.parts[section] for section in sections if section in packed.parts}
        some = PackedSections(packed.stamp, parts)
        if sum(len(part) for several in parts.values() for _, part in several) <= _INLINE_BYTES:
            found, asked = _merged(some)
        else:
            found, asked = await asyncio.to_thread(_merged, some)
        if not asked:
            return found, True
        try:
            answer = await self._queries.tops(campaign, list(asked), keys_of(asked))
        except TryLater:
            return await asyncio.to_thread(trimmed, found), False
        found = await asyncio.to_thread(lambda: trimmed(completed(found, asked, answer)))
        return found, answer.totals.keys() >= asked.keys()


def _merged(packed: PackedSections) -> tuple[dict[int, Rows], Asked]:
    """The rows, and which are to be asked for; where none are, no more than are shown."""
    found = packed.merged(shown_of)
    asked = wanted(found)
    return (found if asked else trimmed(found)), asked


async def clickers_of(queries: Queries, key: CampaignKey, view: View, count: Count) -> TopClickers | None:
    """The top clickers of the first links; None where nobody can tell."""
    rows = (view.sections or {}).get(b.LINK, NO_ROWS)
    links = await build(view, lambda: top_links(rows, count, TOP_LINKS))
    if not links:
        return {}
    try:
        return await queries.top_clickers(key, links, count, TOP_CLICKERS)
    except TryLater:
        return None
