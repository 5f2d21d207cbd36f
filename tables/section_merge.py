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
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import breakdown as b
from app import tally
from app.sections import Ends, Key, Rows
from app.tally import field_of
from tables.columns import bytes_table_of, counts_of, table_of, tallies_of
from tables.link_ends import NO_ENDS
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


def merge_parts(parts: Iterable[tuple[int, int, Part]]) -> dict[int, Rows]:
    """(partition, section, part) → section → rows, summed over the partitions."""
    sections: dict[int, list[Part]] = {}
    for _, section, part in parts:
        sections.setdefault(section, []).append(part)
    return {section: _merged(section, some) for section, some in sections.items()}


def _merged(section: int, parts: list[Part]) -> Rows:
    numbers = np.concatenate([part.keys for part in parts])
    rows = Rows()
    if len(numbers):
        # Equal keys stand together in `order`, each group from one of `starts` on.
        order = np.lexsort((numbers[:, 1], numbers[:, 0]))
        changes = (numbers[order][1:] != numbers[order][:-1]).any(axis=1)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        keys: list[Key] = [(first, second) for first, second in numbers[order][starts].tolist()]
        rows.tallies = dict(zip(keys, _sums(parts, order, starts), strict=True))
        if any(part.rest_rows for part in parts):
            _add_short(rows, section, parts, order, starts, keys)
        rows.names = _names(parts, order, starts, keys)
        if any(part.ends is not None for part in parts):
            rows.ends = dict(zip((key[0] for key in keys), _ends(parts, order, starts), strict=True))
    _add_cuts(rows, parts)
    return rows


def _sums(parts: list[Part], order: NDArray[np.int64], starts: NDArray[np.int64]) -> list[int]:
    """The tallies of the rows that stand together in `order`, one for each of `starts`."""
    width = max(1, *(part.fields.shape[1] for part in parts))
    fields = np.concatenate(
        [np.pad(part.fields, ((0, 0), (0, width - part.fields.shape[1]))) for part in parts]
    )
    return tallies_of(np.add.reduceat(fields[order], starts, axis=0))


def _names(
    parts: list[Part], order: NDArray[np.int64], starts: NDArray[np.int64], keys: list[Key]
) -> dict[Key, str]:
    """Any part's name of a row: the parts that have one agree."""
    names = np.array([name for part in parts for name in part.names], object)[order]
    group = np.repeat(np.arange(len(starts)), np.diff([*starts.tolist(), len(order)]))
    named = np.flatnonzero(names != None)  # noqa: E711  # cell by cell
    return {
        keys[place]: name for place, name in zip(group[named].tolist(), names[named].tolist(), strict=True)
    }


def _ends(parts: list[Part], order: NDArray[np.int64], starts: NDArray[np.int64]) -> list[Ends]:
    """The earliest first and the latest last one; -1 (never) is no time."""
    ends = np.concatenate(
        [np.full((len(part.names), 4), -1) if part.ends is None else part.ends for part in parts]
    )[order]
    firsts = np.where(ends[:, ::2] < 0, _NEVER, ends[:, ::2])
    earliest = np.minimum.reduceat(firsts, starts, axis=0)
    earliest[earliest == _NEVER] = -1
    latest = np.maximum.reduceat(ends[:, 1::2], starts, axis=0)
    return [
        (first, last, people_first, people_last)
        for (first, people_first), (last, people_last) in zip(earliest.tolist(), latest.tolist(), strict=True)
    ]


def _add_short(
    rows: Rows,
    section: int,
    parts: list[Part],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    keys: list[Key],
) -> None:
    """Finds the rows of which a part that is cut may have left out some."""
    group = np.empty(len(order), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff([*starts.tolist(), len(order)]))
    numbers = np.concatenate([part.keys for part in parts])[order][starts]
    short = np.zeros(len(starts), bool)
    people_short = np.zeros(len(starts), bool)
    begins = 0
    for part in parts:
        ends = begins + len(part.names)
        if part.rest_rows:
            absent = np.ones(len(starts), bool)
            absent[group[begins:ends]] = False
            maybe = absent & (_most(part.least, part.last, numbers) > 0)
            short |= maybe
            people_short |= maybe & (_most(part.people_least, part.people_last, numbers) > 0)
        begins = ends
    rows.short = {keys[place] for place in np.flatnonzero(short).tolist()}
    if section in b.ENGAGEMENT_SECTIONS:
        rows.people_short = {keys[place] for place in np.flatnonzero(people_short).tolist()}
    else:
        rows.people_short = rows.short


def _most(least: int, last: NDArray[np.uint64] | None, numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What rows with these keys weigh at most in a part that leaves them out."""
    if last is None:
        return np.full(len(numbers), least)
    first, second = numbers[:, 0], numbers[:, 1]
    before = (first < last[0]) | ((first == last[0]) & (second <= last[1]))
    return np.where(before, least - 1, least)


def _add_cuts(rows: Rows, parts: list[Part]) -> None:
    for part in parts:
        if part.rest_rows:
            rows.cut += 1
            rows.rest += part.rest
            rows.rest_rows += part.rest_rows
            rows.people_rest_rows += part.rest_clicked_rows if len(part.rest_links) else part.rest_rows
    cut = [part for part in parts if part.rest_rows]
    if cut and all(len(part.rest_links) for part in cut):
        _count_once(rows, cut)


def _count_once(rows: Rows, cut: list[Part]) -> None:
    """Makes numbers of rows that the parts left out numbers of links that are not in `rows`."""
    named = np.concatenate([part.rest_links for part in cut])
    clicked = np.concatenate([part.rest_clicked for part in cut])
    ends = [part.rest_links[-1] for part in cut if len(part.rest_links) < part.rest_rows]
    if ends:
        within = named <= min(ends)
        named, clicked = named[within], clicked[within]
    shown = np.fromiter((link for link, _ in rows.tallies), np.uint64)
    clicked_ones = [link for (link, _), value in rows.tallies.items() if field_of(value, b.E_CLICKS)]
    rows.rest_rows = _share(rows.rest_rows, named, shown)
    rows.people_rest_rows = _share(rows.people_rest_rows, named[clicked], np.array(clicked_ones, np.uint64))


def _share(number: int, named: NDArray[np.uint64], shown: NDArray[np.uint64]) -> int:
    """As many of `number` as links among `named` that are not `shown`, each once, are of these."""
    if not len(named):
        return number
    different = len(np.setdiff1d(named, shown))
    return (number * different + len(named) // 2) // len(named)
