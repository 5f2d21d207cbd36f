"""A worker's slot: the number that makes its member id in the consumer group a stable one.

With a stable id (Kafka's static membership) a worker that was killed has its partitions back in about a second,
instead of after the session timeout. Two workers with one id would fence each other, so a slot is a file that its
worker holds locked; the lock goes with the process, however it ends. The folder's own word in the id is made for the
place where it is: a copied folder makes its own, and so does one whose file `id` is damaged.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import re
import secrets
from pathlib import Path
from typing import IO

from app.errors import StateError

log = logging.getLogger(__name__)

_MOST = 1_000
_WORD = re.compile(r"[0-9a-f]{12}")


class Slot:
    """The lowest free slot of a folder, held until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Raises StateError where the folder can't be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._word = _word(folder / "id")
            self.number, self._file = _take(folder)
        except OSError as error:
            raise StateError(
                f"{error.filename or folder} can't be written to: {error.strerror or error}. {folder} may be removed "
                "while no worker runs: it is made again, and nothing is lost"
            ) from error

    def release(self) -> None:
        """Gives the slot back before the process ends."""
        self._file.close()

    @property
    def member(self) -> str:
        """The member id: unique to this folder and slot."""
        return f"{self._word}-{self.number}"


def _word(path: Path) -> str:
    """The folder's own word, made by whoever comes first, and made again where the folder is a copy."""
    here = _place(path.parent)
    with path.open("a+", encoding="utf-8", errors="replace") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read().strip()
        word, _, place = text.partition(" ")
        is_word = _WORD.fullmatch(word) is not None
        if not is_word or place != here:
            if text and not is_word:
                log.warning("%s is damaged and made again: its workers get new member ids", path)
            elif place:
                log.warning(
                    "%s is a copy, or its machine was started anew: its workers get new member ids",
                    path.parent,
                )
            word = secrets.token_hex(6)
            file.truncate(0)
            file.write(f"{word} {here}\n")
            file.flush()
            os.fsync(file.fileno())
    return word


def _place(folder: Path) -> str:
    """What a copy of the folder, here or on another machine, has another of: the inode, and which kernel runs."""
    found = folder.stat()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = platform.node()
    return f"{found.st_dev}:{found.st_ino}:{boot}"


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
