"""What RocksDB's errors mean. rocksdict raises plain Exceptions (and PermissionError without a number): they are told
apart by their words.

Three kinds, and whose fault they are: a database that can't be read is its own; a full disk is the process's, and no
reason to remove anything; a lock is another process's.
"""

from __future__ import annotations

import errno
import re
from typing import Final

_FULL: Final = ("No space left on device", "Disk quota exceeded", "out of disk space", "Space limit reached")
_ROCKSDB: Final = re.compile(
    r"(Corruption|IO error|Invalid argument|Not found|Operation failed|Not implemented|Shutdown in progress|Busy"
    r"|Incomplete|Aborted|Result incomplete)\b|.*\(os error [0-9]+\)"
)
_FOLDER: Final = re.compile(r"/p([0-9]{1,4})/[^/ ]+")
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


def partitions_named(error: BaseException) -> set[int]:
    """The partitions whose files the error names."""
    return {int(number) for number in _FOLDER.findall(str(error))}


def words_of(error: BaseException) -> str:
    """In one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST]
