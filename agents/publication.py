"""What of a partition is not in Redis yet, and its way there, on two channels: numbers, and rows of the sections.

Rules:
1. The database and the partition's position in Redis say what is to be published: everything touched since the
   position. Marks are a copy of that in memory, of what batches touched since `published`, so that most publications
   need no look into the database.
2. A publication (`Flight`) ends in one place, `land`. Redis has confirmed it: its position is `published`. Anything
   else happened, an error, a timeout before or after Redis did it, a cancellation: nothing is known, the marks are
   dropped with what they were based on, and the next step asks Redis for the position and repairs the views from there.
3. So marks never say less than the database, and they are bounded: too many are dropped in the same way, and while the
   position isn't known (Redis is unavailable) none are kept.
4. A flight is as of the fence at its beginning, and encodes in slices of bounded time, counting going on between them.
   A campaign is encoded whole, with the marks that it has by then, behind its own fence, so that its numbers agree.
   What is marked after the beginning and not encoded is the next flight's.
5. After each slice but the last, something in Redis is moved on (`Move`): an older state of Redis that is put back
   between two slices is seen by that.
6. Redis may lose single keys (it evicts, somebody deletes). A part of a share is refused where the rest is missing, and
   the whole share is published then; what isn't touched is found by looks (`Look`), again and again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from agents.personal_links import PersonalLinks
from app import breakdown as b
from app.facts import CampaignKey
from tables.partition import Applied, PartitionDatabase
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.touched import ALL, LABELS, NEW, Standing, Touched
from tables.view_writer import (
    COMMANDS_PER_TRIP,
    REST_PUBLISHED,
    REST_UNKNOWN,
    WHOLE,
    Begun,
    Call,
    Move,
    Update,
    ViewWriter,
)
from tables.views import NUMBERS, SECTIONS, Channel, Fence, Labels, SummaryPart

SLICE_S: Final = 0.02
"""After so long a slice ends. One campaign takes 0.1 to 3 ms, a very large one more."""
SLICE_BYTES: Final = 4 << 20
MOST_MARKS: Final = 50_000
"""Days and sections of campaigns: some 10 MB."""
_SAMPLES: Final = 1_000


class Budget:
    """What a slice may still take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock() + SLICE_S
        self.calls: list[Call] = []
        self.of: list[tuple[Flight, CampaignKey]] = []
        """What each call is of."""
        self._bytes = 0

    def add(self, call: Call, flight: Flight, campaign: CampaignKey) -> None:
        self.calls.append(call)
        self.of.append((flight, campaign))
        self._bytes += sum(len(value) for value in call[1] if isinstance(value, bytes))

    @property
    def spent(self) -> bool:
        return (
            self._clock() >= self._until or len(self.calls) >= COMMANDS_PER_TRIP or self._bytes >= SLICE_BYTES
        )


class Withheld(NamedTuple):
    """Why nothing is published."""

    generation: int
    """What Redis holds."""
    needed: int | None
    """From this offset on it is; None: Redis holds a higher generation, and it never is under this one."""


def why_withheld(stands: Fence | None, own: Fence, log_end: int | None) -> Withheld | None:
    """`stands`: the partition's position in Redis; `log_end`: the topic's end when the partition was assigned, where
    it is known.

    Readers don't go back in time: a database that is counted again is published once it has reached what they have,
    or all that the log had when it was assigned.
    """
    if stands is None:
        return None
    if stands.generation > own.generation:
        return Withheld(stands.generation, None)
    if stands.topic != own.topic:
        return None
    needed = stands.offset
    if stands.generation < own.generation and log_end is not None:
        needed = min(needed, log_end)
    return Withheld(stands.generation, needed) if own.offset < needed else None


