"""Whether topic `facts` still has all that was counted of it. What it no longer has, only the databases have.

That is asked before anybody is told to remove a database (`tables.broken.removal`), by `reports rebuild --from-log`,
and now and then by each worker, for its condition `log_incomplete`.

A log that lost its end says nothing of that itself: only who has counted more of it knows, a database or, once it is
published, Redis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis.exceptions import RedisError

from app.errors import UNDECODABLE, StateError, TryLater
from app.installation import LOST_END
from app.settings import Settings
from app.topics import FACTS
from tables.checkpoints import Checkpoint, goes_on_at
from tables.installation import ASK_S, InstallationLog
from tables.kafka_clients import asked_offsets, client_settings, kafka_words
from tables.log_reader import LogReader
from tables.origin import topic_ids
from tables.redis_client import redis_words
from tables.redis_names import sync_client
from tables.views import NUMBERS, OWNERS, Fence, Owner, fences_of

_owner = msgspec.json.Decoder(Owner).decode


class Stood(NamedTuple):
    """How far a partition was counted: by a database, or as Redis tells it."""

    fence: Fence
    last: Checkpoint | None = None
    """Of the records that were counted, of the same topic."""

    def lost(self, topic: str, start: int, end: int, read: Callable[[int], bytes | None]) -> Lost | None:
        """What the log lost at its end of what was counted. `read`: offset → a record's value."""
        if self.fence.topic != topic:
            return None
        if self.fence.offset > end:
            return Lost(self.fence.offset, end)
        if self.last is not None and goes_on_at([self.last], start, end, read) is not None:
            return Lost(max(self.fence.offset, self.last.offset + 1), self.last.offset)
        return None


class Lost(NamedTuple):
    position: int
    """Up to which offset had been counted."""
    to: int
    """Records from here on, or from before, are gone or other ones."""


def stood_of(positions: Mapping[bytes, bytes], owners: Mapping[bytes, bytes]) -> dict[int, Stood]:
    """What two of Redis's hashes tell (`NUMBERS.positions`, `OWNERS`)."""
    found: dict[int, Stood] = {}
    for partition, fence in fences_of(positions).items():
        last = None
        with contextlib.suppress(*UNDECODABLE):
            owner = _owner(owners.get(b"%d" % partition, b""))
            last = owner.last if owner.topic == fence.topic else None
        found[partition] = Stood(fence, last)
    return found


@contextlib.contextmanager
def reading(kafka: str) -> Iterator[Callable[[int, int], bytes | None]]:
    """(partition, offset) → the value of a record of `facts`, or None. The function raises TryLater where Kafka doesn't
    answer."""
    with LogReader(kafka) as reader:

        def value(partition: int, offset: int) -> bytes | None:
            try:
                return reader.value(FACTS, partition, offset)
            except StateError as error:
                raise TryLater(1, str(error)) from error

        yield value


def differing_records(kafka: str, records: Mapping[int, Checkpoint]) -> set[int]:
    """Partitions whose log, not to its begin, has another record at that offset, or none. Blocks. Raises TryLater."""
    admin = AdminClient(client_settings(kafka, "reports-completeness"))
    found: set[int] = set()
    with reading(kafka) as value:
        for partition, asked in asked_offsets(admin, FACTS, records, ASK_S).items():
            try:
                start, end = (future.result(ASK_S).offset for future in asked)
            except (KafkaException, TimeoutError) as error:
                raise TryLater(1, f"topic {FACTS} can't be read: {kafka_words(error, kafka)}") from error
            if goes_on_at([records[partition]], start, end, partial(value, partition)) is not None:
                found.add(partition)
    return found


def lacking(kafka: str, partitions: Collection[int], stood: Mapping[int, Stood]) -> dict[int, str]:
    """Partition → what a database that is counted again from the log would lack, for operators; empty: nothing.

    `stood`: as of before the call. Partitions whose log can't be asked now, and those that the topic doesn't have, are
    left out. Blocks for `ASK_S` a few times at most.
    Raises TryLater where Kafka doesn't answer at all, or the topic is gone.
    """
    topic = topic_ids(kafka, (FACTS,))[FACTS]
    histories = InstallationLog(kafka).histories(partitions)
    admin = AdminClient(client_settings(kafka, "reports-completeness"))
    found: dict[int, str] = {}
    with reading(kafka) as value:
        for partition, asked in asked_offsets(admin, FACTS, partitions, ASK_S).items():
            try:
                start, end = (future.result(ASK_S).offset for future in asked)
            except (KafkaException, TimeoutError):
                continue  # its leader is away
            found[partition] = histories[partition].lacks(topic, start)
            if not found[partition] and partition in stood:
                lost = stood[partition].lost(topic, start, end, partial(value, partition))
                found[partition] = LOST_END if lost is not None else ""
    return found


def lacking_of_published(settings: Settings, partitions: Collection[int]) -> dict[int, str]:
    """`lacking` by what Redis says was counted. `settings`: with the installation's id. Raises TryLater where Kafka or
    Redis doesn't answer."""
    try:
        with sync_client(settings.redis, settings.installation, timeout_s=ASK_S / 2) as client:
            stood = stood_of(client.hgetall(NUMBERS.positions), client.hgetall(OWNERS))
    except (RedisError, OSError) as error:
        raise TryLater(
            1, f"how far was counted can't be read: {redis_words(error, settings.redis)}"
        ) from error
    return lacking(settings.kafka, partitions, stood)


def partitions_of(lacks: Mapping[int, str]) -> str:
    """The partitions of which the log lacks something, each with what it is; empty: there are none."""
    return ", ".join(f"{partition} ({lack})" for partition, lack in sorted(lacks.items()) if lack)
