"""The rows of one section in one partition: any number of them, of which the first are at hand.

Rules:
- Rows stand in an order: by weight, the largest first, then by key. A section of opens and clicks has two orders, by
  all events and by those of people; rows without any of people's are in the first one only.
- A section is *whole* up to `WHOLE` times its limit: all of its rows are in memory, and nothing else is kept of it.
- Beyond that it is *cut*. Of each order it keeps the rows down to a `floor`. These stand in an index (`W` of
  `tables.layout`), and beside it what sums up all rows: their tally, and how many there are. A row behind the floors
  costs no entry of the index. Keys are hashes, so of many rows that weigh the same only a few come before a floor.
- More than `WHOLE` limits of rows before a floor: it is raised, to `KEPT` limits. Fewer than one limit, since rows lost
  weight: all rows are read again (`read_ranking`).
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import Final

import msgspec

from app import breakdown as b
from app import tally
from app.breakdown import RowKey
from app.sections import Weight, orders_of

LIMITS: Final = {b.LINK: 1_000, b.POSITION: 1_500}
DEFAULT_LIMIT: Final = 600
"""Rows of one section and partition that are published. Shown are 1,000 links and 200 of the others."""
KEPT: Final = 2
WHOLE: Final = 3
READ: Final = 20
"""While all rows of a section are read, so many limits of them are in memory at most."""

_MOST: Final = (1 << 40) - 1
_EVERYTHING: Final = b"\xff" * 22
"""A floor behind all rows."""

Ops = list[tuple[bool, bytes]]
"""Entries of the index (order and rank) that are put (true) or deleted, in this order."""


def limit_of(section: int) -> int:
    return LIMITS.get(section, DEFAULT_LIMIT)


def rank_of(key: RowKey, weight: int) -> bytes:
    """Where a row stands in an order: 21 bytes, the smallest first."""
    return (_MOST - min(weight, _MOST)).to_bytes(5, "big") + key[1:]


def key_of(section: int, entry: bytes) -> RowKey:
    """An entry of the index (order and rank) → the row's key."""
    return bytes((section,)) + entry[6:]


class CutRow(msgspec.Struct, array_like=True):
    """What the database keeps of a section that is cut, beside its rows and their index."""

    generation: int
    offset: int
    """As of which this is; compared with the campaign's own word (`CampaignRow.sections`)."""
    total: bytes
    numbers: list[int]
    kept: list[int]
    floors: list[bytes]


cut_decoder: msgspec.msgpack.Decoder[CutRow] = msgspec.msgpack.Decoder(CutRow)


