"""Whether all campaigns of an organisation are known: on a real Kafka, Redis and worker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from app.errors import StateError, TryLater
from app.topics import FACTS
from cli.main import run
from cli.topics import ensure_topics
from tables.every_campaign import NOT_KNOWN, counted_campaigns, uncounted_campaigns
from tables.log_reader import LogReader, Stretch
from tables.origin import topic_ids
from tables.redis_client import redis_client, redis_of
from tables.views import PARTITIONS, Fence, ViewReader, counts_name, topic_prefix
from tests.support.counting import World, record
from tests.support.facts import ORG
from tests.support.kafka import delete_topics

Saved = dict[Any, Any]


@pytest.fixture
def world(tmp_path: Path, kafka: str, redis_db: str) -> World:
    return World(tmp_path, kafka, redis_db)


async def every(world: World) -> set[str]:
    redis = redis_of(world.settings)
    try:
        counted = await counted_campaigns(redis, ViewReader(redis, world.partitions), ORG)
    finally:
        await redis.aclose()
    return counted.campaigns | await asyncio.to_thread(uncounted, world, counted.positions)


def uncounted(world: World, positions: Mapping[int, Fence]) -> set[str]:
    return uncounted_campaigns(world.kafka, ORG, positions, world.partitions, within_s=10)


async def until(world: World, wanted: set[str]) -> None:
    """All are known."""
    found: set[str] = set()
    async with asyncio.timeout(20):
        while not found:
            with contextlib.suppress(TryLater):
                found = await every(world)
            await asyncio.sleep(0.05)
    assert found == wanted


async def count(world: World, campaign: str, wanted: set[str]) -> None:
    """The campaign is counted and published."""
    world.fill(3, campaign=campaign)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        async with asyncio.timeout(20):
            while True:
                positions = await published(world)
                if all(positions.get(p, -1) == world.offset(p) for p in range(world.partitions)):
                    break
                await asyncio.sleep(0.05)
    assert await every(world) == wanted


async def published(world: World) -> dict[int, int]:
    redis = redis_of(world.settings)
    try:
        fences = await ViewReader(redis, world.partitions).partition_offsets()
    finally:
        await redis.aclose()
    return {partition: fence.offset for partition, fence in fences.items()}


async def saved(world: World) -> Saved:
    redis = redis_client(world.settings.redis)
    try:
        return {name: await redis.dump(name) for name in await redis.keys()}
    finally:
        await redis.aclose()


async def put_back(world: World, before: Saved) -> None:
    """As where Redis came back with an older file."""
    redis = redis_client(world.settings.redis)
    try:
        await redis.flushall()
        for name, value in before.items():
            await redis.restore(name, 0, value)
    finally:
        await redis.aclose()


async def test_an_older_redis_and_a_log_that_begins_above_it(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The campaigns in between stand in the databases only: an erasure passed them over, and answered 200."""
    world.export(monkeypatch)
    erasing = ["erase", "a@example.com", "--org", ORG]
    await count(world, "spring", {"spring"})
    older = await saved(world)
    await count(world, "new", {"spring", "new"})
    newer = await saved(world)
    await put_back(world, older)
    assert await every(world) == {"spring", "new"}, "the log has what Redis lacks"
    for partition in range(world.partitions):
        world.trim(partition, 6)
    with pytest.raises(TryLater, match=rf"{NOT_KNOWN}.*`reports aggregate` runs.*try again"):
        await every(world)
    assert await asyncio.to_thread(run, erasing) == 3
    assert NOT_KNOWN in capsys.readouterr().err
    await put_back(world, newer)
    assert await every(world) == {"spring", "new"}, "what is counted may be trimmed"
    await put_back(world, older)
    async with world.worker(publishing=True) as worker:  # as it says
        await worker.settle()
        await until(world, {"spring", "new"})
    assert await asyncio.to_thread(run, erasing) == 0
    assert "stored for 2 campaigns" in capsys.readouterr().out


