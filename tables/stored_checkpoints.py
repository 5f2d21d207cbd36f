"""A database's checkpoints of the log that it was counted from (`tables.checkpoints`)."""

from __future__ import annotations

import msgspec
from rocksdict import Rdict, WriteBatch

from app.facts import encode
from tables import layout
from tables.checkpoints import Checkpoint, kept

_decode = msgspec.msgpack.Decoder(Checkpoint).decode
_decode_all = msgspec.msgpack.Decoder(list[Checkpoint]).decode


class Checkpoints:
    def __init__(self, db: Rdict) -> None:
        stored, last = db.get(layout.CHECKPOINTS), db.get(layout.LAST)
        self._older = _decode_all(stored) if stored is not None else []
        self._last = _decode(last) if last is not None else None

    @property
    def last(self) -> Checkpoint | None:
        return self._last

    @property
    def all(self) -> list[Checkpoint]:
        """The oldest first."""
        return self._older + [one for one in (self._last,) if one is not None and one not in self._older]

    def add(self, last: Checkpoint, batch: WriteBatch, *, keep: bool = False) -> None:
        """To be taken for true once the batch is written; where that fails the database is opened again. `keep`: the
        one before it is kept, however close."""
        older = kept(self.all if keep else self._older, last)
        if older != self._older:
            batch.put(layout.CHECKPOINTS, encode(older))
        batch.put(layout.LAST, encode(last))
        self._older, self._last = older, last

    def keep_below(self, offset: int, batch: WriteBatch) -> None:
        """Forgets the others, when counting goes back."""
        left = [one for one in self.all if one.offset < offset]
        batch.put(layout.CHECKPOINTS, encode(left))
        batch.delete(layout.LAST)
        self._older, self._last = left, None
