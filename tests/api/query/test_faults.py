"""What is wrong with a database: said when it is sure, and over when it is."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.query.faults import LASTING_S, Faults, tables_of
from api.query.partitions import CHECK_S, Missing, Partitions
from app import facts as f
from tables import layout
from tests.support.databases import Databases
from tests.support.facts import SECRET, START_MS, entry
from tests.support.permissions import without_rights

CORRUPT = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in {} offset 0 size 9"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    made = Databases(tmp_path)
    made.write([entry(f.OPENED, START_MS + n, address=f"p{n}@example.com") for n in range(300)])
    for database in made.databases.values():
        database._db.flush()
    yield made
    for database in made.databases.values():
        database.close()


@pytest.fixture
def partitions(tmp_path: Path, databases: Databases, clock: Clock) -> Iterator[Partitions]:
    opened = Partitions(tmp_path, SECRET, clock=clock)
    assert opened.refresh() == {0, 1, 2}
    yield opened
    opened.close()


def tables(path: Path) -> list[Path]:
    return sorted(path.glob("*.sst"))


def read(partitions: Partitions) -> None:
    """All recipients, as a page does."""
    with partitions.using([0, 1, 2]) as readers:
        for reader in readers.values():
            for _ in reader.recipients():
                pass


def broken_of(partitions: Partitions) -> None:
    """Partition 1 can't be read."""
    with pytest.raises(Missing) as raised:
        read(partitions)
    assert raised.value.partitions == (1,)


def test_a_damaged_table_is_said_at_once_and_until_it_is_repaired(
    tmp_path: Path, partitions: Partitions, clock: Clock
) -> None:
    layout._cache = None
    whole = {table: table.read_bytes() for table in tables(tmp_path / "p1")}
    for table, data in whole.items():
        table.write_bytes(bytes((byte ^ 0xFF) if place < 200 else byte for place, byte in enumerate(data)))
    broken_of(partitions)
    assert partitions.faults.said() == {}, "the files have changed under the reader"
    assert partitions.refresh() == {0, 1, 2}
    broken_of(partitions)
    (message,) = partitions.faults.said().values()
    assert list(partitions.faults.said()) == [1]
    assert f"the database in {tmp_path / 'p1'} is broken (Corruption" in message
    assert "stop its worker, put a copy of the folder back and start the worker again" in message
    assert "Remove the folder only if topic facts still has everything" in message
    assert "the reports' numbers are not affected" in message
    for _ in range(5):
        clock.now += 60
        assert partitions.refresh() == {0, 1, 2}, "what can be read, is"
        assert list(partitions.faults.said()) == [1], "and nobody says that all is well"
    for table, data in whole.items():
        table.write_bytes(data)
    partitions.refresh()
    assert partitions.faults.said() == {}
    partitions.refresh()
    read(partitions)


def test_who_reads_the_files_before_a_repair_says_nothing_of_those_after(
    tmp_path: Path, partitions: Partitions, databases: Databases
) -> None:
    layout._cache = None
    databases.databases.pop(1).close()
    shutil.copytree(tmp_path / "p1", tmp_path / "copy")
    for table in tables(tmp_path / "p1"):
        table.write_bytes(
            bytes((byte ^ 0xFF) if n < 200 else byte for n, byte in enumerate(table.read_bytes()))
        )
    broken_of(partitions)
    assert partitions.refresh() == {0, 1, 2}
    shutil.rmtree(tmp_path / "p1")
    shutil.copytree(tmp_path / "copy", tmp_path / "p1")
    broken_of(partitions)
    for _ in range(2):
        assert partitions.refresh() == {0, 1, 2}
        assert partitions.faults.said() == {}
    read(partitions)


def test_what_an_export_finds_is_said_unless_the_file_has_changed_since(
    tmp_path: Path, partitions: Partitions
) -> None:
    (table, *_) = tables(tmp_path / "p1")
    found = Exception(CORRUPT.format(table))
    began_ns = time.time_ns()
    partitions.unread(found, began_ns)
    assert list(partitions.faults.said()) == [1]
    table.write_bytes(table.read_bytes())
    partitions.refresh()
    partitions.unread(found, began_ns)
    assert partitions.faults.said() == {}


@pytest.mark.parametrize("fault", ["removed", "cut short"])
def test_a_file_that_is_gone_under_an_open_reader(
    tmp_path: Path, partitions: Partitions, databases: Databases, clock: Clock, fault: str
) -> None:
    (table, *_) = tables(tmp_path / "p1")
    if fault == "removed":
        table.unlink()
    else:
        os.truncate(table, 100)
    clock.now += CHECK_S
    assert partitions.refresh() == {0, 2}, "its rows would be short"
    assert partitions.faults.said() == {}, "its writer may have removed it"
    clock.now += LASTING_S
    assert partitions.refresh() == {0, 2}
    assert "is broken (Corruption" in partitions.faults.said()[1]
    databases.databases.pop(1).close()
    shutil.rmtree(tmp_path / "p1")
    partitions.refresh()
    assert partitions.faults.said() == {}


