"""How far a command has come: a bar on a terminal, one line every five seconds elsewhere. Always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

LINE_EVERY_S = 5.0


class Progress:
    """`unit` is what is counted; `total` None where it has no end."""

    def __init__(self, unit: str, total: int | None) -> None:
        self._unit = unit
        self._total = total
        self._started = self._shown = time.monotonic()
        self._done = 0
        console = Console(stderr=True)
        self._bar: RichProgress | None = None
        if console.is_terminal:
            self._bar = RichProgress(
                SpinnerColumn(),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}  {task.fields[speed]}/s  {task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, unit=unit, speed=0, note="")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    def at(self, done: int, note: str = "") -> None:
        """`done` of the total are done now."""
        now = time.monotonic()
        self._done = done
        speed = round(done / max(now - self._started, 0.001))
        if self._bar is not None:
            self._bar.update(self._task, completed=done, speed=speed, note=note)
        elif now - self._shown >= LINE_EVERY_S:
            self._shown = now
            of_total = "" if self._total is None else f" of {self._total}"
            self.say(f"{done}{of_total} {self._unit}, {speed}/s{', ' + note if note else ''}")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
