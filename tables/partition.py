"""The partition database: records of topic `facts` in, one WriteBatch out.

The recipe of `PartitionDatabase.apply`, for a batch of records in the order of their offsets:
1. Records below the stored offset are skipped: they were counted. Before a record above it (a gap) and before one that
   can't be read the batch ends, and once what is before is counted that is raised.
2. Entries are grouped by recipient; the states of these are read with one list-get, or taken from the cache.
3. Each state is folded once (`app.fold`), and its contribution before and after is compared (`app.contribution`).
4. The differences are added to the campaign's and the days' sums; index entries that moved are put and deleted.
5. States, log entries, index entries, sums and the next offset are one WriteBatch. It is atomic: after a crash the
   database is as it was before the batch or after it, and the worker goes on from its own offset.
Facts keyed by another secret are left out at step 2 and noted (`tables.foreign`).
An error on the way leaves memory ahead of the disk: the database has to be closed, the cache emptied, and both used
again only from what is on disk (`agents.set_aside`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from rocksdict import WriteBatch

from app import keys
from app.contribution import NOTHING, contribution
from app.erasure import blank
from app.errors import StateError, UnfitDatabase
from app.facts import (
    CLICKED,
    EXCLUDED,
    OPENED,
    CampaignKey,
    Entry,
    RecipientKey,
    encode,
)
from app.fold import Changes, empty_state, fold
from app.installation import Gap, History, LostWebhooks
from app.notices import Note
from app.state import STATE_VERSION, RecipientState, decode_state, encode_state
from app.verdicts import Rules
from tables import layout
from tables.aggregates import Aggregates, campaign_decoder
from tables.batches import group
from tables.broken import words_of
from tables.cache import Recipient, RecipientCache
from tables.campaign_book import put_name
from tables.checkpoints import Checkpoint
from tables.erasing import blank_log, hide_names
from tables.fallen import FallenFacts
from tables.foreign import ForeignFacts, Left
from tables.gaps import Gaps, Stand
from tables.index import addressed_names, move_index, move_keys
from tables.layout import COUNTING, CampaignRow, LabelsRow, Meta
from tables.people_writer import PeopleWriter, Written
from tables.personal import PersonalRow, personal_decoder
from tables.section_parts import PUBLISHED
from tables.stored_checkpoints import Checkpoints
from tables.sums import Sums
from tables.touched import (
    Standing,
    Touched,
    days_of,
    standing_numbers,
    standing_sections,
    touched_numbers,
    touched_sections,
)

logger = logging.getLogger(__name__)

_CACHED_KEYS: Final = 20_000
REBUILT_TOGETHER: Final = 2_000
"""Recipients whose index keys are written in one batch: writing holds the interpreter."""

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_NO_HISTORY = History()
_NO_FACTS_MS = 1 << 62
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
    created: set[CampaignKey] = set()
    """Those of which there was nothing before."""
    first_rows: set[CampaignKey] = set()
    """Those of whose sections there was nothing before."""


class PartitionDatabase:
    """One partition's database, opened for writing. Not for use from several threads."""

    def __init__(
        self,
        path: Path,
        expected: Meta,
        secret: bytes,
        cache: RecipientCache,
        new_generation: Callable[[], int] | None = None,
        history: History = _NO_HISTORY,
    ) -> None:
        """Opens or creates the database, and crosses those of the partition's accepted gaps that it comes upon.

        Raises StateError where it belongs to something else than `expected` (whose generation doesn't matter), LogGap
        where that is another topic, and Exception with "lock" in it while another process has it open.
        `new_generation`: asked where the database is made now; without it, it has that of `expected`.
        """
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
        self._people = PeopleWriter(self._db, self._log, self._state, secret)
        try:
            self._batches = self._last_batch()
            self.foreign = ForeignFacts(self._db, self._recipients, secret)
            meta = self._check_meta(expected, new_generation, history)
            stored = self._db.get(layout.OFFSET)
            self._gaps = Gaps(self._db, self.partition)
            self.checkpoints = Checkpoints(self._db)
            stand = Stand(meta, int.from_bytes(stored, "big") if stored else 0)
            self.meta, self.next_offset = self._gaps.cross(
                self._db, stand, expected.topic_id, history, self.checkpoints
            )
            complete = self.meta.counting >= COUNTING
            self._fallen = FallenFacts(self._db, self._recipients, self._log, complete=complete)
        except BaseException:
            self.close()
            raise
        self.aggregates.generation = self.meta.generation

    @property
    def generation(self) -> int:
        return self.meta.generation

    def _last_batch(self) -> int:
        """The number of the last one. Raises Exception, as RocksDB does, where some column families lack it."""
        marks = {db.get(layout.MARK) for db in (self._db, self._recipients, self._log, self._index)}
        if len(marks) > 1:
            raise Exception(  # what RocksDB's own are
                f"Corruption: the column families of {self.path} are not of one time: MANIFEST or the write-ahead log "
                "is cut short, or files of several copies are mixed"
            )
        (mark,) = marks
        return int.from_bytes(mark, "big") if mark is not None else 0

    def _write(self, batch: WriteBatch) -> None:
        """One that concerns several column families."""
        self._batches += 1
        mark = self._batches.to_bytes(8, "big")
        batch.put(layout.MARK, mark)
        for handle in (self._recipients_handle, self._log_handle, self._index_handle):
            batch.put(layout.MARK, mark, handle)
        self._db.write(batch)

    def _check_meta(self, expected: Meta, new_generation: Callable[[], int] | None, history: History) -> Meta:
        stored = self._db.get(layout.META)
        if stored is None:
            # An empty one has nothing of the topics before this one either.
            topic_id = history.origin(expected.topic_id)
            expected = msgspec.structs.replace(expected, counting=COUNTING, topic_id=topic_id)
            if new_generation is not None:
                expected = msgspec.structs.replace(expected, generation=new_generation())
            self._db.put(layout.META, encode(expected))
            return expected
        meta = _meta_decoder.decode(stored)
        where = f"partition {expected.partition} in {self.path}"
        if meta.version != layout.LAYOUT_VERSION:
            raise UnfitDatabase(
                f"{where}: written by another version (layout {meta.version}, this one has {layout.LAYOUT_VERSION}): "
                "use that version"
            )
        if meta.partitions == expected.partitions and meta.partition != expected.partition:
            raise UnfitDatabase(
                f"{where}: this is the folder of partition {meta.partition}: put that of partition "
                f"{expected.partition} in its place"
            )
        if meta.partitions != expected.partitions:
            raise StateError(
                f"{where}: made for partition {meta.partition} of {meta.partitions}, not "
                f"{expected.partition} of {expected.partitions}: set REPORTS_PARTITIONS={meta.partitions}"
            )
        if meta.secret != expected.secret:
            raise UnfitDatabase(
                f"{where}: made with another REPORTS_SECRET: put the folder back that belongs to this one"
            )
        return meta

    def apply(self, records: Iterable[tuple[int, bytes]], *, keep: bool = False) -> Applied:
        """Counts records (offset, value), all or none of them. See the module for the steps. `keep`: the checkpoint
        before them is kept.

        Raises StateError (LogGap) where records are missing or can't be read; those before are counted.
        """
        grouped = group(records, self.partition, self.next_offset, self._campaign_key, self._secret)
        applied = Applied(grouped.facts, grouped.accepted_at_ms)
        expected, owners = grouped.next_offset, grouped.owners
        if expected == self.next_offset:
            if grouped.fault is not None:
                raise grouped.fault
            return applied
        batch = WriteBatch(raw_mode=True)
        # A campaign that is only named has lost nothing yet.
        accepted_ms = min(grouped.accepted_at_ms, default=_NO_FACTS_MS)
        self.aggregates.open_gaps = self._gaps.open_at(self.next_offset, accepted_ms)
        written: Written = {}
        sums = self._fold(grouped.by_recipient, grouped.erased, owners, batch, written)
        self._people.flush(batch, owners, written)
        self.foreign.add(grouped.foreign, expected, batch)
        for left in grouped.foreign:
            if isinstance(left, Left):
                # What an earlier generation published of the campaign may have been foreign, all of it.
                sums.setdefault(left.campaign, Sums()).renamed |= set(PUBLISHED)
        for campaign, differences in sums.items():
            before = self.aggregates.campaign_row(campaign)
            if before is None:
                applied.created.add(campaign)
            if before is None or not before.sections:
                applied.first_rows.add(campaign)
            days, sections = self.aggregates.add(campaign, owners[campaign], differences, expected, batch)
            applied.days[campaign] = days
            if sections:
                applied.sections[campaign] = sections
        for campaign, named in grouped.labels.items():
            row = LabelsRow(expected, named.org, named.campaign, named.name, named.subject, named.fields)
            batch.put(layout.labels_name(campaign), encode(row))
            if campaign not in sums and self.aggregates.campaign_row(campaign) is None:
                self.aggregates.add(campaign, owners[campaign], Sums(), expected, batch)
                applied.created.add(campaign)
            applied.labels.add(campaign)
        batch.put(layout.OFFSET, expected.to_bytes(8, "big"))
        if grouped.last is not None:
            self.checkpoints.add(Checkpoint.of(*grouped.last), batch, keep=keep)
        self._write(batch)
        self.next_offset = expected
        self._cache.age()
        self.aggregates.used(grouped.owners)
        if grouped.fault is not None:
            raise grouped.fault
        return applied

    def unrecorded_gaps(self, history: History) -> list[Gap | LostWebhooks]:
        """Those that topic `installation` doesn't know any more."""
        return self._gaps.unrecorded(history)

    def notes(self, row: CampaignRow) -> list[Note]:
        """What a campaign's numbers say of themselves for good."""
        return self._gaps.notes(row)

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
                        raise UnfitDatabase(
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
        written: Written,
    ) -> dict[CampaignKey, Sums]:
        put, delete, note = batch.put, batch.delete, self._people.people.note
        log_handle, recipients_handle = self._log_handle, self._recipients_handle
        loaded = self._load(groups)
        sums: dict[CampaignKey, Sums] = {}
        for recipient, (campaign, entries) in groups.items():
            known = loaded[recipient]
            book = self.aggregates.book(campaign)
            org = owners[campaign][0]
            state = known.state
            changes = Changes()
            fallen = self._fallen.of(campaign, recipient)
            address = layout.indexed_address(state, recipient) if state.facts else None
            erases = recipient in erased and not state.erased
            learned = False
            renamed: set[int] = set()
            if erases:
                if state.facts:
                    state.person = self._people.person_of(org, state.address)
                state.erased = True
                state.address = ""
                renamed = blank_log(self._log, campaign, state, fallen, changes, book, batch)
            if state.erased and entries:
                if not state.person:
                    learned = True
                    state.person = self._people.person_of(org, entries[0].address)
                for one in entries:
                    renamed |= hide_names(campaign, one, book, batch)
                entries = [blank(one) for one in entries]
            if not (fold(state, entries, fallen, changes) or erases or learned):
                continue
            person = 0
            for (at_ms, identity), entry in changes.log.items():
                name = campaign + at_ms.to_bytes(8, "big") + identity
                written[name] = entry
                if entry is None:
                    delete(name, log_handle)
                else:
                    put(name, encode(entry), log_handle)
                    for named in book.learn(entry):
                        put_name(batch, campaign, named)
                    fact = entry.fact
                    if (fact.type == OPENED or fact.type == CLICKED) and not fact.evidence & EXCLUDED:
                        person = person or self._people.person_of_state(org, state)
                        if person:
                            note(campaign, fact, person)
            if learned:
                self._people.note_all(campaign, org, state, fallen)
            if changes.replaced:
                self._people.drop(campaign, org, state, fallen, changes)
            if changes.fallen:
                fallen.write(changes, batch)
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

    def _state(self, campaign: CampaignKey, recipient: RecipientKey) -> RecipientState | None:
        known = self._cache.young.get(recipient)
        if known is not None:
            return known.state
        stored = self._recipients.get(layout.recipient_name(campaign, recipient))
        return decode_state(stored) if stored is not None else None

    def recipients(self) -> int:
        """How many there are, roughly."""
        return self._recipients.property_int_value("rocksdb.estimate-num-keys") or 0

    def rebuild(self, rules: Rules, request: str, generation: int, say: Callable[[int], None]) -> None:
        """Makes sums, sections, index and sketches anew from the recipients, by other rules, as another generation.

        `request` is noted as answered; `say` is told now and then how many recipients are done. Nothing else may use
        the database meanwhile. If it doesn't come to its end it has to be done again (`Meta.rebuilding`).
        """
        self.meta = msgspec.structs.replace(self.meta, rules=rules, rebuilding=True)
        self._db.put(layout.META, encode(self.meta))
        owners = {
            CampaignKey(name[1:]): (row.org, row.campaign)
            for name, row in ((n, campaign_decoder.decode(v)) for n, v in layout.scan(self._db, b"C"))
        }
        for letter in b"DEQRW":
            self._db.delete_range(bytes((letter,)), bytes((letter + 1,)))
        self._index.delete_range(b"", b"\xff")
        self.aggregates.forget_all()
        self.aggregates.generation = generation
        self._cache.young.clear()
        self._cache.old.clear()
        done = 0
        for campaign, owner in owners.items():
            # Replaced and not deleted, so that a rebuild that is cut off still knows all campaigns.
            self.aggregates.begin_anew(campaign, owner)
            self._fallen.complete(campaign)
            if self._knows_everybody(campaign):
                self._people.remove(campaign)
            batch, sums = WriteBatch(raw_mode=True), Sums()
            for name, stored in layout.scan(self._recipients, campaign):
                recipient, state = RecipientKey(name[8:]), decode_state(stored)
                after = contribution(state, self.aggregates.book(campaign), rules)
                names = addressed_names(campaign, layout.indexed_address(state, recipient), after)
                move_keys(batch, self._index_handle, set(), names, recipient)
                move_index(batch, self._index_handle, campaign, recipient, NOTHING, after, sums)
                sums.move(NOTHING, after)
                self._people.note_all(campaign, owner[0], state, self._fallen.of(campaign, recipient))
                done += 1
                if done % REBUILT_TOGETHER == 0:
                    self.aggregates.add(campaign, owner, sums, self.next_offset, batch)
                    self._people.flush(batch, owners, {})
                    self._write(batch)
                    self.aggregates.used((campaign,))
                    batch, sums = WriteBatch(raw_mode=True), Sums()
                    say(done)
            self.aggregates.add(campaign, owner, sums, self.next_offset, batch)
            self._people.flush(batch, owners, {})
            self._write(batch)
            self.aggregates.used((campaign,))
        say(done)
        self.meta = msgspec.structs.replace(
            self.meta,
            generation=generation,
            rebuilding=False,
            rebuilt=request,
            counting=COUNTING,
            renew=False,
        )
        batch = WriteBatch(raw_mode=True)
        batch.put(layout.META, encode(self.meta))
        self._write(batch)
        self._fallen.all_complete()

    def _knows_everybody(self, campaign: CampaignKey) -> bool:
        """Whether the states tell all people of the sketches: those of some erased long ago may only stand there."""
        states = (decode_state(stored) for _, stored in layout.scan(self._recipients, campaign))
        return not any(layout.is_nobody(state) for state in states)

    def touched_numbers(self, offset: int) -> Iterator[Touched]:
        """See `tables.touched`. To be read on only while the database is open."""
        return touched_numbers(self._db, offset)

    def touched_sections(self, offset: int) -> Iterator[Touched]:
        return touched_sections(self._db, offset)

    def days_of(self, campaign: CampaignKey) -> set[int]:
        """All days of which it has hours."""
        return days_of(self._db, campaign)

    def standing_numbers(self, offset: Callable[[], int]) -> Iterator[list[Standing]]:
        """See `tables.touched`. To be read on only while the database is open."""
        return standing_numbers(self._db, offset)

    def standing_sections(self, offset: Callable[[], int]) -> Iterator[list[Standing]]:
        return standing_sections(self._db, offset)

    def take_generation(self, generation: int) -> None:
        """Goes on as a higher generation, which is on the disk before anything is published under it."""
        self.meta = msgspec.structs.replace(self.meta, generation=generation, renew=False)
        self._db.put(layout.META, encode(self.meta))
        self._db.flush_wal(True)
        self.aggregates.generation = generation

    def personal_links(self) -> dict[CampaignKey, PersonalRow]:
        """Campaigns whose links looked personal when they were looked at last."""
        return {CampaignKey(name[1:]): personal_decoder.decode(v) for name, v in layout.scan(self._db, b"U")}

    def note_personal_links(self, campaign: CampaignKey, row: PersonalRow | None) -> None:
        """None: they don't look so any more."""
        if row is not None:
            self._db.put(b"U" + campaign, encode(row))
        else:
            self._db.delete(b"U" + campaign)

    def note_answered(self, request: str) -> None:
        """The request for a rebuild asks nothing of this database any more."""
        self.meta = msgspec.structs.replace(self.meta, rebuilt=request)
        self._db.put(layout.META, encode(self.meta))

    def close(self) -> None:
        """Closes the database; another process may open it from then on. Whatever is wrong with it, nothing is raised:
        what was counted is on disk already."""
        self.aggregates.forget_all()
        # RocksDB holds its lock until the last handle is gone, those of the column families included.
        for handle in (self._recipients, self._log, self._index, self._db):
            try:
                handle.close()
            except Exception as error:  # noqa: BLE001  rocksdict raises plain ones: a full disk, a broken file
                logger.warning("partition %d is closed with an error: %s", self.partition, words_of(error))
        del self._recipients_handle, self._log_handle, self._index_handle
