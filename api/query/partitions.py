"""The databases of a state folder, held open as RocksDB secondaries beside their worker.

Rules:
- Before each answer its databases catch up with their writer: 0.03 ms each where nothing was written.
- A database that was made anew (a rebuild, a removed folder, a copy put back) is another one (`tables.files`), and is
  opened again. The old one stays open for those who still read it.
- One that can't be opened or can't catch up isn't there, and is tried again a moment later. So is one whose index is
  being rebuilt: its pages would be short.
- Now and then all files are looked at: a reader goes on with those that it has open, and nobody would know.
- What stays wrong is told (`api.query.faults`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from api.query.faults import Faults, tables_of
from app.keys import secret_fingerprint
from tables.broken import is_database_error, partitions_named, words_of
from tables.files import Identity, identity_of
from tables.layout import LAYOUT_VERSION
from tables.lookups import PagedReader

log = logging.getLogger("reports.query")

CHECK_S: Final = 60.0
"""How often all files of a database are looked at: each is opened."""
_FOLDER: Final = re.compile(r"p([0-9]{1,4})")


class Missing(Exception):
    """These partitions are not here, or can't be read at the moment."""

    def __init__(self, partitions: Iterable[int]) -> None:
        super().__init__()
        self.partitions = tuple(sorted(partitions))


class _Database:
    """One open database, and how many read it."""

    def __init__(self, path: Path, identity: Identity, own_files: Path | None, now: float) -> None:
        self.identity = identity
        self.check_at = now + CHECK_S
        self.tables = tables_of(path)
        self.reader = PagedReader(path, own_files)
        self.catching_up = threading.Lock()
        self.users = 0
        self.retired = False


