"""Event streams over views in a real Redis: what is missed, doubled, mixed up or held up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.feed import Feed, FeedKey, Subscription, json_text
from app.report import FRESH
from app.settings import Settings
from cli import own_redis
from tables.views import Labels, View
from tests.api.serving import HOUR, Api, Event, bearer, serving, share

LIVE = "/api/v1/campaigns/spring/live"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        await api.worker.publish("spring", sent=100, opened=0)
        yield api


async def test_snapshot_then_changes(api: Api) -> None:
    async with api.live(LIVE) as events:
        headers = events.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
        first = await events.next()
        assert first.retry is not None
        assert 2000 <= int(first.retry) <= 5000
        snapshot = await events.next()
        assert snapshot.name == "snapshot"
        assert snapshot.id is not None
        epoch, _, version = snapshot.id.partition("-")
        assert epoch.isdigit()
        assert version.isdigit()
        assert snapshot.data == (await api.get("/api/v1/campaigns/spring/report")).json()
        started = time.monotonic()
        await api.worker.publish("spring", sent=100, opened=7)
        change = await events.next()
        assert time.monotonic() - started < 1.0
        assert change.name == "change"
        assert change.data["summary"]["opened"] == 7
        while "timeline" not in change.data:
            change = await events.next()
        assert change.id == f"{epoch}-{int(version) + 1}"
        assert change.data["timeline"]["rows"][0]["opened"] == 7


async def test_sections_count_and_timezone(api: Api) -> None:
    async with api.live(f"{LIVE}?sections=timeline&count=people&timezone=Asia/Kolkata") as events:
        data = (await events.until("snapshot")).data
        assert "summary" not in data
        assert data["count"] == "people"
        assert data["timeline"]["timezone"] == "Asia/Kolkata"
    async with api.live(f"{LIVE}?sections=summary") as events:
        assert "timeline" not in (await events.until("snapshot")).data
        await api.worker.publish("spring", sent=100, opened=3)
        change = await events.until("change")
        assert "timeline" not in change.data
        assert change.id is not None


@pytest.mark.parametrize("query", ["sections=nothing", "sections=", "count=x", "timezone=Mars", "colour=red"])
async def test_bad_parameters(api: Api, query: str) -> None:
    assert (await api.get(f"{LIVE}?{query}")).status_code == 400


async def test_unknown_campaign(api: Api) -> None:
    assert (await api.get("/api/v1/campaigns/none/live")).status_code == 404


async def test_resume(api: Api) -> None:
    async with api.live(LIVE) as events:
        known = (await events.until("snapshot")).id
    assert known is not None
    async with api.live(LIVE, last_id=known) as events:
        await events.next()  # retry; nothing else, until something moves
        await api.worker.publish("spring", sent=100, opened=1)
        assert (await events.next()).name == "change"
    async with api.live(LIVE, last_id=known) as events:
        await events.next()
        assert (await events.next()).name == "snapshot"  # without `reset`: it is only behind
    async with api.live(f"{LIVE}?last_event_id=1234-1") as events:
        await events.next()
        assert (await events.next()).name == "reset"
        assert (await events.next()).name == "snapshot"
    for junk in ("x", "1-2-3", "-", "9" * 40 + "-1"):
        async with api.live(LIVE, last_id=junk) as events:
            await events.next()
            assert (await events.next()).name == "snapshot"


async def test_ping_is_named_and_has_no_id(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.PING_S", 0.2)
    async with api.live(LIVE) as events:
        ping = await events.until("ping")
        assert (ping.id, ping.data) == (None, {})


async def test_coalescing(api: Api) -> None:
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        started = time.monotonic()
        summaries = timelines = 0
        opened = 0

        async def publish() -> None:
            for n in range(100):
                await api.worker.publish("spring", sent=100, opened=n + 1)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(publish())
        while opened < 100:
            change = await events.next()
            summaries += "summary" in change.data
            timelines += "timeline" in change.data
            opened = max(opened, change.data.get("summary", {}).get("opened", 0))
        elapsed_s = time.monotonic() - started
        await task
        assert summaries <= elapsed_s / 0.05 + 2
        assert timelines <= elapsed_s / 0.25 + 2


async def test_lag_alone_is_told(api: Api) -> None:
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        api.lag.say(lag_ms=1234)
        change = await events.until("change")
        assert change.data["lag_ms"] == 1234
        assert change.id is None
        assert "summary" not in change.data


async def test_labels_are_told(api: Api) -> None:
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        await api.worker.publish("spring", sent=100, labels=Labels("Spring \u2028 \u0085 sale", None, {}))
        change = await events.until("change")
        assert change.data["name"] == "Spring \u2028 \u0085 sale"


async def test_two_organisations_with_the_same_campaign(api: Api) -> None:
    await api.worker.publish("spring", sent=7_777_777, org="globex")
    async with api.live(LIVE) as acme, api.live(LIVE, "globex-read") as globex:
        seen: list[Any] = [(await acme.until("snapshot")).data, (await globex.until("snapshot")).data]
        for n in range(1, 11):
            await api.worker.publish("spring", sent=100 + n)
            await api.worker.publish("spring", sent=7_777_777 + n, org="globex")
        acme_sent = globex_sent = 0
        while acme_sent != 110:
            seen.append((await acme.until("change")).data)
            acme_sent = seen[-1].get("summary", {}).get("sent", acme_sent)
            assert 100 <= acme_sent <= 110 or acme_sent == 0
        while globex_sent != 7_777_787:
            data = (await globex.until("change")).data
            globex_sent = data.get("summary", {}).get("sent", globex_sent)
            assert globex_sent == 0 or globex_sent >= 7_777_777


async def test_flushall_starts_a_new_epoch(api: Api, redis_db: str) -> None:
    redis = Redis.from_url(redis_db)
    async with api.live(LIVE) as events:
        snapshot = await events.until("snapshot")
        assert snapshot.id is not None
        started = time.monotonic()
        await redis.flushall()
        # The worker repairs one partition after the other; until then the old numbers stay, and are said to be stale.
        stale = await events.until("change")
        assert stale.data["stale"] is True
        assert "summary" not in stale.data
        await api.worker.publish("spring", sent=100, opened=9)
        await api.worker.ready()
        assert (await events.until("reset")).data == {}
        again = await events.next()
        assert again.name == "snapshot"
        assert again.id is not None
        assert again.id.partition("-")[0] != snapshot.id.partition("-")[0]
        assert again.data["summary"]["opened"] == 9
        assert again.data["stale"] is False
        assert time.monotonic() - started < 10
        await api.worker.publish("spring", sent=100, opened=10)
        await events.until_opened(10)
    await redis.aclose()


async def test_redis_restarts(tmp_path: Path) -> None:
    """Down: the last numbers stay and are stale. Back, with what it kept: a new epoch, and ticks arrive again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(data=tmp_path, redis_port=port)
    server = await asyncio.to_thread(own_redis.start, settings, print)
    try:
        async with serving(f"redis://127.0.0.1:{port}/0") as api:
            await api.worker.publish("spring", sent=100, opened=1)
            async with api.live(LIVE) as events:
                await events.until("snapshot")
                pages = [api.get("/api/v1/campaigns/spring/report") for _ in range(20)]
                assert {answer.status_code for answer in await asyncio.gather(*pages)} == {200}
                await asyncio.to_thread(server.stop)
                while not (await events.until("change")).data["stale"]:
                    pass
                server = await asyncio.to_thread(own_redis.start, settings, print)
                # Connections that were open before are found to be broken without a reader noticing.
                pages = [api.get("/api/v1/campaigns/spring/report") for _ in range(20)]
                assert {answer.status_code for answer in await asyncio.gather(*pages)} == {200}
                await events.until("reset")
                again = await events.next()
                assert (again.name, again.data["summary"]["opened"]) == ("snapshot", 1)
                with contextlib.suppress(RedisError):  # the worker's own connection is an old one
                    await api.worker.publish("spring", sent=100, opened=2)
                await api.worker.publish("spring", sent=100, opened=2)
                await events.until_opened(2, 3)
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_loop_that_fails_is_started_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        with monkeypatch.context() as patch:
            patch.setattr("api.feed.Feed.update", lambda *_, **__: 1 / 0)
            await api.worker.publish("spring", sent=100, opened=1)
            await asyncio.sleep(0.3)
        await events.until_opened(1, 5)
        assert b'background_restarts_total{name="hub_follow"} 1.0' in api.context.metrics.text()


