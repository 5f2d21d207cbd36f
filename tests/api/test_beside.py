"""What runs beside the requests: each fails once here, and is there again. `test_background.py` finds them all."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer

from api.app import create_app
from api.arrivals import Arrivals
from api.desk import Desk
from api.hub import LiveHub
from api.lag import LagMonitor
from api.log_positions import LogPositions, Place
from api.metrics import Metrics
from api.ops import OpsFeed
from api.producer import Producer
from api.query.partitions import Partitions
from api.share_log import ShareLog
from api.ticks import Ticks
from app.errors import TryLater
from app.settings import Settings
from cli.api import make_context
from tables.background import Background
from tables.conditions import Conditions
from tables.dead_letters import DeadLetters
from tables.redis_client import redis_client
from tables.redis_clock import RedisClock, keep_time
from tables.views import ViewReader
from tests.api.reading import reading
from tests.api.serving import ORGANISATIONS, PARTITIONS, SECRET, Worker, serving
from tests.support.kafka import fresh_topics
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tables.background.FIRST_S", 0.01)


def fails_once(patch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> list[int]:
    """Puts something before a function that raises when it is called first; gives its calls."""
    right = getattr(owner, name)
    calls: list[int] = []

    @functools.wraps(right)
    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return right(*args, **kwargs)

    patch.setattr(owner, name, called)
    return calls


async def until(found: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, found, 10, what)


IN_THE_API = {
    "hub_listen": (Ticks, "listen"),
    "hub_poll": (Ticks, "poll"),
    "hub_tend": (LiveHub, "_tend"),
    "hub_follow": (LiveHub, "_follow"),
    "arrivals": (Arrivals, "_run"),
    "ops_feed": (OpsFeed, "_run"),
    "producer": (Producer, "_serve"),
}


@pytest.mark.parametrize("name", IN_THE_API)
async def test_it_fails_once_and_is_there_again(
    redis_db: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls = fails_once(monkeypatch, *IN_THE_API[name], TimeoutError("not now"))
    async with serving(redis_db) as api:
        await api.worker.publish("spring", sent=10)
        async with (
            api.live("/api/v1/campaigns/spring/live") as events,
            api.live("/ops/live", "acme-all") as ops,
        ):
            await events.until("snapshot")
            await api.worker.publish("spring", sent=10, opened=3)
            await events.until_opened(3)
            api.lag.say(lag_ms=77)
            while (await ops.until("lag")).data["lag_ms"] != 77:
                pass
            await until(lambda: len(calls) >= 2, "its second start")
            assert api.context.background.running[name] == 1
            counted = api.context.metrics.registry.get_sample_value(
                "background_restarts_total", {"name": name}
            )
            assert counted == 1
            (said,) = api.context.conditions.current()
            assert said.code == "background_failing"
            assert f"{name} (TimeoutError)" in said.message


class Asked:
    """Where the lag monitor asks: first nothing is right, then all is."""

    foreign_id = ""

    def __init__(self, fails: str) -> None:
        self._fails = fails
        self.opened = 0
        self.ready_meanwhile: list[bool] = []

    def _answer(self, name: str, answer: Any) -> Any:
        if name == self._fails and not self.opened:
            raise TimeoutError("not a KafkaException")
        return answer

    def ends(self) -> Any:
        return self._answer("ends", ({("facts", 0): 5}, 0))

    def places(self, ends: Any) -> Any:
        return self._answer("places", {("facts", 0): Place(5, 5)})

    def note_ends(self, ends: Any) -> None:
        pass

    def missing(self, error: Exception) -> str:
        if not self.opened:
            raise ValueError("asked of a client that may be what is broken")
        return ""

    def trouble(self) -> str | None:
        return None

    def conditions(self) -> Any:
        return self._answer("conditions", [])

    def oldest_times(self, places: Any) -> Any:
        return self._answer("oldest_times", {})

    def words(self, error: Exception) -> str:
        return str(error)

    def reopen(self) -> None:
        self.opened += 1

    def close(self) -> None:
        pass


@pytest.mark.parametrize("fails", ["ends", "oldest_times"])
def test_the_lag_monitor(fails: str) -> None:
    """Row 14: `/readyz` said 503 until the next restart."""
    asked = Asked(fails)
    conditions = Conditions()
    monitor = LagMonitor(asked, Metrics(), Background(conditions))  # type: ignore[arg-type]
    monitor.start()
    try:
        wait_until(lambda: not monitor.report.stale, 5, "lag")
        assert (monitor.report.ready, asked.opened) == (True, 1)
        assert "lag (TimeoutError)" in conditions.current()[0].message
    finally:
        monitor.stop()


def unexpected(*_: object) -> None:
    raise ValueError("not a number")


def test_webhooks_are_taken_while_the_lag_cant_be_told(
    redis_db: str, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something that nobody expected: the report is stale and says so, and Kafka answers all the same."""
    settings = Settings(kafka=kafka, redis=redis_db, partitions=2)
    fresh_topics(settings)
    monkeypatch.setattr(LogPositions, "places", unexpected)
    conditions = Conditions()
    monitor = LagMonitor(LogPositions(kafka, redis_db, 2), Metrics(), Background(conditions))
    monitor.start()
    try:
        wait_until(lambda: monitor.report.ready, 20, "Kafka's answer")
        assert (monitor.report.stale, monitor.report.reason) == (True, "the lag can't be measured")
        monkeypatch.undo()
        wait_until(lambda: not monitor.report.stale, 20, "lag")
    finally:
        monitor.stop()