class NumbersOfPartition:
    """What of one partition is not in Redis yet: summaries, hours and labels."""

    channel: Channel = NUMBERS

    def __init__(
        self,
        database: PartitionDatabase,
        log_end: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        since_ms: int = 0,
    ) -> None:
        """`log_end`: the offset behind the log's last record when the partition was assigned."""
        self.database = database
        self.number = database.partition
        self.since_ms = since_ms
        self._log_end = log_end
        self.clock = clock
        self._marks: dict[CampaignKey, set[int]] = {}
        self._marked = 0
        self._overflowed = False
        self._waiting: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)
        """(next offset, when its oldest webhook was accepted) of batches that aren't published."""
        self.published: Fence | None = None
        """The position in Redis, which this worker wrote last; None: not known, repair first."""
        self.flight: Flight | None = None
        self._withheld: Withheld | None = None
        self.asked_at = float("-inf")
        """When Redis was asked for the position, while publication is withheld."""
        self.closed = False
        self.look: Look | None = None
        self.looked_at = float("-inf")
        """When the last look at all that was published began."""
        self.losses: int | None = None
        """How often Redis had lost something when it did; None: there was none."""
        self.lost = False
        """Something was found missing, and no look since has found everything."""
        self._landed = 0
        self._seen: object = None
        self._moved_at = clock()

    def fence(self) -> Fence:
        return Fence(self.database.generation, self.database.next_offset, self.database.meta.topic_id)

    @property
    def withheld(self) -> Withheld | None:
        """Why nothing is published. By Redis as it was asked last, and the database as it is now, which counts on
        between: one that has got as far waits no more, and Redis is to be asked again."""
        found = self._withheld
        if found is not None and found.needed is not None and self.database.next_offset >= found.needed:
            return None
        return found

    @property
    def due(self) -> bool:
        """Whether anything is to be published. With nothing marked, too: what was counted were repeats."""
        return self.fence() != self.published or bool(self._marks)

    # Marks

    def mark(self, applied: Applied) -> None:
        offset = self.database.next_offset
        self._waiting.extend((offset, at_ms) for at_ms in applied.accepted_at_ms[-_SAMPLES:])
        if (self.published is None and self.flight is None) or self._overflowed:
            return  # the repair will find it in the database
        for campaign, what in self._touched(applied):
            self._mark(campaign, what)
        if self.marks > MOST_MARKS:
            self._forget()
            self._overflowed = True
            if self.flight is None:
                self.published, self._overflowed = None, False

    def _mark(self, campaign: CampaignKey, what: Collection[int]) -> None:
        known = self._marks.setdefault(campaign, set())
        before = len(known)
        known.update(what)
        self._marked += len(known) - before

    def _touched(self, applied: Applied) -> Iterable[tuple[CampaignKey, Collection[int]]]:
        yield from applied.days.items()
        for campaign in applied.labels:
            yield campaign, (LABELS,)
        for campaign in applied.created:
            yield campaign, (NEW,)

    def lacks(self, campaign: CampaignKey) -> None:
        """The campaign's share isn't in Redis: all of it is to be published."""
        if self.closed or (self.published is None and self.flight is None):
            return
        if self.marks + 2 > MOST_MARKS:
            self.losses = None  # the next look finds it
        else:
            self._mark(campaign, (ALL,))

    def forget(self) -> None:
        """The position isn't known any more."""
        self.published = None
        self.look = None
        self._forget()

    def _forget(self) -> None:
        self._marks.clear()
        self._marked = 0

    @property
    def marks(self) -> int:
        """How many there are."""
        return len(self._marks) + self._marked

    def take(self, campaign: CampaignKey) -> set[int]:
        """The campaign's marks, which are dropped."""
        marks = self._marks.pop(campaign, set())
        self._marked -= len(marks)
        return marks

    # What stands in the database

    def touched(self, since: int) -> Iterator[Touched]:
        return self.database.touched_numbers(since)

    def standing(self, offset: Callable[[], int]) -> Iterator[list[Standing]]:
        return self.database.standing_numbers(offset)

    def kind(self, what: Collection[int]) -> int:
        """How much of a campaign's share `what` is, as the script takes it."""
        if ALL in what or NEW in what:
            return WHOLE
        return REST_UNKNOWN if self.flight is not None and self.flight.repairs else REST_PUBLISHED

    def encode(self, writer: ViewWriter, campaign: CampaignKey, what: Collection[int]) -> Call | None:
        """Absolute values as the database has them now. `what`: days, `LABELS`, `ALL`, `NEW`."""
        sums = self.database.aggregates
        row = sums.campaign_row(campaign)
        if row is None:
            return None
        kind = self.kind(what)
        if ALL in what:
            what = {*self.database.days_of(campaign), *what, LABELS}
        update = Update(
            key=campaign,
            org=row.org,
            campaign=row.campaign,
            summary=SummaryPart(
                row.as_of_ms, row.patterns, row.totals, row.overflow, self.database.notes(row)
            ),
            days={day: sums.day_row(campaign, day).quarters for day in what if day >= 0},
            moved=max((at for section, at in row.sections.items() if section in PUBLISHED), default=None),
        )
        if LABELS in what and (labels := sums.labels_row(campaign)) is not None:
            update.labels = Labels(labels.name, labels.subject, labels.fields)
        sums.used((campaign,))
        return writer.encode(self.number, self.fence(), [update], kind)[0]

    # The way to Redis

    def begin(self) -> Flight:
        """Publishes what is marked."""
        assert self.published is not None
        campaigns = list(self._marks)
        self.flight = Flight(
            self, self.channel.positions, self.published.text(), self.fence(),
            ((campaign, set()) for campaign in campaigns),
        )  # fmt: skip
        return self.flight

    def begin_repair(self, begun: Begun) -> Flight | None:
        """Publishes all that was touched since the position that stands in Redis; None: not now (`withheld`)."""
        own, stands = self.fence(), begun.stands
        self._withheld = why_withheld(stands, own, self._log_end)
        if self._withheld is None and not begun.token:
            self._withheld = Withheld(begun.highest, None)
        if self._withheld is not None:
            return None
        same = stands is not None and (stands.generation, stands.topic) == (own.generation, own.topic)
        since = stands.offset if stands is not None and same else -1
        self.flight = Flight(
            self, self.channel.repairs, begun.token, own, self.touched(since),
            repairs=True, replaces=not same, whole=since < 0,
        )  # fmt: skip
        return self.flight

    def land(self, flight: Flight) -> list[int]:
        """Ends a flight, whatever became of it; gives when the webhooks were accepted whose numbers it published."""
        if self.flight is not flight:
            return []
        self.flight = None
        confirmed = flight.confirmed and not self._overflowed
        self._landed += confirmed
        self.published = flight.after if confirmed else None
        self._overflowed = False
        if not confirmed:
            self.look = None
            self._forget()
        accepted: list[int] = []
        while flight.confirmed and self._waiting and self._waiting[0][0] <= flight.after.offset:
            accepted.append(self._waiting.popleft()[1])
        return accepted

    def close(self) -> None:
        """The partition was given away: its database is not touched any more."""
        self.closed = True
        self.look = None
        self._forget()

    # What those see who watch

    def idle_s(self) -> float:
        """For how long publication has made no progress, though there is something to publish."""
        flight = self.flight
        seen: object = (self.published, self._landed, flight and (flight.after, flight.serial))
        if self.withheld is not None and self.withheld.needed is not None:
            seen = self.database.next_offset  # it waits for counting, which moves
        if not self.due or seen != self._seen:
            self._seen = seen
            self._moved_at = self.clock()
        return self.clock() - self._moved_at

    def is_waiting_for_redis(self) -> None:
        """Redis doesn't answer: that is no standstill of this process."""
        self._moved_at = self.clock()