async def test_a_lost_tick_costs_a_second(api: Api, redis_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Redis.from_url(redis_db)
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        # The subscription breaks; meanwhile something is published.
        for client in await redis.client_list():
            if client["cmd"] in ("subscribe", "ping") and int(client["sub"]) > 0:
                await redis.client_kill_filter(_id=client["id"])
        await api.worker.publish("spring", sent=100, opened=5)
        await events.until_opened(5, 3)
    await redis.aclose()


def apply(state: dict[str, Any], event: Event) -> None:
    if event.data is not None and event.name in ("snapshot", "change"):
        state.update(event.data)


async def test_cut_at_random_bytes(api: Api) -> None:
    """A client that is cut off anywhere and comes back with its last id has the server's state in the end."""
    rng = random.Random(4711)
    state: dict[str, Any] = {}
    last_id: str | None = None
    stop = asyncio.Event()

    async def publish() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            await api.worker.publish("spring", sent=10_000, opened=n % 5000, quarter=HOUR + n % 8)
            await asyncio.sleep(rng.random() * 0.02)

    task = asyncio.create_task(publish())
    for _ in range(60):
        last_id = await cut(api, state, last_id, rng.randrange(1, 6000), rng)
    stop.set()
    await task
    async with api.live(LIVE, last_id=last_id) as events:
        with contextlib.suppress(TimeoutError):
            while True:
                apply(state, await events.next(1.0))
    assert state == (await api.get("/api/v1/campaigns/spring/report")).json()


async def cut(
    api: Api, state: dict[str, Any], last_id: str | None, size: int, rng: random.Random
) -> str | None:
    """Reads so many bytes as a browser does: only whole events count."""
    parts = urlsplit(api.address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    head = f"GET {LIVE} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n{resume}\r\n"
    writer.write(head.encode())
    got = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(rng.random() * 0.4):
            while len(got) < size:
                chunk = await reader.read(size - len(got))
                if not chunk:
                    break
                got += chunk
    writer.close()
    for block in dechunked(got.partition(b"\r\n\r\n")[2]).split(b"\n\n")[:-1]:
        event = Event(block.decode().split("\n"))
        apply(state, event)
        last_id = event.id or last_id
    return last_id


def dechunked(raw: bytes) -> bytes:
    body = b""
    while b"\r\n" in raw:
        size, _, raw = raw.partition(b"\r\n")
        body += raw[: int(size, 16)]
        raw = raw[int(size, 16) + 2 :]
    return body


async def test_stuck_clients_are_cut_and_hold_up_nobody(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.SEND_TIMEOUT_S", 1.0)
    await api.worker.publish("spring", sent=1, labels=Labels("x" * 20_000, None, {}))
    parts = urlsplit(api.address)
    stuck = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
        writer.write(
            f"GET {LIVE} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n\r\n".encode()
        )
        stuck.append((reader, writer))
    gauge = api.context.metrics.sse_clients.labels("report")
    async with api.live(LIVE) as events:
        await events.until("snapshot")
        assert gauge._value.get() == 11
        slowest_s = 0.0
        n = 0
        deadline = time.monotonic() + 20
        while gauge._value.get() > 1 and time.monotonic() < deadline:
            n += 1
            started = time.monotonic()
            await api.worker.publish("spring", sent=10_000, opened=n)
            await events.until_opened(n)
            slowest_s = max(slowest_s, time.monotonic() - started)
        assert gauge._value.get() == 1
        assert slowest_s < 3.0
    for _, writer in stuck:
        writer.transport.abort()


async def test_streams_end_with_the_process(redis_db: str) -> None:
    async with serving(redis_db) as api:
        await api.worker.publish("spring", sent=1)
        streams = [api.live(LIVE) for _ in range(20)]
        open_streams = [await stream.__aenter__() for stream in streams]
        for events in open_streams:
            await events.until("snapshot")
        started = time.monotonic()
    assert time.monotonic() - started < 5
    for stream in streams:
        with contextlib.suppress(Exception):
            await stream.__aexit__(None, None, None)


async def test_the_subscription_is_one_and_stays(api: Api, redis_db: str) -> None:
    redis = Redis.from_url(redis_db)

    async def subscribers() -> list[str]:
        return [client["id"] for client in await redis.client_list() if int(client["sub"]) > 0]

    async with api.live(LIVE) as one, api.live(f"{LIVE}?count=people") as other:
        await one.until("snapshot")
        await other.until("snapshot")
        before = await subscribers()
        await asyncio.sleep(2.5)
        assert len(before) == 1
        assert await subscribers() == before
    await redis.aclose()


async def test_nothing_is_left_behind(api: Api) -> None:
    for _ in range(5):
        async with api.live(LIVE) as events:
            await events.until("snapshot")
    await asyncio.sleep(0.3)
    hub = api.context.hub
    assert (len(hub._watched), len(hub._subscriptions)) == (0, 0)


# --- the feed alone


def view(version: int, opened: int, *, epoch: str = "0a", hours: bool = True) -> View:
    part, days = share(100, opened)
    return View(
        org="acme",
        campaign="spring",
        epoch=epoch,
        version=version,
        complete=True,
        as_of_ms=part.as_of_ms,
        patterns=part.patterns,
        totals=part.totals,
        overflow=part.overflow,
        labels=Labels(),
        quarters={quarter: row for day in days.values() for quarter, row in day.items()} if hours else None,
    )


def test_an_id_promises_no_more_than_all_parts_have() -> None:
    feed = Feed(FeedKey("all", "UTC", frozenset({"summary", "timeline"})))
    feed.update(view(5, 1), freshness=FRESH)
    watcher = Subscription(feed)
    feed.join(watcher, None)
    assert b"id: 10-5\nevent: snapshot\n" in feed.chunk_for(watcher)
    feed.update(view(6, 2, hours=False), freshness=FRESH)
    chunk = feed.chunk_for(watcher)
    assert chunk.startswith(b"id: 10-5\nevent: change\n")
    assert b"timeline" not in chunk
    assert feed.chunk_for(watcher) == b""
    back = Subscription(feed)
    feed.join(back, "10-5")
    assert b"event: snapshot" in feed.chunk_for(back)
    feed.update(view(6, 2), freshness=FRESH)
    assert feed.chunk_for(watcher).startswith(b"id: 10-6\nevent: change\n")
    up_to_date = Subscription(feed)
    feed.join(up_to_date, "10-6")
    assert feed.chunk_for(up_to_date) == b""


def test_a_slow_watcher_gets_the_newest_of_every_part_once() -> None:
    feed = Feed(FeedKey("all", "UTC", frozenset({"summary", "timeline"})))
    feed.update(view(1, 1), freshness=FRESH)
    slow = Subscription(feed)
    feed.join(slow, None)
    feed.chunk_for(slow)
    feed.update(view(2, 2), freshness=FRESH)
    for version in range(3, 9):
        feed.update(view(version, version, hours=False), freshness=FRESH)
    event = Event(feed.chunk_for(slow).decode().strip().split("\n"))
    assert event.data["summary"]["opened"] == 8
    assert event.data["timeline"]["rows"][0]["opened"] == 2
    assert feed.chunk_for(slow) == b""


def test_same_numbers_in_a_new_epoch_are_a_reset_all_the_same() -> None:
    feed = Feed(FeedKey("all", "UTC", frozenset({"summary"})))
    feed.update(view(9, 1), freshness=FRESH)
    watcher = Subscription(feed)
    feed.join(watcher, None)
    feed.chunk_for(watcher)
    feed.reset()
    feed.update(view(1, 1, epoch="0b"), freshness=FRESH)
    assert feed.chunk_for(watcher).startswith(b"event: reset\ndata: {}\n\nid: 11-1\nevent: snapshot\n")


@pytest.mark.parametrize(
    "text", ["a\nb", "\r", "\0", "\x7f", "\x85", "\u2028", "\u2029", "\x9b31m", "ü", "</script>"]
)
def test_data_is_one_line_for_every_reader(text: str) -> None:
    encoded = json_text({"name": text})
    assert len(encoded.decode().splitlines()) == 1
    assert not any(0x7F <= ord(character) < 0xA0 or ord(character) < 32 for character in encoded.decode())
    import json

    assert json.loads(encoded) == {"name": text}
