"""`reports demo` (what `make demo` runs once it is set up): until the page is live, and how long the end takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.figure import Figure
from tests.support.processes import CONFIG, ROOT
from tests.support.stack import free_port

PLAY_S = 5.0


def run(folder: Path) -> list[Figure]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REPORTS_")}
    environ = clean | {
        "REPORTS_DATA": str(folder / "data"),
        "REPORTS_CONFIG": str(CONFIG),
        "REPORTS_HTTP": f"127.0.0.1:{free_port()}",
        "PYTHONUNBUFFERED": "1",
    }
    first, _ = _demo(environ)
    warm, end = _demo(environ)
    return [
        Figure(
            what="demo in a new data folder until the page is live", value=first, unit="s", goal=90.0,
            higher_is_better=False, note="downloads not included",
        ),
        Figure(
            what="demo again (warm) until the page is live", value=warm, unit="s", goal=10.0,
            higher_is_better=False,
        ),
        Figure(what="Ctrl-C until everything has ended", value=end, unit="s", goal=10.0, higher_is_better=False),
    ]  # fmt: skip


def _demo(environ: dict[str, str]) -> tuple[float, float]:
    """(seconds until the page was live, seconds that the end took)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "demo"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "the page is live" in line:
                break
        else:
            raise RuntimeError(f"the demo ended with status {process.wait()}")
        live = time.monotonic() - began
        # Somebody has to read, or the roles' lines fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        time.sleep(PLAY_S)
        stopped = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(30)
        drain.wait(5)
        return live, time.monotonic() - stopped
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
