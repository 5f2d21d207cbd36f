"""The files of a partition's database, looked at from beside its writer.

RocksDB's readers (secondary instances) don't tell of a missing file. One that is opened while a file is missing, cut
short or forbidden shows the database as it was before that file, and what the write-ahead log has on top of it: its
offset is the newest, and rows are missing. So whoever opens a reader has the files checked (`check_files`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from rocksdict import AccessType, Options, Rdict

from tables import layout

TRIES: Final = 3
"""The writer may remove a file between the reading of the list and its opening."""

Identity = tuple[int, int, int]


def identity_of(path: Path) -> Identity | None:
    """What tells a database from another one in its place, also from a copy of itself; None: there is none.

    Raises OSError where that can't be told.
    """
    try:
        (path / "CURRENT").stat()
        folder = path.stat().st_ino
        try:
            # Written once, when the database is made. The number of a removed file is soon given to another one.
            own = (path / "IDENTITY").stat()
        except FileNotFoundError:
            return folder, 0, 0
        return folder, own.st_ino, own.st_ctime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_files(path: Path, own_files: Path) -> None:
    """Raises Exception (RocksDB's) where a file of the database is missing, cut short or can't be opened.

    Opens every file, and replays no log: 3 ms for a small one. `own_files`: a folder that exists, for what RocksDB
    writes.
    """
    scratch = own_files / "check"
    scratch.mkdir(exist_ok=True)
    try:
        for left in reversed(range(TRIES)):
            try:
                _open(path, scratch).close()
            except Exception:
                if not left:
                    raise
            else:
                return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(path: Path, scratch: Path) -> Rdict:
    def options() -> Options:
        chosen = layout._options(bloom=False, create=False)
        chosen.set_max_file_opening_threads(1)
        chosen.set_wal_dir(str(scratch))
        chosen.set_db_log_dir(str(scratch))
        return chosen

    return Rdict(
        str(path),
        options=options(),
        column_families={name: options() for name in (layout.RECIPIENTS, layout.LOG, layout.INDEX)},
        access_type=AccessType.read_only(),
    )
