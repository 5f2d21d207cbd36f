"""Tells in Redis that a worker that parses is there and what it holds (`tables.presence`).

Parsing itself needs no Redis: where it can't be told, nothing else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

import msgspec
from redis.exceptions import RedisError

from app.verdicts import Rules
from tables.conditions import Conditions
from tables.presence import WORKERS, presence
from tables.redis_clock import RedisClock

if TYPE_CHECKING:
    from redis.asyncio import Redis

TELL_S: Final = 1.0


async def tell_presence(
    redis: Redis,
    worker: str,
    rules: Rules,
    partitions: Callable[[], Collection[int]],
    conditions: Conditions,
    clock: RedisClock,
) -> None:
    """Until cancelled. `partitions`: of topic `webhooks`, as they are now."""
    since_ms = clock.now_ms()
    while True:
        said = presence(
            rules,
            since_ms,
            clock.now_ms(),
            role="normalize",
            partitions=sorted(partitions()),
            conditions=conditions.current(),
        )
        with contextlib.suppress(RedisError, OSError, TimeoutError):  # it is told again in a moment
            await redis.hset(WORKERS, worker, msgspec.json.encode(said))
        await asyncio.sleep(TELL_S)
