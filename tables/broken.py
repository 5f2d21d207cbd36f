"""What RocksDB's errors mean. rocksdict raises plain Exceptions (and PermissionError without a number): they are told
apart by their words.

Three kinds, and whose fault they are: a database that can't be read is its own; a full disk is the process's, and no
reason to remove anything; a lock is another process's.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

_FULL: Final = ("No space left on device", "Disk quota exceeded", "out of disk space", "Space limit reached")
_ROCKSDB: Final = re.compile(
    r"(Corruption|IO error|Invalid argument|Not found|Operation failed|Not implemented|Shutdown in progress|Busy"
    r"|Incomplete|Aborted|Result incomplete)\b|.*\(os error [0-9]+\)"
)
_FOLDER: Final = re.compile(r"/p([0-9]{1,4})/[^/ ]+")
_PATH: Final = re.compile(r"(/.*?/p([0-9]{1,4}))/[^/ ]+")
_TABLE: Final = re.compile(r"/.*?/p[0-9]{1,4}/[0-9]+\.sst")
_DAMAGE: Final = ("Corruption", "Input/output error")
_LONGEST: Final = 300


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return is_database_error(error) and any(words in str(error) for words in _FULL)


def is_forbidden(error: BaseException) -> bool:
    return isinstance(error, PermissionError) or (
        is_database_error(error) and "Permission denied" in str(error)
    )


def is_locked(error: BaseException) -> bool:
    """Another process has the database open for writing."""
    return is_database_error(error) and ("lock hold by" in str(error) or "While lock file" in str(error))


def is_database_error(error: BaseException) -> bool:
    """Whether it is RocksDB's, raised by rocksdict."""
    return type(error) in (Exception, PermissionError) and _ROCKSDB.match(str(error)) is not None


def damaged_file(error: BaseException) -> Path | None:
    """The table that the error says can't be read, though it is there. Tables don't change once they are written: this
    is no race with the writer."""
    words = str(error)
    if (
        is_database_error(error)
        and any(kind in words for kind in _DAMAGE)
        and (found := _TABLE.search(words))
    ):
        return Path(found[0])
    return None


def advice(error: BaseException) -> str:
    """What RocksDB's error means, for who reads databases beside their workers."""
    if (found := _PATH.search(str(error))) and (
        said := way_out(Path(found[1]), int(found[2]), error, is_counted=True)
    ):
        return said
    return f"a database can't be read ({words_of(error)}): GET /ops/workers says which one, and the way out"


def way_out(
    path: Path, partition: int, error: BaseException, *, begin: int | None = None, is_counted: bool = False
) -> str | None:
    """What is wrong with a partition's database, and the ways out, for operators; None: RocksDB doesn't say it.

    `begin`: the log's first offset, where it is known. `is_counted`: its worker may have it open.
    """
    if is_forbidden(error):
        return (
            f"{path} can't be read or written to (permission denied): give its files to the user as whom the worker "
            f"and `reports query` run (number {os.getuid()})"
        )
    if is_database_error(error):
        return (
            f"the database in {path} is broken ({words_of(error)}): {_replaced(partition, begin, is_counted)}"
        )
    return None


def _replaced(partition: int, begin: int | None, is_counted: bool) -> str:
    if begin:
        return (
            "put a copy of the folder back. Counted again from the log it would lack what is older than offset "
            f"{begin}; to do so all the same, remove the folder, and go on with `reports accept-gap {partition} "
            "--lose-counted`"
        )
    if is_counted:
        return (
            "stop its worker, put a copy of the folder back and start the worker again; or remove the folder, and the "
            "partition is counted again from the log, also while the worker runs"
        )
    return "put a copy of the folder back, or remove it: the partition is counted again from the log"


def partitions_named(error: BaseException) -> set[int]:
    """The partitions whose files the error names."""
    return {int(number) for number in _FOLDER.findall(str(error))}


def words_of(error: BaseException) -> str:
    """In one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST]
