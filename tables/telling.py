"""A process tells in Redis, about once a second, that it is there and what it is (`tables.presence`).

Nothing else depends on it: where Redis can't be told, it is told again in a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from redis.exceptions import RedisError

from tables.presence import WORKERS, Presence, refused_name

if TYPE_CHECKING:
    from redis.asyncio import Redis

TELL_S: Final = 1.0
AWAY: Final = (RedisError, OSError, TimeoutError)


async def tell(redis: Redis, name: str, said: Callable[[], Presence]) -> None:
    """Until cancelled."""
    await take_back(redis, refused_name(said().role))  # it runs
    while True:
        with contextlib.suppress(*AWAY):
            await redis.hset(WORKERS, name, msgspec.json.encode(said()))
        await asyncio.sleep(TELL_S)


async def take_back(redis: Redis, name: str) -> None:
    """It is not silent, it is gone: at an orderly end, or because what it says is over."""
    with contextlib.suppress(*AWAY):
        await redis.hdel(WORKERS, name)
