"""What a report needs beyond the numbers in Redis: its rows, put together of all partitions, and the top clickers.

Rules:
- Redis holds the first rows of each partition. Rows that may be short there are asked for by their keys, some 2,000 of
  a section at most (`app.top_rows`). While nobody can tell them they are part of `other`; never is a number too small.
- Rows are put together once for all who look at a campaign, until the partitions have published others. That is done
  in a thread where it is much: webhooks are taken on the event loop. Who looks again and again doesn't wait for it:
  what a moment ago was right is shown meanwhile, and the report says how old it is. Who comes later gets what is
  published.
- Top clickers are an extra: while the query process is away they are null, and the numbers go on.
"""

from __future__ import annotations

import asyncio
import math
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
PATIENCE_S: Final = 0.02
"""How long a report waits for newer rows where it has recent ones."""
RECENT_S: Final = 1.0
"""How old rows are at most that a report shows while newer ones are made."""

Asked = dict[int, list[tuple[int, int]]]


class _Known:
    """A campaign's rows as of a stamp."""

    def __init__(self) -> None:
        self.stamp: Stamp = ()
        self.rows: dict[int, Rows | None] = {}
        """None: there are none."""
        self.until = float("inf")
        """When some of the rows are to be asked for again."""
        self.read_at = float("-inf")
        self.current_at = float("-inf")
        """When they were known to be what is published."""
        self.refreshing: asyncio.Task[None] | None = None

    def has(self, sections: Collection[int]) -> bool:
        return all(section in self.rows for section in sections)

    def shown(self, view: View, sections: Collection[int], age_s: float) -> View:
        view.sections = {section: rows for section in sections if (rows := self.rows[section]) is not None}
        view.behind_ms = max(view.behind_ms, math.ceil(1000 * age_s))
        return view

    def refreshed(self, task: asyncio.Task[None]) -> None:
        self.refreshing = None
        if not task.cancelled():
            task.exception()  # whoever has to wait for the next one meets it


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
        known = self._remembered(campaign) if sections else _Known()
        clock = asyncio.get_running_loop().time
        waited = False
        while True:
            now = clock()
            found = await self._views.load_packed(
                campaign, epoch=epoch, hours=hours, sections=sections, parts=False
            )
            if found is None:
                return None
            view, packed = found
            if packed is None:
                return view
            if known.read_at > now:
                continue  # rows are not to be newer than the numbers beside them
            if known.stamp == packed.stamp and now < known.until:
                known.current_at = now
            age_s = now - known.current_at
            there = known.has(sections)
            if there and (not age_s or waited):
                return known.shown(view, sections, age_s)
            recent = there and age_s < RECENT_S
            if known.refreshing is None:
                known.refreshing = asyncio.create_task(self._refresh(campaign, epoch, known, sections))
                known.refreshing.add_done_callback(known.refreshed)
            refreshing = known.refreshing
            await asyncio.wait({refreshing}, timeout=PATIENCE_S if recent else None)
            if recent and (not refreshing.done() or refreshing.exception()):
                return known.shown(view, sections, age_s)
            refreshing.result()
            waited = True

    def _remembered(self, campaign: CampaignKey) -> _Known:
        known = self._known[campaign] = self._known.get(campaign) or _Known()
        self._known.move_to_end(campaign)
        if len(self._known) > _CAMPAIGNS:
            self._known.popitem(last=False)
        return known

    async def _refresh(
        self, campaign: CampaignKey, epoch: str, known: _Known, sections: Collection[int]
    ) -> None:
        """Makes rows of what is published now: of these sections, and of those that others look at."""
        clock = asyncio.get_running_loop().time
        began = clock()
        wanted = {*sections, *(known.rows if began - known.current_at < RECENT_S else ())}
        found = await self._views.load_packed(campaign, epoch=epoch, hours=False, sections=sorted(wanted))
        if found is None or found[1] is None:
            return
        packed, read_at = found[1], clock()
        rows: dict[int, Rows | None] = {}
        if known.stamp == packed.stamp and read_at < known.until:
            rows = {section: known.rows[section] for section in wanted & known.rows.keys()}
        made, complete = await self._made(campaign, packed, sorted(wanted - rows.keys()))
        until = float("inf") if complete else clock() + RETRY_S
        known.until = min(until, known.until) if rows else until
        known.stamp, known.read_at, known.current_at = packed.stamp, read_at, began
        known.rows = {section: rows[section] if section in rows else made.get(section) for section in wanted}

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
