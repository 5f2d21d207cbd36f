"""Clients of Redis for asyncio, whose every wait ends and whose every cancellation counts.

redis-py 8 writes through `asyncio.wait_for`, which in Python 3.11 loses a cancellation that arrives in the turn in
which the write is done: a loop that was cancelled there goes on for ever. The connections here write under
`asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.settings import Settings
from tables.redis_names import InstallationRedis

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


def redis_of(settings: Settings, *, timeout_s: float = TIMEOUT_S) -> InstallationRedis:
    """The installation's part of its Redis."""
    return redis_client(settings.redis, installation=settings.installation, timeout_s=timeout_s)


def redis_client(url: str, *, installation: str = "", timeout_s: float = TIMEOUT_S) -> InstallationRedis:
    """Connects when first used, so that a process starts without Redis. `installation`: whose keys it sees
    (`tables.redis_names`); empty: all, as they are.

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
    client = cast(InstallationRedis, InstallationRedis.from_pool(pool))
    client.installation = installation
    return client


def redis_words(error: BaseException, url: str = "") -> str:
    """What an error of Redis means and what to do, in one line; never with a password."""
    said = " ".join(str(error).split())[:200]
    name = type(error).__name__
    meaning = next(
        (words for marks, words in _MEANINGS if any(m in said or m == name for m in marks)), said or name
    )
    return f"Redis at {redis_address(url)}: {meaning}" if url else f"Redis: {meaning}"


def refuses_writes(error: BaseException) -> bool:
    """Whether Redis answers and takes no writes: it is full, read-only, or can't write its own file."""
    said, name = str(error), type(error).__name__
    return any(mark in said or mark == name for mark in _REFUSALS)


def redis_address(url: str) -> str:
    """Host and port of a URL, or the path of its socket."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]


_REFUSALS: Final = (
    "OutOfMemoryError",
    "OOM command",
    "used memory >",
    "MISCONF",
    "ReadOnlyError",
    "READONLY",
    "NOREPLICAS",
)
_CLUSTER: Final = "it is a Redis Cluster, which is not supported: name a single server in REPORTS_REDIS"
_MEANINGS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    # Redis' own words, and the names of the client's classes, which takes the first word off where it has a class for
    # it (https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors). The first that fits counts.
    (
        ("OutOfMemoryError", "OOM command", "used memory >"),
        "it is out of memory and takes no writes: raise `maxmemory`, or move what else is in there",
    ),
    (
        ("MISCONF",),
        "it can't write its own file to disk and takes no writes: make room on its disk, or see its log for the reason",
    ),
    (("ReadOnlyError", "READONLY"), "it is a read-only replica: name the primary in REPORTS_REDIS"),
    (
        (
            "ClusterCrossSlotError",
            "MovedError",
            "AskError",
            "ClusterDownError",
            "CROSSSLOT",
            "MOVED",
            "cluster mode",
        ),
        _CLUSTER,
    ),
    (("DB index is out of range",), "it has no such database: name another number in REPORTS_REDIS"),
    (
        ("NOAUTH", "Authentication required", "must be called with the client already authenticated"),
        "it wants a password: put it into REPORTS_REDIS (redis://:PASSWORD@HOST:PORT/0)",
    ),
    (("called without any password",), "it has no password: take it out of REPORTS_REDIS"),
    (
        ("WRONGPASS", "invalid password", "invalid username-password", "AuthenticationError"),
        "it refuses the user or password of REPORTS_REDIS",
    ),
    (
        ("NoPermissionError", "NOPERM"),
        "the user of REPORTS_REDIS may not do that: allow it all commands on keys and channels cr:*",
    ),
    (("BusyLoadingError", "LOADING"), "it is still reading its file: it answers in a moment"),
    (("BUSY Redis",), "somebody's script holds it up: see its log"),
    (("max number of clients",), "it has no connection left: raise its `maxclients`"),
    (("No connection available",), "its connections are all in use"),
    (("TimeoutError",), "it does not answer in time"),
    (
        # Of the first the client rarely hears: the server has closed the connection before the client writes.
        ("DENIED", "Connection lost", "Connection reset", "Connection closed", "Broken pipe"),
        "it hangs up: either it has just ended, or its protected mode refuses other hosts; give it a password "
        "(`requirepass`) and put it into REPORTS_REDIS (redis://:PASSWORD@HOST:PORT/0)",
    ),
    (
        ("ConnectionError", "ConnectionRefusedError"),
        "it can't be reached: see whether it runs, and REPORTS_REDIS",
    ),
)
