"""Walks over a column family that say when a part of it can't be read.

rocksdict's own iterators (0.3.29) end at a broken block as if nothing stood behind it: lists would be short, and a
rebuild would lose recipients, without anyone knowing. Everything here that comes to the end of the column family looks
whether that was the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from rocksdict import Rdict


def walk(db: Rdict, start: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) from `start` on, that one included. Raises Exception where they can't be read."""
    name = start
    for name, value in cast(Iterable[tuple[bytes, bytes]], db.items(backwards=backwards, from_key=start)):
        yield name, value
    check_end(db, name, backwards=backwards)


def walk_keys(db: Rdict, start: bytes, *, backwards: bool = False) -> Iterator[bytes]:
    """The keys alone."""
    name = start
    for name in cast(Iterable[bytes], db.keys(backwards=backwards, from_key=start)):
        yield name
    check_end(db, name, backwards=backwards)


def check_end(db: Rdict, last: bytes, *, backwards: bool = False) -> None:
    """Raises Exception where a walk ended at `last` because what stands behind it can't be read."""
    place = db.iter()
    if backwards:
        place.seek_for_prev(last)
    else:
        place.seek(last)
    if place.valid() and place.key() == last:
        if backwards:
            place.prev()
        else:
            place.next()
    place.status()
