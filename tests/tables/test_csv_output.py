"""What goes in comes out, whole, compressed or not, slowly or not; and errors are told."""

from __future__ import annotations

import gzip
import os

import pytest

from tables import csv_output
from tables.csv_output import CsvOutput, write_all

ROWS = [f"{number},ä\r\n" for number in range(10_000)]
HEADER = "number,name\r\n"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rows", [[], ROWS])
def test_all_of_it(packed: bool, rows: list[str]) -> None:
    written: list[bytes] = []
    output = CsvOutput(written.append, HEADER, gzip=packed)
    for first in range(0, len(rows), 700):
        output.rows(rows[first : first + 700])
    output.finish()
    data = b"".join(written)
    assert (gzip.decompress(data) if packed else data).decode() == HEADER + "".join(rows)


@pytest.mark.parametrize("packed", [False, True])
def test_the_header_comes_slowly_while_rows_are_made(packed: bool) -> None:
    written: list[bytes] = []
    clock = Clock()
    output = CsvOutput(written.append, HEADER, gzip=packed, clock=clock)
    output.tick()
    for _ in range(5):
        clock.now += csv_output.TICK_S
        output.tick()
        output.tick()
    for _ in range(100):  # one character stays, so that there is always something to say
        clock.now += csv_output.TICK_S
        output.tick()
    output.rows(ROWS)
    for _ in range(5):
        clock.now += csv_output.TICK_S
        output.tick()
    output.rows([])
    output.finish()
    assert len(written) > len(HEADER) + 3
    data = b"".join(written)
    assert (gzip.decompress(data) if packed else data).decode() == HEADER + "".join(ROWS)


def test_an_error_while_writing_is_raised() -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    output = CsvOutput(full, HEADER, gzip=False)

    def many() -> None:
        for _ in range(1_000):
            output.rows(ROWS)

    with pytest.raises(OSError, match="No space left"):
        many()
    with pytest.raises(OSError, match="No space left"):
        output.finish()


def test_a_reader_that_is_gone_is_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = CsvOutput(write_all(writing), HEADER, gzip=False)
    output.rows(ROWS)
    with pytest.raises(BrokenPipeError):
        output.finish()
    os.close(writing)
