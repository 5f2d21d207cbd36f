"""A partition's rows of one section as they are published: all of them, or the largest where there are many.

Rows are summed over the partitions by who reads them (`app.sections`). Where a part is cut, what isn't in it is summed
up in `rest`, and no row that is left out has more events than `least`: by these two a reader sees whether the rows that
it shows are exact.

A link that one partition leaves out may be in another's part, or left out there too. So that a reader counts it once, a
part names the links that it leaves out: all of them, or the `NAMED_REST` with the smallest numbers. A link's number is
a hash, so these are a fair sample of the others (`tables.section_merge`).
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
NAMED_REST: Final = 2_000
"""8 bytes each, which don't compress."""
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
    rest_links: bytes = b""
    """Numbers of links that are left out, the smallest first, 8 bytes each (little endian)."""
    rest_clicked: bytes = b""
    """Of each of them a bit: whether a person clicked it."""
    rest_clicked_rows: int = 0
    """Of how many of all the rows that are left out that is so."""


class Packed(msgspec.Struct, array_like=True):
    """A part column by column, as it is stored (compressed); `tables.section_merge` reads it."""

    keys: bytes
    tallies: bytes
    names: list[str | None]
    rest: bytes
    rest_rows: int
    least: int
    ends: bytes | None
    rest_links: bytes = b""
    rest_clicked: bytes = b""
    rest_clicked_rows: int = 0


_encode = msgspec.msgpack.Encoder().encode
_LEVEL: Final = 6


def _counts(section: int, rows: list[tuple[RowKey, int]]) -> NDArray[np.int64]:
    """What rows of a section are put in order by the sum of: events of engagement rows, recipients of the others."""
    fields = b.E_OPENED if section in b.ENGAGEMENT_SECTIONS else 1
    size = fields * FIELD_BYTES
    mask = (1 << 8 * size) - 1
    data = b"".join([(value & mask).to_bytes(size, "little") for _, value in rows])
    return counts_of(np.frombuffer(data, np.uint8).reshape(len(rows), size))


def section_part(book: Book, section: int) -> SectionPart:
    rows = list(book.section(section))
    number = len(rows)
    limit = LIMITS.get(section, DEFAULT_LIMIT)
    part = SectionPart([])
    if number > limit:
        total = sum(value for _, value in rows)
        counts = _counts(section, rows)
        weights = counts.sum(axis=1)
        # A campaign may have a hundred thousand links, of which the few that can be among the largest are sorted.
        candidates = np.flatnonzero(weights >= np.partition(weights, number - limit)[number - limit])
        largest = heapq.nlargest(limit, ((int(weights[n]), rows[n], int(n)) for n in candidates))
        if section == b.LINK:
            left_out = np.ones(number, bool)
            left_out[[place for _, _, place in largest]] = False
            _name_rest(part, rows, counts[:, b.E_CLICKS] > 0, left_out)
        rows = [row for _, row, _ in largest]
        part.rest = tally.to_bytes(total - sum(value for _, value in rows))
        part.rest_rows = number - limit
        part.least = largest[-1][0]
    part.rows = [(key[1:], tally.to_bytes(value), _name(book, key)) for key, value in rows]
    if section == b.LINK:
        part.ends = [book.ends.get(int.from_bytes(key[1:9], "big"), NO_ENDS) for key, _ in rows]
    return part


def _name_rest(
    part: SectionPart, rows: list[tuple[RowKey, int]], clicked: NDArray[np.bool_], left_out: NDArray[np.bool_]
) -> None:
    """`clicked`: whether a person clicked the link of a row."""
    links = np.frombuffer(b"".join([key[1:9] for key, _ in rows]), ">u8")[left_out]
    clicked = clicked[left_out]
    most = min(NAMED_REST, len(links))
    first = np.argpartition(links, most - 1)[:most]
    first = first[np.argsort(links[first])]
    part.rest_links = links[first].astype("<u8").tobytes()
    part.rest_clicked = np.packbits(clicked[first]).tobytes()
    part.rest_clicked_rows = int(clicked.sum())


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
        part.rest_links,
        part.rest_clicked,
        part.rest_clicked_rows,
    )
    return zlib.compress(_encode(packed), _LEVEL)
