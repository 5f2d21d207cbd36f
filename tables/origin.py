"""Whose is a cluster that has no identity yet? What its facts and a host's databases say (`app.identity`).

All calls block, each with a bound, and raise TryLater where Kafka doesn't answer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from app.errors import UNDECODABLE, TryLater
from app.facts import FactsRecord, decode_record
from app.identity import Databases, yields_key
from app.topics import FACTS, WEBHOOKS
from tables import layout
from tables.installation import ASK_S, log_ends, reading_consumer
from tables.kafka_clients import client_settings, kafka_words
from tables.layout import Meta

SAMPLED_PARTITIONS: Final = 8
SAMPLED_RECORDS: Final = 200
"""At each end of a partition: the first ones and the last ones may be of different hosts."""
SAMPLED_ENTRIES: Final = 20
"""Of a record, so that a large one has no louder voice."""

_meta_decoder: msgspec.msgpack.Decoder[Meta] = msgspec.msgpack.Decoder(Meta)


def topic_ids(kafka: str, topics: Collection[str]) -> dict[str, str]:
    """Topic → Kafka's id: one made anew under the same name has another."""
    admin = AdminClient(client_settings(kafka, "reports-installation"))
    try:
        asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=ASK_S)
        return {topic: str(future.result(ASK_S).topic_id) for topic, future in asked.items()}
    except (KafkaException, TimeoutError) as error:
        raise TryLater(
            1, f"topic {' or '.join(topics)} can't be read: {kafka_words(error, kafka)}"
        ) from error


def databases_in(folders: Iterable[Path], secret: str | None, topic_id: str) -> Databases:
    """What the partition databases in these folders say; one that can't be read says nothing."""
    said = Databases.NONE
    for path in sorted({path for folder in folders for path in folder.glob("p[0-9]*")}):
        meta = _meta_of(path)
        if meta is None:
            continue
        if meta.secret != secret:
            return Databases.OTHER_SECRET
        if meta.topic_id == topic_id:
            said = Databases.MATCH
        elif said is Databases.NONE:
            said = Databases.OTHER_TOPIC
    return said


def _meta_of(path: Path) -> Meta | None:
    if not (path / "CURRENT").exists():
        return None
    with tempfile.TemporaryDirectory(prefix="campaign-reports-reader-") as own_files:
        try:
            database = layout.open_database(path, secondary=Path(own_files))
        except Exception:  # noqa: BLE001  # RocksDB's errors are bare Exceptions; who counts says what is wrong with it
            return None
        try:
            stored = database.get(layout.META)
            return _meta_decoder.decode(stored) if stored is not None else None
        except UNDECODABLE:
            return None
        finally:
            database.close()


class StoredFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into topic `facts` found."""

    any: bool
    ours: int = 0
    foreign: int = 0


def look_at_facts(kafka: str, secret: bytes | None) -> StoredFacts:
    """Whether there are facts and, of those at both ends of some partitions, whose keys `secret` yields."""
    consumer = reading_consumer(kafka)
    try:
        partitions = sorted(consumer.list_topics(FACTS, timeout=ASK_S).topics[FACTS].partitions)
        ends = {partition: log_ends(consumer, TopicPartition(FACTS, partition)) for partition in partitions}
        filled = {partition: (low, high) for partition, (low, high) in ends.items() if high > low}
        ours = foreign = 0
        if secret is not None:
            for partition, (low, high) in islice(filled.items(), SAMPLED_PARTITIONS):
                later = max(low + SAMPLED_RECORDS, high - SAMPLED_RECORDS)
                for start, end in ((low, min(high, low + SAMPLED_RECORDS)), (later, high)):
                    for value in _records(consumer, kafka, partition, start, end):
                        for one in _votes(value, secret):
                            ours, foreign = ours + one, foreign + (not one)
        # An empty partition with a begin above 0 held facts that retention or a command took.
        known = any(high > 0 for _, high in ends.values())
        return StoredFacts(any=known, ours=ours, foreign=foreign)
    except KafkaException as error:
        raise TryLater(1, f"topic {FACTS} can't be read: {kafka_words(error, kafka)}") from error
    finally:
        consumer.close()


def records_before(kafka: str, at_ms: int) -> bool:
    """Whether `facts` or `webhooks` hold records from before this time. Facts that were removed may have been older;
    webhooks that were removed are no sign, since age removes them."""
    consumer = reading_consumer(kafka)
    try:
        for topic in (FACTS, WEBHOOKS):
            for partition in sorted(consumer.list_topics(topic, timeout=ASK_S).topics[topic].partitions):
                low, high = log_ends(consumer, TopicPartition(topic, partition))
                if topic == FACTS and low > 0:
                    return True
                (found,) = consumer.offsets_for_times(
                    [TopicPartition(topic, partition, at_ms)], timeout=ASK_S
                )
                # A negative offset: no record is as new.
                if high > low and not 0 <= found.offset <= low:
                    return True
        return False
    except KafkaException as error:
        raise TryLater(1, kafka_words(error, kafka)) from error
    finally:
        consumer.close()


def _records(consumer: Consumer, kafka: str, partition: int, start: int, end: int) -> list[bytes]:
    """Values of the records from `start` up to `end`."""
    values: list[bytes] = []
    if start >= end:
        return values
    consumer.assign([TopicPartition(FACTS, partition, start)])
    heard_at = time.monotonic()
    while True:
        for message in consumer.consume(SAMPLED_RECORDS, 0.1):
            if message.error() is None:
                heard_at = time.monotonic()
                if (message.offset() or 0) < end:
                    values.append(message.value() or b"")
                if (message.offset() or 0) >= end - 1:
                    consumer.unassign()
                    return values
        if time.monotonic() - heard_at > ASK_S:
            raise TryLater(1, f"Kafka at {kafka} doesn't give the records of topic {FACTS}")


def _votes(value: bytes, secret: bytes) -> list[bool]:
    try:
        record = decode_record(value)
    except UNDECODABLE:
        return []
    if not isinstance(record, FactsRecord):
        return []
    told = (yields_key(secret, record, entry) for entry in record.entries[:SAMPLED_ENTRIES])
    return [one for one in told if one is not None]
