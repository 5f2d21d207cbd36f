"""`reports lag`, on a real Kafka and a real Redis."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import redis
from confluent_kafka import KafkaError, KafkaException, Producer

from agents.log_checks import LogInspector
from app.settings import Settings
from app.topics import FACTS, WEBHOOKS
from app.verdicts import DEFAULT_RULES
from cli.lag import health
from tables.conditions import Condition
from tables.missing_topics import kafka_trouble
from tables.presence import WORKERS, presence
from tables.views import PARTITIONS as PARTITIONS_KEY
from tables.views import Fence
from tests.support.kafka import delete_topics, fresh_topics

PARTITIONS = 2


@pytest.fixture
def settings(kafka: str, redis_db: str, tmp_path: Path) -> Settings:
    settings = Settings(kafka=kafka, redis=redis_db, partitions=PARTITIONS, data=tmp_path)
    fresh_topics(settings)
    return settings


def told(settings: Settings) -> str:
    """Once clients are told who leads the topics just made."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return health(settings)
        except KafkaException:
            if time.monotonic() > deadline:
                raise


def test_what_is_wrong_with_the_workers_is_said_beside_the_lag(settings: Settings) -> None:
    """A partition set aside had lag 0, and the command sent there said that all was well."""
    assert told(settings) == ""
    said = [
        Condition(code="partition_set_aside", message="m", since_ms=1, reason="partition 1 is set aside"),
        Condition(code="redis_evicts", message="m", since_ms=2),
    ]
    present = presence(DEFAULT_RULES, 0, int(time.time() * 1000), conditions=tuple(said))
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(WORKERS, "a", msgspec.json.encode(present))
    assert told(settings) == (
        "stale: partition 1 is set aside; conditions: partition_set_aside, redis_evicts; see GET /ops/workers, or the "
        "page Operations\n"
    )


@pytest.mark.parametrize("off_s", [-3600.0, 0.0, 3600.0])
def test_old_records_that_nobody_counts_are_stale(
    off_s: float, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Redis's clock, whatever this host's says."""
    producer = Producer({"bootstrap.servers": settings.kafka, "log_level": 2})
    producer.produce(FACTS, b"x", partition=1)
    assert producer.flush(10) == 0
    fence = Fence(1, 0, LogInspector(settings.kafka).topic_id(FACTS))
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(PARTITIONS_KEY, "1", fence.text())
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off_s)
    monkeypatch.setattr("api.lag.STALE_AGE_MS", 1_800_000)
    assert told(settings) == ""
    monkeypatch.setattr("api.lag.STALE_AGE_MS", -60_000)
    assert told(settings).startswith("stale: counting is behind: partition 1 has no worker; see")


def test_a_topic_that_is_not_there_is_named_as_on_the_page(settings: Settings) -> None:
    error = KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
    assert "topic webhooks" not in kafka_trouble(error, settings.kafka, PARTITIONS)
    delete_topics(settings.kafka, (WEBHOOKS,))
    told = kafka_trouble(error, settings.kafka, PARTITIONS)
    assert told.startswith(f"Kafka at {settings.kafka}: topic webhooks is not there. ")
