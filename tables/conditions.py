"""What is wrong with a process at the moment, as it says itself.

Rules:
- A condition is set when the fault is noticed and cleared when it is over; both are logged once, as is another message.
- It travels in the process's presence (`tables.presence`). A process that has fallen silent has no conditions: then its
  silence is shown.
- `message` is for operators, one line: what is wrong, what follows from it, and the way out. `reason` is for readers of
  reports, without names of hosts and folders: where there is one, every report is stale.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

log = logging.getLogger("reports.conditions")

_SAME: Final = ("message", "reason")


class GapSeen(msgspec.Struct, frozen=True):
    """What a database was that found records of its log missing: `reports accept-gap` goes by it."""

    topic_id: str
    position: int
    """The next offset to count."""
    generation: int
    to: int | None = None
    """Where the log goes on, where that is known."""
    counted: bool = False
    """Another database has counted what is missing, up to `position`."""


class Accepted(msgspec.Struct, frozen=True):
    """When the first and the last of what a condition concerns were accepted."""

    first_ms: int
    last_ms: int


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    """A word for programs, of `docs/operate.md`."""
    message: str
    since_ms: int
    partition: int | None = None
    """Of topic `facts`, where it concerns one."""
    reason: str | None = None
    """Why numbers that readers see may be wrong or old while it holds; None: they are right."""
    progress: float | None = None
    """Of what ends it by itself: 0 to 1."""
    gap: GapSeen | None = None
    """Of a partition whose log has a gap."""
    count: int | None = None
    """How often it has happened, where it is one of many."""
    accepted: Accepted | None = None
    """Of events that are set aside."""


class Conditions:
    """Those of one process. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._current: dict[tuple[str, int | None], Condition] = {}
        self._sources: list[Callable[[], Iterable[Condition]]] = []
        self._lock = threading.Lock()

    def include(self, source: Callable[[], Iterable[Condition]]) -> None:
        """Also what `source` says whenever somebody looks, from any thread; it logs by itself."""
        self._sources.append(source)

    def set(
        self,
        code: str,
        message: str,
        *,
        partition: int | None = None,
        reason: str | None = None,
        progress: float | None = None,
        gap: GapSeen | None = None,
        count: int | None = None,
        accepted: Accepted | None = None,
    ) -> None:
        with self._lock:
            before = self._current.get((code, partition))
            since_ms = before.since_ms if before is not None else int(self._clock() * 1000)
            condition = Condition(
                code=code,
                message=message,
                since_ms=since_ms,
                partition=partition,
                reason=reason,
                progress=progress,
                gap=gap,
                count=count,
                accepted=accepted,
            )
            self._current[code, partition] = condition
        if before is None or any(getattr(before, name) != getattr(condition, name) for name in _SAME):
            log.warning("%s: %s", code, message)

    def clear(self, code: str, partition: int | None = None) -> None:
        """Says that it is over; nothing where it wasn't set."""
        with self._lock:
            before = self._current.pop((code, partition), None)
        if before is not None:
            log.info("%s: over%s", code, f" for partition {partition}" if partition is not None else "")

    def forget(self, partition: int) -> None:
        """The partition was given away: what is wrong with it is its next owner's to say."""
        with self._lock:
            for key in [key for key in self._current if key[1] == partition]:
                del self._current[key]

    def has(self, code: str, partition: int | None = None) -> bool:
        return (code, partition) in self._current

    def current(self) -> tuple[Condition, ...]:
        """In the order in which they were set first, then those of the sources."""
        with self._lock:
            own = tuple(self._current.values())
        return (*own, *(condition for source in self._sources for condition in source()))


def worst(conditions: Iterable[Condition]) -> Condition | None:
    """The one that makes reports stale; of several the one that holds longest. None: there is none."""
    return min(
        (condition for condition in conditions if condition.reason),
        key=lambda condition: (condition.since_ms, condition.code, condition.partition or 0),
        default=None,
    )
