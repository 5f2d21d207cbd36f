"""Tells in Redis that a worker that parses is there and what it holds (`tables.telling`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from app.verdicts import Rules
from tables.conditions import Conditions
from tables.presence import Presence, presence
from tables.redis_client import redis_client
from tables.telling import tell


async def tell_presence(
    redis_url: str,
    worker: str,
    rules: Rules,
    partitions: Callable[[], Collection[int]],
    conditions: Conditions,
    configuration: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Until cancelled. `partitions`: of topic `webhooks`, as they are now."""
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

    redis = redis_client(redis_url, timeout_s=2.0)
    try:
        await tell(redis, worker, said)
    finally:
        await redis.aclose()
