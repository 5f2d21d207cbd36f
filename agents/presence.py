"""Tells in Redis that a worker that parses is there and what it holds (`tables.telling`).

Parsing itself needs no Redis: where it can't be told, nothing else happens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from app.verdicts import Rules
from tables.conditions import Conditions
from tables.presence import Presence, presence
from tables.redis_clock import RedisClock
from tables.telling import tell

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def tell_presence(
    redis: Redis,
    worker: str,
    rules: Rules,
    partitions: Callable[[], Collection[int]],
    conditions: Conditions,
    clock: RedisClock,
    configuration: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Until cancelled. `partitions`: of topic `webhooks`, as they are now."""
    since_ms = clock.now_ms()

    def said() -> Presence:
        return presence(
            rules,
            since_ms,
            clock.now_ms(),
            role="normalize",
            partitions=sorted(partitions()),
            conditions=conditions.current(),
            configuration=configuration(),
        )

    await tell(redis, worker, said)
