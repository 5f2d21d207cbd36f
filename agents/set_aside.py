"""Partitions that are not counted at the moment, while others may go on: why, the ways out, and when to look again.

Rules:
- Whatever is wrong with one partition's database, log or records sets that partition aside: its records stay in the
  log, its position stays, and a condition `partition_set_aside` says what is wrong and which ways lead out.
- It is tried again every `RETRY_S`, after each rebalance, and at once when its folder has changed, since operators
  repair things under it.
- A full disk is nobody's fault but the disk's: all partitions wait, under condition `disk_full`, until there is room.
- After an error memory is ahead of the disk, so the database is closed and opened again before it is used.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from app.errors import LogGap, ReportsError, UnfitDatabase
from tables.broken import is_disk_full, removal, way_out, words_of
from tables.conditions import Conditions, GapSeen

SET_ASIDE: Final = "partition_set_aside"
DISK_FULL: Final = "disk_full"
RETRY_S: Final = 60.0
ROOM_S: Final = 2.0
"""How often it is looked whether a full disk has room again."""
ROOM_BYTES: Final = 64 << 20
"""What RocksDB needs to open databases and to write on."""
ROOM_SHARE: Final = 20
"""On a small disk a twentieth of it will do."""

_Signature = tuple[tuple[str, int, int, int], ...]
_OWN_FILES: Final = ("LOG", "LOCK", "rocksdict-config.json")
"""Each try to open a database writes these, a reader's the last one."""


class _Aside(NamedTuple):
    error: Exception | None
    folder: _Signature
    try_at: float
    seen: GapSeen | None = None
    lacks: str | None = None


