"""What those that parse tell of themselves, and that Redis being away is nothing to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from agents.presence import tell_presence
from app.verdicts import Rules
from tables import telling as telling_module
from tables.conditions import Conditions
from tables.layout import LAYOUT_VERSION
from tables.presence import WORKERS, Presence, product_version
from tables.redis_client import redis_client


@contextlib.asynccontextmanager
async def telling(url: str, held: set[int], conditions: Conditions) -> AsyncIterator[asyncio.Task[None]]:
    telling = tell_presence(redis_client(url), "parser", Rules(burst_links=5), lambda: held, conditions)
    task = asyncio.create_task(telling)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_tells_what_it_holds_again_and_again(redis_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling_module, "TELL_S", 0.05)
    held = {3, 1}
    redis = Redis.from_url(redis_db)

    async def said(partitions: tuple[int, ...]) -> Presence:
        async with asyncio.timeout(5):
            while True:
                stored = await redis.hget(WORKERS, "parser")
                if stored is not None:
                    found = msgspec.json.decode(stored, type=Presence)
                    if found.partitions == partitions:
                        return found
                await asyncio.sleep(0.01)

    conditions = Conditions()
    async with telling(redis_db, held, conditions):
        first = await said((1, 3))
        assert (first.role, first.layout, first.rules.burst_links) == ("normalize", LAYOUT_VERSION, 5)
        assert first.product == product_version() != "unknown"
        held.remove(3)
        second = await said((1,))
        assert second.at_ms >= first.at_ms
        assert second.since_ms == first.since_ms
        assert (first.conditions, conditions.current()) == ((), ())
        conditions.set("configuration_refused", "reports.toml is bad")
        held.add(2)
        assert (await said((1, 2))).conditions == conditions.current()
        held.remove(2)
        await redis.flushall()
        assert (await said((1,))).since_ms == first.since_ms
    await redis.aclose()


async def test_without_redis_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling_module, "TELL_S", 0.01)
    async with telling("redis://127.0.0.1:9/0", set(), Conditions()) as task:
        await asyncio.sleep(0.3)
        assert not task.done()
