"""Publishes what the fold has changed: from the partition databases to the views in Redis.

Rules:
1. What a batch touched is marked; a flush publishes absolute values as of the database's next offset, then moves the
   partition's offset in Redis. Marks are dropped only after Redis has answered.
2. If the partition's offset in Redis isn't what this worker wrote last (a new worker, Redis emptied or restored), the
   views are repaired: everything touched since that offset is published again.
3. If Redis is ahead of the database (it is being counted again from an earlier offset, or another worker owns the
   partition by now), nothing is published until the database has caught up.
4. The rows of the sections are larger and go their own way: a channel of its own with offsets of its own, at most every
   `SECTIONS_S` and never for more than a tenth of the time.
5. Redis being away is no error: marks stay, and the next flush tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Final, NamedTuple

from redis.exceptions import RedisError

from agents.personal_links import PersonalLinks
from app import breakdown as b
from app.verdicts import DEFAULT_RULES, Rules
from tables.conditions import Conditions
from tables.partition import Applied, PartitionDatabase
from tables.presence import presence
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.view_writer import Call, Share, Update, ViewWriter
from tables.views import NUMBERS, SECTIONS, Channel, Delays, Fence, Labels, Owner, SummaryPart

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.01
"""Between two flushes under load: what comes meanwhile is published together."""
SECTIONS_S: Final = 0.25
"""What readers are promised; a section has up to 1,500 rows, and encoding them takes a millisecond or two."""
SECTIONS_SHARE: Final = 10
CHECK_S: Final = 1.0
_DELAY_SAMPLES: Final = 20_000
_MINUTE_S: Final = 60.0


class NumbersOfPartition:
    """What of one partition is not in Redis yet: summaries, hours and labels."""

    channel: Channel = NUMBERS

    def __init__(self, database: PartitionDatabase) -> None:
        self.database = database
        self.since_ms = int(time.time() * 1000)
        self.marks = Applied()
        self.published: Fence | None = None
        """The offset this worker wrote last; None: not known, repair first."""

    def fence(self) -> Fence:
        return Fence(self.database.generation, self.database.next_offset)

    def mark(self, applied: Applied) -> None:
        for campaign, days in applied.days.items():
            self.marks.days.setdefault(campaign, set()).update(days)
        self.marks.labels |= applied.labels
        self.marks.accepted_at_ms += applied.accepted_at_ms

    def take(self) -> Applied:
        """The marks, which are dropped."""
        marks, self.marks = self.marks, Applied()
        return marks

    def encode(self, writer: ViewWriter, marks: Applied) -> list[Call]:
        """Absolute values as the database has them now."""
        updates = []
        sums = self.database.aggregates
        for campaign in marks.days.keys() | marks.labels:
            row = sums.campaign_row(campaign)
            if row is None:
                continue
            update = Update(
                key=campaign,
                org=row.org,
                campaign=row.campaign,
                summary=SummaryPart(row.as_of_ms, row.patterns, row.totals, row.overflow),
                days={day: sums.day_row(campaign, day).quarters for day in marks.days.get(campaign, ())},
                moved=max((at for section, at in row.sections.items() if section in PUBLISHED), default=None),
            )
            if campaign in marks.labels and (labels := sums.labels_row(campaign)) is not None:
                update.labels = Labels(labels.name, labels.subject, labels.fields)
            updates.append(update)
            sums.used((campaign,))
        return writer.encode(self.database.partition, self.fence(), updates)


class SectionsOfPartition(NumbersOfPartition):
    """The same for the rows of the sections."""

    channel = SECTIONS

    def __init__(self, database: PartitionDatabase, links: PersonalLinks | None = None) -> None:
        """`links`: who is to have a look at the links that are counted."""
        super().__init__(database)
        self._links = links

    def mark(self, applied: Applied) -> None:
        for campaign, sections in applied.sections.items():
            self.marks.sections.setdefault(campaign, set()).update(sections)

    def encode(self, writer: ViewWriter, marks: Applied) -> list[Call]:
        updates = []
        for campaign, sections in marks.sections.items():
            row = self.database.aggregates.campaign_row(campaign)
            if row is None:
                continue
            book = self.database.aggregates.book(campaign)
            parts = {
                section: pack_part(section_part(book, section))
                for section in sections
                if section in PUBLISHED
            }
            updates.append((campaign, row.org, row.campaign, parts))
            if self._links is not None and b.LINK in parts:
                name = f"{row.org}/{row.campaign}"
                self._links.look(self.database.partition, campaign, name, book)
            self.database.aggregates.used((campaign,))
        return writer.encode_sections(self.database.partition, self.fence(), updates)


class _Taken(NamedTuple):
    """Marks that are on their way to Redis."""

    part: NumbersOfPartition
    share: Share
    marks: Applied


class Publisher:
    """One per worker process, on its event loop."""

    def __init__(
        self,
        writer: ViewWriter,
        worker: str,
        rules: Rules = DEFAULT_RULES,
        conditions: Conditions | None = None,
    ) -> None:
        """`rules`: those of the settings, and `conditions` the process's, for those who look at the workers."""
        self._conditions = conditions if conditions is not None else Conditions()
        self._links = PersonalLinks(self._conditions)
        self._writer = writer
        self._worker = worker
        self._rules = rules
        self._since_ms = int(time.time() * 1000)
        self._partitions: dict[int, NumbersOfPartition] = {}
        self._sections: dict[int, NumbersOfPartition] = {}
        self._sections_at = 0.0
        self._due: asyncio.TimerHandle | None = None
        self._marked = asyncio.Event()
        self._delays: deque[tuple[float, int]] = deque(maxlen=_DELAY_SAMPLES)
        self._counted: deque[tuple[float, int]] = deque()
        self._reachable = True
        self._older_formats = True
        """What earlier versions published may still be there."""

    def add(self, database: PartitionDatabase) -> None:
        self._partitions[database.partition] = NumbersOfPartition(database)
        self._sections[database.partition] = SectionsOfPartition(database, self._links)
        self._marked.set()

    def remove(self, partition: int) -> None:
        self._partitions.pop(partition, None)
        self._sections.pop(partition, None)
        self._links.forget(partition)

    def mark(self, partition: int, applied: Applied) -> None:
        """Takes over what a batch changed."""
        self._partitions[partition].mark(applied)
        self._sections[partition].mark(applied)
        self._counted.append((time.monotonic(), applied.facts))
        self._marked.set()

    async def run(self) -> None:
        """Publishes until cancelled."""
        checked = 0.0
        while True:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes in the same turn as the mark.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._marked.wait()
            self._marked.clear()
            check = time.monotonic() - checked >= CHECK_S
            try:
                await self._flush(self._partitions)
                await self._flush_sections()
                if check:
                    await self._check(self._partitions)
                    await self._check(self._sections)
                    checked = time.monotonic()
                    await self._announce()
                    await self._forget_older_formats()
                if not self._reachable:
                    log.info("redis answers again")
                self._reachable = True
            except (RedisError, OSError, TimeoutError) as error:
                if self._reachable:
                    log.warning("redis does not answer, views wait: %s", type(error).__name__)
                self._reachable = False
                await asyncio.sleep(CHECK_S / 2)
                self._marked.set()
            await asyncio.sleep(PAUSE_S)

    async def _forget_older_formats(self) -> None:
        """Once, when this version's own views are there."""
        parts = [*self._partitions.values(), *self._sections.values()]
        if self._older_formats and parts and all(part.published is not None for part in parts):
            if gone := await self._writer.forget_older_formats():
                log.info("%d keys of an earlier version's views were deleted", gone)
            self._older_formats = False

    async def _flush_sections(self) -> None:
        now = time.monotonic()
        if now < self._sections_at:
            if self._due is None and any(p.fence() != p.published for p in self._sections.values()):
                self._due = asyncio.get_running_loop().call_later(self._sections_at - now, self._marked.set)
            return
        self._due = None
        await self._flush(self._sections)
        took = time.monotonic() - now
        self._sections_at = now + max(SECTIONS_S, SECTIONS_SHARE * took)

    async def _flush(self, parts: dict[int, NumbersOfPartition]) -> None:
        """Publishes what is marked, of all partitions in one round trip; repairs those whose offset isn't known."""
        known: list[_Taken] = []
        for part in list(parts.values()):
            if part.published is None:
                await self._repair(part, parts)
            elif part.fence() != part.published:  # with nothing marked, too: what was counted were repeats
                known.append(self._take(part, part.published))
        if not known:
            return
        # Encoded before the first await: rows are changed in place by the next batch.
        stands = await self._publish(known)
        for taken, stood in zip(known, stands, strict=True):
            taken.part.published = taken.share.after if stood == taken.share.after else None

    async def _check(self, parts: dict[int, NumbersOfPartition]) -> None:
        """Sees in silence that Redis was emptied or restored."""
        known = [part for part in parts.values() if part.published is not None]
        if not known:
            return
        numbers = [part.database.partition for part in known]
        stands = await self._writer.partition_fences(numbers, known[0].channel)
        for part, stood in zip(known, stands, strict=True):
            if stood != part.published:
                part.published = None
                self._marked.set()

    def _take(self, part: NumbersOfPartition, before: Fence | None) -> _Taken:
        """Encodes what is marked, as of now, and drops the marks."""
        marks = part.take()
        share = Share(
            partition=part.database.partition,
            channel=part.channel,
            calls=part.encode(self._writer, marks),
            before=before,
            after=part.fence(),
        )
        return _Taken(part, share, marks)

    async def _publish(self, known: list[_Taken]) -> list[Fence | None]:
        try:
            stands = await self._writer.publish([taken.share for taken in known])
        except BaseException:
            for taken in known:
                taken.part.mark(taken.marks)
            raise
        now, moment = time.time() * 1000, time.monotonic()
        for taken in known:
            self._delays.extend((moment, max(0, int(now - at))) for at in taken.marks.accepted_at_ms[-1000:])
        return stands

    async def _repair(self, part: NumbersOfPartition, parts: dict[int, NumbersOfPartition]) -> None:
        number = part.database.partition
        stands, token = await self._writer.begin_repair(number, part.channel)
        if parts.get(number) is not part:
            return
        fence = part.fence()
        if stands is not None and (stands > fence or stands.offset > fence.offset):
            return  # being counted again: readers keep what they have until this has caught up
        since = -1
        if stands is not None:
            since = stands.offset if stands.generation == fence.generation else 0
        part.mark(part.database.touched_since(since))
        taken = self._take(part, None)
        await self._publish([taken])
        if parts.get(number) is not part:
            return
        stands = await self._writer.end_repair(number, token, taken.share.after, part.channel)
        part.published = taken.share.after if stands == taken.share.after else None
        if part.published is not None:
            log.info(
                "%s of partition %d published again since offset %d",
                part.channel.positions,
                number,
                max(since, 0),
            )

    async def _announce(self) -> None:
        now_ms = int(time.time() * 1000)
        moment = time.monotonic()
        while self._delays and self._delays[0][0] < moment - _MINUTE_S:
            self._delays.popleft()
        while self._counted and self._counted[0][0] < moment - _MINUTE_S:
            self._counted.popleft()
        ordered = sorted(delay for _, delay in self._delays)
        counted = sum(facts for _, facts in self._counted)
        since = min(_MINUTE_S, moment - self._counted[0][0]) if self._counted else _MINUTE_S
        await self._writer.announce(
            self._worker,
            {
                number: Owner(
                    self._worker,
                    str(part.database.path.absolute()),
                    now_ms,
                    part.since_ms,
                    part.database.generation,
                    part.database.meta.rules,
                )
                for number, part in self._partitions.items()
            },
            Delays(
                ordered[len(ordered) // 2] if ordered else None,
                ordered[len(ordered) * 99 // 100] if ordered else None,
                round(counted / max(since, 1.0), 1),
                now_ms,
            ),
            presence(self._rules, self._since_ms, now_ms, conditions=self._conditions.current()),
        )
