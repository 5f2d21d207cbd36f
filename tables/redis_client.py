"""Clients of Redis for asyncio, whose every wait ends and whose every cancellation counts.

redis-py 8 writes through `asyncio.wait_for`, which in Python 3.11 loses a cancellation that arrives in the turn in
which the write is done: a loop that was cancelled there goes on for ever. The connections here write under
`asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError

TIMEOUT_S: Final = 0.8
"""Two attempts (the second one finds a connection that broke while idle) end within the two seconds a reader waits."""
CONNECTIONS: Final = 64
"""Of one client at most; who finds none waits as long as for an answer."""


class _Writing(AbstractConnection):
    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        limit_s = self.socket_timeout
        self.socket_timeout = None  # then the library writes without `wait_for`
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit_s


class _Tcp(_Writing, Connection):
    pass


class _Tls(_Writing, SSLConnection):
    pass


class _Unix(_Writing, UnixDomainSocketConnection):
    pass


_OURS: Final[dict[type[Any], type[AbstractConnection]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def redis_client(url: str, *, timeout_s: float = TIMEOUT_S) -> Redis:
    """Connects when first used, so that a process starts without Redis.

    One lost connection is made up for; then `redis.RedisError` is raised."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 1),
        protocol=2,
    )
    pool.connection_class = _OURS[pool.connection_class]
    return Redis.from_pool(pool)


def redis_words(error: BaseException, url: str = "") -> str:
    """What an error of Redis means and what to do, in one line; never with a password."""
    said = " ".join(str(error).split())[:200]
    name = type(error).__name__
    meaning = next((words for mark, words in _MEANINGS if mark in said or mark == name), None)
    if meaning is None:
        meaning = said or name
    return f"Redis at {redis_address(url)}: {meaning}" if url else f"Redis: {meaning}"


def redis_address(url: str) -> str:
    """Host and port of a URL, or the path of its socket."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]


_MEANINGS: Final = (
    # Redis's own words (https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors), then the
    # client's classes. The first that fits counts.
    (
        "OOM command",
        "it is out of memory and takes no writes: raise `maxmemory`, or move what else is in there",
    ),
    (
        "MISCONF",
        "it can't write its own file to disk and takes no writes: make room on its disk, or see its log for the reason",
    ),
    ("READONLY", "it is a read-only replica: name the primary in REPORTS_REDIS"),
    ("CROSSSLOT", "it is a Redis Cluster, which is not supported: name a single server in REPORTS_REDIS"),
    ("MOVED", "it is a Redis Cluster, which is not supported: name a single server in REPORTS_REDIS"),
    ("cluster mode", "it is a Redis Cluster, which is not supported: name a single server in REPORTS_REDIS"),
    ("CLUSTERDOWN", "it is a Redis Cluster, which is not supported: name a single server in REPORTS_REDIS"),
    ("DB index is out of range", "it has no such database: name another number in REPORTS_REDIS"),
    ("NOAUTH", "it wants a password: put it into REPORTS_REDIS (redis://:PASSWORD@HOST:PORT/0)"),
    (
        "Authentication required",
        "it wants a password: put it into REPORTS_REDIS (redis://:PASSWORD@HOST:PORT/0)",
    ),
    ("WRONGPASS", "it refuses the user or password of REPORTS_REDIS"),
    ("invalid password", "it refuses the user or password of REPORTS_REDIS"),
    ("invalid username-password", "it refuses the user or password of REPORTS_REDIS"),
    ("called without any password", "it has no password: take it out of REPORTS_REDIS"),
    ("NOPERM", "the user of REPORTS_REDIS may not do that: allow it all commands on keys and channels cr:*"),
    ("LOADING", "it is still reading its file: it answers in a moment"),
    ("BUSY", "a script of somebody else holds it up: see its log"),
    ("max number of clients", "it has no connection left: raise its `maxclients`"),
    ("No connection available", "its connections are all in use"),
    ("TimeoutError", "it does not answer in time"),
    ("ConnectionError", "it can't be reached: see whether it runs, and REPORTS_REDIS"),
    ("ConnectionRefusedError", "it can't be reached: see whether it runs, and REPORTS_REDIS"),
    ("BusyLoadingError", "it is still reading its file: it answers in a moment"),
)