class SectionsOfPartition(NumbersOfPartition):
    """The same for the rows of the sections."""

    channel = SECTIONS

    def __init__(
        self,
        database: PartitionDatabase,
        log_end: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        since_ms: int = 0,
        links: PersonalLinks | None = None,
    ) -> None:
        """`links`: who is to have a look at the links that are counted."""
        super().__init__(database, log_end, clock, since_ms)
        self._links = links

    def _touched(self, applied: Applied) -> Iterable[tuple[CampaignKey, Collection[int]]]:
        yield from applied.sections.items()
        for campaign in applied.first_rows & applied.sections.keys():
            yield campaign, (NEW,)

    def touched(self, since: int) -> Iterator[Touched]:
        return self.database.touched_sections(since)

    def standing(self, offset: Callable[[], int]) -> Iterator[list[Standing]]:
        return self.database.standing_sections(offset)

    def encode(self, writer: ViewWriter, campaign: CampaignKey, what: Collection[int]) -> Call | None:
        row = self.database.aggregates.campaign_row(campaign)
        if row is None:
            return None
        kind = self.kind(what)
        if ALL in what:
            what = {*row.sections, *what}
        book = self.database.aggregates.book(campaign)
        parts = {section: pack_part(section_part(book, section)) for section in what if section in PUBLISHED}
        if self._links is not None and b.LINK in parts:
            self._links.look(self.database, campaign, row.org, row.campaign)
        self.database.aggregates.used((campaign,))
        update = (campaign, row.org, row.campaign, parts)
        return writer.encode_sections(self.number, self.fence(), [update], kind)[0]


