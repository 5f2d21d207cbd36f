"""Topics that an installation needs and that Kafka doesn't have, or not with all their partitions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.topics import DEAD, FACTS, INSTALLATION, SHARES, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.kafka_clients import client_settings, kafka_words

ASK_S: Final = 2.0
WAY_OUT: Final = (
    "Every role makes what is missing when it starts, and a running normalize starts again for that: see that one "
    "runs, and what its log says"
)
BESIDE: Final = {SHARES: 1, INSTALLATION: 1}
"""The same of those without which webhooks are taken and counted all the same."""


def needed(partitions: int = 1) -> dict[str, int]:
    """Topic → how many partitions webhooks need on their way; `partitions`: of `facts`."""
    return {WEBHOOKS: WEBHOOKS_PARTITIONS, FACTS: partitions, DEAD: 1}


def partitions_there(admin: AdminClient, timeout_s: float) -> dict[str, int]:
    """Topic → how many partitions it has, of all that are there. Blocks; raises KafkaException."""
    return {
        name: len(topic.partitions) for name, topic in admin.list_topics(timeout=timeout_s).topics.items()
    }


def kafka_trouble(error: KafkaException, kafka: str, partitions: int) -> str:
    """What an error of Kafka means, for operators: which topics are not there, where that is why. Blocks."""
    with contextlib.suppress(KafkaException):
        there = partitions_there(AdminClient(client_settings(kafka, "reports-topics")), ASK_S)
        if absent := missing(there, needed(partitions)):
            return f"Kafka at {kafka}: {absent}. {WAY_OUT}"
    return kafka_words(error, kafka)


def missing(there: Mapping[str, int], wanted: Mapping[str, int]) -> str:
    """What is missing, in words; empty where nothing is."""
    return "; ".join(
        f"topic {topic} has {there[topic]} of {count} partitions"
        if topic in there
        else f"topic {topic} is not there"
        for topic, count in wanted.items()
        if there.get(topic, 0) < count
    )
