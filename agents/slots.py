"""A worker's slot: the number that makes its member id in the consumer group a stable one.

With a stable id (Kafka's static membership) a worker that was killed has its partitions back in about a second,
instead of after the session timeout. Two workers with one id would fence each other, so a slot is a file that its
worker holds locked; the lock goes with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO

from app.errors import StateError

_MOST = 1_000


class Slot:
    """The lowest free slot of a folder, held until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Raises StateError where the folder can't be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._installation = _installation(folder / "id")
            self.number, self._file = _take(folder)
        except OSError as error:
            raise StateError(f"{folder} can't be written to: {error.strerror}") from error

    def release(self) -> None:
        """Gives the slot back before the process ends."""
        self._file.close()

    @property
    def member(self) -> str:
        """The member id: unique to this folder and slot."""
        return f"{self._installation}-{self.number}"


def _installation(path: Path) -> str:
    """The folder's own word, made by whoever comes first."""
    try:
        with path.open("x") as file:
            file.write(secrets.token_hex(6))
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        pass
    word = path.read_text().strip()
    if not word:
        # Another worker made the file a moment ago and was killed before it wrote, or is about to write.
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            word = file.read().strip()
            if not word:
                word = secrets.token_hex(6)
                file.write(word)
    return word


def _take(folder: Path) -> tuple[int, IO[str]]:
    for number in range(_MOST):
        file = (folder / f"{number}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return number, file
    raise StateError(f"{folder}: all {_MOST} slots are taken")
