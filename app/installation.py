"""Who an installation is: the records of topic `installation`, and what they add up to.

Rules:
- The first `Identity` wins: of several hosts that start on a new cluster together one makes the installation, and the
  others find that it wasn't them. It never changes.
- `Topics` says which topics (Kafka's ids) the numbers come from. The last one wins; after the first, only an explicit
  command writes another.
- `Generation` is written whenever a partition's database is made new. Its record's offset makes the generation larger
  than any that was ever given, whatever became of folders and of Redis (`generation_at`).
- A record that can't be read is of a newer version: it is skipped, and never the first one.
- JSON, so that an operator can read the topic with any Kafka tool.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

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


Record = Identity | Topics | Generation

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
        if isinstance(record, Generation):
            given = generation_at(offset, record.above)
            generations[record.partition] = max(generations.get(record.partition, 0), given)
    return generations


def _decoded(records: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Record]]:
    for offset, value in records:
        with contextlib.suppress(msgspec.MsgspecError):
            yield offset, _decoder.decode(value)


def generation_at(offset: int, above: int) -> int:
    """The generation that a `Generation` record at `offset` gives."""
    return max(offset, above) + 1
