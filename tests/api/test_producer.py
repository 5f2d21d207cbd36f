from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from api.producer import Producer
from app.errors import TryLater
from app.settings import Settings
from app.topics import FACTS, WEBHOOKS, WEBHOOKS_PARTITIONS
from cli import own_kafka
from cli.addresses import read_address
from cli.topics import ensure_topics
from tests.support.intake import producer, stored
from tests.support.kafka import delete_topics, fresh_topics

HEADERS = [("org", b"acme"), ("received_at_ms", b"1")]


async def test_what_is_sent_is_stored_with_its_headers_and_spread_over_the_partitions(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    values = [b"%d" % number for number in range(400)]
    await asyncio.gather(*(sender.send(WEBHOOKS, value, HEADERS) for value in values))
    assert sender.healthy
    await sender.close()
    found = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    assert sorted(value for _, value, _ in found) == sorted(values)
    assert all(headers == HEADERS for _, _, headers in found)
    counts = [sum(partition == number for partition, _, _ in found) for number in range(WEBHOOKS_PARTITIONS)]
    assert min(counts) >= 40, "each partition has its turn"


async def test_kafkas_clock_is_seen(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    async with asyncio.timeout(30):
        while sender.kafka_time is None:
            with contextlib.suppress(TryLater):
                await sender.send(WEBHOOKS, b"x", HEADERS)
            await asyncio.sleep(0.01)
    seen = sender.kafka_time
    assert abs(seen.kafka_s - time.time() + time.monotonic() - seen.at_s) < 1.5
    await sender.close()


async def test_a_partition_that_is_named_is_kept(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    await sender.send(FACTS, b"x", [], 5)
    await sender.close()
    assert [(partition, value) for partition, value, _ in stored(kafka, FACTS, settings.partitions)] == [
        (5, b"x")
    ]


async def test_a_body_of_the_largest_size_is_stored(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    body = os.urandom(settings.max_body)
    await sender.send(WEBHOOKS, body, [("headers", b"x" * 30_000)])
    await sender.close()
    ((_, value, _),) = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    assert value == body


async def test_without_a_broker_everyone_is_told_to_come_later_within_two_seconds() -> None:
    sender = Producer("127.0.0.1:1", max_message_bytes=1_000_000)
    started = time.monotonic()
    results = await asyncio.gather(
        *(sender.send(WEBHOOKS, b"x", []) for _ in range(200)), return_exceptions=True
    )
    assert time.monotonic() - started < 6.0, "two seconds, and a busy machine's slack"
    assert all(isinstance(result, TryLater) for result in results)
    assert not sender.healthy
    started = time.monotonic()
    with pytest.raises(TryLater):
        await sender.send(WEBHOOKS, b"x", [])
    assert time.monotonic() - started < 1.0, "once it is known, nobody waits for it"
    started = time.monotonic()
    await sender.close()
    assert time.monotonic() - started < 10
    with pytest.raises(TryLater):
        await sender.send(WEBHOOKS, b"x", [])


async def test_a_client_that_failed_for_good_is_replaced(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    await sender.send(WEBHOOKS, b"before", [])
    failed = sender._client
    sender._fail(KafkaError(KafkaError._FATAL, "the broker lost our sequence", True))
    assert sender._client is not failed
    await sender.send(WEBHOOKS, b"after", [])
    await sender.close()
    assert {value for _, value, _ in stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)} == {b"before", b"after"}


def kafka_threads() -> int:
    """How many threads of librdkafka's this process has."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "comm").read_text().startswith("rdk:")
    return found


async def test_a_closed_client_leaves_no_thread() -> None:
    before = kafka_threads()
    sender = Producer("127.0.0.1:1", max_message_bytes=1_000_000)
    assert kafka_threads() > before
    await sender.close()
    async with asyncio.timeout(10):
        while kafka_threads() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert sender is not None, "nothing but its close has ended them"


async def test_a_frozen_broker_costs_two_seconds_and_is_found_again(tmp_path: Path) -> None:
    server = own_kafka.start(Settings(data=tmp_path), print)
    assert server.process is not None
    broker = server.process.pid
    try:
        kafka = read_address(tmp_path, "kafka")
        settings = Settings(kafka=kafka, data=tmp_path)
        ensure_topics(settings)
        sender = producer(kafka, settings)
        await sender.send(WEBHOOKS, b"before", [])
        os.kill(broker, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(TryLater):
                await sender.send(WEBHOOKS, b"meanwhile", [])
            assert time.monotonic() - started < 6.0, "two seconds, and a busy machine's slack"
            assert not sender.healthy
        finally:
            os.kill(broker, signal.SIGCONT)
        deadline = time.monotonic() + 30
        while True:
            try:
                await sender.send(WEBHOOKS, b"after", [])
                break
            except TryLater:
                assert time.monotonic() < deadline
        await sender.close()
        values = {value for _, value, _ in stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)}
        assert values >= {b"before", b"after"}
    finally:
        server.stop()


async def test_a_topic_that_is_gone_and_made_again(kafka: str) -> None:
    """Nothing is taken that isn't stored, it is said why, and it goes on by itself."""
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings, why_not=lambda: "topic webhooks is not there")
    await sender.send(WEBHOOKS, b"before", [], 3)
    assert sender.acknowledged == {3: 1}
    delete_topics(kafka, (WEBHOOKS,))
    with pytest.raises(TryLater, match="at the moment: topic webhooks is not there"):
        await sender.send(WEBHOOKS, b"meanwhile", [], 3)
    ensure_topics(settings)
    taken = 0
    async with asyncio.timeout(60):
        while not taken:
            with contextlib.suppress(TryLater):
                await sender.send(WEBHOOKS, b"after", [], 3)
                taken += 1
    await sender.send(FACTS, b"x", [], 0)
    assert set(sender.acknowledged) == {3}, "only of webhooks"
    await sender.close()
    assert b"after" in {value for _, value, _ in stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)}
