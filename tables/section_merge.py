"""The parts of a section that the partitions published (`tables.section_parts`) → its rows, summed.

With numpy from the compressed bytes on: a campaign of 1,000 links has 8,000 rows of them to be added up by a request.

Where a part is cut, what it leaves out stands behind its last row in its order. So a row of another part is certainly
not in it where the last row weighs 1 and has a larger key: no weight is left for it. Rows of which that can't be said
are `short`.

How many links the parts leave out: each part names those, or the ones with the smallest numbers. Up to the smallest of
their ends all are named, and there it is seen how many of the rows that are left out are of another link than the rows
before. That share of all rows is the answer: exact where all are named, where each link is left out by one partition,
and where all partitions leave out the same ones; else good to a few percent (a sample of 2,000).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import breakdown as b
from app import tally
from app.sections import Ends, Key, Rows, name_in
from tables.columns import bytes_table_of, counts_of, table_of, tallies_of
from tables.link_ends import NO_ENDS
from tables.ranking import people_weights, weights_of
from tables.section_parts import Packed

_KEY_BYTES: Final = 16
_NEVER: Final = np.iinfo(np.int64).max
_decoder: msgspec.msgpack.Decoder[Packed] = msgspec.msgpack.Decoder(Packed)


class Part(NamedTuple):
    keys: NDArray[np.uint64]
    """Of each row the two numbers of its key."""
    fields: NDArray[np.int64]
    """Of each row the counts of its tally; as many columns as the largest one needs."""
    names: list[str | None]
    ends: NDArray[np.int64] | None
    """Of each row its `tables.link_ends.Ends`, where rows are links."""
    rest: int
    rest_rows: int
    least: int
    rest_links: NDArray[np.uint64]
    """Links that are left out, the smallest numbers first; all of them or not."""
    rest_clicked: NDArray[np.bool_]
    """Of each whether a person clicked it."""
    rest_clicked_rows: int
    last: NDArray[np.uint64] | None
    """The two numbers of the key of the last row; None: not told."""
    people_least: int
    people_last: NDArray[np.uint64] | None


def unpack_part(data: bytes) -> Part:
    """Raises ValueError (or zlib.error) on anything else than what `pack_part` made."""
    packed = _decoder.decode(zlib.decompress(data))
    number = len(packed.names)
    keys = bytes_table_of(packed.keys, number)
    if keys.shape[1] > _KEY_BYTES:
        raise ValueError("keys are too long")
    padded = np.zeros((number, _KEY_BYTES), np.uint8)
    padded[:, : keys.shape[1]] = keys
    return Part(
        padded.view(">u8").astype(np.uint64),
        counts_of(bytes_table_of(packed.tallies, number)),
        packed.names,
        table_of(packed.ends, number, len(NO_ENDS)) if packed.ends is not None else None,
        tally.from_bytes(packed.rest),
        packed.rest_rows,
        packed.least,
        (links := np.frombuffer(packed.rest_links, "<u8").astype(np.uint64)),
        np.unpackbits(np.frombuffer(packed.rest_clicked, np.uint8), count=len(links)).astype(bool),
        packed.rest_clicked_rows,
        _numbers_of(packed.last),
        packed.people_least if packed.people_least >= 0 else packed.least,
        _numbers_of(packed.people_last),
    )


def _numbers_of(key: bytes) -> NDArray[np.uint64] | None:
    return np.frombuffer(key, ">u8").astype(np.uint64) if len(key) == _KEY_BYTES else None


def merge_parts(
    parts: Iterable[tuple[int, int, Part]], most: Callable[[int], int] | None = None
) -> dict[int, Rows]:
    """(partition, section, part) → section → rows, summed over the partitions.

    `most`: section → how many rows are shown of it. Then no others are made than those that can be among the first so
    many, by what is known of all rows or of those that are not short, and the positions of these links; the others are
    part of the rest. Of adding up 20,000 rows most of the time goes into making them.
    """
    sections: dict[int, list[Part]] = {}
    for _, section, part in parts:
        sections.setdefault(section, []).append(part)
    found: dict[int, Rows] = {}
    links: NDArray[np.uint64] | None = None
    for section in sorted(sections, key=lambda section: section == b.POSITION):
        merging = _Merging(section, sections[section])
        kept = np.ones(len(merging.keys), bool)
        if most is not None and section != b.POSITION:
            kept = merging.can_be_first(most(section))
        elif most is not None and links is not None:
            kept = np.isin(merging.keys[:, 0], links)
        if section == b.LINK:
            links = merging.keys[kept, 0]
        found[section] = merging.rows(kept)
    return found


class _Merging:
    """One section's rows, each once, in the order of their keys."""

    def __init__(self, section: int, parts: list[Part]) -> None:
        self._section = section
        self._parts = parts
        numbers = np.concatenate([part.keys for part in parts])
        # Equal keys stand together in `_order`, each group from one of `_starts` on.
        self._order = np.lexsort((numbers[:, 1], numbers[:, 0]))
        ordered = numbers[self._order]
        changes = (ordered[1:] != ordered[:-1]).any(axis=1)
        self._starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(ordered)), bool), changes]))
        self.keys: NDArray[np.uint64] = ordered[self._starts]
        self._group = np.repeat(np.arange(len(self._starts)), np.diff([*self._starts.tolist(), len(ordered)]))
        self._fields = self._summed()
        self._cut = [part for part in parts if part.rest_rows]
        self._short, self._people_short = self._doubtful()

    def _summed(self) -> NDArray[np.int64]:
        width = max(1, *(part.fields.shape[1] for part in self._parts))
        fields = np.concatenate(
            [np.pad(part.fields, ((0, 0), (0, width - part.fields.shape[1]))) for part in self._parts]
        )
        if not len(self._starts):
            return fields
        return np.add.reduceat(fields[self._order], self._starts, axis=0)

    def _doubtful(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The rows of which a part that is cut may have left out some, and those of them that may lack people's."""
        short = np.zeros(len(self.keys), bool)
        people_short = np.zeros(len(self.keys), bool)
        group = np.empty_like(self._group)
        group[self._order] = self._group
        begins = 0
        for part in self._parts:
            ends = begins + len(part.names)
            if part.rest_rows:
                absent = np.ones(len(self.keys), bool)
                absent[group[begins:ends]] = False
                maybe = absent & (_most(part.least, part.last, self.keys) > 0)
                short |= maybe
                people_short |= maybe & (_most(part.people_least, part.people_last, self.keys) > 0)
            begins = ends
        return short, people_short if self._section in b.ENGAGEMENT_SECTIONS else short

    def can_be_first(self, most: int) -> NDArray[np.bool_]:
        """Rows that can be among the first so many in one of the section's orders."""
        kept = np.zeros(len(self.keys), bool)
        for weights, unsure in zip(
            weights_of(self._section, self._fields), (self._short, self._people_short), strict=False
        ):
            there = weights > 0
            for known in (there, there & ~unsure) if unsure.any() else (there,):
                some = np.flatnonzero(known)
                if len(some) > most:
                    sizes = weights[some]
                    least = np.partition(sizes, len(sizes) - most)[len(sizes) - most]
                    first = some[sizes > least]
                    same = some[sizes == least]
                    # Where rows are cut those that weigh the same stand by key, as here.
                    if not self._cut:
                        same = self._by_name(same)
                    some = np.concatenate([first, same[: most - len(first)]])
                kept[some] = True
        return kept

    def _by_name(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        kept = np.zeros(len(self.keys), bool)
        kept[places] = True
        keys = self._keys_of(places)
        name = name_in(Rows(names=self._names(kept, keys)))
        names = [name(key) for key in keys]
        return places[sorted(range(len(places)), key=names.__getitem__)]

    def _keys_of(self, places: NDArray[np.int64]) -> list[Key]:
        return [(first, second) for first, second in self.keys[places].tolist()]

    def rows(self, kept: NDArray[np.bool_]) -> Rows:
        """These rows; the others are part of the rest."""
        places = np.flatnonzero(kept)
        keys = self._keys_of(places)
        rows = Rows(dict(zip(keys, tallies_of(self._fields[places]), strict=True)), self._names(kept, keys))
        if any(part.ends is not None for part in self._parts):
            rows.ends = dict(zip((key[0] for key in keys), self._ends(places), strict=True))
        rows.short = {
            key for key, is_short in zip(keys, self._short[places].tolist(), strict=True) if is_short
        }
        rows.people_short = {
            key for key, is_short in zip(keys, self._people_short[places].tolist(), strict=True) if is_short
        }
        self._add_cuts(rows)
        gone = self._fields[~kept]
        rows.rest += tallies_of(gone.sum(axis=0, keepdims=True))[0]
        rows.rest_rows += len(gone)
        rows.people_rest_rows += int(np.count_nonzero(people_weights(gone)))
        return rows

    def _names(self, kept: NDArray[np.bool_], keys: list[Key]) -> dict[Key, str]:
        """Any part's name of a row: the parts that have one agree."""
        some = np.flatnonzero(kept[self._group])
        names = np.array([name for part in self._parts for name in part.names], object)[self._order[some]]
        number = np.cumsum(kept) - 1
        rows = number[self._group[some]].tolist()
        return {
            keys[place]: name for place, name in zip(rows, names.tolist(), strict=True) if name is not None
        }

    def _ends(self, places: NDArray[np.int64]) -> list[Ends]:
        """The earliest first and the latest last one; -1 (never) is no time."""
        if not len(places):
            return []
        ends = np.concatenate(
            [np.full((len(part.names), 4), -1) if part.ends is None else part.ends for part in self._parts]
        )[self._order]
        firsts = np.where(ends[:, ::2] < 0, _NEVER, ends[:, ::2])
        earliest = np.minimum.reduceat(firsts, self._starts, axis=0)[places]
        earliest[earliest == _NEVER] = -1
        latest = np.maximum.reduceat(ends[:, 1::2], self._starts, axis=0)[places]
        return [
            (first, last, people_first, people_last)
            for (first, people_first), (last, people_last) in zip(
                earliest.tolist(), latest.tolist(), strict=True
            )
        ]

    def _add_cuts(self, rows: Rows) -> None:
        """What the parts left out."""
        for part in self._cut:
            rows.cut += 1
            rows.rest += part.rest
            rows.rest_rows += part.rest_rows
            rows.people_rest_rows += part.rest_clicked_rows if len(part.rest_links) else part.rest_rows
        if self._cut and all(len(part.rest_links) for part in self._cut):
            self._count_once(rows)

    def _count_once(self, rows: Rows) -> None:
        """Makes numbers of rows that the parts left out numbers of links that no part has."""
        named = np.concatenate([part.rest_links for part in self._cut])
        clicked = np.concatenate([part.rest_clicked for part in self._cut])
        ends = [part.rest_links[-1] for part in self._cut if len(part.rest_links) < part.rest_rows]
        if ends:
            within = named <= min(ends)
            named, clicked = named[within], clicked[within]
        people = self._fields[:, b.E_CLICKS : b.E_CLICKS + 1].any(axis=1)
        rows.rest_rows = _share(rows.rest_rows, named, self.keys[:, 0])
        rows.people_rest_rows = _share(rows.people_rest_rows, named[clicked], self.keys[people, 0])


def _most(least: int, last: NDArray[np.uint64] | None, numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What rows with these keys weigh at most in a part that leaves them out."""
    if last is None:
        return np.full(len(numbers), least)
    first, second = numbers[:, 0], numbers[:, 1]
    before = (first < last[0]) | ((first == last[0]) & (second <= last[1]))
    return np.where(before, least - 1, least)


def _share(number: int, named: NDArray[np.uint64], there: NDArray[np.uint64]) -> int:
    """As many of `number` as links among `named` that are not `there`, each once, are of these."""
    if not len(named):
        return number
    different = len(np.setdiff1d(named, there))
    return (number * different + len(named) // 2) // len(named)
