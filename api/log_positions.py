"""What the lag monitor asks: ends of the topics, positions of those who work them off, times of single records.

A position of another topic `facts` than the current one is none: its offsets have nothing to do with this topic's.

All calls block, each for at most `ASK_S`, and belong to one thread. They raise `KafkaException`, `redis.RedisError`,
and what their clients raise by mistake.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping, MutableMapping
from concurrent.futures import wait
from typing import Final, cast

import msgspec
import redis
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from api.dead_count import DeadCount
from app.errors import UNDECODABLE, TryLater
from app.topics import DEAD, FACTS, INSTALLATION, NORMALIZE_GROUP, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.conditions import Condition
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings, kafka_words
from tables.missing_topics import BESIDE, WAY_OUT, missing, needed, partitions_there
from tables.presence import SILENT_MS, WORKERS, conditions_of
from tables.redis_client import redis_words
from tables.redis_clock import time_ms
from tables.redis_names import sync_client
from tables.views import OWNERS, PARTITIONS, Owner, fences_of
from tables.webhook_positions import (
    WEBHOOK_POSITIONS,
    end_fields,
    ends_of,
    lost_end_fields,
    lost_ends_of,
    positions_of,
)

ASK_S: Final = 2.0
FETCH_S: Final = 0.5
MISSING_S: Final = 0.5
"""How long it may take to find why something else failed."""
TOPIC_S: Final = 2.0
"""How often Kafka is asked which topics are the current ones."""
NOTE_S: Final = 10.0
"""How often the ends of `webhooks` are noted that stay the same: Redis may have been emptied."""
REFUSES_WRITES: Final = "redis_refuses_writes"
_PROBE: Final = "cr:probe"
_PROBE_MS: Final = 60_000
DEAD_BEGIN_S: Final = 10.0
"""How often the begin of the dead-letter topic is asked: it moves by retention only."""

Key = tuple[str, int]


def _latest() -> OffsetSpec:
    spec: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    return spec


def _earliest() -> OffsetSpec:
    spec: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return spec


_owner = msgspec.json.Decoder(Owner)


def _reached(text: bytes | None) -> float:
    """How far an owner says that its withheld numbers go; infinite where none are withheld."""
    with contextlib.suppress(*UNDECODABLE):
        if text is not None and (reached := _owner.decode(text).reached) is not None:
            return reached
    return math.inf


def _sign_of_life(text: bytes | None) -> float:
    """When an owner last said that it has its partition, ms; infinite where another version says something else."""
    if text is None:
        return -math.inf
    with contextlib.suppress(*UNDECODABLE):
        return _owner.decode(text).at_ms
    return math.inf


class Place(msgspec.Struct, frozen=True):
    """Where a partition's reader stands."""

    end: int
    position: int | None
    begin: int | None = None
    """Asked only where the position is not known."""
    foreign: bool = False
    """The published numbers are those of another topic of this name."""
    away: bool = False
    """No living worker has the partition."""

    @property
    def start(self) -> int:
        """From where on records are not yet processed, as far as is known."""
        if self.position is not None:
            return min(self.position, self.end)
        return self.begin or 0


