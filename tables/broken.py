"""What RocksDB's errors mean. rocksdict raises plain Exceptions (and PermissionError without a number): they are told
apart by their words.

Three kinds, and whose fault they are: a database that can't be read is its own; a full disk is the process's, and no
reason to remove anything; a lock is another process's.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.topics import FACTS

_FULL: Final = ("No space left on device", "Disk quota exceeded", "out of disk space", "Space limit reached")
_ROCKSDB: Final = re.compile(
    r"(Corruption|IO error|Invalid argument|Not found|Operation failed|Not implemented|Shutdown in progress|Busy"
    r"|Incomplete|Aborted|Result incomplete)\b|.*\(os error [0-9]+\)"
)
_FILE: Final = re.compile(
    r"""(?<![^\s:'"(])(/(?:(?!:\ ).)*?/p([0-9]{1,4}))"""
    r"/([0-9]+\.[a-z]+|CURRENT|IDENTITY|LOCK|LOG|MANIFEST|OPTIONS|rocksdict-config)\b"
)
"""A file of a partition's database: the folder, the partition and the begin of the file's name. Folders above may be
named like a partition's."""
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
    if is_database_error(error) and any(kind in words for kind in _DAMAGE):
        tables = (Path(found[0]) for found in _FILE.finditer(words) if found[3].endswith(".sst"))
        return next(tables, None)
    return None


def advice(error: BaseException, lacks: Callable[[int], str | None]) -> str:
    """What RocksDB's error means, for who reads databases beside their workers. `lacks`: gives what `removal` takes."""
    if found := _FILE.search(str(error)):
        partition = int(found[2])
        # Kafka is asked only where that is of use.
        lack = None if is_forbidden(error) else lacks(partition)
        if said := way_out(Path(found[1]), partition, error, lacks=lack, is_counted=True):
            return said
    return f"a database can't be read ({words_of(error)}): GET /ops/workers says which one, and the way out"


def way_out(
    path: Path, partition: int, error: BaseException, *, lacks: str | None, is_counted: bool = False
) -> str | None:
    """What is wrong with a partition's database, and the ways out, for operators; None: RocksDB doesn't say it.

    `lacks`: as `removal` takes it. `is_counted`: its worker may have it open.
    """
    if is_forbidden(error):
        return (
            f"{path} can't be read or written to (permission denied): give its files to the user as whom the worker "
            f"and `reports query` run (number {os.getuid()})"
        )
    if is_database_error(error):
        copy = "put a copy of the folder back"
        if is_counted:
            copy = f"stop its worker, {copy} and start the worker again"
        removed = removal(partition, lacks, is_counted=is_counted)
        return f"the database in {path} is broken ({words_of(error)}): {copy}{removed}"
    return None


def removal(
    partition: int, lacks: str | None, *, is_counted: bool = False, how: str = "remove the folder"
) -> str:
    """Whether a partition's folder may be removed as well, to be read on behind the better way out.

    `lacks`: what a database that is counted again from the log would lack (`tables.completeness`); empty: nothing;
    None: the log can't be asked. `how`: what is done with the folder, which may be somebody else's. `is_counted`: its
    worker may have it open.
    """
    if lacks is None:
        return (
            f". {how.capitalize()} only if topic {FACTS} still has everything: `reports rebuild --from-log --dry-run` "
            "says whether it has"
        )
    if lacks:
        return (
            f". Counted again from the log it would lack {lacks}; to do so all the same, {how}, and where "
            f"the worker then waits, go on with `reports accept-gap {partition} --lose-counted`"
        )
    also = ", also while the worker runs" if is_counted else ""
    return f"; or {how}, and the partition is counted again from the log{also}"


def partitions_named(error: BaseException) -> set[int]:
    """The partitions whose files the error names."""
    return {int(number) for _, number, _ in _FILE.findall(str(error))}


def words_of(error: BaseException) -> str:
    """In one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST]
