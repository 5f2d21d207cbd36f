"""The boundary of what runs beside a process's work: threads and tasks that read, watch and tell.

Rules:
- Whatever one of them raises, it is logged and counted, and it begins again: after `FIRST_S`, twice as long each time
  up to `MAX_S`, and `FIRST_S` again once it went well for `STEADY_S`. While one fails, the condition
  `background_failing` says so.
- What touches state has no place here: there an error ends the process (`agents.worker.keep_running`, `keep_thread`).
- `tests/test_background.py` finds every thread and task of the program, and fails for one that has neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar, cast

from tables.conditions import Condition, Conditions

log = logging.getLogger("reports.background")

_Result = TypeVar("_Result")

FIRST_S: Final = 0.2
MAX_S: Final = 10.0
STEADY_S: Final = 15.0
"""Above `MAX_S`: one that fails each time stays visible."""


class _Failing:
    """What is known of one that failed."""

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self.error = ""
        self.pause_s = FIRST_S
        self.begun_s: float | None = None
        """When it began again; None: it is going to."""

    def is_over(self, now_s: float) -> bool:
        return self.begun_s is not None and now_s - self.begun_s >= STEADY_S


class Background:
    """One per process. Thread-safe."""

    def __init__(
        self,
        conditions: Conditions | None = None,
        count: Callable[[str], None] = lambda name: None,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`count(name)` is called for each failure."""
        self._count = count
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failing: dict[str, _Failing] = {}
        self.running: Counter[str] = Counter()
        """How many of each name run now."""
        if conditions is not None:
            conditions.include(self.failing)

    def task(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """A task of that name, cancelled by its maker. It ends when `work` returns."""
        return asyncio.create_task(self.run(name, work), name=name)

    async def run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """The same in the task that calls."""
        with self._counted(name):
            while True:
                self._begin(name)
                try:
                    await work()
                    return
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    failure: BaseException = error  # of something that it waited for: nobody wants its end
                except Exception as error:  # noqa: BLE001  the boundary
                    failure = error
                await asyncio.sleep(self._fail(name, failure))

    def run_in_thread(self, name: str, work: Callable[[], None], stopping: threading.Event) -> None:
        """The same for a thread: until `work` returns or `stopping` is set."""
        with self._counted(name):
            while not stopping.is_set():
                self._begin(name)
                try:
                    work()
                    return
                except Exception as error:  # noqa: BLE001  the boundary
                    stopping.wait(self._fail(name, error))

    def failing(self) -> Iterator[Condition]:
        """For `Conditions.include`."""
        now_s = self._monotonic()
        with self._lock:
            found = {name: one for name, one in self._failing.items() if not one.is_over(now_s)}
        if found:
            told = ", ".join(f"{name} ({one.error})" for name, one in sorted(found.items()))
            yield Condition(
                code="background_failing",
                message=f"failed and started again by itself: {told}. What it reads or watches may be old "
                "meanwhile; the whole error is in this process's log",
                since_ms=min(one.since_ms for one in found.values()),
            )

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        with self._lock:
            self.running[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self.running -= Counter({name: 1})

    def _begin(self, name: str) -> None:
        with self._lock:
            failing = self._failing.get(name)
            if failing is not None:
                failing.begun_s = self._monotonic()

    def _fail(self, name: str, error: BaseException) -> float:
        """Returns how long to wait."""
        with self._lock:
            failing = self._failing.get(name)
            if failing is None or failing.is_over(self._monotonic()):
                failing = self._failing[name] = _Failing(int(self._wall() * 1000))
            failing.error = type(error).__name__  # its words are for the log: they may hold anything
            failing.begun_s = None
            pause_s, failing.pause_s = failing.pause_s, min(2 * failing.pause_s, MAX_S)
        self._count(name)
        log.error("%s failed and begins again in %.1f s", name, pause_s, exc_info=error)
        return pause_s


class Following:
    """A thread under the boundary. `run` is to return soon after `stopping` is set."""

    def __init__(self, background: Background, name: str, run: Callable[[], None]) -> None:
        self._background = background
        self._name = name
        self._run = run
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()

    def start(self) -> None:
        self._thread = threading.Thread(
            target=self._background.run_in_thread,
            args=(self._name, self._run, self.stopping),
            name=self._name,
            daemon=True,
        )
        self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Ends within its clients' timeouts; it is a daemon, so that a hung client can't hold the process."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=within_s)


def in_thread(function: Callable[[], _Result]) -> asyncio.Future[_Result]:
    """Runs it in a thread that nobody waits for when the process ends: an executor's would be waited for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(cast(_Result, result))

    def run() -> None:
        result: _Result | None = None
        caught: BaseException | None = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  # whoever awaits it raises it
            caught = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, caught)

    threading.Thread(target=run, name=getattr(function, "__name__", "prepare"), daemon=True).start()
    return future
