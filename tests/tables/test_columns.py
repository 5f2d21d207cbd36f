"""Columns and planes give back what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.columns import bytes_table_of, columns_of, planes_of, sums_of_tables, table_of

ITEMS = st.lists(st.binary(max_size=12).map(lambda item: item.rstrip(b"\0")), max_size=30)
CELLS = st.integers(-(2**63), 2**63 - 1)


@given(ITEMS)
def test_items_come_back(items: list[bytes]) -> None:
    found = bytes_table_of(columns_of(items), len(items))
    assert [row.tobytes().rstrip(b"\0") for row in found] == items


def test_first_bytes_stand_together() -> None:
    assert columns_of([b"ab", b"c", b"de"]) == b"acdb\0e"


@given(
    st.integers(1, 6).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)
    )
)
def test_tables_come_back(rows: list[list[int]]) -> None:
    table = np.array(rows, np.int64)
    assert table_of(planes_of(table), *table.shape).tolist() == rows


@given(
    st.lists(st.lists(st.integers(0, 2**40), min_size=6, max_size=6), min_size=1, max_size=9),
    st.integers(1, 9),
)
def test_tables_are_added_up_in_groups(flat: list[list[int]], group: int) -> None:
    tables = [np.array(numbers, np.int64).reshape(2, 3) for numbers in flat]
    starts = list(range(0, len(tables), group))
    found = sums_of_tables([planes_of(table) for table in tables], starts, 2, 3)
    assert found.tolist() == [np.sum(tables[start : start + group], axis=0).tolist() for start in starts]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_another_number_of_items_is_told(number: int) -> None:
    with pytest.raises(ValueError, match="another number"):
        bytes_table_of(columns_of([b"a", b"b", b"c"]), number)
