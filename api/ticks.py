"""What Redis tells the hub: ticks (one subscription per process), its epoch, and versions in case a tick was lost.

Rules:
- A subscription that breaks is made anew; what could have been missed meanwhile is looked at (`moved(None)`).
- The subscription is pinged, so that a half-open connection is noticed within `SILENT_S`.
- Each second the epoch and the versions of what is watched are asked, whatever the ticks say: a lost tick costs a
  second at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from app.facts import CampaignKey
from tables.redis_client import redis_words
from tables.views import TICK, ViewReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("reports.hub")

POLL_S: Final = 1.0
RETRY_S: Final = 0.25
SILENT_S: Final = 5.0

Moved = Callable[[CampaignKey | None], None]
"""Called with a campaign whose view has changed, or None: any may have."""


class Ticks:
    def __init__(
        self,
        redis: Redis,
        views: ViewReader,
        moved: Moved,
        versions: Callable[[], Mapping[CampaignKey, int]],
    ) -> None:
        """`versions`: of what is watched, as it was read last."""
        self._redis = redis
        self._views = views
        self._moved = moved
        self._versions = versions
        self._epoch: str | None = None
        self._asked = asyncio.Event()
        self.answers = False
        """Redis answered when it was asked last."""

    async def epoch(self) -> str:
        """Redis' epoch as of the last second; raises RedisError when it was never reached."""
        if self._epoch is None:
            self._epoch = await self._views.epoch()
        return self._epoch

    def ask(self) -> None:
        """Asks for the epoch at once: something looks as if Redis had been emptied."""
        self._asked.set()

    async def listen(self) -> None:
        """Ticks → `moved`, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            pubsub = self._redis.pubsub()
            try:
                await pubsub.subscribe(TICK)
                heard_at = loop.time()
                self._moved(None)
                while loop.time() - heard_at < SILENT_S:
                    message = await pubsub.get_message(timeout=POLL_S)
                    if message is None:
                        await pubsub.ping()
                        continue
                    heard_at = loop.time()
                    if message["type"] == "message":
                        key = message["data"].partition(b":")[0].decode()
                        self._moved(CampaignKey(bytes.fromhex(key)))
            except (RedisError, OSError, ValueError):
                await asyncio.sleep(RETRY_S)
            finally:
                await _quietly(pubsub.aclose)

    async def poll(self) -> None:
        """Epoch and versions → `moved`, each second, for ever."""
        while True:
            try:
                epoch = await self._views.epoch()
                if epoch != self._epoch:
                    # Its end changes too, where a topic is counted for the first time or another one.
                    if self._epoch is not None and epoch[:-8] != self._epoch[:-8]:
                        log.warning("Redis was emptied or restarted: views start a new epoch")
                    self._epoch = epoch
                    self._moved(None)
                await self._compare_versions()
                self.answers = True
            except (RedisError, OSError) as error:
                if self.answers:
                    log.warning("%s", redis_words(error))
                self.answers = False
            self._asked.clear()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._asked.wait()
                await asyncio.sleep(RETRY_S)  # many may ask at once, and for as long as Redis is being filled
            except TimeoutError:
                pass

    async def _compare_versions(self) -> None:
        known = dict(self._versions())
        if not known:
            return
        stored = await self._views.versions(list(known))
        for (key, version), now in zip(known.items(), stored, strict=True):
            if now != version:
                self._moved(key)


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    try:
        await close()
    except (RedisError, OSError):
        return