async def test_many_campaigns_cost_the_caller_s_event_loop_little(redis_db: str) -> None:
    """With 64 partitions and 100,000 campaigns it was 30 s, in which the API answered nobody."""
    redis, campaigns, partitions = redis_client(redis_db), 2_000, 64
    shares: dict[Any, Any] = {"org": ORG, "v": 1} | {f"f:{p}": "1:5" for p in range(partitions)}
    try:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hset(PARTITIONS, mapping={str(p): Fence(1, 5, "T").text() for p in range(partitions)})
            said = msgspec.json.encode({ORG: campaigns})
            pipe.hset(counts_name("T"), mapping={str(p): said for p in range(partitions)})
            for number in range(campaigns):
                key = f"{topic_prefix('T')}report:{number:016x}"
                pipe.hset(key, mapping={**shares, "campaign": str(number)})
            await pipe.execute()
        reader = ViewReader(redis, partitions)
        await reader.partition_offsets()
        began_s = time.process_time()
        found = await counted_campaigns(redis, reader, ORG)
        assert time.process_time() - began_s < 0.12, "with all fences fetched it was 0.25 s"
        assert len(found.campaigns) == campaigns
        await redis.hdel(key, f"f:{partitions - 1}")
        with pytest.raises(TryLater, match="Redis has lost some"):
            await counted_campaigns(redis, reader, ORG)
    finally:
        await redis.aclose()


async def test_a_recreated_log(world: World) -> None:
    await count(world, "spring", {"spring"})
    delete_topics(world.kafka, (FACTS,))
    with pytest.raises(StateError, match=r"^topic facts can't be read: Kafka at [^ ]+: a topic is not there"):
        await every(world)
    ensure_topics(world.settings)
    world.fill(1, campaign="after")
    with pytest.raises(TryLater, match=rf"{NOT_KNOWN}.*before it was recreated"):
        await every(world)


def fence(world: World, offset: int) -> Fence:
    return Fence(1, offset, topic_ids(world.kafka, (FACTS,))[FACTS])


def test_each_partition_by_its_position(world: World) -> None:
    for number, campaign in enumerate(("a", "b", "c", "d")):
        world.produce(0, record(number, 0, campaign))
    at = [fence(world, offset) for offset in range(10)]
    empty = at[0]
    assert uncounted(world, {}) == {"a", "b", "c", "d"}, "nothing is counted, and the log is whole"
    world.trim(0, 2)
    for positions in ({1: empty}, {0: at[1], 1: empty}):
        with pytest.raises(TryLater, match=NOT_KNOWN):
            uncounted(world, positions)
    assert uncounted(world, {0: at[2], 1: empty}) == {"c", "d"}
    assert uncounted(world, {0: at[4], 1: empty}) == set()
    # The log lost its end: which of the records below the position came in since, nobody can say.
    assert uncounted(world, {0: at[9], 1: empty}) == {"c", "d"}
    with pytest.raises(TryLater, match="partition 1 is gone"):
        uncounted(world, {0: at[4], 1: Fence(1, 0, "another topic")})


def test_what_is_removed_while_it_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka's clients go on behind it without a word."""
    world.fill(3)
    read = LogReader.read

    def trimmed_first(self: LogReader, topic: str, stretches: Mapping[int, Stretch]) -> Iterator[Message]:
        world.trim(0, 2)
        return read(self, topic, stretches)

    monkeypatch.setattr(LogReader, "read", trimmed_first)
    with pytest.raises(TryLater, match=NOT_KNOWN):
        uncounted(world, {})


def test_a_log_that_is_recreated_while_it_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(3)
    ids: Callable[..., dict[str, str]] = topic_ids
    answers = itertools.chain(["of before"], itertools.repeat(ids(world.kafka, (FACTS,))[FACTS]))
    monkeypatch.setattr("tables.every_campaign.topic_ids", lambda *_: {FACTS: next(answers)})
    with pytest.raises(TryLater, match="recreated"):
        uncounted(world, {0: Fence(1, 0, "of before"), 1: Fence(1, 0, "of before")})
