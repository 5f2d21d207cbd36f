from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from tables.own_files import OwnFiles, sweep
from tests.support.processes import ROOT

HOLD = """
import sys, time
from pathlib import Path
from tables.own_files import OwnFiles
files = OwnFiles(Path(sys.argv[1]))
(files.path / "x").write_text("x")
print(files.path, flush=True)
time.sleep(60)
"""


def test_they_go_with_their_process(tmp_path: Path) -> None:
    with OwnFiles(tmp_path) as files:
        (files.path / "sub").mkdir()
        assert files.path.is_dir()
    assert not files.path.exists()


def test_what_a_killed_process_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    making = tmp_path / "campaign-reports-files-young"
    making.mkdir()
    old = tmp_path / "campaign-reports-files-old"
    old.mkdir()
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    held = Path(process.stdout.readline().strip())
    with OwnFiles(tmp_path) as first:
        assert held.is_dir()
        process.kill()
        process.wait()
        process.stdout.close()
        with OwnFiles(tmp_path):
            assert first.path.is_dir()
            assert not held.exists()
            assert not old.exists()
            assert making.is_dir()
    assert (tmp_path / "another").is_dir()


def test_a_folder_that_is_being_made_is_nobodys_to_remove(tmp_path: Path) -> None:
    """Between the making of its lock file and the lock, a sweep takes it for left behind: then another one is made."""
    done = threading.Event()

    def sweep_on() -> None:
        while not done.is_set():
            sweep(tmp_path)

    sweeping = [threading.Thread(target=sweep_on) for _ in range(2)]
    for thread in sweeping:
        thread.start()
    try:
        for _ in range(150):
            with OwnFiles(tmp_path) as files:
                (files.path / "x").write_text("x")
    finally:
        done.set()
        for thread in sweeping:
            thread.join()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
