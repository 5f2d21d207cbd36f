"""What a batch behind an offset has touched, read from a partition's database in small steps.

Each row carries the offset of the batch that touched it last. The database may be written to between two steps: what
is touched meanwhile is found or not, and whoever reads this hears of it from the batches themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from rocksdict import Rdict

from app.facts import CampaignKey
from tables.layout import scan
from tables.walking import walk

ROWS: Final = 200
"""Rows of a step: some 0.2 ms. An iterator lives no longer than a step, so that the database may be closed between."""
LABELS: Final = -1
"""Stands among the days for what a campaign is called."""

Touched = tuple[CampaignKey, set[int]] | None
"""A campaign with what of it was touched; None: nothing in this step."""


class _Stamp(msgspec.Struct, array_like=True):
    """The first field of every row."""

    offset: int


class _Sections(msgspec.Struct, array_like=True):
    """`tables.layout.CampaignRow`, as far as it is needed."""

    offset: int
    org: msgspec.Raw
    campaign: msgspec.Raw
    as_of_ms: msgspec.Raw
    patterns: msgspec.Raw
    totals: msgspec.Raw
    overflow: msgspec.Raw
    sections: dict[int, int] = {}


_stamp: msgspec.msgpack.Decoder[_Stamp] = msgspec.msgpack.Decoder(_Stamp)
_sections: msgspec.msgpack.Decoder[_Sections] = msgspec.msgpack.Decoder(_Sections)


def touched_numbers(db: Rdict, offset: int) -> Iterator[Touched]:
    """Campaigns with the days whose last batch ended behind `offset`, and `LABELS`: what a view as of it lacks."""
    for step in _steps(db, b"C"):
        yield None
        for name, stored in step:
            if _stamp.decode(stored).offset > offset:
                days = scan(db, b"D" + name[1:])
                yield (
                    CampaignKey(name[1:]),
                    {
                        int.from_bytes(day[9:], "big")
                        for day, row in days
                        if _stamp.decode(row).offset > offset
                    },
                )
    for step in _steps(db, b"L"):
        yield None
        for name, stored in step:
            if _stamp.decode(stored).offset > offset:
                yield CampaignKey(name[1:]), {LABELS}


def touched_sections(db: Rdict, offset: int) -> Iterator[Touched]:
    """Campaigns with the sections (`app.breakdown`) whose rows a batch behind `offset` changed."""
    for step in _steps(db, b"C"):
        yield None
        for name, stored in step:
            row = _sections.decode(stored)
            found = {section for section, last in row.sections.items() if last > offset}
            if found:
                yield CampaignKey(name[1:]), found


def _steps(db: Rdict, prefix: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    start = prefix
    while True:
        step: list[tuple[bytes, bytes]] = []
        for name, stored in walk(db, start):
            if not name.startswith(prefix) or len(step) == ROWS:
                break
            step.append((name, stored))
        if not step:
            return
        yield step
        start = step[-1][0] + b"\0"
