"""First and last click of each link, kept beside the index that they are the ends of.

A minimum can't be subtracted from: when the click at an end moves away, the index is asked for the next one, minus what
the same batch takes from it and plus what it adds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from rocksdict import Rdict

from app.facts import CampaignKey
from tables import layout


class Ends(NamedTuple):
    """Times in ms since 1970, -1 where there was no click; `people`: of verdict human."""

    first_at_ms: int = -1
    last_at_ms: int = -1
    people_first_at_ms: int = -1
    people_last_at_ms: int = -1


NO_ENDS: Final = Ends()
_STORED: Final = struct.Struct(">4q")
_PREFIX_BYTES: Final = 18
"""`F`, campaign, link, people or not."""
_Clicks = tuple[list[bytes], list[bytes]]
"""Keys of the index by time: of all, and of people's."""


def widest(one: Ends, other: Ends) -> Ends:
    """First and last of both."""
    firsts = [
        min(a, b) if a >= 0 and b >= 0 else max(a, b) for a, b in zip(one[::2], other[::2], strict=True)
    ]
    lasts = [max(pair) for pair in zip(one[1::2], other[1::2], strict=True)]
    return Ends(firsts[0], lasts[0], firsts[1], lasts[1])


def ends_bytes(ends: Ends) -> bytes:
    return _STORED.pack(*ends)


def ends_of(data: bytes) -> Ends:
    return Ends._make(_STORED.unpack(data))


def moved_ends(
    index: Rdict,
    campaign: CampaignKey,
    added: set[bytes],
    removed: set[bytes],
    known: Callable[[Iterable[int]], Mapping[int, Ends]],
) -> dict[int, Ends]:
    """Link → its ends after a batch that adds and removes these keys of the index by time (`F`), where they moved.

    `index` and what `known` gives of links are as before the batch.
    """
    come, gone = _by_link(added), _by_link(removed)
    links = {int.from_bytes(link, "big"): link for link in (come.keys() | gone.keys() if gone else come)}
    known_ends = known(links.keys())
    moved: dict[int, Ends] = {}
    for number, link in links.items():
        old = known_ends.get(number, NO_ENDS)
        new = list(old)
        if gone and (names := gone.get(link)):
            _take(index, new, names, removed)
        if names := come.get(link):
            _add(new, names)
        if (ends := Ends._make(new)) != old:
            moved[number] = ends
    return moved


def _by_link(names: Iterable[bytes]) -> dict[bytes, _Clicks]:
    """A batch may have as many links as clicks."""
    found: dict[bytes, _Clicks] = {}
    for name in names:
        link = name[9:17]
        clicks = found.get(link)
        if clicks is None:
            clicks = found[link] = ([], [])
        clicks[name[17]].append(name)
    return found


def _add(ends: list[int], clicks: _Clicks) -> None:
    for place, names in zip((0, 2), clicks, strict=True):
        if names:
            # They differ from the time on.
            first, last = _at(min(names)), _at(max(names))
            if ends[place] < 0 or first < ends[place]:
                ends[place] = first
            if last > ends[place + 1]:
                ends[place + 1] = last


def _take(index: Rdict, ends: list[int], clicks: _Clicks, removed: set[bytes]) -> None:
    for place, names in zip((0, 2), clicks, strict=True):
        if names:
            times, prefix = {_at(name) for name in names}, names[0][:_PREFIX_BYTES]
            if ends[place] in times:
                ends[place] = _next(layout.scan_keys(index, prefix), removed)
            if ends[place + 1] in times:
                ends[place + 1] = _next(layout.scan_back(index, prefix), removed)


def _at(name: bytes) -> int:
    return int.from_bytes(name[18:26], "big")


def _next(names: Iterator[bytes] | Iterable[bytes], removed: set[bytes]) -> int:
    return next((_at(name) for name in names if name not in removed), -1)
