"""What of the topics differs from the design is said, and the command that is named mends it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from agents.topic_watch import watch_topics
from app.errors import StateError, TryLater
from app.installation import Identity
from app.settings import Settings
from app.topics import FACTS, INSTALLATION, WEBHOOKS
from cli.topic_checks import RETENTION, SETTINGS, Difference, differences, differences_of
from cli.topics import ensure_topics
from tables.conditions import Conditions
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    delete_topics(kafka)
    return Settings(kafka=kafka, data=tmp_path, partitions=4)


def admin(settings: Settings) -> AdminClient:
    return AdminClient(client_settings(settings.kafka, "test"))


def change(settings: Settings, topic: str, **values: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client = admin(settings)  # its answers end with it
    for future in client.incremental_alter_configs([resource]).values():
        future.result(10)


def follow(settings: Settings, line: str) -> None:
    """Does what the named kafka-configs command would do."""
    found = re.search(
        r"`kafka-configs\.sh --bootstrap-server \S+ --alter .*--entity-name (\S+) --add-config (\S+)`", line
    )
    assert found is not None, line
    values = dict(re.findall(r"([a-z.]+)=(\[[^]]*\]|[^,]*)", found[2]))
    change(
        settings, found[1], **{name.replace(".", "_"): value.strip("[]") for name, value in values.items()}
    )


def told(settings: Settings) -> list[Difference]:
    """The differences; a broker knows of a change, and leads new partitions, a moment after it was answered."""
    found: list[Difference] = []

    def are_known() -> bool:
        with contextlib.suppress(TryLater):
            found[:] = differences(settings)
        return found != []

    wait_until(are_known, 30, "the broker knows of the change")
    return found


def test_topics_as_they_are_made_are_as_designed(settings: Settings) -> None:
    ensure_topics(settings)
    assert differences(settings) == []


@pytest.mark.parametrize(
    ("topic", "values", "code"),
    [
        (FACTS, {"retention_ms": "604800000"}, RETENTION),
        (FACTS, {"retention_bytes": "1000000"}, RETENTION),
        (FACTS, {"cleanup_policy": "compact"}, RETENTION),
        (WEBHOOKS, {"retention_ms": "3600000"}, RETENTION),
        (WEBHOOKS, {"message_timestamp_type": "CreateTime"}, SETTINGS),
        ("shares", {"cleanup_policy": "delete"}, RETENTION),
        (INSTALLATION, {"retention_ms": "1000"}, RETENTION),
        (WEBHOOKS, {"max_message_bytes": "1000"}, SETTINGS),
    ],
)
def test_a_changed_topic_is_said_and_mended_by_the_command(
    settings: Settings, topic: str, values: dict[str, str], code: str
) -> None:
    ensure_topics(settings)
    change(settings, topic, **values)
    (found,) = told(settings)
    assert found.code == code
    assert found.line.startswith(f"topic {topic} has ")
    follow(settings, found.line)
    wait_until(lambda: differences(settings) == [], 10, "the broker knows of the change")


def test_more_than_the_design_asks_for_is_as_good(settings: Settings) -> None:
    ensure_topics(settings)
    change(settings, WEBHOOKS, retention_ms="-1", max_message_bytes="99999999")
    assert differences(settings) == []


def topic_of(partitions: int, replicas: int) -> Any:
    one = SimpleNamespace(replicas=list(range(replicas)))
    return SimpleNamespace(partitions=dict.fromkeys(range(partitions), one))


def test_replicas_and_what_must_be_in_sync() -> None:
    """Of three brokers; a single node can't show it."""
    settings = Settings(kafka="k:1")
    designed = {
        "cleanup.policy": "delete", "retention.bytes": "-1", "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime", "max.message.bytes": "99999999", "min.insync.replicas": "1",
    }  # fmt: skip
    (line,) = differences_of(settings, FACTS, topic_of(8, 3), designed, 3)
    assert "min.insync.replicas=1: run" in line.line
    assert "--add-config min.insync.replicas=2`" in line.line
    (line,) = differences_of(settings, FACTS, topic_of(8, 1), designed, 3)
    assert "has 1 replica on 3 brokers" in line.line
    assert differences_of(settings, FACTS, topic_of(8, 1), designed, 1) == []
    (line,) = differences_of(settings, WEBHOOKS, topic_of(1, 1), designed | {"retention.ms": "-1"}, 1)
    assert "--alter --topic webhooks --partitions 8`" in line.line
    (line,) = differences_of(settings, WEBHOOKS, topic_of(12, 1), designed | {"retention.ms": "-1"}, 1)
    assert line.code == SETTINGS and "has 12 partitions, and 8 are used" in line.line


