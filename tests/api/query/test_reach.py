"""A query process on loopback, beside the API of its own host and those of others, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from api.query.reach import CODE, Reach
from app.settings import Settings
from app.verdicts import DEFAULT_RULES
from tables.conditions import Conditions
from tables.presence import SILENT_MS, WORKERS, presence
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock
from tests.tables.test_conditions import UNREADABLE


@pytest.fixture
async def redis(redis_db: str) -> AsyncIterator[Redis]:
    client = redis_of(Settings(redis=redis_db, installation="test"))
    yield client
    await client.aclose()


async def put(redis: Redis, host: str, role: str, at_ms: int) -> None:
    said = msgspec.structs.replace(presence(DEFAULT_RULES, 1, at_ms, role=role), host=host)
    await redis.hset(WORKERS, f"{host}:{role}", msgspec.json.encode(said))


@pytest.mark.parametrize(
    ("url", "reaches"),
    [("http://127.0.0.1:4000", False), ("http://[::1]:4000", False), ("http://198.18.0.2:4000", True)],
)
async def test_only_a_living_api_on_another_host_makes_loopback_wrong(
    redis: Redis, url: str, reaches: bool
) -> None:
    conditions, clock = Conditions(), RedisClock()
    reach = Reach(redis, url, conditions, clock, "here")
    now_ms = clock.now_ms()
    await put(redis, "here", "api", now_ms)
    await put(redis, "there", "aggregate", now_ms)
    await put(redis, "gone", "api", now_ms - SILENT_MS - 1)
    await redis.hset(WORKERS, mapping={str(number): text for number, text in enumerate(UNREADABLE)})
    refused = presence(DEFAULT_RULES, 1, now_ms, role="api", refused=True)
    await redis.hset(WORKERS, "refused", msgspec.json.encode(msgspec.structs.replace(refused, host="new")))
    await reach.look()
    assert conditions.current() == ()
    await put(redis, "there", "api", now_ms)
    await reach.look()
    assert [one.code for one in conditions.current()] == ([] if reaches else [CODE])
    for one in conditions.current():
        assert one.reason is None, "the numbers are right"
        assert "the API on there can't ask" in one.message
        assert "set REPORTS_QUERY on here" in one.message
    await redis.hdel(WORKERS, "there:api")
    await reach.look()
    assert conditions.current() == ()
