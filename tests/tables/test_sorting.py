"""Whatever the sizes, a sorter gives back everything in order, and a merge is the sort of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tables.sorting import Block, Sorter, merged

texts = st.text(max_size=6) | st.sampled_from(["a", "a\0", "ab", "\U0001f4e7", "\uffff", "é", ""])


def blocks(ordered: Block, size: int) -> Iterator[Block]:
    return (ordered[first : first + size] for first in range(0, len(ordered), size))


@settings(deadline=None)
@given(st.lists(st.lists(texts, max_size=12), max_size=6), st.integers(1, 5))
def test_a_merge_is_the_sort_of_all(lists: list[Block], size: int) -> None:
    found = list(merged([blocks(sorted(one), size) for one in lists]))
    assert [text for block in found for text in block] == sorted(text for one in lists for text in one)


@settings(deadline=None)
@given(st.lists(st.lists(texts, max_size=9), max_size=9), st.integers(0, 2_000), st.integers(1, 600))
def test_a_sorter_gives_everything_back(lists: list[Block], run_bytes: int, block_bytes: int) -> None:
    sorter = Sorter(None, run_bytes, block_bytes)
    for one in lists:
        sorter.add(list(one))
    found = [text for block in sorter.sorted() for text in block]
    sorter.close()
    assert found == sorted(text for one in lists for text in one)
    assert found == sorted(found, key=lambda text: text.encode())


def test_its_file_has_no_name(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path, 10)
    sorter.add([str(number) for number in range(1_000)])
    assert list(tmp_path.iterdir()) == []
    assert sum(map(len, sorter.sorted())) == 1_000
    sorter.close()


def test_half_a_surrogate_pair_does_no_harm() -> None:
    sorter = Sorter(None, 0)
    sorter.add(["b", "a\ud800"])
    assert [text for block in sorter.sorted() for text in block] == ["a?", "b"]
    sorter.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path / "gone", 0)
    with pytest.raises(OSError, match="gone"):
        sorter.add(["a"])
