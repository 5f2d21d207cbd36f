"""The topics: made with the settings that the design asks for, and checked at every start.

| topic | partitions | retention |
|---|---|---|
| `webhooks` | 8 | 30 days |
| `facts` | `REPORTS_PARTITIONS` | none |
| `webhooks.dead` | 1 | 90 days |
| `installation` | 1 | none |
| `shares` | 1 | the last record of each link, 400 days (the longest life of a link and some) |

Rules:
- `facts` has as many partitions as the settings say or the start is refused: the partition is part of the state.
- The limit on a record's size is raised when `REPORTS_MAX_BODY` was; everything else of a topic that is there already
  is its operator's.
- Safe to call from any number of processes at once, and again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    KafkaError,
    NewTopic,
    ResourceType,
)

from app.errors import StateError, TryLater
from app.settings import PREFIX, Settings
from app.shares import RECORDS_KEPT_MS
from app.topics import DEAD, FACTS, INSTALLATION, RECORD_OVERHEAD, SHARES, WEBHOOKS, WEBHOOKS_PARTITIONS

TOPICS = (WEBHOOKS, FACTS, DEAD, SHARES, INSTALLATION)
REPLICAS = 3
DAY_MS = 24 * 60 * 60 * 1000
REQUEST_TIMEOUT_S = 10.0


def max_record_bytes(settings: Settings, topic: str) -> int:
    """`max.message.bytes` of a topic; producers and consumers must allow as much.

    A dead letter has the webhook's headers and beside them as much again for why it is there and where it came from.
    """
    return settings.max_body + RECORD_OVERHEAD * (2 if topic == DEAD else 1)


def ensure_topics(settings: Settings, timeout_s: float = 30.0, topics: Sequence[str] = TOPICS) -> None:
    """Make what is missing of these topics and wait until every partition has a leader.

    Raises StateError where `facts` has another number of partitions, TryLater where Kafka doesn't answer or refuses.
    """
    client = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 2, "client.id": "reports-topics"})
    deadline = time.monotonic() + timeout_s
    try:
        metadata = _metadata(client, settings.kafka, deadline)
        missing = [topic for topic in topics if topic not in metadata.topics]
        if missing:
            _create(client, settings, missing, min(REPLICAS, len(metadata.brokers)))
        metadata = _wait_for_leaders(client, settings.kafka, topics, deadline)
        partitions = len(metadata.topics[FACTS].partitions) if FACTS in topics else settings.partitions
        if partitions != settings.partitions:
            raise StateError(
                f"{PREFIX}PARTITIONS is {settings.partitions}, but the topic {FACTS} was made with {partitions} "
                f"partitions: set {PREFIX}PARTITIONS={partitions}"
            )
        old = [topic for topic in topics if topic not in missing]
        if old:
            _raise_record_limits(client, settings, old)
    except KafkaException as error:
        raise TryLater(1, f"Kafka at {settings.kafka} refuses: {_reason(error)}") from None


def _metadata(client: AdminClient, kafka: str, deadline: float) -> ClusterMetadata:
    """The cluster's metadata; asks again until the deadline, since a broker may be just starting."""
    while True:
        try:
            return client.list_topics(timeout=max(0.1, min(REQUEST_TIMEOUT_S, deadline - time.monotonic())))
        except KafkaException as error:
            if time.monotonic() >= deadline:
                raise TryLater(1, f"Kafka at {kafka} does not answer: {_reason(error)}") from None
            time.sleep(0.1)


def _create(client: AdminClient, settings: Settings, topics: list[str], replicas: int) -> None:
    requests = [_new_topic(settings, topic, replicas) for topic in topics]
    for future in client.create_topics(requests, request_timeout=REQUEST_TIMEOUT_S).values():
        try:
            future.result(REQUEST_TIMEOUT_S)
        except KafkaException as error:
            # Another role was quicker.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _new_topic(settings: Settings, topic: str, replicas: int) -> NewTopic:
    # Event times as record times would be refused when in the future, and expire at once when old.
    config = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(max_record_bytes(settings, topic)),
    }
    per_topic = {
        WEBHOOKS: (WEBHOOKS_PARTITIONS, {"retention.ms": str(30 * DAY_MS)}),
        FACTS: (
            settings.partitions,
            {"retention.ms": "-1", "retention.bytes": "-1", "compression.type": "zstd"},
        ),
        DEAD: (1, {"retention.ms": str(90 * DAY_MS)}),
        INSTALLATION: (1, {"retention.ms": "-1", "retention.bytes": "-1"}),
        SHARES: (1, {"cleanup.policy": "compact,delete", "retention.ms": str(RECORDS_KEPT_MS)}),
    }
    partitions, own = per_topic[topic]
    return NewTopic(topic, num_partitions=partitions, replication_factor=replicas, config=config | own)


def _wait_for_leaders(
    client: AdminClient, kafka: str, topics: Sequence[str], deadline: float
) -> ClusterMetadata:
    while True:
        metadata = _metadata(client, kafka, deadline)
        found = [metadata.topics.get(topic) for topic in topics]
        if all(
            topic
            and topic.partitions
            and all(partition.leader >= 0 for partition in topic.partitions.values())
            for topic in found
        ):
            return metadata
        if time.monotonic() >= deadline:
            raise TryLater(1, f"Kafka at {kafka}: some partitions have no leader")
        time.sleep(0.05)


def _raise_record_limits(client: AdminClient, settings: Settings, topics: list[str]) -> None:
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    wanted = []
    for resource, future in client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S).items():
        limit = max_record_bytes(settings, resource.name)
        entry = future.result(REQUEST_TIMEOUT_S)["max.message.bytes"]
        if entry.value is not None and int(entry.value) < limit:
            change = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
            wanted.append(ConfigResource(ResourceType.TOPIC, resource.name, incremental_configs=[change]))
    if wanted:
        for future in client.incremental_alter_configs(wanted, request_timeout=REQUEST_TIMEOUT_S).values():
            future.result(REQUEST_TIMEOUT_S)


def _reason(error: KafkaException) -> str:
    cause = error.args[0] if error.args else error
    return str(cause.str()) if isinstance(cause, KafkaError) else str(cause)