# Partitions of `facts`


def grow(settings: Settings, partitions: int) -> None:
    client = admin(settings)  # its answers end with it
    for future in client.create_partitions([NewPartitions(FACTS, partitions)]).values():
        future.result(10)


def test_more_partitions_are_let_pass_while_they_are_empty(settings: Settings) -> None:
    """Row 18: "set 12", then "set 8" was a circle; Kafka can't take a partition back."""
    ensure_topics(settings)
    grow(settings, 6)
    ensure_topics(settings)
    (found,) = told(settings)
    assert found == Difference(
        SETTINGS,
        "topic facts has 6 partitions, and the installation 4: the others are not used, which does no harm",
    )
    put(settings, 5)
    with pytest.raises(StateError, match="further ones have records: set REPORTS_PARTITIONS=6"):
        ensure_topics(settings)
    ensure_topics(msgspec.structs.replace(settings, partitions=6))


def test_an_installation_keeps_its_number_whatever_became_of_the_topic(settings: Settings) -> None:
    ensure_topics(settings)
    InstallationLog(settings.kafka).append(Identity(id="x", secret="s", partitions=4, at_ms=1))
    grow(settings, 6)
    put(settings, 5)
    ensure_topics(settings)
    (found,) = told(settings)
    assert "and 1 records that somebody else put there are not counted" in found.line


def test_a_topic_that_somebody_made_again_with_too_few(settings: Settings) -> None:
    """As a client does with the broker's defaults. Following the advice gives the installation its partitions back."""
    ensure_topics(settings)
    InstallationLog(settings.kafka).append(Identity(id="x", secret="s", partitions=4, at_ms=1))
    delete_topics(settings.kafka, (FACTS,))
    client = admin(settings)  # its answers end with it
    for future in client.create_topics([NewTopic(FACTS, 1, 1)]).values():
        future.result(10)
    with pytest.raises(
        StateError, match=r"somebody else made the topic again: .*--topic facts --partitions 4`"
    ):
        ensure_topics(settings)
    grow(settings, 4)
    ensure_topics(settings)


def put(settings: Settings, partition: int) -> None:
    producer = Producer(client_settings(settings.kafka, "test"))
    producer.produce(FACTS, b"x", partition=partition)
    assert producer.flush(10) == 0


# As conditions


async def test_they_are_conditions_while_they_hold() -> None:
    answers: list[Any] = [
        [(RETENTION, "a"), (RETENTION, "b"), (SETTINGS, "c")],
        TryLater(1, "Kafka is away"),
        [(SETTINGS, "d")],
        [],
    ]
    conditions, seen = Conditions(), []

    def check() -> Any:
        seen.append({one.code: one.message for one in conditions.current()})
        if not answers:
            raise asyncio.CancelledError
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(asyncio.CancelledError):
        await watch_topics(cast(Any, check), conditions, every_s=0.0)
    assert seen == [
        {},
        {RETENTION: "a; b", SETTINGS: "c"},
        {RETENTION: "a; b", SETTINGS: "c"},
        {SETTINGS: "d"},
        {},
    ]
