"""Says as a condition that this query process listens where the API of another host can't ask it.

Where nothing else is set it listens on loopback, which is right on one machine. On a second one its partitions' lists
would answer 503 for ever, and name a role that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from app.errors import UNDECODABLE
from app.settings import PREFIX
from tables.conditions import Conditions
from tables.presence import WORKERS, decode_presence
from tables.redis_clock import RedisClock
from tables.telling import AWAY

if TYPE_CHECKING:
    from redis.asyncio import Redis

CODE: Final = "query_unreachable"
LOOK_S: Final = 2.0


class Reach:
    """`url`: what is announced. `host`: this machine's name."""

    def __init__(
        self, redis: Redis, url: str, conditions: Conditions, clock: RedisClock, host: str | None = None
    ) -> None:
        self._redis = redis
        self._url = urlsplit(url)
        self._conditions = conditions
        self._clock = clock
        self._host = socket.gethostname() if host is None else host

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            with contextlib.suppress(*AWAY):  # the announcer says so
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look at who else is there. Raises RedisError, OSError, TimeoutError."""
        if not ipaddress.ip_address(self._url.hostname or "").is_loopback:
            return
        if others := await self._others():
            self._conditions.set(
                CODE,
                f"the API on {', '.join(others)} can't ask this query process at {self._url.netloc}, and its lists of "
                f"recipients and events answer 503: set {PREFIX}QUERY on {self._host} to an address that other hosts "
                "reach (ADDRESS:PORT; port 0: any free one), and start `reports query` again",
            )
        else:
            self._conditions.clear(CODE)

    async def _others(self) -> list[str]:
        """Other hosts with a living API."""
        now_ms = self._clock.now_ms()
        found = set()
        for text in cast(dict[bytes, bytes], await self._redis.hgetall(WORKERS)).values():
            with contextlib.suppress(*UNDECODABLE):
                said = decode_presence(text)
                if said.role == "api" and said.host not in ("", self._host) and said.is_alive(now_ms):
                    found.add(said.host)
        return sorted(found)
