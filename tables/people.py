"""Sketches of the people who opened and clicked, by quarter hour and by UTC day: written with the state.

Keys in column family `default`, `kind` being 2 * (0 opened, 1 clicked) + (1 where only human ones count):
- `H`+campaign+kind(1)+unit(1)+time(4) → `tables.sketches.Sketch`
- `h`+the same → hashes of 8 bytes that came since: the sketch itself is rewritten only when there are `TAIL` of them,
  or every batch would write 16 KiB for each.
A person is a keyed hash of organisation and address: the same in all campaigns. A sketch can't forget: `people` goes by
each fact's own evidence, and a fact that moved to another time stays where it was too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from rocksdict import Rdict, WriteBatch

from app import facts as f
from app.facts import CampaignKey, Fact
from app.verdicts import HUMAN, own_verdict
from tables.layout import DAY_QUARTERS
from tables.sketches import Sketch, sparse
from tables.walking import walk

QUARTER: Final = 0
DAY: Final = 1
TAIL: Final = 256
CACHED: Final = 1_500
"""Sketches in memory, of each partition: 16 KiB each at most."""
_QUARTER_MS: Final = 900_000
_LAST: Final = 2**32 - 1

Kind = int


def kind_of(type_number: int, people: bool) -> Kind:
    return 2 * (type_number == f.CLICKED) + people


def sketch_name(campaign: CampaignKey, kind: Kind, unit: int, time: int) -> bytes:
    return b"H" + campaign + bytes((kind, unit)) + time.to_bytes(4, "big")


def _tail_name(name: bytes) -> bytes:
    return b"h" + name[1:]


class _Open:
    """A sketch in memory, and what of it is in its tail only."""

    __slots__ = ("sketch", "tail")

    def __init__(self, sketch: Sketch, tail: array[int]) -> None:
        self.sketch = sketch
        self.tail = tail


class PeopleWriter:
    def __init__(self, db: Rdict) -> None:
        self._db = db
        self._open: dict[bytes, _Open] = {}
        self._new: dict[tuple[CampaignKey, bool, bool, int], set[int]] = {}

    def note(self, campaign: CampaignKey, fact: Fact, person: int) -> None:
        """An open or click of a person, for the next `flush`."""
        key = (campaign, fact.type == f.CLICKED, own_verdict(fact) == HUMAN, fact.at_ms // _QUARTER_MS)
        hashes = self._new.get(key)
        if hashes is None:
            self._new[key] = {person}
        else:
            hashes.add(person)

    def flush(self, batch: WriteBatch) -> None:
        if not self._new:
            return
        for name, hashes in self._by_sketch().items():
            one = self._open.get(name)
            if one is None:
                one = self._open[name] = self._load(name)
            if not one.sketch.add(hashes):
                continue
            tail = one.tail
            tail.extend(hashes)
            if len(tail) > TAIL:
                batch.put(name, one.sketch.encode())
                batch.delete(_tail_name(name))
                one.tail = array("Q")
            else:
                batch.put(_tail_name(name), tail.tobytes())
        self._new = {}
        if len(self._open) > CACHED:
            self._open.clear()

    def _by_sketch(self) -> dict[bytes, set[int]]:
        """What was noted, by the sketches that it belongs to."""
        found: dict[bytes, set[int]] = {}
        for (campaign, clicked, human, quarter), hashes in self._new.items():
            quarter = min(quarter, _LAST)
            for people in (False, True) if human else (False,):
                kind = 2 * clicked + people
                for unit, time in ((QUARTER, quarter), (DAY, quarter // DAY_QUARTERS)):
                    found.setdefault(sketch_name(campaign, kind, unit, time), set()).update(hashes)
        return found

    def _load(self, name: bytes) -> _Open:
        stored, recent = self._db.get(name), self._db.get(_tail_name(name))
        sketch = Sketch.decode(stored) if stored else Sketch()
        tail = array("Q")
        if recent:
            tail.frombytes(recent)
            sketch.add(list(tail))
        return _Open(sketch, tail)


def sketches_between(db: Rdict, campaign: CampaignKey, kind: Kind, first: int, end: int) -> Iterator[bytes]:
    """Sketches for a `Union`, which is the people between the quarters `first` (included) and `end` (not included)."""
    for unit, start, stop in _spans(first, end):
        begin, last = (sketch_name(campaign, kind, unit, time) for time in (start, stop))
        for letter in (b"H", b"h"):
            for name, value in walk(db, letter + begin[1:]):
                if name >= letter + last[1:]:
                    break
                yield value if letter == b"H" else sparse(value)


def _spans(first: int, end: int) -> list[tuple[int, int, int]]:
    """(unit, first, end) of whole days and of the quarters on both sides of them."""
    first, end = max(first, 0), min(end, _LAST)
    day, last_day = -(-first // DAY_QUARTERS), end // DAY_QUARTERS
    if day >= last_day:
        return [(QUARTER, first, end)]
    return [
        (QUARTER, first, day * DAY_QUARTERS),
        (DAY, day, last_day),
        (QUARTER, last_day * DAY_QUARTERS, end),
    ]
