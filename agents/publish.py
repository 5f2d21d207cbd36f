"""Publishes what the fold has changed: from the partition databases to the views in Redis (`agents.publication`).

Rules:
1. A flush publishes what batches touched, of all partitions together; a partition whose position in Redis isn't what
   this worker wrote last (a new worker, Redis emptied or restored, an error on the way) is repaired, a slice at a time.
   No partition waits for the repair of another one, and none is hurt by an error in another's.
2. If Redis is ahead of a database, nothing is published until it has caught up (`why_withheld`), and that is said.
3. The rows of the sections are larger and go their own way: a channel of its own with positions of its own, at most
   every `SECTIONS_S` and never for more than a tenth of the time.
4. Redis being unavailable is no error: the next step tries again.
5. What was published is looked for, all of it at least every `LOOK_EVERY_S` where a twentieth of the time is enough for
   that, and at once when something was found missing, by whichever worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agents.personal_links import PersonalLinks
from agents.publication import MOST_MARKS, Budget, Flight, Look, NumbersOfPartition, SectionsOfPartition
from app.verdicts import DEFAULT_RULES, Rules
from tables.conditions import Conditions
from tables.partition import Applied, PartitionDatabase
from tables.presence import presence
from tables.redis_client import redis_words, refuses_writes
from tables.redis_clock import RedisClock
from tables.touched import ROWS
from tables.view_writer import ViewWriter
from tables.views import NUMBERS, SECTIONS, Channel, Delays, Fence, Owner

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.01
"""Between two steps under load: what comes meanwhile is published together."""
SECTIONS_S: Final = 0.25
"""What readers are promised; a section has up to 1,500 rows, and encoding them takes a millisecond or two."""
SECTIONS_SHARE: Final = 10
SECTIONS_MOST_S: Final = 5.0
"""The longest pause, on however slow a machine: readers wait, and the watchdog watches."""
CHECK_S: Final = 1.0
LONG_S: Final = 2.0
"""A repair that takes longer is told."""
LOOK_EVERY_S: Final = 10.0
LOOK_S: Final = 0.05
"""Of each `CHECK_S`, for looks on one channel."""
WITHHELD: Final = "publication_withheld"
LOST: Final = "views_lost"
REPAIRED: Final = "views_repaired"
UNAVAILABLE: Final = "redis_unavailable"
_UNANSWERED: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
_ERRORS: Final = (RedisError, OSError, TimeoutError)
_DELAY_SAMPLES: Final = 20_000
_MINUTE_S: Final = 60


class Publisher:
    """One per worker process, on its event loop."""

    def __init__(
        self,
        writer: ViewWriter,
        worker: str,
        rules: Rules = DEFAULT_RULES,
        conditions: Conditions | None = None,
        clock: Callable[[], float] = time.monotonic,
        redis_clock: RedisClock | None = None,
        set_aside: Callable[[int, Exception], None] | None = None,
        configuration: Mapping[str, str] | None = None,
    ) -> None:
        """`rules`: those of the settings, `conditions` and `configuration` the process's, for those who look at it.
        `set_aside` is told of a partition whose database can't be read, and has to `remove` it."""
        self._set_aside = set_aside if set_aside is not None else _not_set_aside
        self._configuration = configuration
        self._conditions = conditions if conditions is not None else Conditions()
        self._links = PersonalLinks(self._conditions)
        self._writer = writer
        self._worker = worker
        self._rules = rules
        self._clock = clock
        self._redis_clock = redis_clock if redis_clock is not None else RedisClock()
        self._since_ms = self._redis_clock.now_ms()
        self._parts: dict[Channel, dict[int, NumbersOfPartition]] = {NUMBERS: {}, SECTIONS: {}}
        self._marked = {channel: asyncio.Event() for channel in self._parts}
        self._failing: dict[str, str] = {}
        self._delays: deque[tuple[float, int]] = deque(maxlen=_DELAY_SAMPLES)
        self._counted: deque[tuple[int, int]] = deque(maxlen=_MINUTE_S + 1)
        """(second, facts counted in it)."""
        self._older_formats = True
        """What earlier versions published may still be there."""
        self.counters = dict.fromkeys((WITHHELD, REPAIRED, UNAVAILABLE, LOST), 0)
        """How often each of them happened since the start."""

    def add(self, database: PartitionDatabase, log_end: int | None = None) -> None:
        """`log_end`: the offset behind the log's last record when the partition was assigned."""
        since_ms = self._redis_clock.now_ms()
        number = database.partition
        self._parts[NUMBERS][number] = NumbersOfPartition(database, log_end, self._clock, since_ms)
        self._parts[SECTIONS][number] = SectionsOfPartition(
            database, log_end, self._clock, since_ms, links=self._links
        )
        self._links.take(database)
        self._wake()

    def remove(self, partition: int) -> None:
        for parts in self._parts.values():
            if (part := parts.pop(partition, None)) is not None:
                part.close()
        self._links.forget(partition)

    def mark(self, partition: int, applied: Applied) -> None:
        """Takes over what a batch changed."""
        for parts in self._parts.values():
            parts[partition].mark(applied)
        second = int(self._clock())
        if self._counted and self._counted[-1][0] == second:
            self._counted[-1] = (second, self._counted[-1][1] + applied.facts)
        else:
            self._counted.append((second, applied.facts))
        self._wake()

    def _wake(self) -> None:
        for event in self._marked.values():
            event.set()

    # The loops

    async def run(self) -> None:
        """Publishes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for channel in self._parts:
                group.create_task(self._publish(channel), name=channel.positions)
            group.create_task(self.tell(), name="announce")

    async def _publish(self, channel: Channel) -> None:
        checked_at = float("-inf")
        marked = self._marked[channel]
        while True:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes in the same turn as the mark.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await marked.wait()
            marked.clear()
            began = time.monotonic()
            check = began - checked_at >= CHECK_S
            if await self.turn(channel, check=check):
                marked.set()
            if check:
                checked_at = began
            if channel.positions in self._failing:
                await asyncio.sleep(CHECK_S / 2)
                marked.set()
            took = time.monotonic() - began
            if channel is SECTIONS:
                # A repair takes half of the time, so that it comes to an end.
                await asyncio.sleep(
                    took
                    if marked.is_set() and self._repairing(channel)
                    else min(SECTIONS_MOST_S, max(SECTIONS_S, SECTIONS_SHARE * took))
                )
            else:
                await asyncio.sleep(max(PAUSE_S, took) if self._repairing(channel) else PAUSE_S)

    async def turn(self, channel: Channel, *, check: bool) -> bool:
        """A step, and a look whether Redis was emptied or has lost something; True: there is more to do at once."""
        more = False
        with self._redis_may_fail(channel.positions):
            more = await self.step(channel)
            if check:
                await self.check(channel)
                more |= await self.look(channel)
        return more

    def _repairing(self, channel: Channel) -> bool:
        return any(part.flight is not None for part in self._parts[channel].values())

    @contextlib.contextmanager
    def _redis_may_fail(self, what: str) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            self._failing[what] = f"{type(error).__name__}: {error}"
            self.counters[UNAVAILABLE] += 1
            self._conditions.set(
                UNAVAILABLE,
                f"{redis_words(error)}. What is counted is published once it takes the numbers",
                reason="the numbers can't be published at the moment",
            )
        else:
            self._failing.pop(what, None)
            if not self._failing:
                self._conditions.clear(UNAVAILABLE)

    # Steps

    async def step(self, channel: Channel) -> bool:
        """Publishes what is marked, and a slice of each repair; True: there is more to do at once.

        Raises RedisError, OSError or TimeoutError; what was not confirmed then is published again.
        """
        parts = self._parts[channel]
        errors: list[Exception] = []
        try:
            await self._flush([part for part in parts.values() if part.published is not None and part.due])
        except _ERRORS as error:
            errors.append(error)
        more = False
        for part in list(parts.values()):
            if part.published is not None or part.closed or self._is_early(part):
                continue
            if errors and isinstance(errors[-1], _UNANSWERED):
                break  # it would be the same for all of them, and each would wait for it
            try:
                more |= await self._repair(part)
            except _ERRORS as error:
                errors.append(error)
            finally:
                self._say(part.number)
        if errors:
            if any(isinstance(error, _UNANSWERED) or refuses_writes(error) for error in errors):
                for part in parts.values():
                    part.is_waiting_for_redis()
            raise errors[0]
        return more

    def _is_early(self, part: NumbersOfPartition) -> bool:
        """Whether Redis was asked for the position of one that is withheld a moment ago."""
        return part.withheld is not None and self._clock() - part.asked_at < CHECK_S

    async def _flush(self, parts: Sequence[NumbersOfPartition]) -> None:
        """Publishes what is marked, of all these partitions together."""
        flights = [part.begin() for part in parts]
        try:
            while left := [flight for flight in flights if not flight.over]:
                began = time.monotonic()
                await self._send(left)
                if not all(flight.over for flight in left):
                    await asyncio.sleep(time.monotonic() - began)  # counting goes on meanwhile
        finally:
            for flight in flights:
                self._land(flight)

    async def _send(self, flights: Sequence[Flight]) -> None:
        """A slice: as much of these as fits into one."""
        budget = Budget(self._clock)
        taken: list[Flight] = []
        for flight in flights:
            try:
                flight.encode(self._writer, budget)
            except Exception as error:  # noqa: BLE001  rocksdict raises plain ones, and a broken row may raise anything
                self._set_aside(flight.part.number, error)
                continue
            taken.append(flight)
            if budget.spent:
                break
        moves = [flight.move() for flight in taken]
        published = await self._writer.publish(budget.calls, moves)
        for place in published.lacking:
            flight, campaign = budget.of[place]
            if flight.repairs:
                flight.add(campaign)
            else:
                flight.part.lacks(campaign)
                self._lost(flight.part, 1)
        for flight, move, done in zip(taken, moves, published.moved, strict=True):
            flight.moved(move, done)

    def _land(self, flight: Flight) -> None:
        accepted = flight.part.land(flight)
        if flight.part.channel is NUMBERS:
            now_ms, moment = self._redis_clock.now_ms(), self._clock()
            self._delays.extend((moment, max(0, int(now_ms - at_ms))) for at_ms in accepted)
        if not flight.part.closed and flight.part.due:
            self._marked[flight.part.channel].set()

    async def _repair(self, part: NumbersOfPartition) -> bool:
        """A slice of a partition's repair; True: there is more to do at once."""
        flight = part.flight
        if flight is None:
            begun = await self._writer.begin_repair(part.number, part.fence(), part.channel)
            part.asked_at = self._clock()
            was_withheld = part.withheld is not None
            if part.closed:
                return False
            flight = part.begin_repair(begun)
            if flight is None:
                self.counters[WITHHELD] += not was_withheld
                return False
            self.counters[REPAIRED] += 1
        landed = True
        try:
            await self._send([flight])
            if flight.encoded and not flight.lost and not part.closed:
                if flight.replaces:
                    await self._writer.sweep(part.number, flight.after, part.channel)
                    await self._send([flight])
                flight.confirmed = await self._writer.end_repair(
                    part.number, flight.known, flight.after, part.channel
                )
            landed = flight.over
        finally:
            if landed:
                self._land(flight)
        return not flight.over

    async def check(self, channel: Channel) -> None:
        """Sees in silence that Redis was emptied or restored."""
        known = [part for part in self._parts[channel].values() if part.published is not None]
        if not known:
            return
        before = [part.published for part in known]
        stands = await self._writer.partition_fences([part.number for part in known], channel)
        for part, published, stood in zip(known, before, stands, strict=True):
            if stood != published and part.published == published and part.flight is None:
                part.forget()
                self._marked[channel].set()

    async def look(self, channel: Channel) -> bool:
        """Looks whether what was published is there, for a bounded time; True: something isn't, and is to be published.

        Raises RedisError, OSError or TimeoutError.
        """
        began, found = self._clock(), 0
        losses = await self._writer.losses()
        for part in sorted(self._parts[channel].values(), key=lambda part: part.looked_at):
            if part.look is None and (part.losses != losses or began - part.looked_at >= LOOK_EVERY_S):
                part.look, part.looked_at = Look(part), began
            while not part.closed and part.look is not None and self._clock() - began < LOOK_S:
                if part.published is None or part.flight is not None or part.marks + ROWS > MOST_MARKS:
                    break
                found += await self._look_on(part, part.look, part.published)
        return found > 0

    async def _look_on(self, part: NumbersOfPartition, look: Look, published: Fence) -> int:
        """A step of a look; gives how many campaigns' shares are missing."""
        try:
            campaigns = look.next()
        except Exception as error:  # noqa: BLE001  rocksdict raises plain ones
            part.look = None
            self._set_aside(part.number, error)
            return 0
        looked = await self._writer.look(part.number, published, campaigns or (), part.channel)
        if part.closed or part.look is not look:
            return 0
        if looked is None:
            part.look = None  # the next check sees what stands there
            return 0
        if look.losses is None:
            look.losses = looked.losses
        if campaigns is not None:
            look.campaigns.update(one.org for one in campaigns)
            for place in looked.lacking:
                part.lacks(campaigns[place].key)
            if looked.lacking:
                look.found += len(looked.lacking)
                self._lost(part, len(looked.lacking))
            return len(looked.lacking)
        part.look, part.losses = None, look.losses
        if not look.found:
            part.lost = False
            self._say(part.number)
            if part.channel is NUMBERS:
                await self._writer.looked(part.number, published.topic, look.losses, look.campaigns)
        return 0

    def look_now(self) -> None:
        """Redis may have lost something: the next look is at once."""
        for parts in self._parts.values():
            for part in parts.values():
                part.losses = None

    def _lost(self, part: NumbersOfPartition, count: int) -> None:
        """Some campaigns' shares that were published aren't in Redis."""
        self.counters[LOST] += count
        part.lost = True
        self._say(part.number)

    # What those see who watch

    def idle_s(self) -> float:
        """For how long a publication has made no progress, though Redis answers and there is something to publish."""
        return max((part.idle_s() for parts in self._parts.values() for part in parts.values()), default=0.0)

    def _say(self, partition: int) -> None:
        parts = [parts[partition] for parts in self._parts.values() if partition in parts]
        withheld = next((part for part in parts if part.withheld is not None), None)
        if withheld is None or withheld.withheld is None:
            self._conditions.clear(WITHHELD, partition)
        elif (needed := withheld.withheld.needed) is not None:
            self._conditions.set(
                WITHHELD,
                f"partition {partition} is counted again, and reports show its numbers up to offset {needed} already: "
                "until its database is there, they keep those and are stale. It ends by itself; no action is needed",
                partition=partition,
                reason="a part of the numbers is counted again",
                progress=withheld.database.next_offset / needed,
            )
        else:
            self._conditions.set(
                WITHHELD,
                f"partition {partition}: reports show the numbers of a newer copy of its database (generation "
                f"{withheld.withheld.generation}, this worker's has {withheld.database.generation}), so this worker "
                "publishes nothing of it, and reports are stale. It ends by itself: if the partition is still this "
                "worker's in a minute, the worker starts again and takes it over. If it comes back, look whether a "
                "second worker counts on a copied data folder",
                partition=partition,
                reason="a part of the numbers is counted by another copy of its database",
            )
        self._say_lost(partition, any(part.lost for part in parts))
        slow = [
            part.flight for part in parts
            if part.flight is not None and self._clock() - part.flight.began_at > LONG_S
        ]  # fmt: skip
        if slow:
            self._conditions.set(
                REPAIRED,
                f"the views of partition {partition} are published again; no action is needed",
                partition=partition,
                reason="a part of the numbers is published again",
                progress=round(min(flight.progress for flight in slow), 2),
            )
        else:
            self._conditions.clear(REPAIRED, partition)

    def _say_lost(self, partition: int, lost: bool) -> None:
        if not lost:
            self._conditions.clear(LOST, partition)
            return
        self._conditions.set(
            LOST,
            f"partition {partition}: published numbers are gone from Redis, evicted or deleted, and are published "
            "again; Redis has to keep what it is given (`maxmemory-policy noeviction`)",
            partition=partition,
            reason="a part of the numbers was lost in Redis and is published again",
        )

    async def tell(self) -> None:
        """Tells of this worker until cancelled."""
        while True:
            with self._redis_may_fail("announce"):
                await self.announce()
                await self._tidy()
            await asyncio.sleep(CHECK_S)

    async def _tidy(self) -> None:
        """Deletes what nobody reads any more, once this worker's own views are there."""
        parts = [part for parts in self._parts.values() for part in parts.values()]
        if not parts or any(part.published is None for part in parts):
            return
        if self._older_formats:
            if gone := await self._writer.forget_older_formats():
                log.info("%d keys of an earlier version's views were deleted", gone)
            self._older_formats = False
        meta = parts[0].database.meta
        if gone := await self._writer.forget_older_topics(meta.topic_id, meta.partitions):
            log.info("%d keys of views of an earlier topic facts were deleted", gone)

    async def announce(self) -> None:
        """Tells who this worker is, what it holds and how quick it is.

        Not a partition that a newer copy of its database publishes: it has gone to another worker, and this one has not
        heard of it, cut off from Kafka alone. Two that both claimed it would send readers to and fro.
        """
        now_ms, moment = self._redis_clock.now_ms(), self._clock()
        while self._delays and self._delays[0][0] < moment - _MINUTE_S:
            self._delays.popleft()
        ordered = sorted(delay for _, delay in self._delays)
        await self._writer.announce(
            self._worker,
            {
                number: self._owner(part, now_ms)
                for number, part in self._parts[NUMBERS].items()
                if part.withheld is None or part.withheld.needed is not None
            },
            Delays(
                ordered[len(ordered) // 2] if ordered else None,
                ordered[len(ordered) * 99 // 100] if ordered else None,
                self._facts_per_s(moment),
                now_ms,
            ),
            presence(
                self._rules,
                self._since_ms,
                now_ms,
                conditions=self._conditions.current(),
                counters=self.counters,
                configuration=self._configuration,
            ),
        )

    def _owner(self, part: NumbersOfPartition, now_ms: int) -> Owner:
        return Owner(
            self._worker,
            str(part.database.path.absolute()),
            now_ms,
            part.since_ms,
            part.database.generation,
            part.database.meta.rules,
            # Until it is known what Redis holds, too: a database that is counted again may be far behind it.
            part.database.next_offset if part.withheld is not None or part.published is None else None,
            part.database.meta.topic_id,
            part.database.checkpoints.last,
        )

    def _facts_per_s(self, moment: float) -> float:
        recent = [(second, facts) for second, facts in self._counted if second >= moment - _MINUTE_S]
        if not recent:
            return 0.0
        return round(sum(facts for _, facts in recent) / max(moment - recent[0][0], 1.0), 1)


def _not_set_aside(partition: int, error: Exception) -> None:
    raise error
