"""Several roles are started at once, and none of them leaves the parent deaf."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from cli import hangup
from cli.leash import leashed
from tests.support.processes import ROOT, environment


def is_blocked() -> bool:
    return signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_those_who_leave_in_any_order_let_the_signal_in_again() -> None:
    first, second = hangup.held(), hangup.held()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_blocked()
    second.__exit__(None, None, None)
    assert not is_blocked()


def test_a_role_that_is_refused_ends_by_that_whatever_comes_meanwhile(tmp_path: Path) -> None:
    """Python sets the handlers back as it ends: its parent took a refusal for a death."""
    command = leashed(signal.SIGKILL, [sys.executable, "-m", "cli.main", "query"])
    with hangup.held():  # as our own parent starts it
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(tmp_path, http="nowhere"), stderr=subprocess.DEVNULL
        )
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.0005)
    assert process.returncode == 2
