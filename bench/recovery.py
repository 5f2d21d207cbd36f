"""From `kill -9` of the aggregate worker to counting again, under its parent, with traffic coming in."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from bench.figure import Figure
from tables.views import PARTITIONS
from tests.faults.chaos import start_load
from tests.support.processes import children
from tests.support.stack import Stack

KILLS = 5


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        stack.start("api")
        stack.start("normalize")
        stack.start("run", "aggregate")
        stack.wait_ready()
        start_load(stack, folder / "ledger", 1, 1_000_000, 500)
        stack.wait_for(lambda: bool(_offsets(stack)), 30, "the first view")
        time.sleep(3)
        seconds = []
        for _ in range(KILLS):
            seconds.append(_kill(stack))
            # A parent anew: one that has seen deaths within half a minute waits longer before the next start.
            stack.stop("run")
            before = _offsets(stack)
            stack.start("run", "aggregate")
            stack.wait_for(lambda old=before: _offsets(stack) != old, 30, "counting")  # type: ignore[misc]
            time.sleep(2)
    shown = ", ".join(f"{value:.1f}" for value in seconds)
    return [
        Figure(
            what="counting again after kill -9 of the worker, slowest",
            value=max(seconds),
            unit="s",
            goal=3.0,
            higher_is_better=False,
            note=f"{KILLS} kills: {shown}",
        )
    ]


def _offsets(stack: Stack) -> dict[bytes, bytes]:
    with stack.redis_client() as redis:
        found: dict[bytes, bytes] = redis.hgetall(PARTITIONS)
        return found


def _kill(stack: Stack) -> float:
    """Seconds until views move again."""
    for worker in children(stack.processes["run"].pid):
        os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(0.05)  # what was on its way to Redis has arrived
    before = _offsets(stack)
    while _offsets(stack) == before:
        if time.monotonic() - killed > 60:
            raise TimeoutError("no view has moved for a minute")
        time.sleep(0.01)
    return time.monotonic() - killed
