"""Tells the API, through Redis, which partitions this process can read and where it listens.

Rules:
- A partition is announced while its database is open and its worker counts in this state folder. A folder that once
  held the partition, before another machine's worker got it, keeps a copy: that one is not announced.
- What is wrong with a database is told (`api.query.faults`), unless its partition is counted elsewhere.
- Redis being away is no error: the next second tries again.
- An orderly end takes back what is announced, if it is still this process's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec
from redis.exceptions import RedisError

from api.query.partitions import Partitions
from api.query.wire import ANNOUNCE_S, QUERIES, UNREADABLE, Announcement
from app.errors import UNDECODABLE
from tables.conditions import Conditions
from tables.presence import folder_word
from tables.redis_client import redis_words
from tables.redis_clock import RedisClock
from tables.views import OWNERS, Owner

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("reports.query")

# KEYS: the hash. ARGV: url, then partitions.
_WITHDRAW: Final = """
for i = 2, #ARGV do
  local said = redis.call('HGET', KEYS[1], ARGV[i])
  if said and string.find(said, ARGV[1], 1, true) then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""

_encode = msgspec.json.Encoder().encode
_owner = msgspec.json.Decoder(Owner)


class Announcer:
    def __init__(
        self,
        redis: Redis,
        partitions: Partitions,
        state: Path,
        url: str,
        *,
        clock: RedisClock,
        conditions: Conditions | None = None,
    ) -> None:
        self._conditions = conditions if conditions is not None else Conditions(clock.seconds)
        self._said: set[int | None] = set()
        self._clock = clock
        self._redis = redis
        self._partitions = partitions
        self._state = state
        self._url = url
        self.announced: set[int] = set()
        self._reachable = True

    async def run(self) -> None:
        """Announces until cancelled."""
        while True:
            readable = await asyncio.to_thread(self._partitions.refresh)
            try:
                await self._announce(readable)
                if not self._reachable:
                    log.info("redis answers again")
                self._reachable = True
            except (RedisError, OSError, TimeoutError) as error:
                if self._reachable:
                    log.warning("%s", redis_words(error))
                self._reachable = False
            await asyncio.sleep(ANNOUNCE_S)

    async def _announce(self, readable: set[int]) -> None:
        owners = cast(dict[bytes, bytes], await self._redis.hgetall(OWNERS))
        word = folder_word(self._state)
        mine = here(readable, owners, word)
        self._say(elsewhere(owners, word) if word else set())
        if mine != self.announced:
            log.info("reading partitions %s", ", ".join(map(str, sorted(mine))) or "none")
        gone, self.announced = self.announced - mine, mine
        if gone:
            await self._withdraw(gone)
        if mine:
            text = _encode(Announcement(self._url, self._clock.now_ms()))
            await self._redis.hset(QUERIES, mapping={str(partition): text for partition in mine})

    def _say(self, elsewhere: set[int]) -> None:
        faults = {
            partition: words
            for partition, words in self._partitions.faults.said().items()
            if partition not in elsewhere
        }
        for partition, words in faults.items():
            self._conditions.set(UNREADABLE, words, partition=partition)
        for partition in self._said - faults.keys():
            self._conditions.clear(UNREADABLE, partition)
        self._said = set(faults)

    async def _withdraw(self, partitions: set[int]) -> None:
        await self._redis.eval(_WITHDRAW, 1, QUERIES, f'"{self._url}"', *map(str, partitions))

    async def stop(self) -> None:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            if self.announced:
                await self._withdraw(self.announced)


def here(readable: set[int], owners: Mapping[bytes, bytes], word: str) -> set[int]:
    """Of the partitions that can be read here those that no worker of another folder owns."""
    return readable - elsewhere(owners, word)


def elsewhere(owners: Mapping[bytes, bytes], word: str) -> set[int]:
    """The partitions that a worker of another folder owns."""
    found = set()
    for partition, text in owners.items():
        with contextlib.suppress(ValueError, *UNDECODABLE):
            if _owner.decode(text).worker.rpartition("-")[0] != word:
                found.add(int(partition))
    return found
