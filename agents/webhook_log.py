"""Where normalize begins in topic `webhooks`, and whether anything was removed before it was read.

Kafka's clients answer a position that the log doesn't have by beginning somewhere else, silently: what was accepted and
not read yet would be gone without a word. So:
- At each assignment the positions are compared with the log, with what Redis kept of them, and with the topic's id in
  topic `installation`: a topic that was recreated begins anew, whatever the positions of the old one are.
- Where `installation` was made again it doesn't say which `webhooks` was read. What Redis kept and Kafka's commits say
  it; where neither does it can't be known whether anything is lost, and that is said. Then the id is recorded.
- Redis may have been restored from an older file: where facts were stored since, what it says of a topic that is gone
  isn't gone by.
- A log that lost its end (a power cut, a broker restored from an older copy, an unclean election) keeps its id, and
  grows again. Records that were read are kept as checkpoints and compared with it, at each assignment and once a minute
  (`agents.webhook_checkpoints`): where they differ reading goes on behind the last one that is still there. What is
  committed and was not told to Redis any more isn't gone by: no checkpoint stands for it. A process that finds it while
  it reads ends: its next start goes back. That webhooks are gone that were not read is told by where the log had
  ended, which the API notes in Redis.
- A chunk that doesn't begin where the one before it ended has been overtaken by retention. Where nothing is left to
  read, `watch` finds it.
- What is lost is written into topic `installation` before any position behind it can be committed: a process that dies
  in between finds it again. `app.installation.LostWebhooks` says what follows for the reports.
- Reading goes on with what is there. Where a topic is gone the process ends: its next start makes the topic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis.exceptions import RedisError

from agents.log_checks import LogEnds, LogInspector
from agents.webhook_checkpoints import WebhookCheckpoints, compare
from app.errors import StateError, TryLater
from app.facts import FactsRecord, decode_record
from app.installation import Installation, Losses, LostWebhooks, Topics, again_words
from app.settings import Settings
from app.topics import FACTS, INSTALLATION, NORMALIZE_GROUP, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.conditions import Conditions
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings, kafka_words
from tables.log_reader import LogReader, Stretch
from tables.webhook_positions import (
    FACTS_FIELD,
    WEBHOOK_POSITIONS,
    Fields,
    Known,
    Trail,
    end_fields,
    ends_of,
    facts_ends_of,
    facts_field,
    lost_end_fields,
    lost_ends_of,
    position_fields,
    positions_of,
    read_before,
    trails_of,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("reports.webhooks")

CODE: Final = "lost_webhooks"
MISSING: Final = "topic_missing"
AGAIN: Final = "installation_lost"
MISSES: Final = 2
"""A broker that has just started may not know a topic for a moment."""
SETTLE_S: Final = 2.0
MARK_S: Final = 1.0
ASK_S: Final = 10.0
WATCH_S: Final = 2.0
COMPARE_S: Final = 60.0
END_TRIES: Final = 10
END_PAUSE_S: Final = 0.5
"""A leader that has just taken over may give an end below what was read already, for a moment."""


_Result = TypeVar("_Result")


class Start(NamedTuple):
    """Where reading of a partition begins."""

    offset: int
    trail: Trail
    """What was read of it before, by Redis."""
    parted: bool
    """The log isn't the one that was read."""


class Reader(Protocol):
    """What normalize knows of its own work."""

    def positions(self) -> Mapping[int, int]:
        """Partition → next offset: everything below it is done with."""

    def skip(self, partition: int, offset: int) -> None:
        """Everything below the offset is done with."""

    @property
    def under_way(self) -> int:
        """Records that are not stored yet."""


