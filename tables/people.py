"""Sketches of the people who opened and clicked, by quarter hour and by UTC day: written with the state.

Keys in column family `default`, `kind` being 2 * (0 opened, 1 clicked) + (1 where only human ones count):
- `H`+campaign+kind(1)+unit(1)+time(4) → `tables.sketches.Sketch`
- `h`+the same → hashes of 8 bytes that came since: the sketch itself is rewritten only when there are very many,
  or every batch would write 16 KiB for each.

Rules:
1. A person is a keyed hash of organisation and address (`app.keys.person_id`): the same in all campaigns. Of an erased
   person the state keeps it, so they count as before.
2. A sketch is that of the event log: of the facts that stand in it at that time, by each fact's own evidence, excluded
   ones left out. Order, batches, repeats, erasures and rebuilds leave no trace.
3. A person whose last fact moved away (a copy with an earlier time, or with other evidence) is taken out (`drop`). A
   dense sketch can't forget: it is counted anew from the log where the person was the extreme of a register.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from rocksdict import Rdict

from app import facts as f
from app import keys
from app.facts import CampaignKey, Entry, Fact, RecipientKey
from app.fold import Place
from app.state import UNCOUNTED, RecipientState
from app.verdicts import HUMAN, own_verdict
from tables import layout
from tables.layout import DAY_QUARTERS
from tables.sketches import Sketch, sparse
from tables.walking import walk

QUARTER: Final = 0
DAY: Final = 1
_TOGETHER: Final = 10_000
"""Facts that are added to sketches at once."""
_QUARTER_MS: Final = 900_000
_LAST: Final = 2**32 - 1

Kind = int
Cell = tuple[Kind, int]
"""A kind and a quarter: what an open or click of somebody counts in."""


def kind_of(type_number: int, people: bool) -> Kind:
    return 2 * (type_number == f.CLICKED) + people


def is_counted(fact: Fact) -> bool:
    """Whether sketches have to do with it."""
    return (fact.type == f.OPENED or fact.type == f.CLICKED) and not fact.evidence & f.EXCLUDED


def cells_of(fact: Fact) -> Iterator[Cell]:
    """Nothing for a fact that is not counted here."""
    if is_counted(fact):
        yield from _cells(fact.type, own_verdict(fact) == HUMAN, fact.at_ms)


def cells_of_place(place: Place) -> Iterator[Cell]:
    """As `cells_of`, of a fact that fell out of the state."""
    if place.type in (f.OPENED, f.CLICKED) and place.of != UNCOUNTED:
        yield from _cells(place.type, place.of == HUMAN, place.at_ms)


def _cells(type_number: int, human: bool, at_ms: int) -> Iterator[Cell]:
    quarter = min(at_ms // _QUARTER_MS, _LAST)
    yield kind_of(type_number, False), quarter
    if human:
        yield kind_of(type_number, True), quarter


def bounds_of(quarter: int) -> tuple[int, int]:
    """First ms of a quarter, and the one behind its last; the last quarter has all that comes later."""
    end = quarter + 1 if quarter < _LAST else 2**62 // _QUARTER_MS
    return quarter * _QUARTER_MS, end * _QUARTER_MS


def sketch_name(campaign: CampaignKey, kind: Kind, unit: int, time: int) -> bytes:
    return b"H" + campaign + bytes((kind, unit)) + time.to_bytes(4, "big")


def time_of(name: bytes) -> tuple[Kind, int, int]:
    """Kind, unit and time of a sketch's name."""
    return name[9], name[10], int.from_bytes(name[11:], "big")


def tail_name(name: bytes) -> bytes:
    return b"h" + name[1:]


class People:
    """People by the sketch that they belong to."""

    def __init__(self) -> None:
        self._noted: dict[tuple[CampaignKey, int, bool, int], set[int]] = {}

    def note(self, campaign: CampaignKey, fact: Fact, person: int) -> None:
        """A person's fact that is counted here (`is_counted`)."""
        key = (campaign, fact.type, own_verdict(fact) == HUMAN, fact.at_ms // _QUARTER_MS)
        hashes = self._noted.get(key)
        if hashes is None:
            self._noted[key] = {person}
        else:
            hashes.add(person)

    def note_place(self, campaign: CampaignKey, place: Place, person: int) -> None:
        """Any fact of a person that fell out of the state."""
        if place.type in (f.OPENED, f.CLICKED) and place.of != UNCOUNTED:
            key = (campaign, place.type, place.of == HUMAN, place.at_ms // _QUARTER_MS)
            self._noted.setdefault(key, set()).add(person)

    def take(self) -> dict[bytes, set[int]]:
        """Name of the sketch → people, of all that was noted since the last time."""
        found: dict[bytes, set[int]] = {}
        for (campaign, kind, human, quarter), hashes in self._noted.items():
            quarter = min(quarter, _LAST)
            for people in (False, True) if human else (False,):
                for unit, time in ((QUARTER, quarter), (DAY, quarter // DAY_QUARTERS)):
                    name = sketch_name(campaign, kind_of(kind, people), unit, time)
                    found.setdefault(name, set()).update(hashes)
        self._noted = {}
        return found


class PeopleOf:
    """The sketches that a campaign's recipients and log must have."""

    def __init__(self, campaign: CampaignKey, org: str, secret: bytes) -> None:
        self._campaign = campaign
        self._org = org
        self._secret = secret
        self._people = People()
        self._erased: dict[RecipientKey, int] = {}
        self._sketches: dict[bytes, Sketch] = {}
        self._added = 0
        self.everybody = True
        """Whether all are known: else there is somebody who was erased by an older version."""

    def add(self, recipient: RecipientKey, state: RecipientState) -> None:
        if state.erased:
            self._erased[recipient] = state.person
        for fact in state.facts:
            self._add(recipient, state.address, fact)

    def add_fallen(self, entry: Entry) -> None:
        """Of the log: what is not in the state, which was added."""
        self._add(entry.recipient, entry.address, entry.fact)

    def _add(self, recipient: RecipientKey, address: str, fact: Fact) -> None:
        if not is_counted(fact):
            return
        person = self._erased.get(recipient)
        if person is None:
            person = keys.person_id(self._secret, self._org, keys.normalise_address(address))
        if not person:
            self.everybody = False
            return
        self._people.note(self._campaign, fact, person)
        self._added += 1
        if self._added % _TOGETHER == 0:
            self._flush()

    def _flush(self) -> None:
        for name, hashes in self._people.take().items():
            self._sketches.setdefault(name, Sketch()).add(hashes)

    def sketches(self) -> dict[bytes, Sketch]:
        """By their keys."""
        self._flush()
        return self._sketches


def sketches_of(db: Rdict, campaign: CampaignKey) -> dict[bytes, Sketch]:
    """A campaign's sketches by name."""
    found: dict[bytes, Sketch] = {}
    for name, value in layout.scan(db, b"H" + campaign):
        found[name] = Sketch.decode(value)
    for name, value in layout.scan(db, b"h" + campaign):
        hashes = array("Q")
        hashes.frombytes(value)
        found.setdefault(b"H" + name[1:], Sketch()).add(hashes)
    return found


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
