"""Starting `reports` and other programs as real processes, and waiting for what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "reports.toml"


def environment(data: Path, **settings: str) -> dict[str, str]:
    """An environment in which `reports` works in the folder `data`, with `settings` as REPORTS_NAME."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REPORTS_")}
    chosen = {"DATA": str(data), "CONFIG": str(CONFIG), "HTTP": "127.0.0.1:0"} | settings
    return clean | {f"REPORTS_{name.upper()}": value for name, value in chosen.items()}


@contextlib.contextmanager
def reports(
    arguments: Sequence[str], environ: dict[str, str], output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A running `reports` command whose output goes to a file; it is killed at the end if it still lives."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def wait_until(found: Callable[[], T | None], timeout_s: float = 20.0, what: str = "it") -> T:
    """The first true thing that `found` gives. AssertionError after the timeout."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.02
    while not (result := found()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(pause_s)
        # What is waited for needs the processor more than who asks.
        pause_s = min(pause_s * 1.2, 0.1)
    return result


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie doesn't."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def children(pid: int) -> list[int]:
    """The numbers of a process's living children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found


def end(
    process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, timeout_s: float = 12.0
) -> int:
    """Signal a process and wait for its end; gives its status."""
    process.send_signal(number)
    return process.wait(timeout_s)
