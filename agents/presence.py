"""Tells in Redis that a worker that parses is there and what it holds (`tables.telling`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from redis.asyncio import Redis

from app.verdicts import Rules
from tables.conditions import Conditions
from tables.presence import Presence, presence
from tables.telling import tell


async def tell_presence(
    redis: Redis,
    worker: str,
    rules: Rules,
    partitions: Callable[[], Collection[int]],
    conditions: Conditions,
    configuration: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Until cancelled; closes `redis` then. `partitions`: of topic `webhooks`, as they are now."""
    since_ms = int(time.time() * 1000)

    def said() -> Presence:
        return presence(
            rules,
            since_ms,
            int(time.time() * 1000),
            role="normalize",
            partitions=sorted(partitions()),
            conditions=conditions.current(),
            configuration=configuration(),
        )

    try:
        await tell(redis, worker, said)
    finally:
        await redis.aclose()