def test_a_database_in_the_making_is_no_fault(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "p0"
    path.mkdir()
    partitions = Partitions(tmp_path, SECRET, clock=clock)
    for name, text in (("LOCK", ""), ("IDENTITY", "x"), ("CURRENT", "MANIFEST-000001\n")):
        (path / name).write_text(text)
        assert partitions.refresh() == set()
        clock.now += LASTING_S / 3
        assert partitions.faults.said() == {}
    shutil.rmtree(path)
    made = Databases(tmp_path)
    clock.now += LASTING_S
    assert partitions.refresh() == {0, 1, 2}
    assert partitions.refresh() == {0, 1, 2}
    assert partitions.faults.said() == {}
    partitions.close()
    for database in made.databases.values():
        database.close()


def test_a_folder_that_is_forbidden(tmp_path: Path, partitions: Partitions, clock: Clock) -> None:
    with without_rights(tmp_path / "p1"):
        for _ in range(3):
            partitions.refresh()
            clock.now += LASTING_S
        (message,) = partitions.faults.said().values()
        assert "permission denied" in message
        assert f"(number {os.getuid()})" in message
    partitions.refresh()
    assert partitions.refresh() == {0, 1, 2}
    assert partitions.faults.said() == {}


def test_a_state_folder_that_is_forbidden(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "state").mkdir()
    partitions = Partitions(tmp_path / "state", SECRET, clock=clock)
    with without_rights(tmp_path / "state"):
        for _ in range(2):
            assert partitions.refresh() == set()
            clock.now += LASTING_S
        assert "permission denied" in partitions.faults.said()[None]
    partitions.refresh()
    assert partitions.faults.said() == {}


def test_failures_with_successes_between_are_no_fault(tmp_path: Path, clock: Clock) -> None:
    """A reader that comes upon a compaction now and then."""
    faults = Faults(tmp_path, clock)
    for _ in range(20):
        faults.failed(0, Exception("IO error: No such file or directory: /state/p0/000009.sst"))
        clock.now += LASTING_S - 1
        assert faults.said() == {}
        faults.caught_up(0)
        clock.now += 1


def test_which_errors_are_damage(tmp_path: Path, clock: Clock) -> None:
    faults = Faults(tmp_path, clock)
    path = tmp_path / "a folder" / "p0"
    path.mkdir(parents=True)
    for said, file in (
        (CORRUPT.format(path / "000009.sst"), True),
        (f"IO error: While pread offset 0 len 9: {path / '000009.sst'}: Input/output error", True),
        (f"IO error: No such file or directory: {path / '000009.sst'}", False),
        (CORRUPT.format(path.parent / "p1" / "000009.sst"), False),
        (f"Corruption: checksum mismatch  The file {path / 'MANIFEST-000005'} may be corrupted.", False),
        ("Corruption: nobody knows where", False),
        ("Shutdown in progress", False),
    ):
        for table in ("p0", "p1"):
            (path.parent / table).mkdir(exist_ok=True)
            (path.parent / table / "000009.sst").touch()
        faults.unread(0, Exception(said), tables_of(path))
        assert (0 in faults.said()) == file, said
        faults.look(set())
        assert faults.said() == {}


def test_many_come_upon_it_at_a_time(tmp_path: Path, partitions: Partitions) -> None:
    """A reader is closed once, and not while somebody has it."""
    layout._cache = None
    for table in tables(tmp_path / "p1"):
        data = bytearray(table.read_bytes())
        data[len(data) // 20] ^= 0xFF
        table.write_bytes(data)
    missed: list[tuple[int, ...]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                read(partitions)
            except Missing as missing:
                missed.append(missing.partitions)

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask) for _ in range(4)]
        try:
            while len(missed) < 200:
                partitions.refresh()
        finally:
            done.set()
        for one in asked:
            one.result()
    assert set(missed) == {(1,)}


def test_a_reader_is_closed_once(partitions: Partitions, monkeypatch: pytest.MonkeyPatch) -> None:
    database = partitions._databases[1]
    closed: list[int] = []

    def close(close: Callable[[], None] = database.reader.close) -> None:
        closed.append(1)
        close()

    monkeypatch.setattr(database.reader, "close", close)
    for _ in range(2):
        partitions._retire(1, database)
    assert closed == [1]
