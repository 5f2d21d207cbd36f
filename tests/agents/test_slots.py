"""Slots: stable while held, free again when the process is gone, never two workers in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.slots import Slot
from app.errors import StateError

_HOLD = """
import sys, time
from pathlib import Path
from agents.slots import Slot
slot = Slot(Path(sys.argv[1]))
print(slot.member, flush=True)
time.sleep(60)
"""


def hold(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_killed_workers_slot_is_the_next_ones(tmp_path: Path) -> None:
    first, first_member = hold(tmp_path)
    second, second_member = hold(tmp_path)
    try:
        assert first_member != second_member
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        third = Slot(tmp_path)
        assert third.member == first_member
        third.release()
    finally:
        for process in (first, second):
            process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()


def test_two_folders_never_share_a_member_id(tmp_path: Path) -> None:
    one, other = Slot(tmp_path / "a"), Slot(tmp_path / "b")
    assert one.member != other.member
    one.release()
    other.release()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="can't be written to"):
        Slot(tmp_path / "file" / "slots")
