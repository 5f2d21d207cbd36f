"""Views in a real Redis: right after FLUSHALL, a restored file, a dead worker and a zombie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from agents.publish import WITHHELD, Publisher
from app import breakdown as b
from app import facts as f
from app import keys
from app.facts import CampaignRecord, Entry, FactsRecord, encode
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.redis_client import redis_client
from tables.section_parts import PUBLISHED
from tables.view_writer import Move, Published, Update, ViewWriter
from tables.views import (
    OWNERS,
    PARTITIONS,
    SECTION_PARTITIONS,
    Fence,
    Owner,
    SummaryPart,
    View,
    ViewReader,
    report_name,
    sections_name,
)
from tests.support.facts import KEY, ORG, SECRET, START_MS, detail_of, entry

DAY_MS = 86_400_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PartitionDatabase]:
    base = open_database(tmp_path / "p0")
    yield base
    base.close()


def open_database(path: Path, generation: int = 1) -> PartitionDatabase:
    meta = Meta(LAYOUT_VERSION, 0, 1, "topic", keys.secret_fingerprint(SECRET), generation)
    return PartitionDatabase(path, meta, SECRET, RecipientCache(100))


def record(*line: Entry, campaign: str = "spring") -> bytes:
    return encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, list(line)))


@asynccontextmanager
async def publishing(
    url: str, database: PartitionDatabase, worker: str = "tester"
) -> AsyncIterator[Publisher]:
    redis = redis_client(url, timeout_s=2)
    publisher = Publisher(ViewWriter(redis), worker)
    publisher.add(database)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await redis.aclose()


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[tuple[Redis, ViewReader]]:
    redis = Redis.from_url(url)
    try:
        yield redis, ViewReader(redis, 1)
    finally:
        await redis.aclose()


async def view_at(url: str, offset: int, *, complete: bool = True, timeout_s: float = 10) -> View:
    """The view once the partition's position is published."""
    async with reading(url) as (_, reader):
        async with asyncio.timeout(timeout_s):
            while True:
                fences = await reader.partition_offsets()
                if 0 in fences and fences[0].offset == offset:
                    break
                await asyncio.sleep(0.02)
        view = await reader.load(KEY, epoch="e", hours=True)
        assert view is not None and view.complete == complete
        return view


async def test_what_is_counted_is_published(redis_db: str, database: PartitionDatabase) -> None:
    async with publishing(redis_db, database) as publisher:
        opened = entry(f.OPENED, START_MS)
        publisher.mark(0, database.apply([(0, record(opened))]))
        view = await view_at(redis_db, 1)
        assert (view.totals[5], view.as_of_ms) == (1, START_MS)
        assert view.quarters is not None and sum(map(sum, view.quarters.values())) == sum(view.totals)
        publisher.mark(0, database.apply([(1, encode(CampaignRecord(1, ORG, "spring", 0, name="Spring")))]))
        again = await view_at(redis_db, 2)
        assert again.labels.name == "Spring" and again.version > view.version and again.totals == view.totals


async def test_repeats_change_no_view_and_still_move_the_offset(
    redis_db: str, database: PartitionDatabase
) -> None:
    """Else the lag would seem to stand still for as long as nothing new comes."""
    async with publishing(redis_db, database) as publisher:
        value = record(entry(f.OPENED, START_MS))
        publisher.mark(0, database.apply([(0, value)]))
        await sections_at(redis_db, 1)  # they come later and move the version too
        before = await view_at(redis_db, 1)
        publisher.mark(0, database.apply([(1, value)]))
        assert await view_at(redis_db, 2) == before


async def test_flushall_is_repaired_in_silence(redis_db: str, database: PartitionDatabase) -> None:
    async with publishing(redis_db, database) as publisher:
        for offset, days in enumerate((0, 1, 2)):
            publisher.mark(0, database.apply([(offset, record(entry(f.CLICKED, START_MS + days * DAY_MS)))]))
        before = await view_at(redis_db, 3)
        async with reading(redis_db) as (redis, reader):
            epoch = await reader.epoch()
            await redis.flushall()
            assert await reader.epoch() != epoch
        after = await view_at(redis_db, 3)
        assert (after.totals, after.quarters, after.patterns) == (
            before.totals,
            before.quarters,
            before.patterns,
        )


async def test_views_of_earlier_formats_are_deleted(redis_db: str, database: PartitionDatabase) -> None:
    async with reading(redis_db) as (redis, _):
        old = {f"cr:v3:sections:{number}" for number in range(1_200)} | {"cr:v1:report:x", "cr:v3:partitions"}
        kept = {"cr:v5:partitions", "cr:v33:partitions", "of others"}
        for name in ("cr:v1:partitions", *old, *kept):
            await redis.set(name, "x")
        async with publishing(redis_db, database) as publisher:
            publisher.mark(0, database.apply([(0, record(entry(f.OPENED, START_MS)))]))
            async with asyncio.timeout(10):
                while await redis.exists("cr:v3:partitions"):  # noqa: ASYNC110  # the last of them
                    await asyncio.sleep(0.02)
        left = {name if isinstance(name, str) else name.decode() for name in await redis.keys()}
        assert kept < left and not left & old and PARTITIONS in left


