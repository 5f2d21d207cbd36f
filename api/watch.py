"""An API process tells of itself, and sees whether all living processes go by one configuration.

Rules:
- A difference is a condition of this process (`tables.conditions`), once it has held for `SETTLE_S`: while a change is
  carried from host to host they differ for a moment.
- APIs and query processes that end without a word, and roles that were refused, are forgotten after `FORGOTTEN_S`; a
  worker stays for a day (`api.workers`), since its silence is worth a look.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, cast

from api.context import Context
from app.configuration import Fingerprints, differences, fingerprints
from app.errors import UNDECODABLE
from app.organisations import Organisations
from tables.conditions import Condition
from tables.presence import WORKERS, Presence, decode_presence, presence
from tables.telling import AWAY, take_back, tell

LOOK_S: Final = 1.0
SETTLE_S: Final = 5.0
FORGOTTEN_S: Final = 60.0
DIFFERS: Final = "configuration_differs"
_EPHEMERAL: Final = frozenset({"api", "query"})


class Watch:
    """One per API process. `name`: its own, unique among all processes."""

    def __init__(self, context: Context, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._name = name
        self._clock = clock
        self._since_ms = int(context.clock() * 1000)
        self._differs_since: float | None = None
        self._hashed: tuple[Organisations | None, Fingerprints] = (None, {})

    async def tell(self) -> None:
        """Until cancelled."""
        await tell(self._context.redis, self._name, self.said)

    async def stop(self) -> None:
        await take_back(self._context.redis, self._name)

    def said(self) -> Presence:
        """What this process tells of itself now."""
        context = self._context
        if self._hashed[0] is not context.organisations:
            self._hashed = context.organisations, fingerprints(context.settings, context.organisations)
        return presence(
            context.settings.rules,
            self._since_ms,
            int(context.clock() * 1000),
            role="api",
            conditions=self._context.conditions.current(),
            configuration=self._hashed[1],
        )

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            with contextlib.suppress(*AWAY):  # the lag monitor says so
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One look at all processes. Raises RedisError, OSError, TimeoutError."""
        redis, now_ms = self._context.redis, int(self._context.clock() * 1000)
        stored = cast(dict[bytes, bytes], await redis.hgetall(WORKERS))
        alive: dict[bytes, Presence] = {}
        conditions: list[Condition] = []
        gone: list[bytes] = []
        for name, text in stored.items():
            try:
                said = decode_presence(text)
            except UNDECODABLE:
                continue
            if said.holds(now_ms):
                conditions += said.conditions
            if said.is_alive(now_ms):
                alive[name] = said
            elif (said.refused or said.role in _EPHEMERAL) and said.at_ms < now_ms - FORGOTTEN_S * 1000:
                gone.append(name)
        if gone:
            await redis.hdel(WORKERS, *gone)
        self._compare(alive)
        self._measure(conditions)

    def _compare(self, alive: Mapping[bytes, Presence]) -> None:
        message = differences((_who(name.decode(), said), said.configuration) for name, said in alive.items())
        if message is None:
            self._differs_since = None
            self._context.conditions.clear(DIFFERS)
            return
        now = self._clock()
        if self._differs_since is None:
            self._differs_since = now
        if now - self._differs_since >= SETTLE_S:
            self._context.conditions.set(DIFFERS, message)

    def _measure(self, conditions: list[Condition]) -> None:
        gauge = self._context.metrics.conditions
        gauge.clear()
        counts = Counter(one.code for one in conditions if one.code != DIFFERS)
        counts[DIFFERS] = int(self._context.conditions.has(DIFFERS))
        for code, count in counts.items():
            gauge.labels(code).set(count)


def _who(name: str, said: Presence) -> str:
    """`name`: of an API or query process it begins with the host and says the port too."""
    return f"{said.role} on {name if said.host and name.startswith(said.host) else said.host}"