class Ranking:
    def __init__(self, section: int) -> None:
        self.section = section
        self.limit = limit_of(section)
        self.weights: tuple[Weight, ...] = orders_of(section)
        self.rows: dict[RowKey, int] | None = {}
        """Key → tally: of all rows, or where it is cut of those before a floor; None: these are not read yet."""
        self.cut = False
        self.total = 0
        """Tally of all rows. From here on: only where it is cut."""
        self.numbers = [0] * len(self.weights)
        """Of each order how many rows it has."""
        self.kept = [0] * len(self.weights)
        """Of each order how many of its rows stand before the floor."""
        self.floors = [_EVERYTHING] * len(self.weights)

    @property
    def overgrown(self) -> bool:
        """Rows must go from what is kept: see `shrink`."""
        most = WHOLE * self.limit
        if not self.cut:
            return self.rows is not None and len(self.rows) > most
        return any(kept > most for kept in self.kept)

    @property
    def short(self) -> bool:
        """Rows before a floor have become too few to tell the first ones."""
        return self.cut and any(
            kept < min(self.limit, number) for kept, number in zip(self.kept, self.numbers, strict=True)
        )

    def stored(self, generation: int, offset: int) -> CutRow:
        return CutRow(generation, offset, tally.to_bytes(self.total), self.numbers, self.kept, self.floors)

    def take(self, stored: CutRow) -> None:
        """Is cut, as it was stored; its rows are not read yet."""
        self.cut, self.rows = True, None
        self.total = tally.from_bytes(stored.total)
        self.numbers, self.kept, self.floors = stored.numbers, stored.kept, stored.floors

    def shrink(self) -> Ops:
        """Keeps `KEPT` limits of rows, and is cut from now on."""
        rows = self.rows
        assert rows is not None
        if not self.cut:
            self.total = sum(rows.values())
        ops: Ops = []
        left: set[RowKey] = set()
        for place, weight in enumerate(self.weights):
            before = b"" if not self.cut else self.floors[place]
            found = [
                rank
                for key, value in rows.items()
                if ((size := weight(value)) or not place)
                and ((rank := rank_of(key, size)) <= before or not before)
            ]
            number = len(found)
            first = nsmallest(KEPT * self.limit, found) if number > WHOLE * self.limit else found
            if number > len(first):
                self.floors[place] = first[-1]
            order = bytes((place,))
            if before:
                ops += ((False, order + rank) for rank in set(found).difference(first))
            else:
                ops += ((True, order + rank) for rank in first)
                self.numbers[place] = number
            self.kept[place] = len(first)
            left.update(key_of(self.section, order + rank) for rank in first)
        self.rows = {key: rows[key] for key in left}
        self.cut = True
        return ops

    def move(self, key: RowKey, old: int, new: int, ops: Ops) -> None:
        """A row's tally changes, where the section is cut; 0: there is no row."""
        self.total += new - old
        keeps = False
        for place, weight in enumerate(self.weights):
            before = rank_of(key, size) if old and ((size := weight(old)) or not place) else b""
            after = rank_of(key, size) if new and ((size := weight(new)) or not place) else b""
            self.numbers[place] += bool(after) - bool(before)
            floor = self.floors[place]
            within = after and after <= floor
            keeps = keeps or bool(within)
            if before != after:
                order = bytes((place,))
                if before and before <= floor:
                    ops.append((False, order + before))
                    self.kept[place] -= 1
                if within:
                    ops.append((True, order + after))
                    self.kept[place] += 1
        if self.rows is not None:
            if keeps:
                self.rows[key] = new
            else:
                self.rows.pop(key, None)

    def first(self) -> list[list[RowKey]]:
        """Of each order the keys of the first rows, as many as the limit says, in order."""
        assert self.rows is not None
        orders = []
        for place, weight in enumerate(self.weights):
            ranks = (
                rank_of(key, size) for key, value in self.rows.items() if (size := weight(value)) or not place
            )
            orders.append([key_of(self.section, b"\0" + rank) for rank in nsmallest(self.limit, ranks)])
        return orders

    def sums(self) -> tuple[int, list[int]]:
        """The tally of all rows, and of each order how many there are."""
        if self.cut:
            return self.total, self.numbers
        assert self.rows is not None
        rows = self.rows.values()
        numbers = [
            len(self.rows),
            *(sum(1 for value in rows if weight(value)) for weight in self.weights[1:]),
        ]
        return sum(rows), numbers

    def entries(self) -> list[bytes]:
        """What the index has of a section that is cut, whose rows are read."""
        assert self.rows is not None
        return [
            bytes((place,)) + rank
            for place, weight in enumerate(self.weights)
            for key, value in self.rows.items()
            if ((size := weight(value)) or not place) and (rank := rank_of(key, size)) <= self.floors[place]
        ]


def ranking_of(section: int, rows: Iterable[tuple[RowKey, int]]) -> Ranking:
    """All rows of a section in memory, as where nobody keeps an index."""
    ranking = Ranking(section)
    ranking.rows = dict(rows)
    return ranking


def read_ranking(section: int, rows: Iterable[tuple[RowKey, int]]) -> Ranking:
    """A section from all of its rows, cut where they are many: then its `entries` are to be stored."""
    ranking = Ranking(section)
    most = READ * ranking.limit
    for key, value in rows:
        if ranking.cut:
            ranking.move(key, 0, value, [])
            if max(ranking.kept) > most:
                ranking.shrink()
        elif ranking.rows is not None:
            ranking.rows[key] = value
            if len(ranking.rows) > most:
                ranking.shrink()
    if ranking.overgrown:
        ranking.shrink()
    return ranking
