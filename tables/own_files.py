"""A folder for the files that a process needs while it lives, and that go with it however it ends.

RocksDB gives each reader beside a writer files of its own. A process that is killed leaves them behind: whoever has
waited for its end removes them (`sweep`), and so does the next one that takes a folder here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final

_PREFIX: Final = "campaign-reports-files-"
_LOCK: Final = "lock"
_YOUNG_S: Final = 60.0
"""A folder without a lock that is younger is one that is being made."""


class OwnFiles:
    """A context manager; `path` is the folder."""

    def __init__(self, parent: Path | None = None) -> None:
        """`parent`: the system's folder for temporary files unless another is named."""
        sweep(parent)
        while (made := _made(_where(parent))) is None:
            pass
        self.path, self._lock = made

    def __enter__(self) -> OwnFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(parent: Path | None = None) -> None:
    """Removes what nobody holds any more. Never raises."""
    with contextlib.suppress(OSError):
        for path in _where(parent).glob(_PREFIX + "*"):
            _remove_left_behind(path)


def _where(parent: Path | None) -> Path:
    return parent if parent is not None else Path(tempfile.gettempdir())


def _made(where: Path) -> tuple[Path, IO[str]] | None:
    """A new folder and its lock; None where a sweep was quicker than the lock."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
    try:
        lock = (path / _LOCK).open("w")
    except FileNotFoundError:
        return None
    fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock.fileno()), (path / _LOCK).stat()):
            return path, lock
    lock.close()
    return None


def _remove_left_behind(path: Path) -> None:
    # Whatever goes wrong here (another user's folder, somebody else removing it too) is no reason not to start.
    with contextlib.suppress(OSError):
        try:
            with (path / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            if time.time() - path.stat().st_mtime > _YOUNG_S:
                shutil.rmtree(path, ignore_errors=True)
