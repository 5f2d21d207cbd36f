"""What of the topics differs from the design: said in one line each, with the command that mends it.

A topic that was made by somebody else, or changed since, may lose records before they are counted, or refuse bodies.
Nothing is changed here: it is the cluster's operator who does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, ResourceType, TopicMetadata

from app.errors import TryLater
from app.settings import Settings
from app.topics import FACTS, WEBHOOKS, WEBHOOKS_PARTITIONS
from cli.topics import REPLICAS, REQUEST_TIMEOUT_S, TOPICS, check_partitions, designed
from tables.kafka_clients import client_settings, kafka_words

RETENTION: Final = "topic_retention"
SETTINGS: Final = "topic_settings"

_LOSES: Final = ("retention.ms", "retention.bytes", "cleanup.policy")
"""What removes records."""
_AT_LEAST: Final = ("retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")
"""More than the design asks for is as good."""


class Difference(NamedTuple):
    code: str
    """The condition's."""
    line: str


def differences(settings: Settings) -> list[Difference]:
    """Of all topics that are there. Raises TryLater where Kafka doesn't answer."""
    client = AdminClient(client_settings(settings.kafka, "reports-topics"))
    try:
        metadata = client.list_topics(timeout=REQUEST_TIMEOUT_S)
        there = [topic for topic in TOPICS if topic in metadata.topics]
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in there]
        asked = client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        configs = {
            resource.name: {name: entry.value for name, entry in future.result(REQUEST_TIMEOUT_S).items()}
            for resource, future in asked.items()
        }
        found: list[Difference] = []
        for topic in there:
            found += differences_of(
                settings, topic, metadata.topics[topic], configs[topic], len(metadata.brokers)
            )
        return found + _beyond(client, settings, metadata)
    except (KafkaException, TimeoutError) as error:
        raise TryLater(1, kafka_words(error, settings.kafka)) from None


def differences_of(
    settings: Settings, topic: str, found: TopicMetadata, config: Mapping[str, str | None], brokers: int
) -> list[Difference]:
    """Of one topic: its metadata and its configuration as they are."""
    lines: list[Difference] = []
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    wanted = designed(settings, topic, min(replicas, brokers))
    wrong = {name: value for name, value in wanted.items() if not _serves(name, config.get(name), value)}
    for code, names in (
        (RETENTION, [name for name in wrong if name in _LOSES]),
        (SETTINGS, [name for name in wrong if name not in _LOSES]),
    ):
        if names:
            has = ", ".join(f"{name}={config.get(name)}" for name in names)
            # Commas within a value need brackets there.
            values = {name: f"[{wrong[name]}]" if "," in wrong[name] else wrong[name] for name in names}
            changes = ",".join(f"{name}={value}" for name, value in values.items())
            loses = " (records are removed before their time)" if code == RETENTION else ""
            lines.append(
                Difference(
                    code,
                    f"topic {topic} has {has}{loses}: run `kafka-configs.sh --bootstrap-server {settings.kafka} "
                    f"--alter --entity-type topics --entity-name {topic} --add-config {changes}`",
                )
            )
    if replicas < min(REPLICAS, brokers):
        lines.append(
            Difference(
                SETTINGS,
                f"topic {topic} has {replicas} replica{'s' if replicas > 1 else ''} on {brokers} brokers: raise it to "
                f"{REPLICAS} with `kafka-reassign-partitions.sh`, or a lost broker loses records",
            )
        )
    if topic == WEBHOOKS and len(found.partitions) > WEBHOOKS_PARTITIONS:
        lines.append(
            Difference(
                SETTINGS,
                f"topic {topic} has {len(found.partitions)} partitions, and {WEBHOOKS_PARTITIONS} are used: the others "
                "do no harm as long as nobody else writes into them (Kafka can't take partitions away)",
            )
        )
    if topic == WEBHOOKS and len(found.partitions) < WEBHOOKS_PARTITIONS:
        lines.append(
            Difference(
                SETTINGS,
                f"topic {topic} has {len(found.partitions)} partitions: run `kafka-topics.sh --bootstrap-server "
                f"{settings.kafka} --alter --topic {topic} --partitions {WEBHOOKS_PARTITIONS}`",
            )
        )
    return lines


def _beyond(client: AdminClient, settings: Settings, metadata: ClusterMetadata) -> list[Difference]:
    if FACTS not in metadata.topics or len(metadata.topics[FACTS].partitions) <= settings.partitions:
        return []
    records = check_partitions(client, settings, metadata)
    has = len(metadata.topics[FACTS].partitions)
    line = f"topic {FACTS} has {has} partitions, and the installation {settings.partitions}: the others are not used"
    if records:
        line += f", and {records} records that somebody else put there are not counted"
    else:
        line += ", which does no harm"
    return [Difference(SETTINGS, line)]


def _serves(name: str, value: str | None, wanted: str) -> bool:
    """Whether a setting's value is what the design asks for, or as good."""
    if value is None or value == wanted:
        return value == wanted
    if name == "cleanup.policy":
        return set(value.split(",")) == set(wanted.split(","))
    if name not in _AT_LEAST:
        return False
    try:
        has, least = int(value), int(wanted)
    except ValueError:
        return False
    if name.startswith("retention"):
        return has < 0 or (least >= 0 and has >= least)
    return has >= least
