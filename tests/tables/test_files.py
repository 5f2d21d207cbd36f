"""The files of a database from beside its writer: which database it is, and whether all files are there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rocksdict import DbClosedError, Rdict

from tables.files import check_files, identity_of
from tables.layout import open_database
from tables.lookups import PagedReader
from tables.moments import Moment, small_cache
from tables.reading import PartitionReader
from tests.support.permissions import without_rights


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Rdict]:
    """Two tables, and a newest offset that only the write-ahead log has."""
    db = open_database(tmp_path / "p1")
    for table in range(2):
        for number in range(500):
            db.put(b"%d-%06d" % (table, number), os.urandom(50))
        db.flush()
    db.put(b"offset", b"newest")
    db.flush_wal(True)
    yield db
    with contextlib.suppress(DbClosedError):
        db.close()


def newest(path: Path) -> Path:
    return max(path.glob("*.sst"))


FAULTS: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: newest(path).unlink(),
    "cut short": lambda path: os.truncate(newest(path), newest(path).stat().st_size // 2),
    "emptied": lambda path: os.truncate(newest(path), 0),
    "of another size": lambda path: newest(path).write_bytes(newest(path).read_bytes() + b"x"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "open_reader", [PartitionReader, PagedReader, lambda path: Moment(path, small_cache())]
)
def test_no_reader_is_short(
    tmp_path: Path, writer: Rdict, fault: str, open_reader: Callable[[Path], PartitionReader]
) -> None:
    """RocksDB's own reader has the newest offset then, and half of the rows."""
    FAULTS[fault](tmp_path / "p1")
    with pytest.raises(Exception, match=r"p1/0+[0-9]+\.sst"):
        open_reader(tmp_path / "p1")


def test_sound_files(tmp_path: Path, writer: Rdict) -> None:
    before = sorted(one.name for one in (tmp_path / "p1").iterdir())
    (tmp_path / "own").mkdir()
    check_files(tmp_path / "p1", tmp_path / "own")
    assert sorted(one.name for one in (tmp_path / "p1").iterdir()) == before
    assert list((tmp_path / "own").iterdir()) == []
    with PagedReader(tmp_path / "p1") as reader:
        reader.check_files()
        assert len(list(reader._db.keys())) == 1001


def test_a_reader_that_is_open_notices_when_it_looks(tmp_path: Path, writer: Rdict) -> None:
    with PagedReader(tmp_path / "p1") as reader:
        newest(tmp_path / "p1").unlink()
        reader.catch_up()
        with pytest.raises(Exception, match="No such file"):
            reader.check_files()


def test_a_database_keeps_its_identity_while_it_is_written(tmp_path: Path, writer: Rdict) -> None:
    before = identity_of(tmp_path / "p1")
    assert before is not None
    writer.put(b"more", b"rows")
    writer.flush()
    writer.close()
    again = open_database(tmp_path / "p1")
    assert identity_of(tmp_path / "p1") == before
    again.close()


def test_a_copy_in_its_place_is_another_one(tmp_path: Path, writer: Rdict) -> None:
    """Also where the folder and its files have the numbers of those that were removed."""
    writer.close()
    before = identity_of(tmp_path / "p1")
    shutil.copytree(tmp_path / "p1", tmp_path / "copy")
    shutil.rmtree(tmp_path / "p1")
    assert identity_of(tmp_path / "p1") is None
    shutil.copytree(tmp_path / "copy", tmp_path / "p1")
    assert identity_of(tmp_path / "p1") not in (before, None)


def test_no_database(tmp_path: Path, writer: Rdict) -> None:
    (tmp_path / "p1" / "IDENTITY").unlink()
    assert identity_of(tmp_path / "p1") is not None, "RocksDB reads it all the same"
    (tmp_path / "p1" / "CURRENT").unlink()
    assert identity_of(tmp_path / "p1") is None
    (tmp_path / "p2").write_text("a file")
    assert identity_of(tmp_path / "p2") is None


def test_what_may_not_be_read_is_not_said_to_be_nothing(tmp_path: Path, writer: Rdict) -> None:
    with without_rights(tmp_path / "p1"), pytest.raises(PermissionError):
        identity_of(tmp_path / "p1")
