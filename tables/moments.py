"""A partition's database as of one moment, for exports: a RocksDB secondary instance that never catches up.

Rules:
- It is opened in a process of its own, holds all of its files open, and goes on showing what it showed at first while
  the writer writes, flushes, compacts and removes files. (Tried beside a writer that flushes three times a second.)
- A batch of the writer is whole in it or not at all. That is so while the writer doesn't flush between the reading of
  the list of files and the reading of the write-ahead log: else some column families may be older than others (2 of 87
  openings beside a writer that flushes all the time). So the files are looked at before and after, and if they changed
  it is opened again.
- A checkpoint was tried too: a secondary makes one, but of files that the writer may be removing, and it has to be
  opened and its log replayed just the same.
- It holds what the writer hasn't flushed yet in memory, and beyond that a small cache: scans read each block once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict

from app.errors import StateError, TryLater
from app.facts import CampaignKey
from app.verdicts import Rules
from tables import layout
from tables.files import check_files
from tables.layout import LAYOUT_VERSION
from tables.lookups import PagedReader
from tables.own_files import OwnFiles

CACHE_BYTES: Final = 12 << 20
TRIES: Final = 20
PAUSE_S: Final = 0.05


def small_cache() -> Cache:
    """For all partitions of an export together."""
    return Cache(CACHE_BYTES)


class Moment(PagedReader):
    """Raises StateError where there is no database or one of another version, TryLater where it is being made anew."""

    def __init__(self, path: Path, cache: Cache) -> None:
        self._families: dict[str, Rdict] = {}
        self._path = path
        self._own_files = OwnFiles()
        try:
            self._db = _open_whole(path, self._own_files.path, cache)
        except BaseException:
            self._own_files.close()
            raise
        try:
            self._rules = self._check(path)
            self._fence = super().fence()
        except BaseException:
            self.close()
            raise

    def _check(self, path: Path) -> Rules:
        meta = self.meta()
        if meta is None or meta.rebuilding:
            raise TryLater(30, f"the database in {path} is being made, try again when it is done")
        if meta.version != LAYOUT_VERSION:
            raise StateError(f"{path}: written by another version (layout {meta.version}): use that version")
        return meta.rules

    def catch_up(self) -> None:
        raise TypeError("a moment stays")

    @property
    def offset(self) -> int:
        """Up to this offset of topic `facts` (excluded) everything is in it."""
        return self._fence.offset

    def rules(self) -> Rules:
        """The verdict rules that it is counted by."""
        return self._rules

    def recipients_db(self) -> Rdict:
        return self._family(layout.RECIPIENTS)

    def expected(self, campaign: CampaignKey) -> int:
        """How many recipients the sums count."""
        row = self.campaign_row(campaign)
        return sum(row.patterns.values()) if row is not None else 0


def _open_whole(path: Path, own_files: Path, cache: Cache) -> Rdict:
    failure: Exception | None = None
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_S)
        before = _files(path)
        if before is None:
            raise StateError(f"there is no database in {path}")
        try:
            db = _open(path, own_files, cache)
            check_files(path, own_files)
        except Exception as error:  # noqa: BLE001  rocksdict raises plain ones: a file that the writer just removed
            failure = error
            continue
        if _files(path) == before:
            return db
        db.close()
    raise StateError(
        f"the database in {path} can't be read as of one moment: {failure or 'it changes too often'}"
    )


def _files(path: Path) -> dict[str, int] | None:
    """What a flush or compaction changes: the names of the files, and how far their list is written."""
    try:
        found = list(os.scandir(path))
        if not any(one.name == "CURRENT" for one in found):
            return None
        return {
            one.name: one.stat().st_size if one.name.startswith("MANIFEST") else 0
            for one in found
            if one.name.endswith((".sst", ".log")) or one.name.startswith(("MANIFEST", "CURRENT"))
        }
    except FileNotFoundError:
        return {} if path.is_dir() else None
    except OSError as error:
        raise StateError(f"{path} can't be read: {error.strerror}") from None


def _open(path: Path, own_files: Path, cache: Cache) -> Rdict:
    def options() -> Options:
        chosen = Options(raw_mode=True)
        chosen.create_if_missing(False)
        chosen.set_max_open_files(-1)  # a reader beside the writer must hold all of its files
        chosen.set_max_file_opening_threads(1)
        table = BlockBasedOptions()
        table.set_block_cache(cache)
        table.set_bloom_filter(10, False)
        chosen.set_block_based_table_factory(table)
        return chosen

    return Rdict(
        str(path),
        options=options(),
        column_families={name: options() for name in (layout.RECIPIENTS, layout.LOG, layout.INDEX)},
        access_type=AccessType.secondary(str(own_files)),
    )