class SetAside:
    """Those of one worker. Not for use from several threads at once."""

    def __init__(
        self,
        state: Path,
        conditions: Conditions,
        clock: Callable[[], float] = time.monotonic,
        counted: Callable[[], Collection[int]] = tuple,
        partitions: int = 0,
    ) -> None:
        """`counted`: the partitions of this worker that go on. `partitions`: how many the installation has."""
        self._state = state
        self._conditions = conditions
        self._clock = clock
        self._counted = counted
        self._partitions = partitions
        self._aside: dict[int, _Aside] = {}

    def __contains__(self, partition: int) -> bool:
        return partition in self._aside

    @property
    def partitions(self) -> set[int]:
        return set(self._aside)

    @property
    def gaps(self) -> set[int]:
        """Those that `reports accept-gap` may let go on."""
        return {partition for partition, one in self._aside.items() if isinstance(one.error, LogGap)}

    def add(
        self, partition: int, error: Exception, *, seen: GapSeen | None = None, lacks: str | None = None
    ) -> None:
        """`seen`: where the database stood, at a gap; `lacks`: as `tables.broken.removal` takes it."""
        _let_go(error)
        full = is_disk_full(error)
        self._note(partition, error, ROOM_S if full else RETRY_S, seen, lacks)
        if full:
            self._conditions.clear(SET_ASIDE, partition)
            self._conditions.set(
                DISK_FULL,
                f"the disk of {self._state} is full ({words_of(error)}): nothing is counted until there is room for "
                f"{max(1, self._needed() >> 20)} MiB; then it goes on by itself. The databases are sound: remove none",
                reason="a worker's disk is full: events are kept and counted once there is room",
            )
            return
        self.tell(partition)

    def tell(self, new: int | None = None) -> None:
        """Says of each what is wrong, by what goes on now: to be called when that has changed. `new`: one of which
        nothing was said yet."""
        others = "The other partitions go on" if self._counted() else "No partition of this worker is counted"
        said = [p for p in sorted(self._aside) if p == new or self._conditions.has(SET_ASIDE, p)]
        for partition in said:
            one = self._aside[partition]
            if one.error is None:
                continue
            self._conditions.set(
                SET_ASIDE,
                f"{self._words(partition, one.error, one.lacks)}. {others}; this one is tried again every "
                f"{RETRY_S:.0f} s, and at once when its folder changes",
                partition=partition,
                reason=self._reason(said),
                gap=one.seen,
            )

    def _reason(self, said: Sequence[int]) -> str:
        if len(said) == self._partitions:
            return "the numbers are not counted at the moment (all partitions are set aside)"
        which = f"partition {said[0]} is" if len(said) == 1 else f"partitions {', '.join(map(str, said))} are"
        return f"a part of the numbers is not counted at the moment ({which} set aside)"

    def again(self, partition: int) -> None:
        """It is opened again at once, and nothing said: what was noticed may be no fault."""
        self._aside[partition] = _Aside(None, (), self._clock())

    def put_off(self, partition: int) -> None:
        """It could not be tried: Kafka doesn't answer. What was said of it stands."""
        known = self._aside.get(partition)
        if known is not None:  # given away while Kafka was asked
            self._note(partition, known.error, ROOM_S, known.seen, known.lacks)

    def remove(self, partition: int) -> None:
        """It is counted again, or was given away."""
        if self._aside.pop(partition, None) is None:
            return
        self._conditions.clear(SET_ASIDE, partition)
        self.tell()
        if not any(one.error is not None and is_disk_full(one.error) for one in self._aside.values()):
            self._conditions.clear(DISK_FULL)

    def due(self) -> list[int]:
        """Those to try now."""
        now = self._clock()
        found = []
        room: bool | None = None
        for partition, one in sorted(self._aside.items()):
            full = one.error is not None and is_disk_full(one.error)
            if full:
                if room is None and now >= one.try_at:
                    room = self._has_room()
                ready = bool(room) and now >= one.try_at
            else:
                changed = one.error is not None and _signature(self._path(partition)) != one.folder
                ready = changed or now >= one.try_at
            if ready:
                found.append(partition)
        return found

    def _note(
        self, partition: int, error: Exception | None, wait_s: float, seen: GapSeen | None, lacks: str | None
    ) -> None:
        folder = _signature(self._path(partition))
        self._aside[partition] = _Aside(error, folder, self._clock() + wait_s, seen, lacks)

    def _path(self, partition: int) -> Path:
        return self._state / f"p{partition}"

    def _needed(self) -> int:
        return min(ROOM_BYTES, shutil.disk_usage(self._state).total // ROOM_SHARE)

    def _has_room(self) -> bool:
        try:
            return shutil.disk_usage(self._state).free >= self._needed()
        except OSError:
            return False

    def _words(self, partition: int, error: Exception, lacks: str | None) -> str:
        path = self._path(partition)
        if isinstance(error, LogGap):
            every = " (`reports accept-gap --all` for all that wait at a gap)" if len(self.gaps) > 1 else ""
            return (
                f"{error}. Restore the log, or a newer copy of {path}; or go on with `reports accept-gap {partition}`"
                f"{every}, which says what is lost"
            )
        if isinstance(error, UnfitDatabase):
            return f"{error}{removal(partition, lacks, how='move the folder away')}"
        if isinstance(error, ReportsError):
            return str(error)
        if said := way_out(path, partition, error, lacks=lacks):
            return said
        return (
            f"partition {partition} can't be counted: {type(error).__name__}: {words_of(error)}. This is a bug, and "
            "nothing is lost, since what isn't counted stays in the log: report it with the worker's log, and upgrade"
        )


def _let_go(error: BaseException | None) -> None:
    """Frees what the frames of an error's traceback hold: a half-used iterator keeps RocksDB's lock on the folder."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _signature(path: Path) -> _Signature:
    """What an operator changes who repairs a database; nothing where there is none."""
    try:
        with os.scandir(path) as found:
            files = [
                (one.name, one.stat().st_size, one.stat().st_mtime_ns, one.stat().st_mode)
                for one in found
                if not one.name.startswith(_OWN_FILES)
            ]
        own = path.stat()
        return (("", own.st_ino, own.st_uid, own.st_mode), *sorted(files))
    except OSError as error:
        return ((error.strerror or "", 0, 0, 0),)
