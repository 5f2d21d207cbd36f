"""The lag monitor on a real Kafka and a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition

from agents.log_checks import LogInspector
from api.lag import SILENT_S, STALE_AGE_MS, STUCK_S, LagMonitor, LagReport, judge, topic_lags
from api.log_positions import LogPositions, Place
from api.metrics import Metrics
from app.dead import mark
from app.installation import Identity
from app.report import Freshness
from app.settings import Settings
from app.topics import DEAD, FACTS, INSTALLATION, NORMALIZE_GROUP, SHARES, WEBHOOKS, KafkaHeaders
from app.verdicts import DEFAULT_RULES
from cli.topics import ensure_topics
from tables import background
from tables.background import Background
from tables.conditions import Condition
from tables.installation import InstallationLog
from tables.presence import SILENT_MS, WORKERS, presence
from tables.views import OWNERS, PARTITIONS, Fence, Owner
from tables.webhook_positions import (
    WEBHOOK_POSITIONS,
    end_fields,
    ends_of,
    lost_ends_of,
    position_fields,
)
from tests.support.kafka import delete_topics, fresh_topics

FACT_PARTITIONS = 2


# --- judging


def test_nothing_behind() -> None:
    rows, age_ms, reason = judge({("facts", 0): Place(5, 5)}, {}, now_ms=1000)
    assert (rows[0].lag, age_ms, reason) == (0, 0, None)


def test_the_oldest_of_both_topics_counts() -> None:
    places = {("facts", 0): Place(9, 5), ("webhooks", 3): Place(7, 6)}
    rows, age_ms, reason = judge(places, {("facts", 0): 900, ("webhooks", 3): 400}, now_ms=1000)
    assert [row.lag for row in rows] == [4, 1]
    assert (age_ms, reason) == (600, None)


@pytest.mark.parametrize(
    ("place", "oldest", "word"),
    [
        (Place(5, None, 0), {("facts", 0): 0}, "not known"),
        (Place(5, 9), {}, "it lost its end"),
        (Place(5, 2), {}, "can't be read"),
        (Place(0, None, 0, foreign=True), {}, "topic facts was recreated: the numbers of partition 0"),
        (Place(5, 2), {("facts", 0): 1_000_000 - STALE_AGE_MS - 1}, "counting is behind"),
        (Place(5, 2, away=True), {("facts", 0): 1_000_000 - STALE_AGE_MS - 1}, "partition 0 has no worker"),
    ],
)
def test_what_makes_it_stale(place: Place, oldest: dict[tuple[str, int], int], word: str) -> None:
    _, _, reason = judge({("facts", 0): place}, oldest, now_ms=1_000_000)
    assert reason is not None
    assert word in reason


def test_a_living_worker_without_partitions(monitor: LagMonitor, settings: Settings) -> None:
    """It says nothing of those that nobody has: their silence is what is wrong."""
    append(settings, FACTS, 0)
    now_ms = int(time.time() * 1000)
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(WORKERS, "a-0", msgspec.json.encode(presence(DEFAULT_RULES, 0, now_ms)))
        client.hset(OWNERS, "1", msgspec.json.encode(Owner("a-0", "/state/p1", now_ms)))
        client.hset(OWNERS, "2", msgspec.json.encode(Owner("b-0", "/state/p2", now_ms - 2 * SILENT_MS)))
    for partition in range(FACT_PARTITIONS):
        counted(settings, partition, 0)
    measure(monitor)
    places = monitor._positions.places(monitor._positions.ends()[0])
    assert [
        partition for (topic, partition), place in sorted(places.items()) if topic == FACTS and place.away
    ] == [partition for partition in range(FACT_PARTITIONS) if partition != 1]
    later = monitor._clock() + STALE_AGE_MS / 1000 + 1
    monitor._clock = lambda: later
    assert monitor.measure().reason == "counting is behind: partition 0 has no worker"


def test_a_clock_that_is_behind_the_brokers_gives_no_negative_age() -> None:
    _, age_ms, _ = judge({("facts", 0): Place(5, 2)}, {("facts", 0): 2000}, now_ms=1000)
    assert age_ms == 0


# --- asking


@pytest.fixture
def settings(kafka: str, redis_db: str, tmp_path: Path) -> Settings:
    settings = Settings(kafka=kafka, redis=redis_db, partitions=FACT_PARTITIONS, data=tmp_path)
    fresh_topics(settings)
    return settings


@pytest.fixture
def positions(settings: Settings) -> Iterator[LogPositions]:
    positions = LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS)
    yield positions
    positions.close()


@pytest.fixture
def monitor(positions: LogPositions) -> LagMonitor:
    return LagMonitor(positions, Metrics(), Background())


def measure(monitor: LagMonitor) -> LagReport:
    """One round, once the clients have found the leaders of the topics just made."""
    deadline = time.monotonic() + 10
    while True:
        report = monitor.measure()
        words = report.reason or ""
        if (not words.startswith("Kafka") and "can't be read" not in words) or time.monotonic() > deadline:
            return report
        time.sleep(0.05)


def append(
    settings: Settings,
    topic: str,
    partition: int,
    n: int = 1,
    value: bytes = b"x",
    headers: KafkaHeaders | None = None,
) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "log_level": 2})
    for _ in range(n):
        producer.produce(topic, value, partition=partition, headers=headers)  # type: ignore[arg-type]
        producer.flush(10)


def commit(settings: Settings, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": NORMALIZE_GROUP, "log_level": 2})
    consumer.commit(offsets=[TopicPartition(WEBHOOKS, partition, offset)], asynchronous=False)
    consumer.close()


def counted(settings: Settings, partition: int, offset: int, topic: str | None = None) -> None:
    fence = Fence(1, offset, topic or LogInspector(settings.kafka).topic_id(FACTS))
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(PARTITIONS, str(partition), fence.text())


def test_numbers_of_another_topic_are_none(monitor: LagMonitor, settings: Settings) -> None:
    """Offsets of a topic that was deleted say nothing about the one that was created under its name."""
    append(settings, FACTS, 0, n=2)
    for partition in range(FACT_PARTITIONS):
        counted(settings, partition, 2, topic="the one before")
    report = measure(monitor)
    assert (report.stale, topic_lags(report)[FACTS]) == (True, 2)
    assert report.reason is not None and "recreated" in report.reason


def test_a_database_that_is_counted_again_is_behind_what_was_published(
    monitor: LagMonitor, settings: Settings
) -> None:
    append(settings, FACTS, 0, n=5)
    for partition, offset in ((0, 5), (1, 0)):
        counted(settings, partition, offset)
    assert topic_lags(measure(monitor))[FACTS] == 0
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(OWNERS, "0", msgspec.json.encode(Owner("w", "/state", 0, reached=2)))
    assert topic_lags(measure(monitor))[FACTS] == 3


def test_an_empty_installation_is_not_behind(monitor: LagMonitor) -> None:
    report = measure(monitor)
    assert (report.lag_ms, report.stale, report.ready, report.dead) == (0, False, True, 0)
    assert len(report.partitions) == 8 + FACT_PARTITIONS


def test_lag_follows_what_is_worked_off(monitor: LagMonitor, settings: Settings) -> None:
    append(settings, WEBHOOKS, 3, n=2)
    report = measure(monitor)
    # Nobody has committed anything yet: how far normalize is isn't known.
    assert report.stale
    assert topic_lags(report) == {WEBHOOKS: 2, FACTS: 0}

    commit(settings, 3, 1)
    time.sleep(0.3)
    report = measure(monitor)
    assert not report.stale, report.reason
    assert topic_lags(report)[WEBHOOKS] == 1
    assert report.lag_ms is not None
    assert 300 <= report.lag_ms < 5_000

    commit(settings, 3, 2)
    append(settings, FACTS, 1, n=3)
    counted(settings, 1, 1)
    report = measure(monitor)
    assert topic_lags(report) == {WEBHOOKS: 0, FACTS: 2}
    assert not report.stale

    counted(settings, 1, 3)
    report = measure(monitor)
    assert (report.lag_ms, report.stale) == (0, False)


def test_the_age_is_that_of_the_first_one_not_counted(monitor: LagMonitor, settings: Settings) -> None:
    append(settings, FACTS, 0)
    time.sleep(1.0)
    append(settings, FACTS, 0)
    counted(settings, 0, 0)
    first = measure(monitor).lag_ms
    counted(settings, 0, 1)
    second = measure(monitor).lag_ms
    assert first is not None
    assert second is not None
    assert 900 <= first - second + 200 <= 1600


def test_several_partitions_behind_are_read_in_one_round(monitor: LagMonitor, settings: Settings) -> None:
    for partition in range(8):
        append(settings, WEBHOOKS, partition, n=2)
        commit(settings, partition, 1)
    report = measure(monitor)
    assert topic_lags(report)[WEBHOOKS] == 8
    assert not report.stale, report.reason
    started = time.monotonic()
    for _ in range(20):
        measure(monitor)
    assert (time.monotonic() - started) / 20 < 0.4


def test_dead_letters_are_counted(monitor: LagMonitor, settings: Settings) -> None:
    append(settings, DEAD, 0, n=3)
    wait_for(lambda: measure(monitor).dead == 3)
    value, headers = mark([0, 2])
    append(settings, DEAD, 0, value=value, headers=headers)
    append(settings, DEAD, 0)
    wait_for(lambda: measure(monitor).dead == 4)
    time.sleep(0.1)
    assert measure(monitor).dead == 4


def test_a_position_behind_the_end_is_stale(monitor: LagMonitor, settings: Settings) -> None:
    counted(settings, 0, 50)
    report = measure(monitor)
    assert report.stale
    assert report.reason is not None
    assert "facts/0" in report.reason


def test_redis_away(settings: Settings) -> None:
    positions = LogPositions(settings.kafka, "redis://127.0.0.1:9/0", FACT_PARTITIONS)
    report = measure(LagMonitor(positions, Metrics(), Background()))
    assert (report.stale, report.ready, report.lag_ms) == (True, True, None)
    positions.close()


def test_what_was_known_last_is_said_with_its_time(
    monitor: LagMonitor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of before stood under a fresh time."""
    before = measure(monitor)
    assert before.known_at_ms == before.at_ms
    monkeypatch.setattr(monitor, "_report", before)

    def gone(*_: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(LogPositions, "places", gone)
    after = monitor.measure()
    assert after.at_ms > before.at_ms and after.known_at_ms == before.at_ms
    assert after.partitions == before.partitions


def test_both_are_named_where_both_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.log_positions.ASK_S", 0.5)
    positions = LogPositions("127.0.0.1:9", "redis://127.0.0.1:8/0", FACT_PARTITIONS)
    report = LagMonitor(positions, Metrics(), Background()).measure()
    assert report.trouble is not None
    assert "Kafka at 127.0.0.1:9" in report.trouble and "127.0.0.1:8" in report.trouble
    assert report.reason == "Kafka can't be asked, nor can Redis"
    assert report.known_at_ms is None
    positions.close()


def test_kafka_away(redis_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.log_positions.ASK_S", 0.5)
    positions = LogPositions("127.0.0.1:9", redis_db, FACT_PARTITIONS)
    started = time.monotonic()
    report = LagMonitor(positions, Metrics(), Background()).measure()
    assert (report.stale, report.ready) == (True, False)
    assert time.monotonic() - started < 3
    positions.close()


def test_the_thread_keeps_the_report_fresh(settings: Settings) -> None:
    positions = LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS)
    metrics = Metrics()
    monitor = LagMonitor(positions, metrics, Background())
    assert monitor.report.stale
    monitor.start()
    try:
        wait_for(lambda: not monitor.report.stale)
        append(settings, FACTS, 0)
        counted(settings, 0, 0)
        wait_for(lambda: (monitor.report.lag_ms or 0) > 0, 1.5)
        counted(settings, 0, 1)
        wait_for(lambda: monitor.report.lag_ms == 0, 1.0)
        assert b"lag_records{" in metrics.text()
    finally:
        monitor.stop()


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_silent_monitor_is_stale(positions: LogPositions) -> None:
    monitor = LagMonitor(positions, Metrics(), Background())
    monitor._report = LagReport(at_ms=1, lag_ms=0, stale=False, reason=None)
    states = [(monitor.report.stale, monitor.report.ready)]
    monitor._finished_at -= SILENT_S + 1
    states.append((monitor.report.stale, monitor.report.ready))
    assert states == [(False, True), (True, True)]
    # A round may wait for Redis, which taking webhooks doesn't need; a look at Kafka that is stuck is another thing.
    monitor._report = LagReport(at_ms=1, lag_ms=0, stale=True, reason="Redis can't be asked")
    states = [(monitor.report.stale, monitor.report.ready)]
    monitor._answered_at -= STUCK_S
    states.append((monitor.report.stale, monitor.report.ready))
    assert states == [(True, True), (True, False)]
    assert monitor.report.reason == "Redis can't be asked"


@pytest.mark.parametrize("fails", ["conditions", "ends"])
def test_whatever_else_fails_webhooks_are_taken_while_kafka_answers(
    positions: LogPositions, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Between two rounds that failed there are up to `MAX_S`: it doesn't flap in them."""
    assert STUCK_S > background.MAX_S + SILENT_S
    monkeypatch.setattr(background, "FIRST_S", 0.01)
    monitor = LagMonitor(positions, Metrics(), Background())
    rounds: list[bool] = []

    def broken() -> NoReturn:
        rounds.append(monitor.report.ready)
        raise ZeroDivisionError

    monitor._report = measure(monitor)
    monkeypatch.setattr(positions, fails, broken)
    monitor.start()
    try:
        wait_for(lambda: len(rounds) > 3)
        report = monitor.report
        assert (report.ready, report.stale, report.reason) == (True, True, "the lag can't be measured")
        assert all(rounds)
        monitor._answered_at -= STUCK_S
        if fails == "ends":
            assert monitor.report.unready == "Kafka does not answer"
        else:
            wait_for(lambda: monitor.report.ready)
    finally:
        monitor.stop()


def test_what_a_worker_says_of_itself_makes_it_stale(monitor: LagMonitor, settings: Settings) -> None:
    condition = Condition(
        code="partition_set_aside",
        message="/folder is broken",
        since_ms=1,
        reason="partition 1 is set aside",
        progress=0.25,
    )
    now_ms = int(time.time() * 1000)
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(
            WORKERS, "a", msgspec.json.encode(presence(DEFAULT_RULES, 0, now_ms, conditions=(condition,)))
        )
    report = measure(monitor)
    assert (report.stale, report.reason, report.progress) == (True, "partition 1 is set aside", 0.25)
    assert report.freshness == Freshness(report.lag_ms, "partition 1 is set aside", 0.25)
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(WORKERS, "a", msgspec.json.encode(presence(DEFAULT_RULES, 0, now_ms)))
    assert monitor.measure().freshness == Freshness(0)


def test_a_topic_that_is_gone_is_named(settings: Settings) -> None:
    """`/readyz` said that Kafka doesn't answer, and nobody said which topic was missing."""
    acknowledged: dict[int, int] = {}
    positions = LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS, acknowledged=acknowledged)
    monitor = LagMonitor(positions, Metrics(), Background())
    append(settings, WEBHOOKS, 3, n=2)
    wait_for(lambda: measure(monitor).ready and topic_lags(monitor.measure())[WEBHOOKS] == 2)
    topic = LogInspector(settings.kafka).topic_id(WEBHOOKS)
    # Taken since the ends were asked for: whoever reads what comes after the loss knows of it all the same.
    acknowledged[3] = 5
    with redis.Redis.from_url(settings.redis) as client:
        client.hset(WEBHOOK_POSITIONS, mapping=end_fields(topic, {4: 7}))  # another process's
    delete_topics(settings.kafka, (WEBHOOKS, DEAD))
    wait_for(lambda: "webhooks.dead" in (monitor.measure().reason or ""))
    report = monitor.measure()
    assert report.unready == report.reason == "topic webhooks is not there; topic webhooks.dead is not there"
    assert "topic webhooks is not there" in (report.trouble or "")
    assert "Every role makes what is missing when it starts" in (report.trouble or "")
    assert settings.kafka in (report.trouble or "")
    with redis.Redis.from_url(settings.redis) as client:
        ends = ends_of(client.hgetall(WEBHOOK_POSITIONS), topic)
    assert (ends[3], ends[4], ends[0]) == (5, 7, 0)
    ensure_topics(settings)
    wait_for(lambda: monitor.measure().ready and not acknowledged)
    positions.close()


def test_a_log_of_webhooks_that_lost_its_end(settings: Settings) -> None:
    """The highest end that was ever seen stayed: what the log lost after it had grown again nobody could tell."""
    append(settings, WEBHOOKS, 3, n=2)
    append(settings, WEBHOOKS, 4, n=2)
    topic = LogInspector(settings.kafka).topic_id(WEBHOOKS)

    def stored() -> tuple[dict[int, int], dict[int, int]]:
        found = client.hgetall(WEBHOOK_POSITIONS)
        return tuple({p: end for p, end in of(found, topic).items() if end} for of in (ends_of, lost_ends_of))  # type: ignore[return-value]

    with redis.Redis.from_url(settings.redis) as client:
        # As they were noted before it happened; of one partition all was read.
        before = end_fields(topic, {3: 7, 4: 7})
        client.hset(WEBHOOK_POSITIONS, mapping=before | position_fields(topic, {3: 5, 4: 7}))
        acknowledged = {3: 8, 4: 7}
        first, second = (
            LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS, acknowledged=acks)
            for acks in (acknowledged, {})
        )
        ends = first.ends()[0]
        second.note_ends(dict.fromkeys(ends, 0) | {(WEBHOOKS, 3): 7, (WEBHOOKS, 4): 7})
        assert stored() == ({3: 7, 4: 7}, {})
        first.note_ends(ends)
        assert stored() == ({3: 2, 4: 2}, {3: 7})
        assert not acknowledged, "it was of the log before"
        second.note_ends(ends)
        assert stored() == ({3: 2, 4: 2}, {3: 7}), "it is the same loss"
        append(settings, WEBHOOKS, 3, n=8)
        wait_for(lambda: first.ends()[0][WEBHOOKS, 3] == 10)
        for one in (first, second):
            one.note_ends(first.ends()[0])
        assert stored() == ({3: 10, 4: 2}, {3: 7})
        # Ends that were asked for before others noted theirs are no loss.
        second.note_ends(ends)
        first.note_ends(ends)
        assert stored() == ({3: 10, 4: 2}, {3: 7})
    first.close()
    second.close()


