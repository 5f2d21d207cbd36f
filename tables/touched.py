"""What a batch behind an offset has touched, read from a partition's database in small steps.

Each row carries the offset of the batch that touched it last. The database may be written to between two steps: what
is touched meanwhile is found or not, and whoever reads this hears of it from the batches themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec
from rocksdict import Rdict

from app.facts import CampaignKey
from tables.layout import scan, scan_keys
from tables.walking import walk

ROWS: Final = 200
"""Rows of a step: some 0.2 ms. An iterator lives no longer than a step, so that the database may be closed between."""
LABELS: Final = -1
"""Stands among the days for what a campaign is called."""
ALL: Final = -2
"""Stands for all days and labels, or all sections, that there are."""
NEW: Final = -3
"""Says that nothing but what stands beside it was ever published."""

Touched = tuple[CampaignKey, set[int]] | None
"""A campaign with what of it was touched; None: nothing in this step."""


class _Stamp(msgspec.Struct, array_like=True):
    """The first field of every row."""

    offset: int


class Standing(NamedTuple):
    """What stands in Redis of a campaign, once it is published."""

    key: CampaignKey
    offset: int
    """Of the batch that touched it last: what is published is not older."""
    org: str
    campaign: str
    as_of_ms: int
    named: bool
    """Whether it was given a name."""


class _Row(msgspec.Struct, array_like=True):
    """`tables.layout.CampaignRow`, as far as it is needed."""

    offset: int
    org: str
    campaign: str
    as_of_ms: int
    patterns: msgspec.Raw
    totals: msgspec.Raw
    overflow: msgspec.Raw
    sections: dict[int, int] = {}


_stamp: msgspec.msgpack.Decoder[_Stamp] = msgspec.msgpack.Decoder(_Stamp)
_row: msgspec.msgpack.Decoder[_Row] = msgspec.msgpack.Decoder(_Row)


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
            row = _row.decode(stored)
            found = {section for section, last in row.sections.items() if last > offset}
            if found:
                yield CampaignKey(name[1:]), found


def days_of(db: Rdict, campaign: CampaignKey) -> set[int]:
    """All days of which a campaign has hours."""
    return {int.from_bytes(name[9:], "big") for name in scan_keys(db, b"D" + campaign)}


def standing_numbers(db: Rdict, offset: Callable[[], int]) -> Iterator[list[Standing]]:
    """What stands in Redis of the campaigns that no batch behind the published offset has touched, in steps."""
    for step in _steps(db, b"C"):
        published = offset()
        named = _named(db, step[0][0][1:], step[-1][0][1:], published)
        rows = [(CampaignKey(name[1:]), _row.decode(stored)) for name, stored in step]
        yield [
            Standing(key, row.offset, row.org, row.campaign, row.as_of_ms, key in named)
            for key, row in rows
            if row.offset <= published
        ]


def standing_sections(db: Rdict, offset: Callable[[], int]) -> Iterator[list[Standing]]:
    """The same of the rows of the sections."""
    for step in _steps(db, b"C"):
        published = offset()
        rows = [(CampaignKey(name[1:]), _row.decode(stored)) for name, stored in step]
        yield [
            Standing(key, last, row.org, row.campaign, row.as_of_ms, False)
            for key, row in rows
            if 0 <= (last := max(row.sections.values(), default=-1)) <= published
        ]


def _named(db: Rdict, first: bytes, last: bytes, offset: int) -> set[bytes]:
    """Of the campaigns from `first` to `last` those that were given a name, which was published."""
    found: set[bytes] = set()
    for name, stored in walk(db, b"L" + first):
        if not name.startswith(b"L") or name[1:] > last:
            break
        if _stamp.decode(stored).offset <= offset:
            found.add(name[1:])
    return found


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
