"""An API process looks at what the others say of themselves, on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from api import watch as watch_module
from api.watch import DIFFERS, Watch
from app.configuration import fingerprints
from app.organisations import Organisations
from app.verdicts import DEFAULT_RULES
from tables.conditions import Condition
from tables.presence import WORKERS, Presence, presence
from tests.api.serving import Api, serving
from tests.tables.test_conditions import UNREADABLE


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as running:
        yield running


async def put(redis: Redis, name: str, said: Presence) -> None:
    await redis.hset(WORKERS, name, msgspec.json.encode(said))


def now_ms() -> int:
    return int(time.time() * 1000)


async def test_a_difference_that_lasts_is_a_condition_and_a_metric(api: Api) -> None:
    context, now = api.context, 0.0
    watch = Watch(context, "here:1", clock=lambda: now)
    metric = 'conditions{code="configuration_differs"}'
    await put(context.redis, "here:1", msgspec.structs.replace(watch.said(), host="here"))
    await watch.look()
    assert context.conditions.current() == ()
    assert f"{metric} 0.0" in context.metrics.text().decode()
    other = presence(
        DEFAULT_RULES, 1, now_ms(), role="normalize",
        configuration=fingerprints(context.settings, Organisations()),
        conditions=(Condition(code="unknown_source", message="m", since_ms=1, count=4),),
    )  # fmt: skip
    await put(context.redis, "there-0", msgspec.structs.replace(other, host="there"))
    await watch.look()
    assert context.conditions.current() == (), "it may be on its way from host to host"
    now = watch_module.SETTLE_S
    await watch.look()
    (one,) = context.conditions.current()
    assert one.code == DIFFERS
    assert "api on here:1" in one.message
    assert "normalize on there" in one.message
    text = context.metrics.text().decode()
    assert f"{metric} 1.0" in text
    assert 'conditions{code="unknown_source"} 1.0' in text
    # It is what its own row says, and no reason for a report to be stale.
    await put(context.redis, "here:1", watch.said())
    rows = {row["worker"]: row for row in (await api.get("/ops/workers", "acme-all")).json()["workers"]}
    assert [one["code"] for one in rows["here:1"]["conditions"]] == [DIFFERS]
    assert (rows["here:1"]["role"], rows["there-0"]["host"]) == ("api", "there")
    assert rows["there-0"]["conditions"][0]["count"] == 4
    # The other host is given the same file.
    await put(
        context.redis, "there-0", msgspec.structs.replace(other, configuration=watch.said().configuration)
    )
    await watch.look()
    assert context.conditions.current() == ()


async def test_it_tells_of_itself_and_of_another_configuration_and_takes_it_back(api: Api) -> None:
    watch = Watch(api.context, "here:1")
    telling = asyncio.create_task(watch.tell())

    async def said() -> Presence:
        while (text := await api.context.redis.hget(WORKERS, "here:1")) is None:
            pass
        return msgspec.json.decode(text, type=Presence)

    first = await said()
    assert (first.role, first.host != "", set(first.configuration) >= {"organisations"}) == (
        "api",
        True,
        True,
    )
    api.context.organisations = Organisations()
    assert watch.said().configuration["organisations"] != first.configuration["organisations"]
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    await watch.stop()
    assert await api.context.redis.hgetall(WORKERS) == {}


async def test_processes_that_ended_without_a_word_are_forgotten(api: Api) -> None:
    redis = api.context.redis
    old = now_ms() - int(watch_module.FORGOTTEN_S * 1000) - 1
    for role in ("api", "query", "aggregate", "normalize"):
        await put(redis, role, presence(DEFAULT_RULES, 1, old, role=role))
    await put(redis, "young", presence(DEFAULT_RULES, 1, old + 30_000, role="api"))
    condition = Condition(code="role_refused", message="why", since_ms=1)
    for name, at_ms in (("refused", old), ("tried again", now_ms() - 20_000)):
        await put(redis, name, presence(DEFAULT_RULES, 1, at_ms, conditions=(condition,), refused=True))
    await redis.hset(WORKERS, mapping={str(number): text for number, text in enumerate(UNREADABLE)})
    await Watch(api.context, "here:1").look()
    await redis.hdel(WORKERS, *map(str, range(len(UNREADABLE))))
    assert set(await redis.hkeys(WORKERS)) == {b"aggregate", b"normalize", b"young", b"tried again"}
    assert 'conditions{code="role_refused"} 1.0' in api.context.metrics.text().decode()
