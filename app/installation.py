"""Who an installation is: the records of topic `installation`, and what they add up to.

Rules:
- The first `Identity` wins: of several hosts that start on a new cluster together one makes the installation, and the
  others find that it wasn't them. It never changes.
- `Topics` says which topics (Kafka's ids) the numbers come from. The last one wins; after the first, an explicit
  command writes another, and normalize once it has said what became of the topic `webhooks` before.
- `Generation` is written whenever a partition's database is made new. Its record's offset makes the generation larger
  than any that was ever given, whatever became of folders and of Redis (`generation_at`). It belongs to one database.
- `Gap` says that an operator accepted that records of a partition are lost (`reports accept-gap`). A database that
  stands there crosses it (`History.cross`). One that is empty has less than others may have: it crosses only what was
  accepted for it, or what the partition's last database had crossed too.
- `LostWebhooks` says that webhooks were accepted and are gone before they were read. Normalize writes it when it finds
  that, and goes on. Nobody can say whose campaigns they were of, so it is a gap of every partition of `facts`.
  `LostSeen` says that an operator knows of all that stand before it.
- Where the topic was deleted, the `Identity` says that it was made again (`again_ms`): what stood there of gaps and of
  lost webhooks is gone, and only the databases that have noted it still know. `LostSeen` acknowledges that too.
- `TopicRecreated` says the same later: a host knows the installation by another id, so that the one that made the topic
  again knew none.
- A record that can't be read is of a newer version: it is skipped, and never the first one.
- JSON, so that an operator can read the topic with any Kafka tool.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from app.errors import UNDECODABLE
from app.times import utc_text
from app.topics import FACTS, INSTALLATION, WEBHOOKS
from app.words import number_of

FORMAT: int = 1
LOST_END: Final = "what was counted before the log lost its end"
LATE_MS: int = 24 * 60 * 60 * 1000
"""A campaign that appears so long after facts or webhooks were lost may have lost its beginning with them."""
_NUMBER_BYTES: Final = 6
"""Such a number stays whole in any reader of JSON."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, tag="identity"):
    id: str
    """Random, hexadecimal."""
    secret: str
    """`keys.secret_fingerprint`."""
    partitions: int
    """Of topic `facts`."""
    at_ms: int
    again_ms: int | None = None
    """When the topic was made again under this id, having been deleted."""
    adopted: bool | None = None
    """Facts were there before: databases may have counted them that no record names. None: an earlier version wrote
    it, and didn't say."""
    format: int = FORMAT


class TopicRecreated(msgspec.Struct, frozen=True, kw_only=True, tag="topic_recreated"):
    before: str
    """The id that the installation had before the topic was deleted."""
    at_ms: int


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
    held: tuple[int, ...] = ()
    """Those of them behind whose begin it had counted something: that is in no log."""
    answers: str = ""
    """The request for a rebuild that it was made for."""


_Place = tuple[int, str, int | None, str, int | None]


