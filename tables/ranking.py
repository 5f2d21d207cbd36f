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

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import breakdown as b
from app import tally
from app.breakdown import RowKey
from app.sections import Weight, events, orders_of, people_events
from app.tally import FIELD_BYTES
from tables.columns import counts_of

LIMITS: Final = {b.LINK: 1_000, b.POSITION: 1_500}
DEFAULT_LIMIT: Final = 600
"""Rows of one section and partition that are published. Shown are 1,000 links and 200 of the others."""
KEPT: Final = 2
WHOLE: Final = 3
READ: Final = 20
"""While all rows of a section are read, so many limits of them are in memory at most."""

_MOST: Final = (1 << 40) - 1
_NO_FLOOR: Final = (-1, b"")
"""Before it stand all rows."""

Floor = tuple[int, RowKey]
"""Weight and key of the last row before it, that one included."""
Ops = list[tuple[bool, bytes]]
"""Entries of the index (order and rank) that are put (true) or deleted, in this order."""


@lru_cache(maxsize=8_192)
def _events_and_people(value: int) -> tuple[int, ...]:
    """A tally's weights. Most rows of very many have the same few tallies."""
    return events(value), people_events(value)


def _one_weight(value: int) -> tuple[int, ...]:
    return (value & tally.MASK,)


def limit_of(section: int) -> int:
    return LIMITS.get(section, DEFAULT_LIMIT)


