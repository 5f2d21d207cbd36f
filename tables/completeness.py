"""Whether topic `facts` still has all that was counted of it. What it no longer has, only the databases have.

That is asked before anybody is told to remove a database (`tables.broken.removal`), by `reports rebuild --from-log`,
and now and then by each worker, for its condition `log_incomplete`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from confluent_kafka import KafkaException, TopicPartition

from app.errors import TryLater
from app.topics import FACTS
from tables.installation import ASK_S, InstallationLog, log_ends, reading_consumer
from tables.kafka_clients import kafka_words
from tables.origin import topic_ids


def lacking(kafka: str, partitions: Collection[int]) -> dict[int, str]:
    """Partition → what a database that is counted again from the log would lack, for operators; empty: nothing.

    Partitions whose log can't be asked now, and those that the topic doesn't have, are left out. Blocks.
    Raises TryLater where Kafka doesn't answer at all, or the topic is gone.
    """
    topic = topic_ids(kafka, (FACTS,))[FACTS]
    histories = InstallationLog(kafka).histories(partitions)
    consumer = reading_consumer(kafka)
    found: dict[int, str] = {}
    try:
        there = consumer.list_topics(FACTS, timeout=ASK_S).topics[FACTS].partitions
        for partition in set(partitions) & there.keys():
            with contextlib.suppress(KafkaException):  # its leader is away
                begin, _ = log_ends(consumer, TopicPartition(FACTS, partition))
                found[partition] = histories[partition].lacks(topic, begin)
        return found
    except KafkaException as error:
        raise TryLater(1, f"topic {FACTS} can't be read: {kafka_words(error, kafka)}") from error
    finally:
        consumer.close()


def partitions_of(lacks: dict[int, str]) -> str:
    """The partitions of which the log lacks something, each with what it is; empty: there are none."""
    return ", ".join(f"{partition} ({lack})" for partition, lack in sorted(lacks.items()) if lack)
