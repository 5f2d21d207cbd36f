"""Who an installation is: the records of topic `installation`, and what they add up to.

Rules:
- The first `Identity` wins: of several hosts that start on a new cluster together one makes the installation, and the
  others find that it wasn't them. It never changes.
- `Topics` says which topics (Kafka's ids) the numbers come from. The last one wins; after the first, only an explicit
  command writes another.
- `Generation` is written whenever a partition's database is made new. Its record's offset makes the generation larger
  than any that was ever given, whatever became of folders and of Redis (`generation_at`). It belongs to one database.
- `Gap` says that an operator accepted that records of a partition are lost (`reports accept-gap`). A database that
  stands there crosses it (`History.cross`). One that is empty has less than others may have: it crosses only what was
  accepted for it, or what the partition's last database had crossed too.
- A record that can't be read is of a newer version: it is skipped, and never the first one.
- JSON, so that an operator can read the topic with any Kafka tool.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

FORMAT: int = 1


class Identity(msgspec.Struct, frozen=True, kw_only=True, tag="identity"):
    id: str
    """Random, hexadecimal."""
    secret: str
    """`keys.secret_fingerprint`."""
    partitions: int
    """Of topic `facts`."""
    at_ms: int
    format: int = FORMAT


class Topics(msgspec.Struct, frozen=True, kw_only=True, tag="topics"):
    ids: dict[str, str]
    """Topic → Kafka's id."""
    why: str
    """Which command wrote it."""
    at_ms: int


class Generation(msgspec.Struct, frozen=True, kw_only=True, tag="generation"):
    partition: int
    above: int
    """The highest generation that was known before."""
    worker: str
    at_ms: int
    crossed: tuple[int, ...] = ()
    """Numbers of the gaps that the database has crossed: what it lacks of the partition's facts."""
    answers: str = ""
    """The request for a rebuild that it was made for."""


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    partition: int
    topic_before: str
    """Kafka's id of the topic that the database was counted from; another one than `topic` where it was recreated."""
    position: int
    """The next offset to count that the database had."""
    topic: str
    to: int
    """Where counting goes on. Below `position`: the log lost its end after that was counted."""
    end: int
    """The log's end when the gap was accepted."""
    before_ms: int | None = None
    """When the first record behind the gap was stored: what is lost is older. None: there is no such record."""
    above: int = 0
    """The generation of the database that stood there."""
    counted: bool = False
    """Another database had counted what is lost, and readers saw it."""
    at_ms: int

    @property
    def recreated(self) -> bool:
        return self.topic_before != self.topic

    def crosses(self, topic: str, position: int) -> bool:
        """Whether a database of this topic that counts `position` next has to go on at `to`."""
        if self.recreated:
            return topic == self.topic_before and position >= self.position
        if topic != self.topic:
            return False
        return self.position == position if self.to < self.position else self.position <= position < self.to


class NumberedGap(msgspec.Struct, frozen=True):
    """With the offset of its record, which tells it from others."""

    number: int
    gap: Gap


class Reached(NamedTuple):
    """Where a database stands that has crossed gaps."""

    topic: str
    position: int
    crossed: tuple[int, ...]
    """The gaps' numbers."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say of one partition of `facts`."""

    gaps: tuple[NumberedGap, ...] = ()
    """In the order they were accepted."""
    generations: int = 0
    """How many were given to databases."""
    crossed: tuple[int, ...] = ()
    """Gaps that the partition's last database had crossed."""
    answered: frozenset[str] = frozenset()
    """Requests for a rebuild that a database was made for."""
    elsewhere: tuple[NumberedGap, ...] = ()
    """Gaps of other partitions by which numbers were lost that readers saw."""

    def origin(self, topic: str) -> str:
        """The first of the topics, each recreated as the next, that led to this one."""
        before = {one.gap.topic: one.gap.topic_before for one in reversed(self.gaps) if one.gap.recreated}
        seen = set[str]()
        while topic in before and topic not in seen:
            seen.add(topic)
            topic = before[topic]
        return topic

    def cross(self, topic: str, position: int, generation: int = 0) -> Reached:
        """Where a database of this generation gets to; 0: one that is made now."""
        crossed: tuple[int, ...] = ()
        for one in self.gaps:
            mine = position or one.number in self.crossed or (generation and one.gap.above == generation)
            if mine and one.gap.crosses(topic, position):
                topic, position = one.gap.topic, one.gap.to
                crossed += (one.number,)
        return Reached(topic, position, crossed)

    def can_be_counted_again(self, topic: str, start: int) -> bool:
        """Whether the log, which begins at `start`, has all that the partition's last database has counted."""
        reached = self.cross(self.origin(topic), 0)
        return reached.topic == topic and reached.position >= start


Record = Identity | Topics | Generation | Gap

encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say."""

    identity: Identity
    topics: Topics | None
    generations: dict[int, int]
    """Partition → the highest generation that was given to one of its databases."""


def installation_of(records: Iterable[tuple[int, bytes]]) -> Installation | None:
    """(offset, value) in the order of the log → what they add up to; None where there is no identity yet."""
    identity: Identity | None = None
    topics: Topics | None = None
    records = list(records)
    for _, record in _decoded(records):
        if isinstance(record, Identity):
            identity = identity or record
        elif isinstance(record, Topics):
            topics = record
    if identity is None:
        return None
    return Installation(identity=identity, topics=topics, generations=generations_of(records))


def generations_of(records: Iterable[tuple[int, bytes]]) -> dict[int, int]:
    """Partition → the highest generation that was given to one of its databases, also before there is an identity."""
    generations: dict[int, int] = {}
    for offset, record in _decoded(records):
        if isinstance(record, Generation | Gap):  # of a database that was made new, or that crosses a gap
            given = generation_at(offset, record.above)
            generations[record.partition] = max(generations.get(record.partition, 0), given)
    return generations


def _decoded(records: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Record]]:
    for offset, value in records:
        with contextlib.suppress(msgspec.MsgspecError):
            yield offset, _decoder.decode(value)


def histories_of(records: Iterable[tuple[int, bytes]], partitions: Iterable[int]) -> dict[int, History]:
    """(offset, value) in the order of the log → what they say of each of the partitions."""
    gaps: list[NumberedGap] = []
    given: list[Generation] = []
    for offset, record in _decoded(records):
        if isinstance(record, Gap):
            gaps.append(NumberedGap(offset, record))
        elif isinstance(record, Generation):
            given.append(record)
    crossed = {one.partition: one.crossed for one in given}
    return {
        partition: History(
            gaps=tuple(one for one in gaps if one.gap.partition == partition),
            generations=sum(one.partition == partition for one in given),
            crossed=crossed.get(partition, ()),
            answered=frozenset(one.answers for one in given if one.partition == partition),
            elsewhere=tuple(one for one in gaps if one.gap.counted and one.gap.partition != partition),
        )
        for partition in partitions
    }


def generation_at(offset: int, above: int) -> int:
    """The generation that a `Generation` or `Gap` record at `offset` gives."""
    return max(offset, above) + 1
