"""Clients of Redis for asyncio, whose every wait ends and whose every cancellation counts.

redis-py 8 writes through `asyncio.wait_for`, which in Python 3.11 loses a cancellation that arrives in the turn in
which the write is done: a loop that was cancelled there goes on for ever. The connections here write under
`asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

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
