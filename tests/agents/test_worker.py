"""What touches state ends the process when it fails."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agents.worker import EXIT_CRASHED, EXIT_STATE
from tests.support.processes import ROOT

PROGRAM = """
import asyncio, threading
from agents.worker import keep_running, keep_thread
from app.errors import StateError

def fail():
    raise {error}

async def fail_in_task():
    fail()

async def main():
    {start}
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "start", ["keep_thread('x', fail)", "asyncio.create_task(keep_running(fail_in_task()))"]
)
@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("TimeoutError('not now')", EXIT_CRASHED, "TimeoutError: not now"),
        ("StateError('restore it')", EXIT_STATE, "reports: restore it\n"),
        (
            "IsADirectoryError(21, 'Is a directory', 'a/b.json')",
            EXIT_STATE,
            "reports: a/b.json can't be used: Is a",
        ),
    ],
)
def test_an_error_is_the_end(start: str, error: str, status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(start=start, error=error)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
