"""Python reads this at its start where its folder is in PYTHONPATH: the process's clock is wrong by so many seconds."""

from __future__ import annotations

import os
import time

SHIFT_S = int(os.environ.get("TEST_CLOCK_SHIFT_S", "0"))
_time, _time_ns = time.time, time.time_ns

if SHIFT_S:
    time.time = lambda: _time() + SHIFT_S
    time.time_ns = lambda: _time_ns() + SHIFT_S * 1_000_000_000
