"""Ends a worker that stands still. Its parent starts it again, and it goes on from its own offset.

Faust can stop consuming without an error and without an end (a recovery step that took longer than its timeout, a
fetcher that crashed, a group that it can't join). Counting is then late, and nothing says so. The rules:
- no assignment within `STALL_S` of the start, or a rebalance that lasts longer: end;
- behind the log (or not knowing where its end is) and nothing counted for `STALL_S`: end; partitions that are held
  (`EngineApp.held`) are not waited for;
- something to publish, Redis answers, and no progress for `STALL_S`: end. (Also for a partition that is counted by a
  copy with a higher generation: if it is this worker's, the next assignment gives it a higher one; else it is gone.)
- the event loop doesn't run for `LOOP_S`: end, from a thread of its own.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Final

from faust.types import TP

from agents.engine import EngineApp
from agents.worker import keep_thread

log = logging.getLogger(__name__)

STALL_S: Final = 60.0
LOOP_S: Final = 45.0
EXIT_STALLED: Final = 70


class Watchdog:
    """`positions` gives partition → next offset of what was consumed; `unpublished_s` for how long publication has made
    no progress."""

    def __init__(
        self,
        app: EngineApp,
        topic: str,
        positions: Callable[[], dict[int, int]],
        unpublished_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._app = app
        self._unpublished_s = unpublished_s
        self._topic = topic
        self._positions = positions
        self._seen: dict[int, int] = {}
        self._moved_at = self._loop_at = time.monotonic()
        self.joined = False
        """Set once a rebalance was completed, with or without partitions for this worker."""
        self.patient = False
        """Something is under way that may take long, and says so itself."""

    async def run(self) -> None:
        """Watches until cancelled."""
        keep_thread("watchdog", self._watch_loop)
        while True:
            self._loop_at = time.monotonic()
            self._look()
            if time.monotonic() - self._moved_at > STALL_S:
                log.error("nothing consumed for %d s though there is something to do, ending", STALL_S)
                os._exit(EXIT_STALLED)
            if self._unpublished_s() > STALL_S:
                log.error("nothing published for %d s though Redis answers, ending", STALL_S)
                os._exit(EXIT_STALLED)
            await asyncio.sleep(1)

    def _look(self) -> None:
        """Notes whether the worker moves or has nothing to do."""
        positions = self._positions()
        moved = positions != self._seen
        self._seen = dict(positions)
        if self.patient:
            self._moved_at = time.monotonic()
        if not self.joined or self._app.rebalancing:
            return
        consumer = self._app.consumer
        # None until the first answer of a partition's leader, whatever Faust's annotation says.
        ends: dict[int, int | None] = {
            p: consumer.highwater(TP(self._topic, p))
            for p in self._app.assigned(self._topic) - self._app.held
        }
        behind = any(end is None or end > positions.get(p, end) for p, end in ends.items())
        if moved or not behind:
            self._moved_at = time.monotonic()

    def _watch_loop(self) -> None:
        while True:
            time.sleep(1)
            if time.monotonic() - self._loop_at > LOOP_S:
                log.error("the event loop stood still for %d s, ending", LOOP_S)
                faulthandler.dump_traceback(file=sys.stderr)
                os._exit(EXIT_STALLED)
