"""The partition database: records of topic `facts` in, one WriteBatch out.

The recipe of `PartitionDatabase.apply`, for a batch of records in the order of their offsets:
1. Records below the stored offset are skipped: they were counted. A record above it is a gap: `StateError`.
2. Entries are grouped by recipient; the states of these are read with one list-get, or taken from the cache.
3. Each state is folded once (`app.fold`), and its contribution before and after is compared (`app.contribution`).
4. The differences are added to the campaign's and the days' sums; index entries that moved are put and deleted.
5. States, log entries, index entries, sums and the next offset are one WriteBatch. It is atomic: after a crash the
   database is as it was before the batch or after it, and the worker goes on from its own offset.
An error on the way leaves memory ahead of the disk, so it ends the process (`agents.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from rocksdict import WriteBatch

from app import breakdown as b
from app import keys
from app.contribution import NOTHING, contribution
from app.erasure import ERASED, blank, tells
from app.errors import ReportsError, StateError
from app.facts import (
    CLICKED,
    EXCLUDED,
    OPENED,
    CampaignKey,
    Entry,
    Identity,
    RecipientKey,
    encode,
)
from app.fold import LogChanges, Logged, empty_state, fold, log_key
from app.state import STATE_VERSION, RecipientState, decode_state, encode_state
from app.verdicts import Rules
from tables import layout
from tables.aggregates import Aggregates, campaign_decoder
from tables.batches import group
from tables.book import name_of
from tables.cache import Recipient, RecipientCache
from tables.index import addressed_names, move_index, move_keys
from tables.layout import LabelsRow, Meta
from tables.people import PeopleWriter
from tables.sums import Sums
from tables.touched import Touched, touched_numbers, touched_sections

_CACHED_KEYS: Final = 20_000
REBUILT_TOGETHER: Final = 2_000
"""Recipients whose index keys are written in one batch: writing holds the interpreter."""

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_meta_decoder: msgspec.msgpack.Decoder[Meta] = msgspec.msgpack.Decoder(Meta)


class Applied(msgspec.Struct):
    """What a batch changed: campaigns with their days, and campaigns that got new labels."""

    facts: int = 0
    accepted_at_ms: list[int] = []
    """Of each record that was counted, when its oldest webhook was accepted."""
    days: dict[CampaignKey, set[int]] = {}
    sections: dict[CampaignKey, set[int]] = {}
    """Sections (`app.breakdown`) whose rows changed."""
    labels: set[CampaignKey] = set()


class PartitionDatabase:
    """One partition's database, opened for writing. Not for use from several threads."""

    def __init__(
        self,
        path: Path,
        expected: Meta,
        secret: bytes,
        cache: RecipientCache,
        new_generation: Callable[[], int] | None = None,
    ) -> None:
        """Opens or creates the database. Raises StateError where it belongs to something else than `expected`
        (whose generation doesn't matter), and Exception with "lock" in it while another process has it open.

        `new_generation`: asked where the database is made now; without it, it has that of `expected`."""
        self.path = path
        self.partition = expected.partition
        self._secret = secret
        self._cache = cache
        self._db = layout.open_database(path)
        self._recipients = self._db.get_column_family(layout.RECIPIENTS)
        self._log = self._db.get_column_family(layout.LOG)
        self._index = self._db.get_column_family(layout.INDEX)
        self._recipients_handle = self._db.get_column_family_handle(layout.RECIPIENTS)
        self._log_handle = self._db.get_column_family_handle(layout.LOG)
        self._index_handle = self._db.get_column_family_handle(layout.INDEX)
        self._campaign_keys: dict[tuple[str, str], CampaignKey] = {}
        self.aggregates = Aggregates(self._db, self._index, cache)
        self._people = PeopleWriter(self._db)
        try:
            self.meta = self._check_meta(expected, new_generation)
        except ReportsError:
            self.close()
            raise
        stored = self._db.get(layout.OFFSET)
        self.next_offset = int.from_bytes(stored, "big") if stored else 0

    @property
    def generation(self) -> int:
        return self.meta.generation

    def _check_meta(self, expected: Meta, new_generation: Callable[[], int] | None) -> Meta:
        stored = self._db.get(layout.META)
        if stored is None:
            if new_generation is not None:
                expected = msgspec.structs.replace(expected, generation=new_generation())
            self._db.put(layout.META, encode(expected))
            return expected
        meta = _meta_decoder.decode(stored)
        where = f"partition {expected.partition} in {self.path}"
        if meta.version != layout.LAYOUT_VERSION:
            raise StateError(f"{where}: written by another version (layout {meta.version}): use that version")
        if meta.partitions != expected.partitions or meta.partition != expected.partition:
            raise StateError(
                f"{where}: made for partition {meta.partition} of {meta.partitions}, not "
                f"{expected.partition} of {expected.partitions}: set REPORTS_PARTITIONS={meta.partitions}"
            )
        if meta.topic_id != expected.topic_id:
            raise StateError(
                f"{where}: topic facts was made anew or the cluster is another one; to count the new topic from its "
                "start remove the folder, to go on with the old one restore the cluster"
            )
        if meta.secret != expected.secret:
            raise StateError(f"{where}: made with another REPORTS_SECRET: restore that secret")
        return meta

    def apply(self, records: Iterable[tuple[int, bytes]]) -> Applied:
        """Counts records (offset, value), all or none of them. See the module for the steps."""
        grouped = group(records, self.partition, self.path, self.next_offset, self._campaign_key)
        applied = Applied(grouped.facts, grouped.accepted_at_ms)
        expected, owners = grouped.next_offset, grouped.owners
        if expected == self.next_offset:
            return applied
        batch = WriteBatch(raw_mode=True)
        sums = self._fold(grouped.by_recipient, grouped.erased, owners, batch)
        self._people.flush(batch)
        for campaign, differences in sums.items():
            days, sections = self.aggregates.add(campaign, owners[campaign], differences, expected, batch)
            applied.days[campaign] = days
            if sections:
                applied.sections[campaign] = sections
        for campaign, named in grouped.labels.items():
            row = LabelsRow(expected, named.org, named.campaign, named.name, named.subject, named.fields)
            batch.put(layout.labels_name(campaign), encode(row))
            if campaign not in sums and self.aggregates.campaign_row(campaign) is None:
                self.aggregates.add(campaign, owners[campaign], Sums(), expected, batch)
            applied.labels.add(campaign)
        batch.put(layout.OFFSET, expected.to_bytes(8, "big"))
        self._db.write(batch)
        self.next_offset = expected
        self._cache.age()
        self.aggregates.forget_many()
        return applied

    def _campaign_key(self, org: str, campaign: str) -> CampaignKey:
        key = self._campaign_keys.get((org, campaign))
        if key is None:
            if len(self._campaign_keys) > _CACHED_KEYS:
                self._campaign_keys.clear()
            key = self._campaign_keys[org, campaign] = keys.campaign_key(self._secret, org, campaign)
        return key

    def _load(
        self, groups: dict[RecipientKey, tuple[CampaignKey, list[Entry]]]
    ) -> dict[RecipientKey, Recipient]:
        young, old = self._cache.young, self._cache.old
        missing: list[RecipientKey] = []
        for recipient in groups:
            if recipient not in young:
                cached = old.get(recipient)
                if cached is not None:
                    young[recipient] = cached
                else:
                    missing.append(recipient)
        if missing:
            names: list[Any] = [groups[recipient][0] + recipient for recipient in missing]
            found: list[bytes | None] = self._recipients.get(names) or []
            for recipient, stored in zip(missing, found, strict=True):
                if stored is None:
                    young[recipient] = Recipient(empty_state(), NOTHING)
                else:
                    state = decode_state(stored)
                    if state.version > STATE_VERSION:
                        raise StateError(
                            f"{self.path} was written by a newer version (state {state.version}): use that version"
                        )
                    book = self.aggregates.book(groups[recipient][0])
                    young[recipient] = Recipient(state, contribution(state, book, self.meta.rules))
        return young

    def _fold(
        self,
        groups: dict[RecipientKey, tuple[CampaignKey, list[Entry]]],
        erased: set[RecipientKey],
        owners: dict[CampaignKey, tuple[str, str]],
        batch: WriteBatch,
    ) -> dict[CampaignKey, Sums]:
        put, delete = batch.put, batch.delete
        log_handle, recipients_handle = self._log_handle, self._recipients_handle
        loaded = self._load(groups)
        sums: dict[CampaignKey, Sums] = {}
        for recipient, (campaign, entries) in groups.items():
            known = loaded[recipient]
            book = self.aggregates.book(campaign)
            state = known.state
            log: LogChanges = {}
            person: int | None = None
            address = layout.indexed_address(state, recipient) if state.facts else None
            erases = recipient in erased and not state.erased
            renamed: set[int] = set()
            if erases:
                renamed = self._erase(campaign, recipient, state, log, batch)
            if state.erased:
                entries = [blank(entry) for entry in entries]
            if not fold(state, entries, self._logged(campaign), log) and not erases:
                continue
            for (at_ms, identity), entry in log.items():
                name = campaign + at_ms.to_bytes(8, "big") + identity
                if entry is None:
                    delete(name, log_handle)
                else:
                    put(name, encode(entry), log_handle)
                    for named in book.learn(entry):
                        text = named[2].encode("utf-8", "surrogatepass")
                        put(layout.name_name(campaign, name_of(named)), text)
                    fact = entry.fact
                    if (fact.type == OPENED or fact.type == CLICKED) and not fact.evidence & EXCLUDED:
                        if person is None and not state.erased:
                            who = keys.normalise_address(entry.address)
                            person = keys.person_id(self._secret, owners[campaign][0], who)
                        if person is not None:
                            self._people.note(campaign, fact, person)
            put(campaign + recipient, encode_state(state), recipients_handle)
            before = known.contribution
            after = known.contribution = contribution(state, book, self.meta.rules)
            differences = sums.get(campaign)
            if differences is None:
                differences = sums[campaign] = Sums()
            differences.renamed |= renamed
            if before == after and not erases:
                continue
            old = addressed_names(campaign, address, before) if address is not None else set()
            new = addressed_names(campaign, layout.indexed_address(state, recipient), after)
            move_keys(batch, self._index_handle, old, new, recipient)
            move_index(batch, self._index_handle, campaign, recipient, before, after, differences)
            differences.move(before, after)
        return sums

    def _erase(
        self,
        campaign: CampaignKey,
        recipient: RecipientKey,
        state: RecipientState,
        log: LogChanges,
        batch: WriteBatch,
    ) -> set[int]:
        """Marks the state, and blanks what the log has of the recipient; gives the sections that lost a name."""
        state.erased = True
        state.address = ""
        renamed: set[int] = set()
        if not state.facts:
            return renamed
        if state.overflow:
            # Which facts fell out is known to nobody but the log.
            found = (_entry_decoder.decode(stored) for _, stored in layout.scan(self._log, campaign))
            logged = [entry for entry in found if entry.recipient == recipient]
        else:
            names: list[Any] = [campaign + at.to_bytes(8, "big") + i for at, i in map(log_key, state.facts)]
            logged = [_entry_decoder.decode(stored) for stored in self._log.get(names) or () if stored]
        book = self.aggregates.book(campaign)
        for entry in logged:
            log[log_key(entry.fact)] = blank(entry)
            for section, number in ((b.LINK, entry.fact.link), (b.REASON, entry.fact.reason)):
                if tells(book.texts.get((section, number)), entry.address):
                    book.texts[section, number] = ERASED
                    batch.put(layout.name_name(campaign, name_of((section, number, ERASED))), ERASED.encode())
                    renamed.add(section)
        return renamed

    def _logged(self, campaign: CampaignKey) -> Logged:
        def logged(at_ms: int, identity: Identity) -> Entry | None:
            stored = self._log.get(layout.log_name(campaign, at_ms, identity))
            return _entry_decoder.decode(stored) if stored is not None else None

        return logged

    def recipients(self) -> int:
        """How many there are, roughly."""
        return self._recipients.property_int_value("rocksdb.estimate-num-keys") or 0

    def rebuild(self, rules: Rules, request: str, generation: int, say: Callable[[int], None]) -> None:
        """Makes sums, sections and index anew from the recipients, by other rules, as another generation.

        `request` is noted as answered; `say` is told now and then how many recipients are done. Nothing else may use
        the database meanwhile. If it doesn't come to its end it has to be done again (`Meta.rebuilding`).
        """
        self.meta = msgspec.structs.replace(self.meta, rules=rules, rebuilding=True)
        self._db.put(layout.META, encode(self.meta))
        owners = {
            CampaignKey(name[1:]): (row.org, row.campaign)
            for name, row in ((n, campaign_decoder.decode(v)) for n, v in layout.scan(self._db, b"C"))
        }
        for letter in b"DER":
            self._db.delete_range(bytes((letter,)), bytes((letter + 1,)))
        self._index.delete_range(b"", b"\xff")
        self.aggregates.forget_all()
        self._cache.young.clear()
        self._cache.old.clear()
        done = 0
        for campaign, owner in owners.items():
            # Replaced and not deleted, so that a rebuild that is cut off still knows all campaigns.
            self.aggregates.begin_anew(campaign, owner)
            batch, sums = WriteBatch(raw_mode=True), Sums()
            for name, stored in layout.scan(self._recipients, campaign):
                recipient, state = RecipientKey(name[8:]), decode_state(stored)
                after = contribution(state, self.aggregates.book(campaign), rules)
                names = addressed_names(campaign, layout.indexed_address(state, recipient), after)
                move_keys(batch, self._index_handle, set(), names, recipient)
                move_index(batch, self._index_handle, campaign, recipient, NOTHING, after, sums)
                sums.move(NOTHING, after)
                done += 1
                if done % REBUILT_TOGETHER == 0:
                    self.aggregates.add(campaign, owner, sums, self.next_offset, batch)
                    self._db.write(batch)
                    batch, sums = WriteBatch(raw_mode=True), Sums()
                    say(done)
            self.aggregates.add(campaign, owner, sums, self.next_offset, batch)
            self._db.write(batch)
            self.aggregates.forget_many()
        say(done)
        self.meta = msgspec.structs.replace(
            self.meta, generation=generation, rebuilding=False, rebuilt=request
        )
        self._db.put(layout.META, encode(self.meta))

    def touched_numbers(self, offset: int) -> Iterator[Touched]:
        """See `tables.touched`. To be read on only while the database is open."""
        return touched_numbers(self._db, offset)

    def touched_sections(self, offset: int) -> Iterator[Touched]:
        return touched_sections(self._db, offset)

    def take_generation(self, generation: int) -> None:
        """Goes on as a higher generation, which is on the disk before anything is published under it."""
        self.meta = msgspec.structs.replace(self.meta, generation=generation)
        self._db.put(layout.META, encode(self.meta))
        self._db.flush_wal(True)

    def close(self) -> None:
        """Closes the database; another process may open it from then on."""
        # RocksDB holds its lock until the last handle is gone, those of the column families included.
        for handle in (self._recipients, self._log, self._index, self._db):
            handle.close()
        del self._recipients_handle, self._log_handle, self._index_handle
