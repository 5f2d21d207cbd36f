"""Several counts in one integer, so that a row of the report is added to by one addition.

A tally is the sum of `count << (BITS * field)`. Adding and subtracting tallies adds and subtracts field by field;
differences may have negative fields, a sum of whole rows never has. A field holds 2**40 - 1, more than any campaign has
events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

BITS: Final = 40
FIELD_BYTES: Final = BITS // 8
MASK: Final = (1 << BITS) - 1


def one(field: int) -> int:
    """The tally that has 1 in `field`."""
    return 1 << (BITS * field)


def pack(counts: Iterable[int]) -> int:
    return sum(count << (BITS * field) for field, count in enumerate(counts))


def unpack(tally: int, fields: int) -> list[int]:
    """A tally without negative fields → its counts."""
    return [tally >> (BITS * field) & MASK for field in range(fields)]


def field_of(tally: int, field: int) -> int:
    return tally >> (BITS * field) & MASK


def to_bytes(tally: int) -> bytes:
    """A tally without negative fields; 0 gives no bytes. Raises OverflowError for a negative one."""
    return tally.to_bytes((tally.bit_length() + 7) // 8, "little")


def from_bytes(data: bytes) -> int:
    return int.from_bytes(data, "little")
