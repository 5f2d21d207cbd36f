"""Where the facts stand that fell out of the recipients' states (`app.fold`): by recipient and identity.

Keys in column family `default`:
- `O`+campaign+recipient(16)+identity(16) → type(1)+class(1)+at_ms(8), for each of them
- `O`+campaign → nothing: a campaign from before these keys (`layout.Meta.counting`) has them all now
Recipients without such facts, which are nearly all, have no key and ask for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from rocksdict import Rdict, WriteBatch

from app.facts import CampaignKey, Entry, Fact, Identity, RecipientKey
from app.fold import Changes, LogKey, Place, place_of
from app.state import decode_state
from tables import layout

_RECIPIENT: Final = 9
_IDENTITY: Final = 25
_END: Final = 41
_TOGETHER: Final = 10_000
"""Keys that are written in one batch."""

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def fallen_name(campaign: CampaignKey, recipient: RecipientKey, identity: Identity) -> bytes:
    return b"O" + campaign + recipient + identity


def fallen_places(db: Rdict, campaign: CampaignKey) -> Iterator[tuple[RecipientKey, Place]]:
    """All that fell out of the states of a campaign's recipients."""
    for name, value in layout.scan(db, b"O" + campaign):
        if len(name) == _END:
            yield RecipientKey(name[_RECIPIENT:_IDENTITY]), _place(name, value)


def is_complete(db: Rdict, campaign: CampaignKey) -> bool:
    """Whether a campaign from before these keys has them all."""
    return db.get(b"O" + campaign) is not None


class FallenFacts:
    """Reads and writes these keys of one database."""

    def __init__(self, db: Rdict, recipients: Rdict, log: Rdict, *, complete: bool) -> None:
        """`complete`: every campaign has all of its keys."""
        self._db = db
        self._recipients = recipients
        self._log = log
        self._all_complete = complete
        self._complete: set[CampaignKey] = set()

    def of(self, campaign: CampaignKey, recipient: RecipientKey) -> FallenOf:
        return FallenOf(self, campaign, recipient)

    def all_complete(self) -> None:
        """Every campaign has all of its keys from now on."""
        self._all_complete = True

    def complete(self, campaign: CampaignKey) -> None:
        """Makes the keys of a campaign that was counted before there were any. Once, by a look at all of its log:
        the state tells only how many facts fell out."""
        if self._all_complete or campaign in self._complete:
            return
        if not is_complete(self._db, campaign):
            kept: dict[bytes, set[Identity]] = {}
            for name, stored in layout.scan(self._recipients, campaign):
                state = decode_state(stored)
                if state.overflow:
                    kept[name[len(campaign) :]] = {fact.identity for fact in state.facts}
            batch, written = WriteBatch(raw_mode=True), 0
            for _, stored in layout.scan(self._log, campaign) if kept else ():
                entry = _entry_decoder.decode(stored)
                fact = entry.fact
                if fact.identity not in kept.get(entry.recipient, (fact.identity,)):
                    put(batch, campaign, entry.recipient, fact)
                    written += 1
                    if written % _TOGETHER == 0:
                        self._db.write(batch)
                        batch = WriteBatch(raw_mode=True)
            batch.put(b"O" + campaign, b"")
            self._db.write(batch)
        self._complete.add(campaign)

    def find(self, campaign: CampaignKey, recipient: RecipientKey, identity: Identity) -> Fact | None:
        self.complete(campaign)
        name = fallen_name(campaign, recipient, identity)
        value = self._db.get(name)
        if value is None:
            return None
        stored = self._log.get(layout.log_name(campaign, _place(name, value).at_ms, identity))
        return _entry_decoder.decode(stored).fact if stored is not None else None

    def places(self, campaign: CampaignKey, recipient: RecipientKey) -> Iterator[Place]:
        self.complete(campaign)
        for name, value in layout.scan(self._db, b"O" + campaign + recipient):
            yield _place(name, value)

    def address(self, campaign: CampaignKey, at: LogKey) -> str:
        stored = self._log.get(layout.log_name(campaign, *at))
        return _entry_decoder.decode(stored).address if stored is not None else ""


class FallenOf:
    """One recipient's (`app.fold.Fallen`)."""

    __slots__ = ("_all", "_campaign", "_recipient")

    def __init__(self, facts: FallenFacts, campaign: CampaignKey, recipient: RecipientKey) -> None:
        self._all = facts
        self._campaign = campaign
        self._recipient = recipient

    def find(self, identity: Identity) -> Fact | None:
        return self._all.find(self._campaign, self._recipient, identity)

    def places(self) -> Iterable[Place]:
        return self._all.places(self._campaign, self._recipient)

    def address(self, at: LogKey) -> str:
        return self._all.address(self._campaign, at)

    def write(self, changes: Changes, batch: WriteBatch) -> None:
        """Puts into the batch what a fold changed."""
        # Before the batch: the look at the log must not meet this fold's changes half done.
        self._all.complete(self._campaign)
        for identity, fact in changes.fallen.items():
            if fact is None:
                batch.delete(fallen_name(self._campaign, self._recipient, identity))
            else:
                put(batch, self._campaign, self._recipient, fact)


def put(batch: WriteBatch, campaign: CampaignKey, recipient: RecipientKey, fact: Fact) -> None:
    place = place_of(fact)
    value = bytes((place.type, place.of)) + place.at_ms.to_bytes(8, "big")
    batch.put(fallen_name(campaign, recipient, fact.identity), value)


def _place(name: bytes, value: bytes) -> Place:
    return Place(value[0], value[1], int.from_bytes(value[2:], "big"), Identity(name[_IDENTITY:]))