def people_weights(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of rows of tallies' counts what `people_events` says, as far as they have these columns."""
    columns = slice(b.E_OPENS, b.E_CLICKS + 1, b.E_CLICKS - b.E_OPENS)
    found: NDArray[np.int64] = counts[:, columns].sum(axis=1)
    return found


def weights_of(section: int, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The same of `orders_of`: of each order the rows' weights."""
    if section not in b.ENGAGEMENT_SECTIONS:
        return [counts[:, :1].sum(axis=1)]
    return [counts[:, : b.E_OPENED].sum(axis=1), people_weights(counts)]


def entry_of(order: int, key: RowKey, weight: int) -> bytes:
    """A row's entry in the index: the order, and where it stands there, the smallest first. 22 bytes."""
    return _place_of(order, weight) + key[1:]


@lru_cache(maxsize=8_192)
def _place_of(order: int, weight: int) -> bytes:
    return bytes((order,)) + (_MOST - min(weight, _MOST)).to_bytes(5, "big")


def key_of(section: int, entry: bytes) -> RowKey:
    """An entry of the index → the row's key."""
    return bytes((section,)) + entry[6:]


class CutRow(msgspec.Struct, array_like=True):
    """What the database keeps of a section that is cut, beside its rows and their index."""

    generation: int
    offset: int
    """As of which this is; compared with the campaign's own word (`CampaignRow.sections`)."""
    total: bytes
    numbers: list[int]
    kept: list[int]
    floors: list[Floor]


cut_decoder: msgspec.msgpack.Decoder[CutRow] = msgspec.msgpack.Decoder(CutRow)


class Ranking:
    def __init__(self, section: int) -> None:
        self.section = section
        self.limit = limit_of(section)
        self.weights: tuple[Weight, ...] = orders_of(section)
        self._weigh = _events_and_people if section in b.ENGAGEMENT_SECTIONS else _one_weight
        self.rows: dict[RowKey, int] | None = {}
        """Key → tally: of all rows, or where it is cut of those before a floor; None: these are not read yet."""
        self.cut = False
        self.total = 0
        """Tally of all rows. From here on: only where it is cut."""
        self.numbers = [0] * len(self.weights)
        """Of each order how many rows it has."""
        self.kept = [0] * len(self.weights)
        """Of each order how many of its rows stand before the floor."""
        self.floors: list[Floor] = [_NO_FLOOR] * len(self.weights)

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

    def _within(self, order: int, key: RowKey, weight: int) -> bool:
        """Whether a row with this weight is one of those that are kept of an order."""
        least, last = self.floors[order]
        return weight > least or (weight == least and key <= last)

    def shrink(self) -> Ops:
        """Keeps `KEPT` limits of rows, and is cut from now on."""
        rows = self.rows
        assert rows is not None
        if not self.cut:
            self.total = sum(rows.values())
        ops: Ops = []
        left: set[RowKey] = set()
        keys, orders = self._in_order()
        for order, (places, sizes) in enumerate(orders):
            number = len(places)
            most = KEPT * self.limit if number > WHOLE * self.limit else number
            if number > most:
                self.floors[order] = int(sizes[most - 1]), keys[places[most - 1]]
            sized = zip([keys[place] for place in places.tolist()], sizes.tolist(), strict=True)
            first = list(islice(sized, most))
            left.update(key for key, _ in first)
            if self.cut:
                ops += [(False, entry_of(order, key, size)) for key, size in sized]
            else:
                ops += [(True, entry_of(order, key, size)) for key, size in first]
                self.numbers[order] = number
            self.kept[order] = len(first)
        self.rows = {key: rows[key] for key in left}
        self.cut = True
        return ops

    def _in_order(self) -> tuple[list[RowKey], list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """The keys of the rows in memory, and for each order: which of them stand before the floor, in order, and
        their weights."""
        assert self.rows is not None
        keys = list(self.rows)
        fields = b.E_OPENED if self.section in b.ENGAGEMENT_SECTIONS else 1
        size = fields * FIELD_BYTES
        mask = (1 << 8 * size) - 1
        data = b"".join([(value & mask).to_bytes(size, "little") for value in self.rows.values()])
        counts = counts_of(np.frombuffer(data, np.uint8).reshape(len(keys), size))
        numbers = np.frombuffer(b"".join([key[1:] for key in keys]), ">u8").reshape(len(keys), 2)
        first, second = numbers[:, 0].astype(np.uint64), numbers[:, 1].astype(np.uint64)
        orders = []
        for order, sizes in enumerate(weights_of(self.section, counts)):
            within = np.ones(len(keys), bool) if not order else sizes > 0
            least, last = self.floors[order]
            if last:
                a, z = np.frombuffer(last[1:], ">u8").astype(np.uint64)
                before = (first < a) | ((first == a) & (second <= z))
                within &= (sizes > least) | ((sizes == least) & before)
            some = np.flatnonzero(within)
            places = some[np.lexsort((second[some], first[some], -sizes[some]))]
            orders.append((places, sizes[places]))
        return keys, orders

    def move(self, key: RowKey, old: int, new: int, ops: Ops) -> None:
        """A row's tally changes, where the section is cut; 0: there is no row."""
        if not old:
            if new:
                self.come({new: (key,)}, ops)
            return
        self.total += new - old
        keeps = False
        for order, (before, after) in enumerate(zip(self._weigh(old), self._weigh(new), strict=True)):
            was = before > 0 or not order
            there = after > 0 or (not order and new > 0)
            self.numbers[order] += there - was
            within = there and self._within(order, key, after)
            keeps = keeps or within
            if before == after and was == there:
                continue
            if was and self._within(order, key, before):
                ops.append((False, entry_of(order, key, before)))
                self.kept[order] -= 1
            if within:
                ops.append((True, entry_of(order, key, after)))
                self.kept[order] += 1
        if self.rows is not None:
            if keeps:
                self.rows[key] = new
            else:
                self.rows.pop(key, None)

    def come(self, new: Mapping[int, Collection[RowKey]], ops: Ops) -> None:
        """Rows that were not there, by their tallies: in a mailing with a link for each recipient nearly all rows of
        a batch, with a few tallies between them. Where the section is cut."""
        for value, keys in new.items():
            self.total += value * len(keys)
            for order, size in enumerate(self._weigh(value)):
                if not size and order:
                    continue
                self.numbers[order] += len(keys)
                least, last = self.floors[order]
                if size < least:
                    continue
                within = keys if size > least else [key for key in keys if key <= last]
                self.kept[order] += len(within)
                ops += [(True, entry_of(order, key, size)) for key in within]
                if self.rows is not None:
                    self.rows.update(dict.fromkeys(within, value))

    def first(self) -> list[list[RowKey]]:
        """Of each order the keys of the first rows, as many as the limit says, in order."""
        keys, orders = self._in_order()
        return [[keys[place] for place in places[: self.limit].tolist()] for places, _ in orders]

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
            entry_of(order, key, size)
            for order, weight in enumerate(self.weights)
            for key, value in self.rows.items()
            if ((size := weight(value)) or not order) and self._within(order, key, size)
        ]


def entries_of(section: int, rows: Mapping[RowKey, int], floors: Sequence[Floor]) -> set[bytes]:
    """What the index of a section with these rows and floors has: `Ranking.entries`, from all rows."""
    return {
        entry_of(order, key, weight(value))
        for order, (weight, floor) in enumerate(zip(orders_of(section), floors, strict=True))
        for key, value in rows.items()
        if (weight(value) or not order) and (-weight(value), key) <= (-floor[0], floor[1])
    }


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
