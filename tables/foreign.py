"""Facts keyed by another secret, which are not counted: how many of each campaign, since when, and whether they still
lack (`app.foreign`).

Key in column family `default`: `X`+campaign+fingerprint → `ForeignRow`, written with the batch that left the facts out.
A row goes when the log says that the webhooks of its time were read again (`FactsRecord.renormalized_from_ms`), unless
more of it came while that was done: a host with the other secret may have read them, too. What follows from the log
alone is the same after any crash and rebuild.

Versions before this one counted such facts. So each batch also writes key `checked` with the next offset: where that is
not the database's `offset`, another version has counted, and the recipients have to be looked at (`has_counted_any`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from rocksdict import Rdict, WriteBatch

from app.facts import CampaignKey, RecipientKey, encode
from app.foreign import is_foreign
from app.times import utc_text
from app.words import number_of
from tables import layout
from tables.conditions import Accepted

REASON: Final = "some events were recorded under another secret and are not counted yet"
CODE: Final = "foreign_facts"
SAY_EVERY: Final = 10_000


class ForeignRow(msgspec.Struct, array_like=True):
    """Of one campaign, partition and secret. Offsets are the records', times when the records were accepted."""

    org: str
    campaign: str
    facts: int
    """As often as the log has them."""
    erasures: int
    first_offset: int
    last_offset: int
    first_ms: int
    last_ms: int


class _Address(msgspec.Struct, array_like=True, gc=False):
    """How a stored `RecipientState` begins."""

    version: int
    address: str


class Left(msgspec.Struct):
    """A record that was left out, or a part of one."""

    campaign: CampaignKey
    org: str
    name: str
    secret: str
    offset: int
    accepted_at_ms: int
    facts: int = 0
    erasures: int = 0


class Renormalized(msgspec.Struct):
    """The webhooks accepted from `from_ms` on have been read again: those of `org`, or of all where it is empty."""

    from_ms: int
    org: str
    meanwhile: range
    """The offsets of what was stored while that was done. A last offset behind it is of a topic that was recreated."""


_decoder: msgspec.msgpack.Decoder[ForeignRow] = msgspec.msgpack.Decoder(ForeignRow)


_address_decoder: msgspec.msgpack.Decoder[_Address] = msgspec.msgpack.Decoder(_Address)


class ForeignFacts:
    """Of one partition's database."""

    def __init__(self, db: Rdict, recipients: Rdict, secret: bytes) -> None:
        self._db = db
        self._recipients = recipients
        self._secret = secret
        self.is_checked = db.get(layout.CHECKED) == db.get(layout.OFFSET)
        """Whether nothing foreign is in the state: a version that leaves it out has counted all, or has looked."""
        self._rows = {name: _decoder.decode(stored) for name, stored in layout.scan(db, b"X")}

    def rows(self) -> list[tuple[str, ForeignRow]]:
        """(fingerprint of the secret or "" where it isn't known, row)."""
        return [(name[9:].decode(), row) for name, row in self._rows.items()]

    def add(self, found: Sequence[Left | Renormalized], next_offset: int, batch: WriteBatch) -> None:
        """Takes over what a batch left out, in the order of the log."""
        if self.is_checked:
            batch.put(layout.CHECKED, next_offset.to_bytes(8, "big"))
        for one in found:
            if isinstance(one, Renormalized):
                self._end(one, batch)
                continue
            name = layout.foreign_name(one.campaign, one.secret)
            row = self._rows.get(name)
            if row is None:
                row = self._rows[name] = ForeignRow(
                    one.org, one.name, 0, 0, one.offset, one.offset, one.accepted_at_ms, one.accepted_at_ms
                )
            row.facts += one.facts
            row.erasures += one.erasures
            row.last_offset = one.offset
            row.first_ms = min(row.first_ms, one.accepted_at_ms)
            row.last_ms = max(row.last_ms, one.accepted_at_ms)
            batch.put(name, encode(row))

    def _end(self, read: Renormalized, batch: WriteBatch) -> None:
        for name, row in list(self._rows.items()):
            is_read = row.first_ms >= read.from_ms and read.org in ("", row.org)
            if is_read and row.last_offset not in read.meanwhile:
                del self._rows[name]
                batch.delete(name)

    def has_counted_any(self, say: Callable[[int], None]) -> bool:
        """Whether foreign facts were counted. `say` is told now and then how many recipients were looked at."""
        for done, (name, stored) in enumerate(layout.scan(self._recipients, b""), 1):
            address = _address_decoder.decode(stored).address
            if is_foreign(self._secret, CampaignKey(name[:8]), RecipientKey(name[8:]), address):
                return True
            if done % SAY_EVERY == 0:
                say(done)
        return False

    def note_checked(self) -> None:
        """Says that there were none."""
        self._db.put(layout.CHECKED, self._db.get(layout.OFFSET) or b"")
        self.is_checked = True


def accepted_of(rows: Sequence[tuple[str, ForeignRow]]) -> Accepted | None:
    """When what is set aside was accepted; None where there is nothing."""
    if not rows:
        return None
    return Accepted(min(row.first_ms for _, row in rows), max(row.last_ms for _, row in rows))


def condition_of(rows: Sequence[tuple[str, ForeignRow]], counted: Sequence[int]) -> str | None:
    """What to tell the operator, of the rows of all of a worker's partitions; None where there is nothing.

    `counted`: partitions whose state has such facts in it, and that can't be counted again.
    """
    said = []
    if rows:
        facts, erasures = sum(row.facts for _, row in rows), sum(row.erasures for _, row in rows)
        campaigns = {(row.org, row.campaign) for _, row in rows}
        begin, end = min(row.first_ms for _, row in rows), max(row.last_ms for _, row in rows)
        secrets = ", ".join(sorted({secret or "unknown" for secret, _ in rows}))
        said.append(
            f"{number_of(facts, 'fact')} of {number_of(len(campaigns), 'campaign')}, accepted from {utc_text(begin)} "
            f"to {utc_text(end)}, keyed by another secret (fingerprint {secrets}) and not counted: once no host with "
            "that secret runs, `reports renormalize` reads their webhooks again, from the earliest time that a worker "
            "names"
        )
        if erasures:
            said.append(f"{number_of(erasures, 'erasure')} too, which erased nobody: ask again")
    if counted:
        said.append(
            f"partitions {', '.join(map(str, sorted(counted)))} have counted such facts, and topic facts no longer has "
            "its first records to count them again without: restore the log and start the worker again"
        )
    return "; ".join(said) or None
