"""A partition's rows of one section as they are published: all of them, or the largest where there are many.

Rows are summed over the partitions by who reads them (`app.sections`). Where a part is cut, what isn't in it is summed
up in `rest`, and no row that is left out has more events than `least`: by these two a reader sees whether the rows that
it shows are exact.
"""

from __future__ import annotations

import heapq
import zlib
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import breakdown as b
from app import tally
from app.breakdown import RowKey
from app.sections import Ends
from app.tally import FIELD_BYTES
from tables.book import Book
from tables.columns import columns_of, counts_of, planes_of
from tables.link_ends import NO_ENDS

LIMITS: Final = {b.LINK: 1_000, b.POSITION: 1_500}
DEFAULT_LIMIT: Final = 600
"""Rows of one section and partition. Shown are 1,000 links and 200 of the others; a campaign has 1 MB of Redis."""
PUBLISHED: Final = (
    b.LINK, b.POSITION, b.COUNTRY, b.CITY, b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER, b.PROVIDER, b.REASON, b.VARIANT,
    b.HOME, b.TYPE,
)  # fmt: skip


class SectionPart(msgspec.Struct, array_like=True):
    rows: list[tuple[bytes, bytes, str | None]]
    """(row key without its section, tally, name), the name None where the key's numbers need none."""
    rest: bytes = b""
    """Tally of the rows that are left out."""
    rest_rows: int = 0
    least: int = 0
    """No row that is left out has more events than this."""
    ends: list[Ends] = []
    """Of each link in `rows`: `tables.link_ends.Ends`."""


class Packed(msgspec.Struct, array_like=True):
    """A part column by column, as it is stored (compressed); `tables.section_merge` reads it."""

    keys: bytes
    tallies: bytes
    names: list[str | None]
    rest: bytes
    rest_rows: int
    least: int
    ends: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_LEVEL: Final = 6


def _weights(section: int, rows: list[tuple[RowKey, int]]) -> NDArray[np.int64]:
    """By what rows of a section are put in order: events of engagement rows, recipients of the others."""
    fields = b.E_OPENED if section in b.ENGAGEMENT_SECTIONS else 1
    size = fields * FIELD_BYTES
    mask = (1 << 8 * size) - 1
    data = b"".join([(value & mask).to_bytes(size, "little") for _, value in rows])
    weights: NDArray[np.int64] = counts_of(np.frombuffer(data, np.uint8).reshape(len(rows), size)).sum(axis=1)
    return weights


def section_part(book: Book, section: int) -> SectionPart:
    rows = list(book.section(section))
    number = len(rows)
    limit = LIMITS.get(section, DEFAULT_LIMIT)
    part = SectionPart([])
    if number > limit:
        total = sum(value for _, value in rows)
        weights = _weights(section, rows)
        # A campaign may have a hundred thousand links, of which the few that can be among the largest are sorted.
        candidates = np.flatnonzero(weights >= np.partition(weights, number - limit)[number - limit])
        largest = heapq.nlargest(limit, ((int(weights[n]), rows[n]) for n in candidates))
        rows = [row for _, row in largest]
        part.rest = tally.to_bytes(total - sum(value for _, value in rows))
        part.rest_rows = number - limit
        part.least = largest[-1][0]
    part.rows = [(key[1:], tally.to_bytes(value), _name(book, key)) for key, value in rows]
    if section == b.LINK:
        part.ends = [book.ends.get(int.from_bytes(key[1:9], "big"), NO_ENDS) for key, _ in rows]
    return part


def _name(book: Book, key: RowKey) -> str | None:
    section = key[0]
    if section == b.POSITION or section == b.TYPE:
        return None
    number = int.from_bytes(key[9:17] if section == b.REASON else key[1:9], "big")
    return book.texts.get((b.COUNTRY if section == b.HOME else section, number))


def pack_part(part: SectionPart) -> bytes:
    packed = Packed(
        columns_of([key for key, _, _ in part.rows]),
        columns_of([value for _, value, _ in part.rows]),
        [name for _, _, name in part.rows],
        part.rest,
        part.rest_rows,
        part.least,
        planes_of(np.array(part.ends, np.int64)) if part.ends else None,
    )
    return zlib.compress(_encode(packed), _LEVEL)