def test_the_shared_links(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_topics(Settings(kafka=kafka))
    calls = fails_once(monkeypatch, ShareLog, "_read", TimeoutError("not now"))
    shares = ShareLog(kafka, Background())
    shares.start()
    try:
        wait_until(lambda: shares.fresh, 20, "the topic's end")
        assert len(calls) >= 2
    finally:
        shares.stop()


def test_the_shared_links_by_a_client_that_learns_nothing(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that knows of a later leader than a restored broker has: another one takes its place."""
    fresh_topics(Settings(kafka=kafka))
    clients: list[Consumer] = []
    real = ShareLog._check_end

    def check(self: ShareLog, consumer: Consumer, now: float) -> None:
        if consumer not in clients:
            clients.append(consumer)
        if len(clients) > 1:
            real(self, consumer, now)

    monkeypatch.setattr(ShareLog, "_check_end", check)
    monkeypatch.setattr("api.share_log.STUCK_S", 0.5)
    shares = ShareLog(kafka, Background())
    shares.start()
    try:
        wait_until(lambda: shares.fresh, 20, "the topic's end")
    finally:
        shares.stop()


async def test_the_clock(redis_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_once(monkeypatch, RedisClock, "measure", KeyError("x"))
    connection, clock, conditions = redis_client(redis_db), RedisClock(), Conditions()
    background = Background(conditions)
    task = background.task("clock", lambda: keep_time(connection, clock, conditions))
    await until(lambda: clock.off_s() is not None, "a measurement")
    assert "clock (KeyError)" in conditions.current()[0].message
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await connection.aclose()


async def test_the_announcer(redis_db: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_once(monkeypatch, Partitions, "refresh", OSError("no such device"))
    async with reading(redis_db, tmp_path) as running:  # it waits for what is announced
        assert running.process.announcer.announced == set(range(PARTITIONS))


async def test_the_dead_letters_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fails_once(monkeypatch, DeadLetters, "__enter__", RuntimeError("x"))
    desk = Desk()
    with pytest.raises(RuntimeError):
        await desk.ask("127.0.0.1:9", lambda _: 1)
    assert await desk.ask("127.0.0.1:9", lambda _: 2) == 2
    assert len(calls) == 2


async def test_nothing_runs_that_the_boundary_does_not_know(kafka: str, redis_db: str, tmp_path: Any) -> None:
    """The whole application, with watchers; what runs is asked of Python itself."""
    settings = Settings(kafka=kafka, redis=redis_db, partitions=PARTITIONS, data=tmp_path, secret=SECRET)
    fresh_topics(settings)
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    clock = RedisClock()
    context = make_context(settings, ORGANISATIONS, clock)
    context.beside = {"clock": lambda: keep_time(context.redis, clock, context.conditions)}
    app = create_app(context)
    async with app.router.lifespan_context(app):
        feed = OpsFeed(context).join()
        await until(lambda: context.background.running["ops_feed"], "the feed")
        new_threads = {one.name for one in set(threading.enumerate()) - threads}
        new_tasks = {one.get_name() for one in asyncio.all_tasks() - tasks}
        # An executor's threads are for who waits for them.
        unknown = {
            name
            for name in new_threads | new_tasks
            if not context.background.running[name] and not name.startswith("asyncio_")
        }
        assert not unknown
        assert {"lag", "shares", "producer"} <= new_threads
        assert {"hub_listen", "hub_poll", "hub_tend", "arrivals", "ops_feed", "clock"} <= new_tasks
        feed.leave()
    assert not +context.background.running


async def test_a_producer_that_closes_tells_those_who_wait() -> None:
    """Its thread is under the boundary, and ends all the same."""
    producer = Producer("127.0.0.1:9", max_message_bytes=1_000_000, answer_within_s=0.1)
    with pytest.raises(TryLater):
        await producer.send("webhooks", b"x", [])
    await producer.close()
    assert "producer" not in {thread.name for thread in threading.enumerate()}


async def test_only_an_emptied_redis_is_called_so(redis_db: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first topic that is counted moves the epoch too."""
    redis = redis_client(redis_db)
    moves: list[object] = []
    views = ViewReader(redis, PARTITIONS)
    ticks = Ticks(redis, views, moves.append, dict)
    task = asyncio.create_task(ticks.poll())

    async def moved(times: int) -> None:
        while len(moves) < times:
            ticks.ask()
            await asyncio.sleep(0.01)

    try:
        async with asyncio.timeout(20):
            await moved(1)
            worker = Worker(redis)
            await worker.ready()
            await worker.publish("spring", sent=1)
            await moved(2)
            assert "emptied" not in caplog.text
            await redis.flushdb()
            await moved(3)
            assert "Redis was emptied or restarted" in caplog.text
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await redis.aclose()
