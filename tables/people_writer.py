"""Writes the sketches of people (`tables.people`) with the batch that moves the log."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from rocksdict import Rdict, WriteBatch

from app import keys
from app.facts import CampaignKey, Entry, RecipientKey
from app.fold import Changes, Fallen, places
from app.state import RecipientState
from tables import layout
from tables.layout import DAY_QUARTERS
from tables.people import (
    DAY,
    QUARTER,
    Cell,
    Kind,
    People,
    bounds_of,
    cells_of,
    cells_of_place,
    is_counted,
    sketch_name,
    tail_name,
    time_of,
)
from tables.sketches import Sketch
from tables.walking import walk

TAIL: Final = 256
"""Hashes beside a sketch before it is written again: less than a sketch keeps as such."""
CACHED: Final = 1_500
"""Sketches in memory, of each partition: 16 KiB each at most."""

Written = dict[bytes, Entry | None]
"""What a batch puts into the log, by key; None: what it deletes."""
StateOf = Callable[[CampaignKey, RecipientKey], RecipientState | None]

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


class _Open:
    """A sketch in memory, and what of it is in its tail only."""

    __slots__ = ("sketch", "tail")

    def __init__(self, sketch: Sketch, tail: array[int]) -> None:
        self.sketch = sketch
        self.tail = tail


class PeopleWriter:
    def __init__(self, db: Rdict, log: Rdict, state_of: StateOf, secret: bytes) -> None:
        """`state_of`: a recipient's state as the batch leaves it."""
        self._db = db
        self._log = log
        self._state_of = state_of
        self._secret = secret
        self._open: dict[bytes, _Open] = {}
        self._gone: dict[bytes, set[int]] = {}
        self.people = People()
        """Who is noted for the next `flush`."""

    def person_of(self, org: str, address: str) -> int:
        return keys.person_id(self._secret, org, keys.normalise_address(address))

    def person_of_state(self, org: str, state: RecipientState) -> int:
        """0 where it isn't known (`RecipientState.person`)."""
        return state.person if state.erased else self.person_of(org, state.address)

    def note_all(self, campaign: CampaignKey, org: str, state: RecipientState, fallen: Fallen) -> None:
        """Notes all facts of a recipient."""
        person = self.person_of_state(org, state)
        if not person:
            return
        for fact in state.facts:
            if is_counted(fact):
                self.people.note(campaign, fact, person)
        if state.overflow:
            for place in fallen.places():
                self.people.note_place(campaign, place, person)

    def drop(
        self, campaign: CampaignKey, org: str, state: RecipientState, fallen: Fallen, changes: Changes
    ) -> None:
        """Notes where a recipient has no fact any more, now that copies took the place of some."""
        gone = {cell for fact in changes.replaced for cell in cells_of(fact)}
        left = {cell for fact in state.facts for cell in cells_of(fact)} if gone else set()
        gone -= left
        if gone and state.overflow:
            left |= {cell for place in places(fallen, changes) for cell in cells_of_place(place)}
            gone -= left
        person = self.person_of_state(org, state) if gone else 0
        if person:
            for name in _names(campaign, gone, left):
                self._gone.setdefault(name, set()).add(person)

    def flush(
        self, batch: WriteBatch, owners: Mapping[CampaignKey, tuple[str, str]], written: Written
    ) -> None:
        for name, hashes in self.people.take().items():
            one = self._opened(name)
            if not one.sketch.add(hashes):
                continue
            tail = one.tail
            tail.extend(hashes)
            if len(tail) > TAIL:
                self._put(name, one, batch)
            else:
                batch.put(tail_name(name), tail.tobytes())
        if self._gone:
            self._forget(batch, owners, written)
        if len(self._open) > CACHED:
            self._open.clear()

    def _forget(
        self, batch: WriteBatch, owners: Mapping[CampaignKey, tuple[str, str]], written: Written
    ) -> None:
        """Takes out who is gone. Quarters first: days are made of them."""
        known: dict[tuple[CampaignKey, int], dict[Kind, set[int]] | None] = {}
        for name, hashes in sorted(self._gone.items(), key=lambda item: time_of(item[0])[1]):
            one = self._opened(name)
            if not one.sketch.remove(hashes):
                campaign, (kind, unit, time) = CampaignKey(name[1:9]), time_of(name)
                sketch = Sketch()
                if unit == DAY:
                    for quarter in range(time * DAY_QUARTERS, (time + 1) * DAY_QUARTERS):
                        sketch.merge(self._opened(sketch_name(campaign, kind, QUARTER, quarter)).sketch)
                else:
                    place = (campaign, time)
                    if place not in known:
                        known[place] = self._recount(campaign, owners[campaign][0], time, written)
                    people = known[place]
                    if people is None:
                        continue  # it can't be told whom else it would lose
                    sketch.add(people.get(kind, ()))
                one.sketch = sketch
            self._put(name, one, batch)
        self._gone = {}

    def _recount(
        self, campaign: CampaignKey, org: str, quarter: int, written: Written
    ) -> dict[Kind, set[int]] | None:
        """The people of a quarter by kind, from the log as it will be; None where not all of them are known."""
        low, high = (campaign + at_ms.to_bytes(8, "big") for at_ms in bounds_of(quarter))
        found: dict[Kind, set[int]] = {}
        entries = [entry for name, entry in written.items() if entry is not None and low <= name < high]
        for name, stored in walk(self._log, low):
            if name >= high:
                break
            if name not in written:
                entries.append(_entry_decoder.decode(stored))
        for entry in entries:
            cells = list(cells_of(entry.fact))
            if not cells:
                continue
            if entry.address:
                person = self.person_of(org, entry.address)
            else:
                state = self._state_of(campaign, entry.recipient)
                person = state.person if state is not None else 0
                if not person:
                    return None
            for kind, _ in cells:
                found.setdefault(kind, set()).add(person)
        return found

    def _put(self, name: bytes, one: _Open, batch: WriteBatch) -> None:
        batch.delete(tail_name(name))
        one.tail = array("Q")
        if one.sketch.empty:
            batch.delete(name)
        else:
            batch.put(name, one.sketch.encode())

    def remove(self, campaign: CampaignKey) -> None:
        """Deletes a campaign's sketches, at once."""
        self._open.clear()
        for letter in (b"H", b"h"):
            self._db.delete_range(letter + campaign, layout.after(letter + campaign))

    def _opened(self, name: bytes) -> _Open:
        one = self._open.get(name)
        if one is None:
            one = self._open[name] = self._load(name)
        return one

    def _load(self, name: bytes) -> _Open:
        stored, recent = self._db.get(name), self._db.get(tail_name(name))
        sketch = Sketch.decode(stored) if stored else Sketch()
        tail = array("Q")
        if recent:
            tail.frombytes(recent)
            sketch.add(list(tail))
        return _Open(sketch, tail)


def _names(campaign: CampaignKey, gone: set[Cell], left: set[Cell]) -> set[bytes]:
    """The sketches that a person leaves who has no fact any more in the cells `gone`, and some in `left`."""
    quarters = {sketch_name(campaign, kind, QUARTER, quarter) for kind, quarter in gone}
    days = {(kind, quarter // DAY_QUARTERS) for kind, quarter in left}
    return quarters | {
        sketch_name(campaign, kind, DAY, quarter // DAY_QUARTERS)
        for kind, quarter in gone
        if (kind, quarter // DAY_QUARTERS) not in days
    }