def test_a_topic_with_too_few_partitions_is_named(settings: Settings) -> None:
    positions = LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS + 1)
    monitor = LagMonitor(positions, Metrics(), Background())
    wait_for(lambda: monitor.measure().unready == "topic facts has 2 of 3 partitions", 30)
    positions.close()


@pytest.mark.parametrize("topic", [SHARES, INSTALLATION])
def test_a_topic_that_webhooks_do_not_need_is_named_and_they_are_taken(
    monitor: LagMonitor, settings: Settings, topic: str
) -> None:
    """Shared links answered 503, and nobody said why."""
    assert measure(monitor).trouble is None
    delete_topics(settings.kafka, (topic,))
    wait_for(lambda: f"topic {topic} is not there" in (monitor.measure().trouble or ""))
    report = monitor.measure()
    assert report.ready
    assert report.reason is None
    assert "Every role makes what is missing when it starts" in (report.trouble or "")
    ensure_topics(settings)
    wait_for(lambda: monitor.measure().trouble is None)


def test_another_installation_under_a_running_api_is_said(settings: Settings) -> None:
    """It served the numbers of the one before, which stood still."""
    positions = LogPositions(settings.kafka, settings.redis, FACT_PARTITIONS, "ours")
    monitor = LagMonitor(positions, Metrics(), Background())
    log = InstallationLog(settings.kafka)
    made = Identity(id="ours", secret="", partitions=FACT_PARTITIONS, at_ms=0)
    log.append(made)
    assert measure(monitor).trouble is None
    delete_topics(settings.kafka, (INSTALLATION,))
    ensure_topics(settings)
    log.append(msgspec.structs.replace(made, id="another"))
    wait_for(lambda: "recreated for installation another" in (monitor.measure().trouble or ""))
    report = monitor.measure()
    assert report.ready
    assert report.stale
    assert "replaced by another" in (report.reason or "")
    positions.close()
