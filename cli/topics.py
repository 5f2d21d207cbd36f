"""The topics: made with the settings that the design asks for, and checked at every start.

| topic | partitions | retention |
|---|---|---|
| `webhooks` | 8 | 30 days |
| `facts` | `REPORTS_PARTITIONS` | none |
| `webhooks.dead` | 1 | 90 days |
| `installation` | 1 | none |
| `shares` | 1 | the last record of each link, 400 days (the longest life of a link and some) |

Rules:
- `facts` has as many partitions as the settings say or the start is refused: the partition is part of the state. More
  are let pass while they are empty, since Kafka can't take a partition back: no record ever goes there.
- `webhooks` gets the partitions that it lacks: its producers use all of them, and no record belongs to a certain one.
- The limit on a record's size is raised when `REPORTS_MAX_BODY` was; everything else of a topic that is there already
  is its operator's, and what differs from the design is said (`cli.topic_checks`).
- Safe to call from any number of processes at once, and again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    KafkaError,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from app.errors import StateError, TryLater
from app.settings import PREFIX, Settings
from app.shares import RECORDS_KEPT_MS
from app.topics import DEAD, FACTS, INSTALLATION, RECORD_OVERHEAD, SHARES, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings, kafka_words

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
    client = AdminClient(client_settings(settings.kafka, "reports-topics"))
    deadline = time.monotonic() + timeout_s
    try:
        metadata = _metadata(client, settings.kafka, deadline)
        missing = [topic for topic in topics if topic not in metadata.topics]
        if missing:
            _create(client, settings, missing, min(REPLICAS, len(metadata.brokers)))
        metadata = _wait_for_leaders(client, settings.kafka, topics, deadline)
        if WEBHOOKS in topics and len(metadata.topics[WEBHOOKS].partitions) < WEBHOOKS_PARTITIONS:
            _add_partitions(client)
            metadata = _wait_for_leaders(client, settings.kafka, topics, deadline)
        if FACTS in topics:
            check_partitions(client, settings, metadata)
        old = [topic for topic in topics if topic not in missing]
        if old:
            _raise_record_limits(client, settings, old)
    except KafkaException as error:
        raise TryLater(1, kafka_words(error, settings.kafka)) from None


def _metadata(client: AdminClient, kafka: str, deadline: float) -> ClusterMetadata:
    """The cluster's metadata; asks again until the deadline, since a broker may be just starting."""
    while True:
        try:
            return client.list_topics(timeout=max(0.1, min(REQUEST_TIMEOUT_S, deadline - time.monotonic())))
        except KafkaException as error:
            if time.monotonic() >= deadline:
                raise TryLater(1, f"Kafka at {kafka} does not answer: {kafka_words(error, kafka)}") from None
            time.sleep(0.1)


def _create(client: AdminClient, settings: Settings, topics: list[str], replicas: int) -> None:
    requests = [_new_topic(settings, topic, replicas) for topic in topics]
    asked = client.create_topics(requests, request_timeout=REQUEST_TIMEOUT_S)
    _wait(asked.values(), KafkaError.TOPIC_ALREADY_EXISTS)


def _add_partitions(client: AdminClient) -> None:
    """To topic `webhooks`, that somebody else made: no webhook belongs to a certain one of them."""
    more = [NewPartitions(WEBHOOKS, WEBHOOKS_PARTITIONS)]
    asked = client.create_partitions(more, request_timeout=REQUEST_TIMEOUT_S)
    _wait(asked.values(), KafkaError.INVALID_PARTITIONS)


def _wait(asked: Iterable[Future[None]], done_already: int) -> None:
    """`done_already`: the error that says that another role was quicker."""
    for future in asked:
        try:
            future.result(REQUEST_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != done_already:
                raise


def _new_topic(settings: Settings, topic: str, replicas: int) -> NewTopic:
    config = designed(settings, topic, replicas)
    if topic == FACTS:
        config["compression.type"] = "zstd"
    partitions = {WEBHOOKS: WEBHOOKS_PARTITIONS, FACTS: settings.partitions}.get(topic, 1)
    return NewTopic(topic, num_partitions=partitions, replication_factor=replicas, config=config)


def designed(settings: Settings, topic: str, replicas: int) -> dict[str, str]:
    """What the design asks of a topic's configuration; one that differs is said."""
    own = {
        WEBHOOKS: {"retention.ms": str(30 * DAY_MS)},
        FACTS: {"retention.ms": "-1"},
        DEAD: {"retention.ms": str(90 * DAY_MS)},
        INSTALLATION: {"retention.ms": "-1"},
        SHARES: {"cleanup.policy": "compact,delete", "retention.ms": str(RECORDS_KEPT_MS)},
    }
    # Event times as record times would be refused when in the future, and expire at once when old.
    common = {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(max_record_bytes(settings, topic)),
    }
    if replicas >= REPLICAS:
        # A record is acknowledged once two brokers have it: one may be lost for good.
        common["min.insync.replicas"] = "2"
    return common | own[topic]


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


def check_partitions(client: AdminClient, settings: Settings, metadata: ClusterMetadata) -> int:
    """How many records stand in partitions of `facts` beyond the installation's; they are counted by nobody.

    Raises StateError where the number of partitions is not the installation's.
    """
    found, wanted = len(metadata.topics[FACTS].partitions), settings.partitions
    if found == wanted:
        return 0
    beyond = _records(client, range(wanted, found))
    if found > wanted and not beyond:
        return 0
    installation = InstallationLog(settings.kafka).read() if INSTALLATION in metadata.topics else None
    of_installation = installation is not None and installation.identity.partitions == wanted
    if found > wanted and of_installation:
        return beyond
    differs = f"{PREFIX}PARTITIONS is {wanted}, but the topic {FACTS} was made with {found} partitions"
    if found > wanted:
        raise StateError(f"{differs}, and the further ones have records: set {PREFIX}PARTITIONS={found}")
    more = (
        f"kafka-topics.sh --bootstrap-server {settings.kafka} --alter --topic {FACTS} --partitions {wanted}"
    )
    if of_installation:
        raise StateError(
            f"{differs}. The installation has {wanted}, so somebody else made the topic again: add the others with "
            f"`{more}`; then each partition says what is lost and how to go on"
        )
    raise StateError(
        f"{differs}: set {PREFIX}PARTITIONS={found}; or, where nothing was counted yet, add the others with `{more}`"
    )


def _records(client: AdminClient, partitions: Iterable[int]) -> int:
    """How many records of `facts` these partitions have ever had."""
    latest: Any = OffsetSpec  # its constructors have no annotations
    wanted = {TopicPartition(FACTS, partition): latest.latest() for partition in partitions}
    if not wanted:
        return 0
    found = client.list_offsets(wanted, request_timeout=REQUEST_TIMEOUT_S)
    return sum(int(future.result(REQUEST_TIMEOUT_S).offset) for future in found.values())


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