async def test_flushall_under_traffic_is_repaired_too(redis_db: str, database: PartitionDatabase) -> None:
    other = keys.campaign_key(SECRET, ORG, "autumn")
    async with publishing(redis_db, database) as publisher:
        publisher.mark(0, database.apply([(0, record(entry(f.OPENED, START_MS)))]))
        await view_at(redis_db, 1)
        async with reading(redis_db) as (redis, reader):
            await redis.flushall()
            # Only the other campaign moves: its publication must not hide that spring's view is gone.
            line = entry(f.OPENED, START_MS, campaign="autumn")
            publisher.mark(0, database.apply([(1, record(line, campaign="autumn"))]))
            assert (await view_at(redis_db, 2)).totals[5] == 1
            assert await reader.load(other, epoch="e", hours=False) is not None


async def test_a_restored_older_redis_is_brought_forward(redis_db: str, database: PartitionDatabase) -> None:
    async with publishing(redis_db, database) as publisher:
        publisher.mark(0, database.apply([(0, record(entry(f.OPENED, START_MS)))]))
        old = await view_at(redis_db, 1)
        async with reading(redis_db) as (redis, _):
            saved: dict[Any, Any] = {name: await redis.dump(name) for name in await redis.keys()}
            publisher.mark(0, database.apply([(1, record(entry(f.OPENED, START_MS + DAY_MS, number=1)))]))
            new = await view_at(redis_db, 2)
            assert new.totals != old.totals
            for name, value in saved.items():
                await redis.restore(name, 0, value, replace=True)
        assert (await view_at(redis_db, 2)).totals == new.totals


async def test_a_worker_that_died_before_publishing_is_made_up_for(redis_db: str, tmp_path: Path) -> None:
    base = open_database(tmp_path / "p0")
    async with publishing(redis_db, base) as publisher:
        publisher.mark(0, base.apply([(0, record(entry(f.OPENED, START_MS)))]))
        await view_at(redis_db, 1)
    # Counted, never published; and nothing comes afterwards.
    base.apply([(1, record(entry(f.OPENED, START_MS + 1, number=1)))])
    base.close()
    base = open_database(tmp_path / "p0")
    async with publishing(redis_db, base):
        assert (await view_at(redis_db, 2)).totals[5] == 2
    base.close()


async def test_a_database_that_counts_anew_waits_until_it_has_caught_up(
    redis_db: str, tmp_path: Path
) -> None:
    values = [record(entry(f.OPENED, START_MS + n, number=n)) for n in range(3)]
    ahead = open_database(tmp_path / "ahead")
    async with publishing(redis_db, ahead) as publisher:
        publisher.mark(0, ahead.apply(list(enumerate(values))))
        await view_at(redis_db, 3)
    ahead.close()
    anew = open_database(tmp_path / "anew")
    async with publishing(redis_db, anew) as publisher:
        publisher.mark(0, anew.apply([(0, values[0])]))
        await asyncio.sleep(1.5)
        assert (await view_at(redis_db, 3)).totals[5] == 3
        publisher.mark(0, anew.apply([(1, values[1]), (2, values[2])]))
        more = record(entry(f.OPENED, START_MS + 9, number=9))
        publisher.mark(0, anew.apply([(3, more)]))
        assert (await view_at(redis_db, 4)).totals[5] == 4
    anew.close()


async def test_a_zombies_older_values_are_refused(redis_db: str, database: PartitionDatabase) -> None:
    async with publishing(redis_db, database) as publisher:
        publisher.mark(0, database.apply([(0, record(entry(f.OPENED, START_MS)))]))
        await view_at(redis_db, 1)
    async with reading(redis_db) as (redis, reader):
        # Only now: the sections may have come a moment after the numbers, and with them another version.
        view = await reader.load(KEY, epoch="e", hours=True)
        fields = await redis.hgetall(report_name("topic", KEY))
        writer = ViewWriter(redis)
        for older in (Fence(1, 0, "topic"), Fence(0, 99, "topic")):
            update = Update(key=KEY, org=ORG, campaign="spring", summary=SummaryPart(1, {}, [], []))
            calls = writer.encode(0, older, [update])
            # It isn't what the partition's worker wrote last either, so the position stays too.
            move = Move(PARTITIONS, 0, "1:77:topic", "1:78:topic")
            assert await writer.publish(calls, [move]) == Published([], [False])
            assert await redis.hget(PARTITIONS, "0") == b"1:1:topic"
            assert await redis.hgetall(report_name("topic", KEY)) == fields
        assert await reader.load(KEY, epoch="e", hours=True) == view