class Look:
    """One look at all that a partition has published: whether it is in Redis."""

    def __init__(self, part: NumbersOfPartition) -> None:
        self._part = part
        self.losses: int | None = None
        """How often Redis had lost something when the look began; None: it hasn't been asked yet."""
        self.found = 0
        """How many campaigns' shares were missing."""
        self.campaigns: Counter[str] = Counter()
        """Organisation → of how many campaigns the shares were looked for."""
        self._steps = part.standing(self._published)

    def _published(self) -> int:
        published = self._part.published
        return published.offset if published is not None else -1

    def next(self) -> list[Standing] | None:
        """The next campaigns; None: these were all."""
        return next(self._steps, None)


class Flight:
    """One publication of a partition, from its beginning to its landing."""

    def __init__(
        self,
        part: NumbersOfPartition,
        name: str,
        known: str,
        after: Fence,
        campaigns: Iterator[Touched],
        *,
        repairs: bool = False,
        replaces: bool = False,
        whole: bool = False,
    ) -> None:
        """`known`: what this worker wrote last into the hash `name`; `after`: the position once all is published;
        `replaces`: views of another generation may stand there, also where no position does (a repair that did not come
        to its end behind a Redis that was emptied); `whole`: `campaigns` come with all that there is."""
        self.part = part
        self.after = after
        self.repairs = repairs
        self.replaces = replaces
        self._whole = whole
        self.serial = 0
        self.began_at = part.clock()
        self.progress = 0.0
        self.encoded = False
        self.confirmed = False
        self.lost = False
        self.known = known
        self._base = known
        self._name = name
        self._campaigns = campaigns

    def encode(self, writer: ViewWriter, budget: Budget) -> None:
        """Encodes campaigns into a slice, until it is full or these were all (`encoded`)."""
        for found in self._campaigns:
            if found is not None:
                campaign, what = found
                self.progress = (
                    int.from_bytes(campaign[:2], "big") / 0x10000
                )  # keys are hashes, read in order
                if self._whole and what != {
                    LABELS
                }:  # what is named is not all of it, whatever was marked since
                    what = what | {NEW}
                call = self.part.encode(writer, campaign, what | self.part.take(campaign))
                if call is not None:
                    budget.add(call, self, campaign)
            if budget.spent:
                return
        self.encoded = True

    def add(self, campaign: CampaignKey) -> None:
        """All of a campaign whose share isn't there: the position must not move before it is."""
        self._campaigns = chain(self._campaigns, ((campaign, {ALL}),))
        self.encoded = False

    def move(self) -> Move:
        """What is moved in Redis behind the slice."""
        self.serial += 1
        ends = self.encoded and not self.repairs
        to = self.after.text() if ends else f"{self._base}:{self.serial}"
        return Move(self._name, self.part.number, self.known, to)

    def moved(self, move: Move, done: bool) -> None:
        """`done`: Redis has made the move; else it was emptied or restored, or another worker has the partition."""
        self.known = move.to
        self.lost = not done
        self.confirmed = done and self.encoded and not self.repairs

    @property
    def over(self) -> bool:
        """Nothing of it is to be sent any more."""
        return self.lost or self.encoded or self.part.closed