class LogPositions:
    def __init__(
        self,
        kafka: str,
        redis_url: str,
        partitions: int,
        installation: str = "",
        acknowledged: MutableMapping[int, int] | None = None,
    ) -> None:
        """`acknowledged`: `Producer.acknowledged`; it is emptied when topic `webhooks` is recreated."""
        self._acknowledged = {} if acknowledged is None else acknowledged
        self._needed = needed(partitions)
        self._common = client_settings(kafka, "reports-lag")
        self.kafka, self._redis_url, self._installation = kafka, redis_url, installation
        self._keys: list[Key] = [(WEBHOOKS, p) for p in range(WEBHOOKS_PARTITIONS)]
        self._keys += [(FACTS, p) for p in range(partitions)]
        self._open()

    def _open(self) -> None:
        common = self._common
        self._admin_settings = {**common, "socket.timeout.ms": int(ASK_S * 1000)}
        self._admin = AdminClient(self._admin_settings)
        self._consumer = Consumer(
            {
                **common,
                # Never joined: records are read by assignment. It is normalize's group because only a consumer of a
                # group can ask for its commits: the admin client's `list_consumer_group_offsets` ends the process
                # (SIGSEGV) when the broker is not, or no longer, the group's coordinator (librdkafka issue 5040).
                "group.id": NORMALIZE_GROUP,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # Single records are wanted: no more than one batch of each partition is fetched.
                "queued.min.messages": 1,
                "max.partition.fetch.bytes": 65_536,
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 1,
                "fetch.error.backoff.ms": 50,
            }
        )
        self._redis = sync_client(self._redis_url, self._installation, timeout_s=ASK_S / 2)
        self._dead = DeadCount(common)
        self._times: dict[Key, tuple[int, int]] = {}
        self._dead_begin: tuple[float, int] | None = None
        self._refusing_ms = 0
        self._topics: tuple[float, dict[str, str]] | None = None
        self._absent = self._identity_of = ""
        self.foreign_id = ""
        """Where topic `installation` is of another installation than this process: that one's id."""
        self._noted: dict[str, dict[int, int]] = {}
        self._noted_at = 0.0

    def ends(self) -> tuple[dict[Key, int], int]:
        """End offset by partition, and how many dead letters there are."""
        found = self._offsets([*self._keys, (DEAD, 0)], _latest())
        dead_end = found.pop((DEAD, 0))
        now = time.monotonic()
        if self._dead_begin is None or now - self._dead_begin[0] > DEAD_BEGIN_S:
            self._dead_begin = (now, self._offsets([(DEAD, 0)], _earliest())[DEAD, 0])
        return found, self._dead.letters(self._dead_begin[1], dead_end)

    def places(self, ends: Mapping[Key, int]) -> dict[Key, Place]:
        counted, foreign, away = self._counted()
        positions = self.committed() | counted
        unknown = [key for key in ends if key not in positions]
        begins = self._offsets(unknown, _earliest()) if unknown else {}
        places: dict[Key, Place] = {}
        for key, end in ends.items():
            begin = begins.get(key)
            # An empty partition that nobody has read is at its end.
            position = positions.get(key, end if begin == end else None)
            places[key] = Place(end, position, begin, key in foreign, key in away)
        return places

    def conditions(self) -> list[Condition]:
        """What the workers say is wrong with them, and, since they can't say that, that Redis takes no writes."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(WORKERS)
            pipe.time()
            stored, now = pipe.execute()
        now_ms = time_ms(now)
        found = conditions_of(stored, now_ms)
        try:
            self._redis.set(_PROBE, b"1", px=_PROBE_MS)
        except (redis.ResponseError, redis.exceptions.ReadOnlyError) as error:
            since_ms = self._refusing_ms = self._refusing_ms or now_ms
            found.append(
                Condition(
                    code=REFUSES_WRITES,
                    message=self.words(error),
                    since_ms=since_ms,
                    reason="the report numbers can't be stored at the moment and stand still",
                )
            )
        else:
            self._refusing_ms = 0
        return found

    def words(self, error: Exception) -> str:
        """What an error of Kafka or Redis means, for operators."""
        if isinstance(error, KafkaException):
            return kafka_words(error, self.kafka)
        return redis_words(error, self._redis_url)

    def redis_trouble(self) -> str:
        """What is wrong with Redis, for operators; empty where it answers."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError) as error:
            return self.words(error)
        return ""

    def missing(self, error: Exception) -> str:
        """Which topics are not there, or not with all partitions, where that is why Kafka gave the error; else empty.

        For a partition that isn't there librdkafka asks until its time is up.
        """
        if isinstance(error, KafkaException):
            with contextlib.suppress(KafkaException):
                return missing(partitions_there(self._admin, MISSING_S), self._needed)
        return ""

    def oldest_times(self, places: Mapping[Key, Place]) -> dict[Key, int]:
        """When the record at each position was appended, ms; without those that can't be read in time."""
        wanted = {key: place.start for key, place in places.items() if place.start < place.end}
        self._times = {key: seen for key, seen in self._times.items() if seen[0] == wanted.get(key)}
        missing = {key: offset for key, offset in wanted.items() if key not in self._times}
        if missing:
            self._fetch(missing)
        return {key: at_ms for key, (_, at_ms) in self._times.items()}

    def _fetch(self, missing: dict[Key, int]) -> None:
        deadline = time.monotonic() + FETCH_S
        try:
            self._consumer.assign([TopicPartition(*key, offset) for key, offset in missing.items()])
            while missing and (left_s := deadline - time.monotonic()) > 0:
                message = self._consumer.poll(left_s)
                if message is None or message.error() is not None:
                    continue
                key: Key = (message.topic() or "", message.partition() or 0)
                offset = missing.pop(key, None)
                if offset is not None:
                    self._times[key] = (offset, message.timestamp()[1])
                    self._consumer.incremental_unassign([TopicPartition(*key)])
            self._consumer.unassign()
        except KafkaException:
            return

    def _offsets(self, keys: Iterable[Key], spec: OffsetSpec) -> dict[Key, int]:
        asked = self._admin.list_offsets({TopicPartition(*key): spec for key in keys}, request_timeout=ASK_S)
        _, unanswered = wait(asked.values(), ASK_S * 1.5)
        try:
            if unanswered:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer from the admin client"))
            return {
                (partition.topic, partition.partition): future.result(timeout=0).offset
                for partition, future in asked.items()
            }
        except KafkaException:
            # librdkafka's admin client keeps the leader's epoch that it learned first: after a restart of the broker
            # it is answered FENCED_LEADER_EPOCH for ever. Another client learns the new one.
            self._admin = AdminClient(self._admin_settings)
            raise

    def committed(self) -> dict[Key, int]:
        """Positions of normalize in `webhooks`, where it has committed any."""
        partitions = [TopicPartition(WEBHOOKS, p) for p in range(WEBHOOKS_PARTITIONS)]
        return {
            (found.topic, found.partition): found.offset
            for found in self._consumer.committed(partitions, timeout=ASK_S)
            if found.error is None and found.offset >= 0
        }

    def _counted(self) -> tuple[dict[Key, int], set[Key], set[Key]]:
        """Positions of the published numbers in `facts`, partitions whose numbers are of another topic, and those
        that no living worker has.

        A database that is counted again may be behind what was published before it: then its own position counts."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(PARTITIONS)
            pipe.hgetall(OWNERS)
            pipe.time()
            stored, owners, now = cast(
                tuple[dict[bytes, bytes], dict[bytes, bytes], tuple[int, int]], tuple(pipe.execute())
            )
        topic = self._current_topics()[FACTS]
        counted: dict[Key, int] = {}
        foreign: set[Key] = set()
        for partition, fence in fences_of(stored).items():
            if fence.topic == topic:
                counted[FACTS, partition] = int(min(fence.offset, _reached(owners.get(b"%d" % partition))))
            else:
                foreign.add((FACTS, partition))
        alive_ms = time_ms(now) - SILENT_MS
        away = {
            (name, partition)
            for name, partition in self._keys
            if name == FACTS and _sign_of_life(owners.get(b"%d" % partition)) <= alive_ms
        }
        return counted, foreign, away

    def note_ends(self, ends: Mapping[Key, int]) -> None:
        """Keeps where topic `webhooks` ended, for normalize to know what it lacks if the topic is recreated."""
        topic = self._current_topics()[WEBHOOKS]
        if topic not in self._noted:
            if self._noted:  # what was acknowledged is of the one before, or among the ends
                self._acknowledged.clear()
            self._noted = {topic: self._noted_before(topic)}
        self._note(topic, {p: end for (name, p), end in ends.items() if name == WEBHOOKS})

    def note_last_ends(self) -> None:
        """The same where the topic is gone: by what was acknowledged since it was last asked for its ends."""
        for topic, before in list(self._noted.items()):
            with contextlib.suppress(redis.RedisError, OSError):
                # Other processes have taken webhooks too, and nobody corrects this any more.
                stored = self._noted_before(topic)
                self._note(
                    topic, {p: max(before.get(p, 0), stored.get(p, 0)) for p in before.keys() | stored.keys()}
                )

    def _noted_before(self, topic: str) -> dict[int, int]:
        stored: dict[bytes, bytes] = self._redis.hgetall(WEBHOOK_POSITIONS)  # type: ignore[assignment]
        return ends_of(stored, topic)

    def _note(self, topic: str, ends: Mapping[int, int]) -> None:
        before, acknowledged = self._noted[topic], dict(self._acknowledged)
        fallen = self._fallen(topic, {p: before[p] for p, end in ends.items() if end < before.get(p, 0)})
        # The ends may be those of a newer topic: which one it is, is asked less often.
        now = {p: max(end, before.get(p, 0), acknowledged.get(p, 0)) for p, end in ends.items()}
        if not fallen and now == before and time.monotonic() - self._noted_at <= NOTE_S:
            return
        # Redis full, or read-only, or another process wrote meanwhile: the lag is known all the same.
        with contextlib.suppress(redis.RedisError, OSError), self._redis.pipeline() as pipe:
            pipe.watch(WEBHOOK_POSITIONS)  # type: ignore[no-untyped-call]
            stored: dict[bytes, bytes] = pipe.hgetall(WEBHOOK_POSITIONS)  # type: ignore[assignment]
            noted, read = ends_of(stored, topic), positions_of(stored)
            # Lower than this process knew it: another one has found that the log lost its end.
            known = {p for p in now if noted.get(p, before.get(p, 0)) < before.get(p, 0)}
            now |= {p: max(ends[p], noted[p]) for p in known}
            now |= {p: fallen[p] for p in fallen.keys() - known}
            unread = {
                p: before[p]
                for p in fallen.keys() - known
                if p not in read or read[p].topic != topic or read[p].offset < before[p]
            }
            lost = {p: max(end, lost_ends_of(stored, topic).get(p, 0)) for p, end in unread.items()}
            pipe.multi()
            pipe.hset(WEBHOOK_POSITIONS, mapping=end_fields(topic, now) | lost_end_fields(topic, lost))
            pipe.execute()
            self._noted[topic], self._noted_at = now, time.monotonic()
            for partition in known | fallen.keys():  # of the log before it lost its end
                self._acknowledged.pop(partition, None)

    def _fallen(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        """Partition → where the log ends, of those where it ends before that. Asked once more: what was noted may be
        younger than the ends, or the ends of a newer topic."""
        if not before:
            return {}
        ends = self._offsets([(WEBHOOKS, p) for p in before], _latest())
        self._topics = None
        if self._current_topics()[WEBHOOKS] != topic:
            return {}
        return {p: ends[WEBHOOKS, p] for p, end in before.items() if ends[WEBHOOKS, p] < end}

    def _current_topics(self) -> dict[str, str]:
        """Kafka's ids of `webhooks` and `facts`."""
        now = time.monotonic()
        if self._topics is None or now - self._topics[0] > TOPIC_S:
            names = (WEBHOOKS, FACTS)
            asked = self._admin.describe_topics(TopicCollection([*names, *BESIDE]), request_timeout=ASK_S)
            wait(asked.values(), ASK_S * 1.5)
            self._topics = (now, {name: str(asked[name].result(timeout=0).topic_id) for name in names})
            there = dict.fromkeys(BESIDE, "")
            for name in BESIDE:
                try:
                    there[name] = str(asked[name].result(timeout=0).topic_id)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        del there[name]
            self._absent = missing(dict.fromkeys(there, 1), BESIDE)
            self._look_at_identity(there.get(INSTALLATION, ""))
        return self._topics[1]

    def _look_at_identity(self, topic: str) -> None:
        """Once for each topic `installation`, as told by Kafka's id of it."""
        if not self._installation or topic in ("", self._identity_of):
            return
        with contextlib.suppress(TryLater):
            found = InstallationLog(self.kafka).read()
            if found is not None:
                self._identity_of = topic
                self.foreign_id = found.identity.id if found.identity.id != self._installation else ""

    def trouble(self) -> str | None:
        """What is wrong with the topics without which webhooks are taken all the same, for operators."""
        if self._absent:
            return f"Kafka at {self.kafka}: {self._absent}. {WAY_OUT}"
        if self.foreign_id:
            return (
                f"topic {INSTALLATION} in Kafka at {self.kafka} was recreated for installation {self.foreign_id}, and "
                f"this process serves {self._installation}: start all roles again"
            )
        return None

    def reopen(self) -> None:
        """With other clients, whatever has become of these."""
        with contextlib.suppress(KafkaException, redis.RedisError, RuntimeError, OSError):
            self.close()
        self._open()

    def close(self) -> None:
        self._consumer.close()
        self._dead.close()
        self._redis.close()
