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
    come, gone = _by_prefix(added), _by_prefix(removed)
    prefixes = come.keys() | gone.keys() if gone else come.keys()
    links = {prefix: int.from_bytes(prefix[9:17], "big") for prefix in prefixes}
    known_ends = known(set(links.values()))
    found: dict[int, list[int]] = {}
    for prefix, link in links.items():
        ends = found.get(link)
        if ends is None:
            ends = found[link] = list(known_ends.get(link, NO_ENDS))
        place = 2 if prefix[17] else 0
        first, last = ends[place], ends[place + 1]
        if gone and (times := gone.get(prefix)):
            if first in times:
                first = _next(layout.scan_keys(index, prefix), removed)
            if last in times:
                last = _next(layout.scan_back(index, prefix), removed)
        if times := come.get(prefix):
            ends[place] = min(first, *times) if first >= 0 else min(times)
            ends[place + 1] = max(last, *times)
        else:
            ends[place], ends[place + 1] = first, last
    moved = ((link, Ends._make(ends)) for link, ends in found.items())
    return {link: ends for link, ends in moved if ends != known_ends.get(link, NO_ENDS)}


def _by_prefix(names: Iterable[bytes]) -> dict[bytes, list[int]]:
    """Times by what stands before them: a batch may have as many links as clicks."""
    found: dict[bytes, list[int]] = {}
    for name in names:
        found.setdefault(name[:_PREFIX_BYTES], []).append(_at(name))
    return found


def _at(name: bytes) -> int:
    return int.from_bytes(name[18:26], "big")


def _next(names: Iterator[bytes] | Iterable[bytes], removed: set[bytes]) -> int:
    return next((_at(name) for name in names if name not in removed), -1)
