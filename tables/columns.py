"""Rows of bytes, column by column: what stands below each other is alike, so it compresses to half of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app import tally
from app.tally import FIELD_BYTES


def columns_of(items: Sequence[bytes]) -> bytes:
    """All first bytes, then all second ones …; shorter items end with zero bytes. No items give no bytes."""
    width = max(map(len, items), default=0)
    if not width:
        return b""
    padded = b"".join(item.ljust(width, b"\0") for item in items)
    return np.frombuffer(padded, np.uint8).reshape(len(items), width).T.tobytes()


def bytes_table_of(columns: bytes, number: int) -> NDArray[np.uint8]:
    """Back to `number` rows of bytes, all as long as the longest. Raises ValueError where it can't be."""
    width, rest = divmod(len(columns), number) if number else (0, len(columns))
    if rest:
        raise ValueError("columns of another number of items")
    return np.frombuffer(columns, np.uint8).reshape(width, number).T


def counts_of(tallies: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Rows of tallies' bytes (`app.tally`) → their counts, as many columns as the longest needs."""
    number, length = tallies.shape
    width = -(-length // FIELD_BYTES)
    padded = np.zeros((number, width * FIELD_BYTES), np.uint8)
    padded[:, :length] = tallies
    cells = np.zeros((number, width, 8), np.uint8)
    cells[:, :, :FIELD_BYTES] = padded.reshape(number, width, FIELD_BYTES)
    return cells.view("<i8").reshape(number, width)


def tallies_of(counts: NDArray[np.int64]) -> list[int]:
    """The other way: each row's tally."""
    number, width = counts.shape
    cells = np.ascontiguousarray(counts).view(np.uint8).reshape(number, width, 8)
    data, size = cells[:, :, :FIELD_BYTES].tobytes(), width * FIELD_BYTES
    return [tally.from_bytes(data[place * size : (place + 1) * size]) for place in range(number)]


def planes_of(table: NDArray[np.int64]) -> bytes:
    """The same of a table of whole numbers: the lowest byte of each cell, the next one …, columns before rows.

    Zero bytes at the end are left out: most cells are small.
    """
    rows, columns = table.shape
    cells = np.ascontiguousarray(table.T).view(np.uint8).reshape(columns, rows, 8)
    return cells.transpose(2, 0, 1).tobytes().rstrip(b"\0")


def table_of(planes: bytes, rows: int, columns: int) -> NDArray[np.int64]:
    """Raises ValueError where `planes` is no table of that shape."""
    table: NDArray[np.int64] = sums_of_tables([planes], [0], rows, columns)[0]
    return table


def sums_of_tables(
    several: Sequence[bytes], starts: Sequence[int], rows: int, columns: int
) -> NDArray[np.int64]:
    """Adds up tables of one shape from each of `starts` on to the next: first the sum, then row, then column.

    Planes are summed as they are and only their sums put together: most tables have one or two of the eight.
    """
    size = rows * columns
    depth = max(1, *(-(-len(planes) // size) for planes in several))
    data = b"".join([planes.ljust(depth * size, b"\0") for planes in several])
    cells = np.frombuffer(data, np.uint8).reshape(len(several), depth, columns, rows)
    sums = np.add.reduceat(cells, starts, axis=0, dtype=np.int64)
    shifts = np.arange(0, 8 * depth, 8).reshape(1, depth, 1, 1)
    tables: NDArray[np.int64] = (sums << shifts).sum(axis=1).transpose(0, 2, 1)
    return tables
