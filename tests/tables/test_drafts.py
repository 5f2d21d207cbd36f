"""A file is whole or not there, whatever the disk says; the error names it, and nothing is left beside it."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import of_file
from tables.drafts import FOR_ALL, drafted, write_whole


@pytest.mark.parametrize("write", [write_whole, drafted])
def test_a_write_that_fails_names_the_file_and_leaves_nothing(
    write: Callable[[Path, bytes], object], tmp_path: Path
) -> None:
    """As on a full disk: the system makes the file, and refuses what is to be in it."""
    path = tmp_path / "secret"
    path.write_bytes(b"the one before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            write(path, b"another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{path} can't be used: File too large" in str(of_file(told.value))
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]
    assert path.read_bytes() == b"the one before"


def test_nothing_is_left_where_something_else_is_in_the_place(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as told:
        write_whole(path, b"one")
    assert f"{path} can't be used: Is a directory" in str(of_file(told.value))
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_it(tmp_path: Path) -> None:
    for mode, want in ((0o600, 0o600), (FOR_ALL, 0o644)):
        write_whole(tmp_path / "file", b"one", mode)
        assert (tmp_path / "file").stat().st_mode & 0o755 == want