class Partitions:
    """Thread-safe."""

    def __init__(
        self,
        state: Path,
        secret: bytes,
        own_files: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own_files`: where the readers may have files of their own. `clock`: seconds."""
        self._clock = clock
        self.faults = Faults(state, clock)
        self._own_files = own_files
        self.state = state
        self._secret = secret_fingerprint(secret)
        self._databases: dict[int, _Database] = {}
        self._lock = threading.Lock()
        self._failed: dict[int, str] = {}

    def refresh(self) -> set[int]:
        """Opens what is new, lets go what is gone, catches up with all; gives the partitions that can be read.

        Takes a look at the disk. Done each second, so that an answer never has much to catch up with.
        """
        with self._lock:
            known_ones = dict(self._databases)
            for database in known_ones.values():
                database.users += 1
        try:
            for partition, database in known_ones.items():
                if self._catch_up(partition, database):
                    self.faults.caught_up(partition)
                    self._check(partition, database)
        finally:
            self._release(known_ones.values())
        found, unknown = self._found()
        self.faults.look(found.keys() | unknown)
        for partition in self._databases.keys() | found.keys():
            known = self._databases.get(partition)
            identity = found.get(partition)
            if known is not None and known.identity != identity and partition not in unknown:
                log.info("the database of partition %d was recreated or removed", partition)
                self._retire(partition, known)
                known = None
            if known is None and identity is not None:
                self._open(partition, identity)
        with self._lock:
            return set(self._databases)

    def _found(self) -> tuple[dict[int, Identity], set[int]]:
        """The databases of the state folder, and the partitions of which it can't be told whether there is one."""
        found: dict[int, Identity] = {}
        unknown: set[int] = set()
        try:
            paths = list(self.state.iterdir())
        except FileNotFoundError:
            paths = []
        except OSError as error:
            self.faults.failed(None, error)
            return {}, set(self._databases)
        self.faults.caught_up(None)
        for path in paths:
            if named := _FOLDER.fullmatch(path.name):
                partition = int(named[1])
                try:
                    if (identity := identity_of(path)) is not None:
                        found[partition] = identity
                except OSError as error:
                    unknown.add(partition)
                    self.faults.failed(partition, error)
        return found, unknown

    def unread(self, error: Exception, began_ns: int) -> None:
        """An export that `began_ns` then, since 1970, could not read a database, by an error of RocksDB's. It had a
        reader of its own: only of files that have not changed since does it say something."""
        for partition in partitions_named(error):
            self.faults.unread(partition, error, tables_of(self.state / f"p{partition}", began_ns))

    def _broken(self, error: Exception, used: Mapping[int, _Database]) -> set[int]:
        """Which of those that were used can't be read. They are opened again, since a repaired one is another one."""
        named = partitions_named(error) & used.keys() or set(used)
        for partition in sorted(named):
            self.faults.unread(partition, error, used[partition].tables)
            if self._failed.get(partition) != (said := words_of(error)):
                self._failed[partition] = said
                log.warning("partition %d can't be read: %s", partition, said)
            self._retire(partition, used[partition])
        return named

    def _open(self, partition: int, identity: Identity) -> None:
        path = self.state / f"p{partition}"
        try:
            database = _Database(path, identity, self._own_files, self._clock())
        except Exception as error:  # noqa: BLE001  rocksdict raises plain ones; a database in the making is no error
            self.faults.failed(partition, error)
            if self._failed.get(partition) != str(error):
                self._failed[partition] = str(error)
                log.info("partition %d can't be read yet: %s", partition, error)
            return
        with self._lock:
            self._databases[partition] = database

    def _retire(self, partition: int, database: _Database) -> None:
        with self._lock:
            if self._databases.get(partition) is database:
                del self._databases[partition]
            # Several may come upon the same fault: it is closed once.
            unused = not database.users and not database.retired
            database.retired = True
        if unused:
            database.reader.close()

    @contextlib.contextmanager
    def using(self, partitions: Iterable[int]) -> Iterator[Mapping[int, PagedReader]]:
        """Readers of these partitions as of now. Raises Missing where one isn't there or turns out to be broken."""
        with self._lock:
            missing = [partition for partition in partitions if partition not in self._databases]
            if missing:
                raise Missing(missing)
            taken = {partition: self._databases[partition] for partition in partitions}
            for database in taken.values():
                database.users += 1
        try:
            failed = [p for p, database in taken.items() if not self._catch_up(p, database)]
            if failed:
                raise Missing(failed)
            before = {partition: self._generation(database) for partition, database in taken.items()}
            if unfit := [partition for partition, generation in before.items() if generation is None]:
                raise Missing(unfit)
            yield {partition: database.reader for partition, database in taken.items()}
            # Somebody else may have made it catch up meanwhile, into a rebuild.
            if moved := [p for p, database in taken.items() if self._generation(database) != before[p]]:
                raise Missing(moved)
        except Exception as error:
            if not is_database_error(error):
                raise
            raise Missing(self._broken(error, taken)) from None
        finally:
            self._release(taken.values())

    def _release(self, databases: Iterable[_Database]) -> None:
        unused = []
        with self._lock:
            for database in databases:
                database.users -= 1
                if database.retired and not database.users:
                    unused.append(database)
        for database in unused:
            database.reader.close()

    def _catch_up(self, partition: int, database: _Database) -> bool:
        try:
            with database.catching_up:
                database.reader.catch_up()
        except Exception as error:  # noqa: BLE001  rocksdict raises plain ones
            if database.retired:
                return False
            # Its writer has removed a file before this reader opened it, or is gone with its folder.
            log.info("partition %d can't catch up (%s) and is opened again", partition, error)
            self.faults.failed(partition, error)
            self._retire(partition, database)
            return False
        return True

    def _check(self, partition: int, database: _Database) -> None:
        """Lets go a database of which a file is missing or cut short."""
        if self._clock() < database.check_at:
            return
        database.check_at = self._clock() + CHECK_S
        try:
            database.reader.check_files()
        except Exception as error:  # noqa: BLE001  rocksdict raises plain ones
            log.warning("partition %d: %s", partition, words_of(error))
            self.faults.failed(partition, error)
            self._retire(partition, database)

    def _generation(self, database: _Database) -> int | None:
        """None: not fit to be read."""
        meta = database.reader.meta()
        if meta is None or meta.rebuilding or meta.version != LAYOUT_VERSION or meta.secret != self._secret:
            return None
        return meta.generation

    def close(self) -> None:
        """Closes all. Nobody may read any more."""
        with self._lock:
            databases, self._databases = list(self._databases.values()), {}
        for database in databases:
            database.reader.close()
