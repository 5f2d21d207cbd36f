"""Says as a condition that Redis may delete what it was given to keep, or does, while that holds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from tables.conditions import Conditions

if TYPE_CHECKING:
    from redis.asyncio import Redis

CODE: Final = "redis_evicts"
EVERY_S: Final = 2.0
RECENT_S: Final = 60.0
"""For how long after an eviction it is said that Redis evicts."""
KEEPS: Final = "noeviction"
_SPARES: Final = "volatile-"
"""Policies that delete only what has an expiry: the numbers have none."""
_WAY_OUT: Final = (
    f"set `maxmemory-policy {KEEPS}` (`CONFIG SET`, its configuration file, or your provider's settings), and a "
    "`maxmemory` that has room"
)


class RedisWatch:
    """`INFO` has all of it, also where a provider refuses `CONFIG`."""

    def __init__(
        self,
        redis: Redis,
        conditions: Conditions,
        evicted: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`evicted` is called when Redis has evicted keys since it was asked last."""
        self._redis = redis
        self._conditions = conditions
        self._evicted = evicted
        self._clock = clock
        self._count: int | None = None
        self._evicted_at = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(
                RedisError, OSError, TimeoutError
            ):  # that it is unavailable is said elsewhere
                await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Raises RedisError, OSError or TimeoutError."""
        memory, stats = await self._redis.info("memory"), await self._redis.info("stats")
        count = int(stats.get("evicted_keys", 0))
        if self._count is not None and count > self._count:
            self._evicted_at = self._clock()
            self._evicted()
        self._count = count
        self._tell(memory)

    def _tell(self, memory: Mapping[str, Any]) -> None:
        policy, most = str(memory.get("maxmemory_policy", KEEPS)), int(memory.get("maxmemory", 0))
        if policy == KEEPS or policy.startswith(_SPARES) or most == 0:
            self._conditions.clear(CODE)
            return
        evicts = self._clock() - self._evicted_at < RECENT_S
        does = "deletes keys" if evicts else "will delete keys once it is full"
        self._conditions.set(
            CODE,
            f"Redis {does} (`maxmemory-policy {policy}`, `maxmemory` {most // 2**20} MB), and reports lack their "
            f"numbers until they are published again: {_WAY_OUT}",
            reason="Redis is full and deletes numbers, which are published again" if evicts else None,
        )
