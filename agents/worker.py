"""Runs a Faust app as a process: its end is an answer.

Faust acknowledges an event whatever happened in an agent, and restarts the agent behind it: an exception would be a
lost event. So every error in an agent or a task ends the process, and its parent starts it again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import faust

from agents.engine import EngineApp
from app.errors import ConfigError, ReportsError, StateError, of_file
from app.organisations import Organisations
from tables.conditions import Conditions

log = logging.getLogger(__name__)

EXIT_CRASHED: Final = 70
EXIT_STATE: Final = 3
EXIT_CONFIG: Final = 2
EXIT_BUSY: Final = 75
Follow = Callable[[Conditions, Callable[[Organisations], None]], Awaitable[None]]
"""Heeds the configuration until cancelled: says what is wrong with it, and hands over its organisations anew."""
STOP_S: Final = 7.0
"""What a stop may take before it is cut short; nothing is lost by that."""


def stop_with(error: ReportsError) -> NoReturn:
    """Ends the process with one line that says why."""
    status = {StateError: EXIT_STATE, ConfigError: EXIT_CONFIG}.get(type(error), EXIT_BUSY)
    print(f"reports: {error}", file=sys.stderr, flush=True)  # noqa: T201  # the line is for the operator
    os._exit(status)


@contextmanager
def crash_on_error() -> Iterator[None]:
    """Ends the process on any error inside, cancellation aside."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except ReportsError as error:
        stop_with(error)
    except BaseException as error:  # noqa: BLE001  # whatever it is, going on would lose records
        if isinstance(error, OSError) and error.filename is not None and error.errno != errno.ENOENT:
            stop_with(of_file(error))
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_CRASHED)


async def keep_running(task: Coroutine[Any, Any, None]) -> None:
    """Runs a task that must not end."""
    with crash_on_error():
        await task


def keep_thread(name: str, work: Callable[[], None]) -> None:
    """Starts a thread that must not end."""

    def run() -> None:
        with crash_on_error():
            work()

    threading.Thread(target=run, name=name, daemon=True).start()


class _Worker(faust.Worker):
    """A worker whose stop takes a bounded time."""

    def _schedule_shutdown(self, signal: Any) -> None:
        timer = threading.Timer(STOP_S, os._exit, args=(0,))
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(signal)


def run(app: EngineApp) -> NoReturn:
    """Runs until SIGTERM or SIGINT. Logging is set up by the caller."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = _Worker(app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
    # Its animation is for a person who waits; here it would put control characters before the next line of the log.
    worker.spinner = None
    worker.execute_from_commandline()
    raise SystemExit(0)
