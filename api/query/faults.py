"""What is wrong with the databases that a query process reads: when it is said, and when it is over.

Rules:
- A table with a block that can't be read is damaged: it never changes once it is written. That is said at once, and is
  over when the file is another one, or the folder is gone. Where the file has changed since its reader was opened, the
  error says nothing of what is there now: the next reader finds out.
- Whether the folder may be removed depends on what topic `facts` still has: that is asked while anything is wrong
  (`watch_log`), and until it is known nobody is told to remove it.
- A database that can't be opened, or can't catch up, may be one in the making, or its writer has just removed a file.
  That is said once it has lasted for `LASTING_S`, and is over when the database has caught up again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from app.errors import TryLater
from tables.background import in_thread
from tables.broken import damaged_file, is_forbidden, way_out, words_of

LASTING_S: Final = 10.0
LOOK_S: Final = 1.0
LOG_S: Final = 60.0
"""How often, while a database is wrong, it is asked again what topic `facts` still has."""
_FOLLOWS: Final = "Until then lists and exports may fail or end early; the reports' numbers are not affected"

Signature = tuple[int, int, int, int]
"""What changes with a repair."""


class _Damaged(NamedTuple):
    error: Exception
    file: Path
    signature: Signature


class _Failing(NamedTuple):
    error: Exception
    since: float


class Faults:
    """Thread-safe. `None` as a partition is the state folder itself."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._state = state
        self._clock = clock
        self._damaged: dict[int, _Damaged] = {}
        self._failing: dict[int | None, _Failing] = {}
        self._lacks: Mapping[int, str] = {}
        self._lock = threading.Lock()

    def unread(self, partition: int, error: Exception, tables: Mapping[str, Signature]) -> None:
        """Reading it raised this. `tables`: those that were there when the reader was opened (`tables_of`)."""
        file = damaged_file(error)
        if file is None or file.parent.name != f"p{partition}":
            return
        now = _signature(file)
        if now is not None and tables.get(file.name) == now:
            with self._lock:
                self._damaged[partition] = _Damaged(_bare(error), file, now)

    def failed(self, partition: int | None, error: Exception) -> None:
        """It could not be opened, or could not catch up."""
        with self._lock:
            known = self._failing.get(partition)
            since = known.since if known is not None else self._clock()
            self._failing[partition] = _Failing(_bare(error), since)

    def caught_up(self, partition: int | None) -> None:
        if partition in self._failing:
            with self._lock:
                self._failing.pop(partition, None)

    def look(self, found: Collection[int]) -> None:
        """Forgets what is over. `found`: partitions of which something is in the state folder."""
        with self._lock:
            self._failing = {p: one for p, one in self._failing.items() if p is None or p in found}
            self._damaged = {
                partition: one
                for partition, one in self._damaged.items()
                if partition in found and _signature(one.file) == one.signature
            }

    def said(self) -> dict[int | None, str]:
        """Partition → what is wrong, what follows and the way out, for operators."""
        return {
            partition: f"{self._words(partition, error)}. {_FOLLOWS}"
            for partition, error in self._errors().items()
        }

    def _errors(self) -> dict[int | None, Exception]:
        now = self._clock()
        with self._lock:
            errors: dict[int | None, Exception] = {
                partition: one.error
                for partition, one in self._failing.items()
                if now - one.since >= LASTING_S
            }
            return errors | {partition: one.error for partition, one in self._damaged.items()}

    async def watch_log(self, ask: Callable[[Collection[int]], Mapping[int, str]]) -> None:
        """While anything is wrong, asks what topic `facts` lacks of these partitions; until cancelled.

        `ask`: `tables.completeness.lacking_of_published`; it blocks."""
        ask_at, asked = 0.0, set[int]()
        while True:
            wrong = {partition for partition in self._errors() if partition is not None}
            if not wrong:
                self._lacks = {}
            elif not wrong <= asked or self._clock() >= ask_at:
                try:
                    self._lacks = await in_thread(partial(ask, sorted(wrong)))
                except TryLater:
                    self._lacks = {}
                ask_at = self._clock() + LOG_S
            asked = wrong
            await asyncio.sleep(LOOK_S)

    def _words(self, partition: int | None, error: Exception) -> str:
        path = self._state if partition is None else self._state / f"p{partition}"
        lacks = self._lacks.get(partition) if partition is not None else None
        said = way_out(path, partition or 0, error, lacks=lacks, is_counted=True)
        return said if said is not None else f"{path} can't be read ({words_of(error)})"


def _bare(error: Exception) -> Exception:
    """Without its traceback, whose frames hold iterators, and these the database open."""
    kind = PermissionError if is_forbidden(error) else Exception
    return kind(str(error))


def tables_of(path: Path, before_ns: int | None = None) -> dict[str, Signature]:
    """The tables of a database that are there now; `before_ns`: those that are as they were at that time."""
    found = {table.name: _signature(table) for table in path.glob("*.sst")}
    return {
        name: one
        for name, one in found.items()
        if one is not None and (before_ns is None or max(one[2:]) < before_ns)
    }


def _signature(path: Path) -> Signature | None:
    """None: the file is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
