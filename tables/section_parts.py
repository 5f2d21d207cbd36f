"""A partition's rows of one section as they are published: all of them, or the first where there are many.

Rows are summed over the partitions by who reads them (`app.sections`). Where a part is cut, what isn't in it is summed
up in `rest`, and every row that is left out stands behind the last one that isn't (`tables.ranking`): by weight, and
among those that weigh the same by key. By that a reader sees whether a row that another part has can be one that this
part leaves out (`tables.section_merge`).

A link that one partition leaves out may be in another's part, or left out there too. So that a reader counts it once, a
part names the links that it leaves out: all of them, or the `NAMED_REST` with the smallest numbers. A link's number is
a hash, so these are a fair sample of the others (`tables.section_merge`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from app import breakdown as b
from app import tally
from app.breakdown import RowKey
from app.sections import Ends, people_events
from tables.columns import columns_of, planes_of
from tables.ranking import Ranking

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
    """What the last row of the order by all events weighs: no row that is left out weighs more."""
    ends: list[Ends] = []
    """Of each link in `rows`: `tables.link_ends.Ends`."""
    rest_links: bytes = b""
    """Numbers of links that are left out, the smallest first, 8 bytes each (little endian)."""
    rest_clicked: bytes = b""
    """Of each of them a bit: whether a person clicked it."""
    rest_clicked_rows: int = 0
    """How many of all the rows that are left out have events of people."""
    last: bytes = b""
    """The key of that row: one that is left out and weighs as much has a larger one. Empty: not told."""
    people_least: int = -1
    """The same of the order by events of people; 0: all that have any are there, -1: not told."""
    people_last: bytes = b""


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
    last: bytes = b""
    people_least: int = -1
    people_last: bytes = b""


class Sectioned(Protocol):
    """A campaign's book (`tables.book`, `tables.campaign_book`)."""

    def ranking(self, section: int) -> Ranking: ...

    def names_of(self, section: int, keys: Sequence[RowKey]) -> list[str | None]: ...

    def ends_of(self, links: Sequence[int]) -> Sequence[Ends]: ...

    def smallest_links(self, most: int) -> Sequence[tuple[RowKey, int]]: ...


_encode = msgspec.msgpack.Encoder().encode
_LEVEL: Final = 6


def section_part(book: Sectioned, section: int) -> SectionPart:
    ranking = book.ranking(section)
    assert ranking.rows is not None
    part = SectionPart([])
    shown = list(ranking.rows)
    if ranking.cut or len(shown) > ranking.limit:
        first = ranking.first()
        shown = list(dict.fromkeys(key for keys in first for key in keys))
        _tell_rest(part, ranking, first, shown)
        if section == b.LINK and part.rest_rows:
            _name_rest(part, book, set(shown))
    rows = ranking.rows
    names = book.names_of(section, shown)
    part.rows = [(key[1:], tally.to_bytes(rows[key]), name) for key, name in zip(shown, names, strict=True)]
    if section == b.LINK:
        part.ends = list(book.ends_of([int.from_bytes(key[1:9], "big") for key in shown]))
    return part


def _tell_rest(part: SectionPart, ranking: Ranking, first: list[list[RowKey]], shown: list[RowKey]) -> None:
    """`first`: of each order the keys that are published."""
    assert ranking.rows is not None
    total, numbers = ranking.sums()
    part.rest = tally.to_bytes(total - sum(ranking.rows[key] for key in shown))
    part.rest_rows = numbers[0] - len(shown)
    if not part.rest_rows:
        return
    part.least, part.last = _last(ranking, 0, first[0])
    if len(numbers) > 1:
        part.rest_clicked_rows = numbers[1] - sum(1 for key in shown if people_events(ranking.rows[key]))
        part.people_least = 0
        if part.rest_clicked_rows:
            part.people_least, part.people_last = _last(ranking, 1, first[1])


def _last(ranking: Ranking, order: int, keys: list[RowKey]) -> tuple[int, bytes]:
    assert ranking.rows is not None
    return ranking.weights[order](ranking.rows[keys[-1]]), keys[-1][1:]


def _name_rest(part: SectionPart, book: Sectioned, shown: set[RowKey]) -> None:
    rest = [
        row
        for row in book.smallest_links(min(NAMED_REST, part.rest_rows) + len(shown))
        if row[0] not in shown
    ][:NAMED_REST]
    part.rest_links = np.array([int.from_bytes(key[1:9], "big") for key, _ in rest], "<u8").tobytes()
    part.rest_clicked = np.packbits(np.array([people_events(value) > 0 for _, value in rest])).tobytes()


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
        part.last,
        part.people_least,
        part.people_last,
    )
    return zlib.compress(_encode(packed), _LEVEL)
