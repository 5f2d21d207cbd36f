"""Slots: stable while held, free again when the process is gone, never two workers in one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.slots import Slot
from app.errors import StateError
from tables.presence import folder_word

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


def test_a_copied_folder_gets_ids_of_its_own(tmp_path: Path) -> None:
    one = Slot(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copy = Slot(tmp_path / "two")
    try:
        assert copy.number == one.number
        assert copy.member != one.member
        assert one.member.startswith(word_of(tmp_path / "one"))
    finally:
        one.release()
        copy.release()
    again = Slot(tmp_path / "two")
    assert again.member == copy.member, "the copy keeps what it made"
    again.release()


def test_an_id_of_an_earlier_version_is_made_again(tmp_path: Path) -> None:
    """It doesn't say for which folder it was made."""
    tmp_path.joinpath("id").write_text("0123456789ab")
    slot = Slot(tmp_path)
    assert not slot.member.startswith("0123456789ab")
    slot.release()


@pytest.mark.parametrize(
    "damaged", [b"", b"\xff\xfe{garbage", b"\x00" * 30, b"\xff\xfe \xff", b"no-word 1:2:3\nand more"]
)
def test_damaged_files_are_made_again_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    """All that the folder holds, also while the query process reads it."""
    state = tmp_path / "state"
    folder = state / "slots"
    Slot(folder).release()
    for path in folder.iterdir():
        path.write_bytes(damaged)
    folder_word(state)
    slot = Slot(folder)
    assert re.fullmatch(r"[0-9a-f]{12}-0", slot.member) and slot.member == f"{folder_word(state)}-0"
    assert (f"{folder / 'id'} is damaged" in caplog.text) == bool(damaged)
    slot.release()
    again = Slot(folder)
    assert again.member == slot.member
    again.release()


def test_a_folder_in_the_place_of_a_file_is_named_and_the_advice_helps(tmp_path: Path) -> None:
    (tmp_path / "id").mkdir()
    with pytest.raises(StateError, match=f"{tmp_path}/id can't be written to.* may be removed"):
        Slot(tmp_path)
    shutil.rmtree(tmp_path)
    Slot(tmp_path).release()


def word_of(folder: Path) -> str:
    """As the query process reads it."""
    return (folder / "id").read_text().partition(" ")[0]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="can't be written to"):
        Slot(tmp_path / "file" / "slots")
