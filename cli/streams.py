"""How far each topic is read: for `reports lag`, `reports verify` and the tests, straight from Kafka and Redis.

Rules:
- `webhooks` is read as far as normalize's group has committed, since it commits only what its facts are written for.
- `facts` is counted as far as the published numbers go (Redis), not as far as a worker has read; those of another topic
  of this name don't count.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from agents.log_checks import LogInspector
from app.settings import Settings
from app.topics import FACTS, NORMALIZE_GROUP, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.kafka_clients import client_settings
from tables.redis_client import redis_of
from tables.views import ViewReader

TIMEOUT_S = 5.0


class Position(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    start: int
    """The log's first offset."""
    done: int
    """The next offset that is to be done."""
    end: int

    @property
    def lag(self) -> int:
        """Records that are there and not done."""
        return max(0, self.end - max(self.done, self.start))


class Streams:
    """Reads positions; joins no group. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.partitions
        self.kafka = settings.kafka
        self.redis = settings.redis
        self._consumer = Consumer(
            {
                **client_settings(settings.kafka, "reports-positions"),
                "group.id": NORMALIZE_GROUP,
                "enable.auto.commit": False,
            }
        )
        self._settings = settings
        self._inspector = LogInspector(settings.kafka)

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def webhooks(self) -> list[Position]:
        """Raises KafkaException."""
        partitions = [TopicPartition(WEBHOOKS, partition) for partition in range(WEBHOOKS_PARTITIONS)]
        committed = {
            found.partition: max(0, found.offset)
            for found in self._consumer.committed(partitions, timeout=TIMEOUT_S)
        }
        return [self._position(WEBHOOKS, p, committed[p]) for p in range(WEBHOOKS_PARTITIONS)]

    async def facts(self) -> list[Position]:
        """Raises KafkaException, TryLater or redis.RedisError."""
        redis = redis_of(self._settings, timeout_s=TIMEOUT_S)
        try:
            fences = await ViewReader(redis, self._partitions).partition_offsets()
        finally:
            await redis.aclose()
        topic = await asyncio.to_thread(self._inspector.topic_id, FACTS)
        done = {partition: fence.offset for partition, fence in fences.items() if fence.topic == topic}
        return [self._position(FACTS, p, done.get(p, 0)) for p in range(self._partitions)]

    def _position(self, topic: str, partition: int, done: int) -> Position:
        marks = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        if marks is None:
            raise KafkaException(f"no offsets of {topic}/{partition} within {TIMEOUT_S:g} s")
        return Position(topic, partition, marks[0], done, marks[1])

    async def all(self) -> list[Position]:
        """First the webhooks, then the facts: what is not a webhook any more is a fact by then."""
        return [*self.webhooks(), *await self.facts()]
