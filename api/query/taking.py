"""Rows of a page from a walk: few steps at once, then more, and never for long between two looks at the clock.

Rules:
- A page that has looked for `SCAN_MS` ends, and the next one goes on behind what was looked at.
- How many steps are looked at together follows from what the last ones took: a state that is read from the disk takes
  far longer than one in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol, TypeVar

from api.query.wire import SCAN_MS
from tables.paging import Step

_BATCH: Final = 512
_LEAST: Final = 16
_STEP_S: Final = 0.005


class Row(Protocol):
    @property
    def order(self) -> bytes: ...


_R = TypeVar("_R", bound=Row)
_R_co = TypeVar("_R_co", bound=Row, covariant=True)


class Check(Protocol[_R_co]):
    """Steps of a walk → the rows among them that belong to the list, in order; `most`: more are of no use."""

    def rows(self, steps: list[Step], most: int) -> Iterator[_R_co]: ...


def take(walk: Iterator[Step], check: Check[_R], limit: int) -> tuple[list[_R], bytes | None]:
    """The next rows, and up to where everything was looked at (None: to the end)."""
    rows: list[_R] = []
    size = limit + 1
    began = now = time.perf_counter()
    while True:
        batch = list(islice(walk, size))
        for row in check.rows(batch, limit + 1 - len(rows)):
            if len(rows) == limit:
                return rows, rows[-1].order
            rows.append(row)
        if len(batch) < size:
            return rows, None
        before, now = now, time.perf_counter()
        if len(rows) == limit or now - began >= SCAN_MS / 1000:
            return rows, batch[-1].order
        size = _next_size(size, now - before)


def _next_size(size: int, took_s: float) -> int:
    affordable = int(size * _STEP_S / max(took_s, 1e-6))
    return max(_LEAST, min(max(64, 2 * size), affordable, _BATCH))