class LostWebhooks(msgspec.Struct, frozen=True, kw_only=True, dict=True, tag="lost_webhooks"):
    partition: int
    """Of topic `webhooks`."""
    topic_before: str
    """Kafka's id of the topic that was read; another one than `topic` where it was recreated. Empty: not known."""
    position: int | None
    """The next offset to read; None: not known."""
    topic: str
    to: int
    """Where reading goes on."""
    lost: int | None
    """How many records; None: nobody can say."""
    before_ms: int | None = None
    """When the first record behind them was stored: they are older. None: older than `at_ms`."""
    at_ms: int
    """When it was found; the same for all partitions that were looked at together."""
    again: bool = False
    """Recorded again by a database that had noted it, since this topic was deleted: it is no news to operators."""

    @property
    def lost_read_ones(self) -> bool:
        """Whether records that had been read may be gone as well, other than by age."""
        return self.topic_before != self.topic or (self.lost is None and self.position is not None)

    @property
    def place(self) -> _Place:
        """Where what is lost begins (`Losses`)."""
        to = self.to if self.position is None else None
        return self.partition, self.topic_before, self.position, self.topic, to

    @cached_property
    def number(self) -> int:
        """Of the gap that it is to each partition of `facts`."""
        return _number_of(self.place)

    def words(self) -> str:
        """For operators."""
        if not self.topic_before:
            return f"partition {self.partition}: whether all that was accepted before was read is not known"
        if self.topic_before != self.topic:
            of = "an unknown offset" if self.position is None else f"offset {self.position}"
            lost = "nobody can say how many records" if self.lost is None else number_of(self.lost, "record")
            return (
                f"partition {self.partition}: the topic was recreated, and of the old one {lost} from {of} on were not "
                "read"
            )
        if self.position is None:
            return f"partition {self.partition}: which of the records below offset {self.to} were read is not known"
        if self.lost is None:
            if self.to >= self.position:
                return (
                    f"partition {self.partition}: the log lost its end: records from offset {self.position} on, which "
                    "were not read, may be among it"
                )
            return (
                f"partition {self.partition}: the log lost its end, from before offset {self.position} on, up to which "
                f"it was read; it is read again from offset {self.to} on"
            )
        lost = number_of(self.lost, "record")
        return f"partition {self.partition}: offsets {self.position} to {self.to - 1}, {lost}"

    def gap(self, partition: int) -> Gap:
        """What it is to a partition of `facts`."""
        return Gap(
            partition=partition, topic_before="", position=0, topic="", to=0, end=0, before_ms=self.before_ms,
            at_ms=self.at_ms, webhooks=self,
        )  # fmt: skip


class Losses:
    """Webhooks that were found lost, each of them once.

    Who found them may end before it commits anything behind them: the next one finds the same again, and what has gone
    since of the log where reading was to go on."""

    def __init__(self, known: Iterable[LostWebhooks] = ()) -> None:
        self._to: dict[_Place, int] = {}
        """Where reading was to go on."""
        for one in known:
            self.add(one)

    def add(self, one: LostWebhooks) -> LostWebhooks | None:
        """What of it was not added before; None: nothing."""
        passed: set[_Place] = set()  # where a log has lost its end, its offsets come again
        while one.place in self._to:
            to = self._to[one.place]
            if to >= one.to or one.place in passed:
                return None
            passed.add(one.place)
            one = msgspec.structs.replace(one, topic_before=one.topic, position=to, lost=one.to - to)
        self._to[one.place] = one.to
        return one


class LostSeen(msgspec.Struct, frozen=True, kw_only=True, tag="lost_seen"):
    at_ms: int


class Gap(msgspec.Struct, frozen=True, kw_only=True, dict=True, tag="gap"):
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
    webhooks: LostWebhooks | None = None
    """Of topic `webhooks`: nothing is missing in the partition's own log, and it is never crossed."""

    @property
    def number(self) -> int:
        """Tells it from all others, also from those in a topic `installation` that is gone."""
        return self._own_number if self.webhooks is None else self.webhooks.number

    @cached_property
    def _own_number(self) -> int:
        return _number_of((self.partition, self.topic_before, self.position, self.topic, self.to, self.at_ms))

    @property
    def lost_end(self) -> bool:
        """The log lost what had been counted of it."""
        return not self.recreated and self.to < self.position

    @property
    def recreated(self) -> bool:
        return self.topic_before != self.topic

    def crosses(self, topic: str, position: int) -> bool:
        """Whether a database of this topic that counts `position` next has to go on at `to`."""
        if self.webhooks is not None:
            return False
        if self.recreated:
            return topic == self.topic_before and position >= self.position
        if topic != self.topic:
            return False
        return self.position == position if self.to < self.position else self.position <= position < self.to


def _number_of(what: tuple[int | str | None, ...]) -> int:
    digest = hashlib.blake2b(msgspec.json.encode(what), digest_size=_NUMBER_BYTES).digest()
    return int.from_bytes(digest, "big")


