"""What an earlier version published of foreign facts goes when their partition is counted again without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from app import facts as f
from app.breakdown import LINK
from tables.views import View
from tests.agents.test_publish import open_database, publishing, reading
from tests.support.facts import KEY, START_MS, detail_of, entry
from tests.support.foreign import first_facts, first_version, foreign


async def becomes(url: str, wanted: Callable[[View], bool]) -> None:
    async with reading(url) as (_, reader), asyncio.timeout(10):
        while True:
            view = await reader.load(KEY, epoch="e", hours=True, sections=[LINK])
            if view is not None and view.complete and wanted(view):
                return
            await asyncio.sleep(0.02)


def has_the_click(view: View) -> bool:
    return sum(view.patterns.values()) == 1 and bool(view.quarters) and bool(view.sections)


def has_nothing(view: View) -> bool:
    rows = any(found.tallies for found in (view.sections or {}).values())
    return not (view.patterns or any(view.totals) or view.quarters or rows)


async def test_a_campaign_of_foreign_facts_alone_shows_nothing_after_a_recount(
    redis_db: str, tmp_path: Path
) -> None:
    detail, numbers = detail_of(link=1)
    click = entry(f.CLICKED, START_MS, detail=f.encode(detail), link=numbers["link"])
    value = first_facts([foreign(click)])
    first = open_database(tmp_path / "first")
    async with publishing(redis_db, first) as publisher:
        with first_version():
            publisher.mark(0, first.apply([(0, value)]))
        await becomes(redis_db, has_the_click)
    first.close()
    again = open_database(tmp_path / "again", generation=2)
    async with publishing(redis_db, again) as publisher:
        publisher.mark(0, again.apply([(0, value)]))
        await becomes(redis_db, has_nothing)
    again.close()