class WebhookLog:
    """Of one worker. `positions`: partition → next offset to read, filled here at an assignment. `wall`: the
    installation's time, s."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        conditions: Conditions,
        positions: MutableMapping[int, int],
        done: Reader,
        wall: Callable[[], float],
    ) -> None:
        self._kafka, self._id, self._partitions = settings.kafka, settings.installation, settings.partitions
        self._redis = redis
        self._conditions = conditions
        self._positions = positions
        self._done = done
        self._wall = wall
        self._inspector = LogInspector(settings.kafka)
        self._installation = InstallationLog(settings.kafka)
        self._installation_seen = ("", -1)
        """Kafka's id of the topic, and its end."""
        self._over = ""
        """Why this process can't go on."""
        self._misses = 0
        self._topic = ""
        self._begun: set[int] = set()
        self._kept_at: dict[int, int] = {}
        self._checkpoints = WebhookCheckpoints()
        self._compared_at = time.monotonic()
        self._parted = 0
        """How often in succession the log was found to be another one than was read."""
        self._settled: dict[int, int] = {}
        """Partition → where the log ends: that it lost its end is recorded, and Redis is to know."""
        self._one = asyncio.Lock()

    async def begin(self, assigned: Collection[int]) -> None:
        """After an assignment. Raises TryLater where Kafka doesn't answer."""
        async with self._one:
            self._begun &= set(assigned)
            for partition in self._positions.keys() - set(assigned):
                del self._positions[partition]
            new = set(assigned) - self._begun
            if not new:
                return
            kept = await self._kept()
            if await self._inspect(self._wait_for_ends, new, kept or {}):
                kept = await self._kept()  # the API may have found what the log's growth hides
            for partition, start in (await self._ask(self._judge, new, kept)).items():
                self._positions[partition] = start.offset
                self._done.skip(partition, start.offset)
                self._checkpoints.begin(partition, start.trail, start.offset, parted=start.parted)
            self._begun |= new
            self._compared_at, self._parted = time.monotonic(), 0
            await self.keep()

    def forget(self, partition: int) -> None:
        """It was revoked."""
        self._begun.discard(partition)
        self._checkpoints.forget(partition)
        self._kept_at.pop(partition, None)
        self._positions.pop(partition, None)

    def read(self, partition: int, offset: int, value: bytes | None) -> None:
        """A record was read, and all before it."""
        self._checkpoints.read(partition, offset, value)

    async def jumped(self, partition: int, to: int, stored_ms: int) -> None:
        """A chunk begins at `to`, above what was to be read next. Raises TryLater where Kafka doesn't answer."""
        async with self._one:
            position = self._positions.get(partition)
            if position is None or to <= position:
                return
            ends = await self._inspect(self._inspector.ends, WEBHOOKS, [partition])
            if ends[partition].start <= position:
                return  # it is all there: chunks out of order around a rebalance
            lost = self._overtaken(partition, position, to, before_ms=stored_ms)
            await self._ask(self._write, [lost])
            self._positions[partition] = to

    async def watch(self) -> None:
        """Until cancelled. Raises TryLater where a topic is gone, or `webhooks` is another one."""
        before: dict[int, int] = {}
        while True:
            await asyncio.sleep(WATCH_S)
            with contextlib.suppress(TryLater):  # that Kafka is away is said elsewhere
                before = await self.look(before)
            if self._over:
                await self.settle()
                raise TryLater(1, self._over)

    async def settle(self) -> None:
        """Before partitions are given up: what is under way is stored, and the positions are kept, where that is
        quick."""
        deadline = time.monotonic() + SETTLE_S
        while self._done.under_way and time.monotonic() < deadline:  # noqa: ASYNC110  reports come one by one
            await asyncio.sleep(0.01)
        await self.keep()

    async def look(self, before: Mapping[int, int]) -> dict[int, int]:
        """One round of `watch`; gives the positions, which are to be given to the next one.

        Raises TryLater where Kafka doesn't answer.
        """
        async with self._one:
            # Also where the group has given this worker nothing: while the topic is gone, it has nothing to give.
            begun = {p: self._positions[p] for p in self._begun if p in self._positions}
            if await self._look_at_topics():
                return begun
            if begun:
                await self._find_emptied(begun, before)
                is_kept = await self.keep()
                if is_kept and time.monotonic() - self._compared_at >= COMPARE_S:
                    await self._compare(begun)
            await self._tell()
            return begun

    async def _look_at_topics(self) -> bool:
        """Whether something is wrong with them. A start of this role makes what is missing (`cli.topics`)."""
        missing = await self._ask(self._inspector.missing)
        if missing:
            self._misses += 1
            self._conditions.set(MISSING, f"{missing}: normalize starts again, which makes what is missing")
            if self._misses >= MISSES:
                self._over = f"{missing}: normalize starts again and makes what is missing"
            return True
        self._misses = 0
        self._conditions.clear(MISSING)
        topic = await self._inspect(self._inspector.topic_id, WEBHOOKS)
        self._topic = self._topic or topic
        if topic != self._topic:
            self._over = f"topic {WEBHOOKS} was recreated: normalize begins anew"
        return bool(self._over)

    async def _find_emptied(self, begun: Mapping[int, int], before: Mapping[int, int]) -> None:
        """Of what is to be read nothing is left, nor anything behind it; where something is, its chunk says it."""
        ends = await self._inspect(self._inspector.ends, WEBHOOKS, sorted(begun))
        lost = [
            self._overtaken(partition, position, ends[partition].start)
            for partition, position in begun.items()
            if position < ends[partition].start == ends[partition].end
            # What was fetched before it was removed may still be under way.
            and before.get(partition) == position == self._positions.get(partition)
            and not self._done.under_way
        ]
        if lost:
            await self._ask(self._write, lost)
            for one in lost:
                self._positions[one.partition] = one.to
                self._done.skip(one.partition, one.to)

    async def _compare(self, begun: Mapping[int, int]) -> None:
        """Whether the log is still the one that was read. Redis has what it is compared with: a new start finds the
        same."""
        trails = {p: one for p, one in self._checkpoints.trails().items() if p in begun}
        ends = await self._inspect(self._inspector.ends, WEBHOOKS, sorted(begun))
        parted = await self._inspect(compare, self._kafka, trails, ends)
        self._checkpoints.agreed(trails, parted)
        fallen = lost_ends_of(await self._kept() or {}, self._topic).keys() & begun.keys() - parted.keys()
        await self._ask(
            self._write, [self._unread(partition, begun[partition]) for partition in sorted(fallen)]
        )
        self._settled |= {partition: ends[partition].end for partition in fallen}
        self._parted = self._parted + 1 if parted else 0
        if self._parted >= MISSES:
            self._over = (
                f"topic {WEBHOOKS} has other records than were read of it: normalize starts again, where it still is "
                "what was read"
            )
        elif not parted:
            self._compared_at = time.monotonic()

    async def _tell(self) -> None:
        topic = await self._inspect(self._inspector.topic_id, INSTALLATION)
        end = (await self._inspect(self._inspector.ends, INSTALLATION, [0]))[0].end
        if (topic, end) != self._installation_seen:
            installation = await self._ask(self._installation.read)
            if installation is not None and installation.identity.id != self._id:
                self._over = (
                    f"topic {INSTALLATION} was recreated for installation {installation.identity.id}: normalize "
                    "starts again, as its"
                )
            self._say(installation)
            self._installation_seen = (topic, end)

    def _say(self, installation: Installation | None) -> None:
        if installation is not None and installation.again_ms is not None:
            self._conditions.set(AGAIN, again_words(installation.again_ms))
        else:
            self._conditions.clear(AGAIN)
        unseen = installation.unseen if installation is not None else []
        if not unseen:
            self._conditions.clear(CODE)
            return
        where = "; ".join(one.words() for one in unseen)
        self._conditions.set(
            CODE,
            f"webhooks were accepted and are gone from topic {WEBHOOKS}, or may be, before they were read ({where}). "
            "Parsing goes on with what is there, and the reports that may lack something say so for good. Have their "
            "senders send them again where they can; `reports accept-gap --webhooks` ends this condition",
            count=sum(one.lost or 0 for one in unseen),
        )

    async def _ask(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Beside the loop: it blocks."""
        return await asyncio.to_thread(function, *arguments)

    async def _inspect(self, question: Callable[..., _Result], *arguments: Any) -> _Result:
        """What Kafka says about a topic. Raises TryLater where it doesn't answer, and where the topic was deleted."""
        try:
            return await self._ask(question, *arguments)
        except StateError as error:
            raise TryLater(1, str(error)) from error

    # What Redis keeps

    async def _kept(self) -> dict[bytes, bytes] | None:
        """None where Redis can't be asked."""
        try:
            return cast("dict[bytes, bytes]", await self._redis.hgetall(WEBHOOK_POSITIONS))
        except (RedisError, OSError, TimeoutError):
            return None

    async def keep(self) -> bool:
        """Positions never fall here: those that are read once more after a rebalance were read. False: not stored."""
        for partition, position in self._done.positions().items():
            if partition in self._begun:
                self._kept_at[partition] = max(self._kept_at.get(partition, 0), position)
        if not self._kept_at:
            return False
        fields = position_fields(self._topic, self._kept_at) | self._checkpoints.fields(self._topic)
        settled = dict(self._settled)
        told: Fields = {}
        with contextlib.suppress(TryLater, TimeoutError):
            async with asyncio.timeout(MARK_S):
                told = await self._inspect(self._facts)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with self._redis.pipeline() as pipe:
                if not told:
                    pipe.hdel(WEBHOOK_POSITIONS, FACTS_FIELD)
                if settled:
                    pipe.hdel(WEBHOOK_POSITIONS, *map(str, lost_end_fields(self._topic, settled)))
                pipe.hset(WEBHOOK_POSITIONS, mapping=fields | told | end_fields(self._topic, settled))
                await pipe.execute()
            for partition in settled:
                self._settled.pop(partition, None)
            return True
        return False

    # What Kafka says; these block

    def _facts(self) -> Fields:
        """How far topic `facts` goes."""
        ends = self._inspector.ends(FACTS, range(self._partitions))
        return facts_field(self._inspector.topic_id(FACTS), {p: one.end for p, one in ends.items()})

    def _is_older(self, kept: Mapping[bytes, bytes]) -> bool:
        """Whether facts were stored since positions were told last: then Redis was restored from an older file. Names
        and erasures, which stand in topic `facts` as well, say nothing."""
        told = facts_ends_of(kept, self._inspector.topic_id(FACTS))
        if told is None:
            return False
        with LogReader(self._kafka) as reader:
            whole = reader.whole(FACTS, self._partitions)
            behind = {p: Stretch(max(one.begin, told.get(p, one.end)), one.end) for p, one in whole.items()}
            for message in reader.read(FACTS, behind):
                with contextlib.suppress(msgspec.MsgspecError):
                    if isinstance(decode_record(message.value() or b""), FactsRecord):
                        return True
        return False

    def _judge(self, new: Collection[int], kept: Mapping[bytes, bytes] | None) -> dict[int, Start]:
        """Partition → where to begin, once what is lost before that is written down."""
        try:
            topic = self._inspector.topic_id(WEBHOOKS)
            installation = self._installation.read()
            recorded = installation.topics.ids if installation is not None and installation.topics else {}
            # Who finds it first says it of all: the others find the topic's id.
            first = bool(recorded) and recorded.get(WEBHOOKS) != topic
            looked_at = set(range(WEBHOOKS_PARTITIONS)) if first else set(new)
            committed = self._committed(looked_at)
            ends = self._inspector.ends(WEBHOOKS, sorted(looked_at))
            trails = trails_of(kept or {}, topic)
            parted = compare(self._kafka, {p: one for p, one in trails.items() if p in new}, ends)
            is_older = first and self._is_older(kept or {})
        except StateError as error:
            raise TryLater(1, str(error)) from error
        if kept is None and (first or any(ends[p].start > 0 for p in looked_at - committed.keys())):
            raise TryLater(
                1, f"Kafka has no position in topic {WEBHOOKS}: Redis may have it, and doesn't answer"
            )
        self._topic = topic
        kept = kept or {}
        if is_older:
            log.warning(
                "what Redis says of topic %s is older than the last facts: it isn't gone by", WEBHOOKS
            )
            kept = {}
        positions, fallen, last_ends = positions_of(kept), lost_ends_of(kept, topic), ends_of(kept, topic)
        lost: list[LostWebhooks] = []
        starts: dict[int, Start] = {}
        settled: dict[int, int] = {}
        for partition in sorted(looked_at):
            # While nothing is recorded at all, the installation may just begin.
            before = recorded.get(WEBHOOKS) or read_before(kept, partition, topic, committed)
            if not (before or recorded):
                before = topic
            start, found = self._judge_one(
                partition, before, positions.get(partition), ends_of(kept, before).get(partition),
                committed.get(partition), partition in trails, ends[partition],
            )  # fmt: skip
            if partition in new:
                trail, back = Trail(), None
                if before == topic:
                    trail, back = trails.get(partition, trail), parted.get(partition)
                    if back is not None:
                        known = positions.get(partition)
                        start = max(ends[partition].start, min(back, back if known is None else known.offset))
                        found = self._lost(partition, topic, trail.read_to, start, None)
                    end, last_end = ends[partition].end, last_ends.get(partition, 0)
                    if found is None and (partition in fallen or last_end > max(start, end)):
                        found = self._unread(partition, start)
                    if partition in fallen or last_end > end:
                        settled[partition] = end
                starts[partition] = Start(start, trail, back is not None)
            elif before == topic:
                continue  # another worker's
            if found is not None:
                lost.append(found)
        self._write(lost, installation)
        self._settled |= settled
        if first:
            self._record(recorded, topic)
        return starts

    def _judge_one(
        self,
        partition: int,
        before: str,
        known: Known | None,
        last_end: int | None,
        position: int | None,
        has_checkpoints: bool,
        ends: LogEnds,
    ) -> tuple[int, LostWebhooks | None]:
        """Where to begin, and what is lost. `position`: what is committed."""
        if before != self._topic:
            if known is not None:  # one of an older topic still: nobody has read this one
                position = known.offset if known.topic == before else 0
            return ends.start, self._of_old_topic(partition, before, position, last_end, ends)
        if known is None:
            return self._of_same_topic(partition, position, ends)
        if known.topic != self._topic:
            # What is committed may be of the old one. Whoever recorded the new one's id has said what is lost.
            return ends.start, None
        position = known.offset if position is None else position
        return self._of_same_topic(partition, position, ends, known.offset if has_checkpoints else position)

    def _record(self, recorded: Mapping[str, str], topic: str) -> None:
        why = f"normalize began to read topic {WEBHOOKS}"
        if WEBHOOKS in recorded:
            why = f"topic {WEBHOOKS} was recreated"
            log.warning("topic %s was recreated: it is read from its begin", WEBHOOKS)
        ids = {**recorded, WEBHOOKS: topic}
        self._installation.append(Topics(ids=ids, why=why, at_ms=self._now_ms()))

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)

    def _of_old_topic(
        self, partition: int, before: str, position: int | None, last_end: int | None, ends: LogEnds
    ) -> LostWebhooks | None:
        if last_end == 0 or (position is not None and last_end is not None and position >= last_end):
            return None  # all of it was read
        count = last_end - position if last_end is not None and position is not None else None
        return self._lost(partition, before, position, ends.start, count)

    def _of_same_topic(
        self, partition: int, position: int | None, ends: LogEnds, compared: int | None = None
    ) -> tuple[int, LostWebhooks | None]:
        """`compared`: the position up to which checkpoints stand for what was read."""
        if position is None:
            unknown = self._lost(partition, self._topic, None, ends.start, None) if ends.start else None
            return ends.start, unknown
        if position < ends.start:
            return ends.start, self._overtaken(partition, position, ends.start)
        start = position if compared is None or compared < ends.start else min(position, compared)
        if position > ends.end:
            # The log lost its end, by how much nobody knows: all that is there is read, and nothing counts twice.
            start = start if start <= ends.end else ends.start
            return start, self._lost(partition, self._topic, position, start, None)
        return start, None

    def _unread(self, partition: int, position: int) -> LostWebhooks:
        """Of what was accepted and not read, since the log lost its end; by how much nobody knows."""
        return self._lost(partition, self._topic, position, position, None)

    def _overtaken(
        self, partition: int, position: int, to: int, before_ms: int | None = None
    ) -> LostWebhooks:
        return self._lost(partition, self._topic, position, to, to - position, before_ms)

    def _lost(
        self,
        partition: int,
        before: str,
        position: int | None,
        to: int,
        count: int | None,
        before_ms: int | None = None,
    ) -> LostWebhooks:
        return LostWebhooks(
            partition=partition, topic_before=before, position=position, topic=self._topic, to=to, lost=count,
            before_ms=before_ms, at_ms=0,
        )  # fmt: skip

    def _write(self, lost: Collection[LostWebhooks], installation: Installation | None = None) -> None:
        """Raises TryLater where it isn't stored: then nothing behind it may be committed."""
        if not lost:
            return
        installation = installation or self._installation.read()
        known = Losses(installation.lost if installation is not None else ())
        now_ms = self._now_ms()
        new = [rest for one in lost if (rest := known.add(one)) is not None]
        for one in new:
            log.warning("webhooks were lost before they were read: %s", one.words())
        if new:
            self._installation.append_together([msgspec.structs.replace(one, at_ms=now_ms) for one in new])

    def _wait_for_ends(self, partitions: Collection[int], kept: Mapping[bytes, bytes]) -> bool:
        """Waits a moment where the log ends below what is known of it. False: it doesn't."""
        topic = self._inspector.topic_id(WEBHOOKS)
        trails, last_ends, committed = (
            trails_of(kept, topic),
            ends_of(kept, topic),
            self._committed(partitions),
        )
        known = {
            p: max(committed.get(p, 0), last_ends.get(p, 0), trails.get(p, Trail()).read_to)
            for p in partitions
        }
        wanted = {p: end for p, end in known.items() if end}
        for tries in range(END_TRIES):
            ends = self._inspector.ends(WEBHOOKS, sorted(wanted)) if wanted else {}
            if all(wanted[partition] <= one.end for partition, one in ends.items()):
                return tries > 0
            time.sleep(END_PAUSE_S)
        return True

    def _committed(self, partitions: Collection[int]) -> dict[int, int]:
        consumer = Consumer(
            {
                **client_settings(self._kafka, "reports-webhooks"),
                # Never joined; only a consumer of a group can ask for its commits safely (`api.log_positions`).
                "group.id": NORMALIZE_GROUP,
                "enable.auto.commit": False,
            }
        )
        try:
            found = consumer.committed([TopicPartition(WEBHOOKS, p) for p in partitions], timeout=ASK_S)
        except KafkaException as error:
            raise TryLater(1, kafka_words(error, self._kafka)) from error
        finally:
            consumer.close()
        return {one.partition: one.offset for one in found if one.error is None and one.offset >= 0}
