"""SIGHUP: a wish that reports.toml is read again. It ends no role, from a role's first moment to its last.

Rules:
- `expect` comes before anything else is imported: until somebody listens, the wish is only noted.
- A role under our own parent starts with the signal blocked (`held`), so that one that comes before is not lost.
- `end` comes after everything else: as Python ends it sets the handlers back, and then the signal would end it.
- In a terminal SIGHUP says that it was closed: there the own servers and the traffic end by it, as by default.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio  # every command imports this module: it must cost nothing

ROLES = frozenset({"api", "normalize", "aggregate", "query"})
_RELOAD = ROLES | {"up", "demo", "run"}
_INDIFFERENT = frozenset({"kafka", "redis", "load"})

_noted = False
_listener: tuple[asyncio.AbstractEventLoop, Callable[[], None]] | None = None


def expect(command: str) -> None:
    """From now on SIGHUP doesn't end this process, where the command is one that runs for long."""
    if command in _RELOAD or (command in _INDIFFERENT and not (sys.stdin and sys.stdin.isatty())):
        signal.signal(signal.SIGHUP, _hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def end() -> None:
    """From now on SIGHUP does nothing: the process is at its end, and the next one reads the file anyway."""
    if signal.getsignal(signal.SIGHUP) is _hear:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def listen(loop: asyncio.AbstractEventLoop, heard: Callable[[], None]) -> None:
    """Calls `heard` in the loop that this is called from, for each SIGHUP and for one that has come already."""
    global _listener, _noted
    _listener = loop, heard
    signal.signal(signal.SIGHUP, _hear)
    if _noted:
        _noted = False
        heard()


def _hear(number: int, frame: FrameType | None) -> None:
    global _noted
    if _listener is None:
        _noted = True
        return
    loop, heard = _listener
    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is at its end
        loop.call_soon_threadsafe(heard)


_holding = 0


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A process that is started inside begins with SIGHUP blocked, until it calls `expect`.

    Several may be inside at once, and leave in any order: the last one lets the signal in again."""
    global _holding
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if not _holding:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
