"""Several installations on one Redis: a client that puts every key and channel under its installation's id.

Rules:
- In the code a key is `cr:partitions`; in Redis it is `cr:<id>:partitions`. No other module knows that.
- A command whose keys' place isn't in the table is refused: none can reach another installation's keys by oversight.
- What Redis gives back (SCAN) is the whole key; put under the id again, it stays as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.asyncio.client import PubSub
from redis.client import Pipeline

PREFIX: Final = "cr:"
NAMES_PER_RUN: Final = 500

_FIRST: Final = frozenset(
    {
        *("GET", "SET", "GETDEL", "SETBIT", "EXPIRE", "TTL", "INCR", "PUBLISH", "MEMORY USAGE"),
        *("SADD", "SMEMBERS", "SREM"),
        *("HSET", "HGET", "HGETALL", "HMGET", "HLEN", "HDEL", "HKEYS", "HVALS", "HINCRBY"),
        *("ZADD", "ZCARD", "ZCOUNT", "ZMSCORE", "ZRANGE", "ZREVRANGE", "ZREVRANGEBYSCORE"),
    }
)
_ALL: Final = frozenset({"EXISTS", "UNLINK", "DEL", "WATCH"})
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_PATTERN_AT: Final = {"KEYS": 1, "SCAN": 3}
"""`SCAN cursor MATCH pattern`: without a pattern it would see what isn't ours."""
_NO_KEYS: Final = frozenset(
    {"PING", "TIME", "INFO", "SCRIPT LOAD", "FLUSHALL", "CONFIG SET", "CONFIG GET", "SHUTDOWN"}
)


def placed(name: Any, installation: str) -> Any:
    """A key, channel or pattern of the code, as it is in Redis."""
    if not installation:
        return name
    if isinstance(name, bytes):
        return str(placed(name.decode(), installation)).encode()
    place = f"{PREFIX}{installation}:"
    if str(name).startswith(place):
        return name
    if not str(name).startswith(PREFIX):
        raise ValueError(f"a key of ours begins with {PREFIX}, not so {name}")
    return place + str(name).removeprefix(PREFIX)


def placed_command(arguments: Sequence[Any], installation: str) -> Sequence[Any]:
    """A command with its keys under the id. Raises ValueError for one that isn't in the table."""
    name = str(arguments[0]).upper()
    if not installation or name in _NO_KEYS:
        return arguments
    changed = list(arguments)
    if name in _FIRST:
        keys = range(1, 2)
    elif name in _ALL:
        keys = range(1, len(changed))
    elif name in _SCRIPTS:
        keys = range(3, 3 + int(changed[2]))
    elif name in _PATTERN_AT and len(changed) > _PATTERN_AT[name]:
        keys = range(_PATTERN_AT[name], _PATTERN_AT[name] + 1)
    else:
        raise ValueError(f"where the keys of {name} stand is not known: add it to tables.redis_names")
    for at in keys:
        changed[at] = placed(changed[at], installation)
    return changed


class _Placing:
    installation: str = ""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        return super().execute_command(  # type: ignore[misc]
            *placed_command(arguments, self.installation), **options
        )


class _AsyncPipeline(_Placing, AsyncPipeline):  # type: ignore[misc]  # the same
    pass


class _Pipeline(_Placing, Pipeline):
    pass


class _PubSub(PubSub):
    installation: str = ""

    async def subscribe(self, *names: Any, **handlers: Any) -> None:
        await super().subscribe(*(placed(name, self.installation) for name in names), **handlers)


class InstallationRedis(_Placing, redis.asyncio.Redis):  # type: ignore[misc]  # its own bases disagree
    """For asyncio; set `installation` before the first command."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> AsyncPipeline:
        made = _AsyncPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.installation = self.installation
        return made

    def pubsub(self, **options: Any) -> PubSub:
        made = _PubSub(self.connection_pool, **options)
        made.installation = self.installation
        return made

    def everyone(self) -> redis.asyncio.Redis:
        """The same server without an installation: only to remove what stood there before there were ids."""
        return redis.asyncio.Redis(connection_pool=self.connection_pool)


class _SyncRedis(_Placing, redis.Redis):
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        made = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.installation = self.installation
        return made


def sync_client(url: str, installation: str, *, timeout_s: float) -> redis.Redis:
    """For threads."""
    client = _SyncRedis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2)
    assert isinstance(client, _SyncRedis)
    client.installation = installation
    return client


async def runs_of_names(client: redis.asyncio.Redis, pattern: str) -> AsyncIterator[list[str]]:
    """Keys in runs of some hundred."""
    names: list[str] = []
    async for name in client.scan_iter(match=pattern, count=NAMES_PER_RUN):
        names.append(name.decode())
        if len(names) >= NAMES_PER_RUN:
            yield names
            names = []
    if names:
        yield names