class Reached(NamedTuple):
    """Where a database stands that has crossed gaps."""

    topic: str
    position: int
    crossed: tuple[int, ...]
    """The gaps' numbers."""
    held: tuple[int, ...]
    """Those of them behind whose begin it had counted something."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say of one partition of `facts`."""

    gaps: tuple[Gap, ...] = ()
    """In the order they were accepted."""
    generations: int = 0
    """How many were given to databases; those that may be older than the topic are one."""
    crossed: tuple[int, ...] = ()
    """Gaps that the partition's last database had crossed."""
    held: tuple[int, ...] = ()
    """Those of them behind whose begin it had counted something."""
    answered: frozenset[str] = frozenset()
    """Requests for a rebuild that a database was made for."""
    recreated_from: dict[str, str] = {}
    """Topic → the one before it of which the partition may have been counted, by all that is recorded."""
    recorded: str = ""
    """The topic that the installation's numbers come from, as it was recorded last."""
    elsewhere: tuple[Gap, ...] = ()
    """Only noted: gaps of other partitions, and lost webhooks."""

    def origin(self, topic: str) -> str:
        """The first of the topics, each recreated as the next, that led to this one.

        Itself where no database has counted the partition: nothing of it is missing then."""
        if not (self.generations or self.gaps):
            return topic
        if self.recorded and self.recorded != topic and topic not in self.recreated_from:
            topic = self.recorded
        seen = set[str]()
        while topic in self.recreated_from and topic not in seen:
            seen.add(topic)
            topic = self.recreated_from[topic]
        return topic

    def cross(self, topic: str, position: int, generation: int = 0, known: Collection[int] = ()) -> Reached:
        """Where a database of this generation gets to; 0: one that is made now. `known`: it has crossed them before."""
        crossed: tuple[int, ...] = ()
        held: tuple[int, ...] = ()
        for one in self.gaps:
            if one.number in known:
                continue
            mine = position or one.number in self.crossed or (generation and one.above == generation)
            if mine and one.crosses(topic, position):
                if position > one.position and not one.lost_end:
                    held += (one.number,)
                topic, position = one.topic, one.to
                crossed += (one.number,)
        return Reached(topic, position, crossed, held)

    def lacks(self, topic: str, start: int) -> str:
        """What the log, which begins at `start`, no longer has of what was counted of the partition, for operators;
        empty: by the records it has all of it, and the partition can be counted again from it."""
        reached = self.cross(self.origin(topic), 0)
        held = [one for one in self.gaps if one.number in self.held]
        if reached.topic != topic or any(one.recreated for one in held):
            return "what was counted of the topic before it was recreated"
        if reached.position < start or held:
            return f"what is older than offset {max([start, *(one.to for one in held)])}"
        if any(one.topic == topic and one.lost_end and not one.counted for one in self.gaps):
            return LOST_END
        return ""


Record = Identity | TopicRecreated | Topics | Generation | Gap | LostWebhooks | LostSeen

encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say."""

    identity: Identity
    topics: Topics | None
    generations: dict[int, int]
    """Partition → the highest generation that was given to one of its databases."""
    lost: list[LostWebhooks] = []
    """In the order they were found."""
    unseen: list[LostWebhooks] = []
    """Those that no operator has acknowledged."""
    webhooks_from_ms: int = 0
    """Topic `webhooks` may lack what was accepted before: it was last found recreated then, or without its end. What
    age has removed is not meant."""
    before: frozenset[str] = frozenset()
    """Ids under which hosts knew it before the topic was deleted."""
    again_ms: int | None = None
    """When the topic was made again; None: it wasn't, or an operator has acknowledged it."""


def installation_of(records: Iterable[tuple[int, bytes]]) -> Installation | None:
    """(offset, value) in the order of the log → what they add up to; None where there is no identity yet."""
    identity: Identity | None = None
    again_ms: int | None = None
    topics: Topics | None = None
    lost: list[LostWebhooks] = []
    unseen: list[LostWebhooks] = []
    losses = Losses()
    webhooks_from_ms, webhooks_topic = 0, ""
    before: set[str] = set()
    records = list(records)
    for _, record in _decoded(records):
        if isinstance(record, Identity):
            if identity is None:
                identity, again_ms = record, record.again_ms
                # What was noted of topic `webhooks` is gone with the rest.
                webhooks_from_ms = again_ms or 0
        elif isinstance(record, TopicRecreated):
            if record.before not in before:
                before.add(record.before)
                again_ms = record.at_ms
                webhooks_from_ms = max(webhooks_from_ms, record.at_ms)
        elif isinstance(record, Topics):
            topics = record
            topic = record.ids.get(WEBHOOKS, webhooks_topic)
            if webhooks_topic not in ("", topic):
                webhooks_from_ms = max(webhooks_from_ms, record.at_ms)
            webhooks_topic = topic
        elif isinstance(record, LostWebhooks):
            if record.lost_read_ones:
                webhooks_from_ms = max(webhooks_from_ms, record.at_ms)
            lost.append(record)
            if (new := losses.add(record)) is not None and not new.again:
                unseen.append(new)
        elif isinstance(record, LostSeen):
            unseen, again_ms = [], None
    if identity is None:
        return None
    return Installation(
        identity=identity,
        topics=topics,
        generations=generations_of(records),
        lost=lost,
        unseen=unseen,
        webhooks_from_ms=webhooks_from_ms,
        before=frozenset(before),
        again_ms=again_ms,
    )