async def test_a_zombie_claims_no_partition(redis_db: str, tmp_path: Path) -> None:
    """It has Redis but not Kafka, and so nobody told it that the partition is another's."""
    old, new = open_database(tmp_path / "old"), open_database(tmp_path / "new", generation=2)
    values = [(0, record(entry(f.OPENED, START_MS)))]

    async def claimed_by() -> str:
        stored = await redis.hget(OWNERS, "0")
        assert stored is not None
        return msgspec.json.decode(stored, type=Owner).worker

    async with reading(redis_db) as (redis, _), publishing(redis_db, old, "zombie") as zombie:
        zombie.mark(0, old.apply(values))
        await view_at(redis_db, 1)
        await zombie.announce()
        assert await claimed_by() == "zombie"
        async with publishing(redis_db, new, "owner") as owner:
            owner.mark(0, new.apply(values))
            async with asyncio.timeout(10):
                while not zombie.counters[WITHHELD]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await owner.announce()
            await zombie.announce()
            assert await claimed_by() == "owner"
    old.close()
    new.close()


async def test_a_higher_generation_replaces_what_an_older_one_left(redis_db: str, tmp_path: Path) -> None:
    old = open_database(tmp_path / "old")
    async with publishing(redis_db, old) as publisher:
        line = [entry(f.OPENED, START_MS), entry(f.OPENED, START_MS + 3 * DAY_MS, number=1)]
        publisher.mark(0, old.apply([(0, record(*line)), (1, record())]))
        await view_at(redis_db, 2)
    old.close()
    rebuilt = open_database(tmp_path / "new", generation=2)
    async with publishing(redis_db, rebuilt) as publisher:
        # The rebuilt one knows only one of the two days: no hour of the other may stay.
        publisher.mark(0, rebuilt.apply([(0, record(line[0]))]))
        await asyncio.sleep(1.2)
        assert (await view_at(redis_db, 2)).totals[5] == 2, (
            "until it has caught up, readers keep the old numbers"
        )
        publisher.mark(0, rebuilt.apply([(1, record())]))
        view = await view_rebuilt(redis_db)
        assert (
            view.quarters is not None and sum(row[5] for row in view.quarters.values()) == view.totals[5] == 1
        )
    rebuilt.close()


async def view_rebuilt(url: str) -> View:
    async with reading(url) as (_, reader), asyncio.timeout(10):
        while (await reader.partition_offsets())[0].generation != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return await view_at(url, 2)


async def test_ending_it_while_it_is_marked_ends_it(redis_db: str, database: PartitionDatabase) -> None:
    for _ in range(20):
        async with asyncio.timeout(5), publishing(redis_db, database) as publisher:
            await asyncio.sleep(0.1)  # nothing to do: it waits
            publisher._wake()  # in the same turn as the end


async def test_sections_are_published_and_repaired(redis_db: str, database: PartitionDatabase) -> None:
    detail, numbers = detail_of(link=1, place=1, agent=1, provider=1, variant=1)
    made = entry(f.CLICKED, START_MS, detail=encode(detail), **numbers)  # type: ignore[arg-type]
    async with publishing(redis_db, database) as publisher:
        publisher.mark(0, database.apply([(0, record(made))]))
        await sections_at(redis_db, 1)
        async with reading(redis_db) as (redis, reader):
            view = await reader.load(KEY, epoch="e", hours=False, sections=PUBLISHED)
            assert view is not None and view.complete and view.sections is not None
            assert set(view.sections) >= {
                b.LINK,
                b.COUNTRY,
                b.CITY,
                b.CLIENT,
                b.BROWSER,
                b.PROVIDER,
                b.VARIANT,
            }
            assert list(view.sections[b.LINK].names.values()) == [detail.link]
            before = await redis.hgetall(sections_name("topic", KEY))
            await redis.flushall()
        await sections_at(redis_db, 1)
        async with reading(redis_db) as (redis, _):
            assert await redis.hgetall(sections_name("topic", KEY)) == before


async def sections_at(url: str, offset: int) -> None:
    async with reading(url) as (redis, _), asyncio.timeout(10):
        while await redis.hget(SECTION_PARTITIONS, "0") != f"1:{offset}:topic".encode():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_redis_away_for_a_while(redis_db: str, database: PartitionDatabase) -> None:
    async with publishing(redis_db, database) as publisher:
        await view_at_start(redis_db)
        async with reading(redis_db) as (redis, _):
            await redis.client_pause(3000)
            publisher.mark(0, database.apply([(0, record(entry(f.OPENED, START_MS)))]))
        assert (await view_at(redis_db, 1)).totals[5] == 1


async def view_at_start(url: str) -> None:
    async with reading(url) as (redis, _):
        async with asyncio.timeout(5):
            while not await redis.hexists(PARTITIONS, "0"):  # noqa: ASYNC110  # the server has no event for it
                await asyncio.sleep(0.02)
