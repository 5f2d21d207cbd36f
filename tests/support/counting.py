"""A worker's counting without its process: the real `Aggregator` on a real Kafka, Redis and RocksDB, fed by hand.

What Faust does is done here in plain steps: assignment (`open`), chunks (`feed`), looking after what is set aside
(`tend`). So a test of one fault takes milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from faust.types import TP

from agents.aggregate import Aggregator
from agents.engine import Chunk, chunks
from app import facts as f
from app import keys
from app.facts import FactsRecord, encode
from app.settings import Settings
from app.topics import FACTS, INSTALLATION
from cli.config import load_settings
from cli.identity import identify
from tables.conditions import Condition
from tables.kafka_clients import client_settings
from tables.reading import PartitionReader
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock
from tables.section_parts import PUBLISHED
from tables.views import View, ViewReader
from tests.support.facts import ORG, SECRET, START_MS, entry
from tests.support.kafka import delete_topics, fresh_topics
from tests.support.processes import environment

PARTITIONS = 2


class World:
    """A data folder, Kafka's topics, and facts in them: one open of a recipient of its own a record."""

    def __init__(self, folder: Path, kafka: str, redis_url: str, partitions: int = PARTITIONS) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.kafka = kafka
        self.partitions = partitions
        # A short session: the members of the test before are gone sooner.
        self.environ = environment(
            folder,
            kafka=kafka,
            redis=redis_url,
            partitions=str(partitions),
            session_timeout_s="6",
            secret=SECRET.decode(),
        )
        self.settings: Settings = load_settings(self.environ)
        self.admin = AdminClient(client_settings(kafka, "test"))
        fresh_topics(self.settings)
        self.settings = identify(self.settings).settings

    def export(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Commands that the test calls in its own process go by these settings."""
        for name, value in self.environ.items():
            if name.startswith("REPORTS_"):
                monkeypatch.setenv(name, value)

    def fill(
        self, count: int = 5, *, campaign: str = "spring", begin: int = 0, accepted_ms: int = START_MS
    ) -> None:
        """`count` records into each partition; facts of other numbers (from `begin` on) are other facts."""
        for partition in range(self.partitions):
            self.produce(
                partition,
                *(record(number, partition, campaign, accepted_ms) for number in range(begin, begin + count)),
            )

    def produce(self, partition: int, *values: bytes) -> None:
        producer = Producer(client_settings(self.kafka, "test"))
        for value in values:
            producer.produce(FACTS, value, partition=partition)
        assert producer.flush(10) == 0

    def remake_installation(self, *also: str) -> None:
        """Topic `installation` is deleted, and others with it; the next start of a role makes them."""
        delete_topics(self.kafka, (INSTALLATION, *also))
        self.settings = identify(load_settings(self.environ)).settings

    def trim(self, partition: int, before: int) -> None:
        for future in self.admin.delete_records([TopicPartition(FACTS, partition, before)]).values():
            future.result(10)

    def offset(self, partition: int = 0) -> int:
        with PartitionReader(self.state / f"p{partition}") as reader:
            return reader.fence().offset

    def opens(self, partition: int = 0, campaign: str = "spring") -> int:
        """How many recipients of the campaign the partition's sums have."""
        key = keys.campaign_key(self.settings.secret, ORG, campaign)
        with PartitionReader(self.state / f"p{partition}") as reader:
            return sum(sum(row.patterns.values()) for name, row in reader.campaigns() if name == key)

    @asynccontextmanager
    async def worker(self, *, publishing: bool = False) -> AsyncIterator[Worker]:
        """One that has all partitions. `publishing`: to Redis, conditions included."""
        worker = Worker(self)
        task = asyncio.create_task(worker.aggregator.publisher.run()) if publishing else None
        try:
            await worker.open()
            yield worker
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await worker.end()

    async def view(self, campaign: str = "spring") -> View | None:
        """What readers see."""
        redis = redis_of(self.settings)
        try:
            reader = ViewReader(redis, self.partitions)
            key = keys.campaign_key(self.settings.secret, ORG, campaign)
            return await reader.load(key, epoch=await reader.epoch(), hours=False, sections=PUBLISHED)
        finally:
            await redis.aclose()


def record(number: int, partition: int, campaign: str = "spring", accepted_ms: int = START_MS) -> bytes:
    one = entry(f.OPENED, START_MS + number, address=f"p{partition}-{number}@example.com", campaign=campaign)
    return encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, accepted_ms, [one]))


class Worker:
    def __init__(self, world: World) -> None:
        self.world = world
        self.aggregator = Aggregator(world.settings, world.state, RedisClock())
        self.held: set[int] = set()
        self.aggregator.hold = self.held.add
        self._consumer = Consumer(
            {
                **client_settings(world.kafka, "test"),
                "group.id": "test",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
            }
        )

    async def open(self) -> None:
        """As when a rebalance is complete."""
        self.held = await self.aggregator.open(set(range(self.world.partitions)))
        self.aggregator.hold = self.held.add

    async def feed(self) -> None:
        """Counts what the log has of each partition that is not held."""
        for partition in range(self.world.partitions):
            if partition in self.held or partition not in self.aggregator.positions:
                continue
            records = self._read(partition, self.aggregator.positions[partition])
            for run in chunks(records):
                self.aggregator.count(partition, chunk(partition, run))

    def _read(self, partition: int, offset: int) -> list[Any]:
        self._consumer.assign([TopicPartition(FACTS, partition, offset)])
        found: list[Any] = []
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            message = self._consumer.poll(1)
            if message is None:
                continue
            if message.error() is not None:
                break  # the partition's end
            found.append(
                SimpleNamespace(
                    topic=FACTS, partition=partition, offset=message.offset(), value=message.value(),
                    timestamp=message.timestamp()[1], timestamp_type=1, headers=(),
                )
            )  # fmt: skip
        return found

    async def tend(self) -> None:
        """Tries again what is due, and goes on with what came back."""
        for partition in await self.aggregator.due():
            if await self.aggregator.retry(partition) is not None:
                self.held.discard(partition)

    async def settle(self) -> None:
        """Until nothing changes any more: counts, looks again, counts."""
        for _ in range(4):
            await self.feed()
            await self.tend()

    @property
    def conditions(self) -> dict[str, Condition]:
        return {one.code: one for one in self.aggregator.conditions.current()}

    async def end(self) -> None:
        for partition in range(self.world.partitions):
            self.aggregator.close(partition)
        self.aggregator.slot.release()
        await self.aggregator.redis.aclose()
        self._consumer.close()


def chunk(partition: int, records: Sequence[Any]) -> Chunk:
    last = records[-1]
    made = Chunk(
        FACTS,
        partition,
        last.offset,
        last.timestamp / 1000,
        1,
        [],
        None,
        b"",
        None,
        0,
        0,
        TP(FACTS, partition),
    )
    made.records = records
    return made
