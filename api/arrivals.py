"""What came from each source, and when: counts by outcome, the last arrival and the quarters with any, in Redis.

Rules:
- Taking a webhook costs a few additions in memory here, whatever Redis does. A task writes the sums once a second.
- Bounded: sources come from the configuration, outcomes from code. What Redis doesn't take is not kept for later but
  for the times (setting those twice changes nothing): these are figures to look at, never what a report counts.
- Several API processes add to the same figures, and a restart goes on with them.

| key | holds |
|---|---|
| `cr:source:<org>:<source>` | outcome → count, since Redis was last emptied |
| `cr:sources:since` | when counting began anew, ms: Redis was first asked for counts since it was last emptied |
| `cr:sources:last` | sorted set: `<org>/<source>` by its last accepted arrival, ms |
| `cr:rhythm:<org>:<source>:<week>` | a bit for each quarter of a week with an accepted one (`app.rhythm`) |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.organisations import Source
from app.rhythm import WEEK_QUARTERS, quarter_of, quarters_in, weeks_until
from tables.background import Background

log = logging.getLogger("reports.api")

EVERY_S: Final = 1.0
LAST: Final = "cr:sources:last"
SINCE: Final = "cr:sources:since"
ACCEPTED: Final = "accepted"
MAX_QUARTERS: Final = 96
"""Quarters of one source that are kept while Redis is away."""
_KEEP_S: Final = 366 * 86_400
"""A source that has been silent for so long is forgotten."""
_AWAY: Final = (RedisError, OSError, TimeoutError)

_Name = tuple[str, str]
"""Organisation and source."""


class _Pending(msgspec.Struct):
    counts: dict[str, int] = {}
    last_ms: int = -1
    quarters: set[int] = set()


class Seen(msgspec.Struct, frozen=True):
    """What is known of one source."""

    counts: dict[str, int]
    last_ms: int | None
    quarters: list[int]


class Arrivals:
    def __init__(self) -> None:
        self._pending: dict[_Name, _Pending] = {}
        self._task: asyncio.Task[None] | None = None
        self._redis: Redis | None = None
        self._away = False

    def note(self, source: Source, outcome: str, now_s: float) -> None:
        """One webhook, by its outcome (`accepted`, or the code of its refusal)."""
        name = (source.org, source.name)
        pending = self._pending.get(name)
        if pending is None:
            pending = self._pending[name] = _Pending()
        pending.counts[outcome] = pending.counts.get(outcome, 0) + 1
        if outcome == ACCEPTED:
            at_ms = int(now_s * 1000)
            pending.last_ms = max(pending.last_ms, at_ms)
            pending.quarters.add(quarter_of(at_ms))

    def start(self, redis: Redis, background: Background) -> None:
        self._redis = redis
        self._task = background.task("arrivals", self._run)

    async def stop(self) -> None:
        """Writes what is left, if Redis takes it at once."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        await self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Adds what was noted to Redis."""
        if not self._pending or self._redis is None:
            return
        taken, self._pending = self._pending, {}
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for (org, source), pending in taken.items():
                    for outcome, count in pending.counts.items():
                        pipe.hincrby(f"cr:source:{org}:{source}", outcome, count)
                    if pending.last_ms >= 0:
                        pipe.zadd(LAST, {f"{org}/{source}": pending.last_ms}, gt=True)
                    for quarter in pending.quarters:
                        week, bit = divmod(quarter, WEEK_QUARTERS)
                        key = f"cr:rhythm:{org}:{source}:{week}"
                        pipe.setbit(key, bit, 1)
                        pipe.expire(key, _KEEP_S)
                await pipe.execute()
        except _AWAY as error:
            if not self._away:
                log.warning("sources' counts are not kept: Redis can't be reached (%s)", type(error).__name__)
            self._away = True
            self._keep_times(taken)
        else:
            self._away = False

    def _keep_times(self, taken: dict[_Name, _Pending]) -> None:
        for name, old in taken.items():
            if old.last_ms < 0:
                continue
            pending = self._pending.setdefault(name, _Pending())
            pending.last_ms = max(pending.last_ms, old.last_ms)
            pending.quarters.update(sorted(old.quarters)[-MAX_QUARTERS:])

    async def since_ms(self, redis: Redis, now_ms: int) -> int:
        """Since when what counts as never seen has not been seen. Raises RedisError."""
        with contextlib.suppress(ResponseError):  # it takes no writes
            await redis.set(SINCE, now_ms, nx=True)
        return int(await redis.get(SINCE) or now_ms)

    async def seen(self, redis: Redis, names: Sequence[_Name]) -> list[Seen]:
        """What is known of each source, by all processes. Raises RedisError."""
        if not names:
            return []
        last = await redis.zmscore(LAST, [f"{org}/{source}" for org, source in names])
        weeks = [range(0) if at is None else weeks_until(int(at)) for at in last]
        async with redis.pipeline(transaction=False) as pipe:
            for (org, source), touched in zip(names, weeks, strict=True):
                pipe.hgetall(f"cr:source:{org}:{source}")
                for week in touched:
                    pipe.get(f"cr:rhythm:{org}:{source}:{week}")
            answers = iter(await pipe.execute())
        found = []
        for at, touched in zip(last, weeks, strict=True):
            counts = cast("dict[bytes, bytes]", next(answers))
            quarters: list[int] = []
            for week in touched:
                quarters += quarters_in(week, next(answers) or b"")
            found.append(
                Seen(
                    counts={outcome.decode(): int(count) for outcome, count in sorted(counts.items())},
                    last_ms=None if at is None else int(at),
                    quarters=quarters,
                )
            )
        return found