def again_words(again_ms: int) -> str:
    """For operators."""
    return (
        f"topic {INSTALLATION} had been deleted and was made again at {utc_text(again_ms)}. What was noted there of "
        "accepted gaps and of lost webhooks is gone but for what the databases in the state folders know, and record "
        "again when they are opened: keep these folders. Reports of a partition whose database was gone by then may "
        "lack events without saying so. "
        "`reports accept-gap --webhooks` ends this condition"
    )


def generations_of(records: Iterable[tuple[int, bytes]]) -> dict[int, int]:
    """Partition → the highest generation that was given to one of its databases, also before there is an identity."""
    generations: dict[int, int] = {}
    for offset, record in _decoded(records):
        if isinstance(record, Generation):
            given = generation_at(offset, record.above)
            generations[record.partition] = max(generations.get(record.partition, 0), given)
    return generations


def _decoded(records: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Record]]:
    for offset, value in records:
        with contextlib.suppress(*UNDECODABLE):
            yield offset, _decoder.decode(value)


def histories_of(records: Iterable[tuple[int, bytes]], partitions: Iterable[int]) -> dict[int, History]:
    """(offset, value) in the order of the log → what they say of each of the partitions."""
    gaps: dict[int, Gap] = {}
    losses = Losses()
    lost: list[LostWebhooks] = []
    given: Counter[int] = Counter()
    last: dict[int, Generation] = {}
    answered: defaultdict[int, set[str]] = defaultdict(set)
    recorded = ""
    before: dict[str, str] = {}
    identity: Identity | None = None
    older = False
    for offset, record in _decoded(records):
        if isinstance(record, Identity):
            identity = identity or record
        elif isinstance(record, TopicRecreated):
            older = True
        elif isinstance(record, Gap):
            gaps[offset] = record
            if record.recreated:
                before.setdefault(record.topic, record.topic_before)
        elif isinstance(record, Topics):
            recorded = record.ids.get(FACTS, recorded)
        elif isinstance(record, Generation):
            given[record.partition] += 1
            last[record.partition] = record
            answered[record.partition].add(record.answers)
        elif isinstance(record, LostWebhooks) and (new := losses.add(record)) is not None:
            lost.append(new)
    may_be_older = identity is not None and identity.adopted is None
    older = older or (identity is not None and (bool(identity.adopted) or identity.again_ms is not None))
    return {
        partition: History(
            gaps=tuple(one for one in gaps.values() if one.partition == partition),
            # Where an earlier version has made the installation, and not adopted it, there is a record of each
            # database: to guess one more would take the partition's first one for its second.
            generations=max(older + given[partition], int(may_be_older)),
            # Earlier versions wrote the offsets of the gaps' records.
            crossed=tuple(
                gaps[n].number if n in gaps else n
                for n in (last[partition].crossed if partition in last else ())
            ),
            held=last[partition].held if partition in last else (),
            answered=frozenset(answered[partition]),
            recreated_from=before,
            recorded=recorded,
            elsewhere=(
                *(one for one in gaps.values() if one.partition != partition),
                *(one.gap(partition) for one in lost),
            ),
        )
        for partition in partitions
    }


def generation_at(offset: int, above: int) -> int:
    """The generation that a `Generation` record at `offset` gives."""
    return max(offset, above) + 1
