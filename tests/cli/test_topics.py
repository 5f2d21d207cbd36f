from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from app.errors import StateError, TryLater
from app.settings import Settings
from app.topics import DEAD, FACTS, INSTALLATION, SHARES, WEBHOOKS
from cli.topics import TOPICS, ensure_topics
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until

DAY_MS = 86_400_000


def configs(kafka: str) -> dict[str, dict[str, str | None]]:
    client = AdminClient({"bootstrap.servers": kafka, "log_level": 2})
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in TOPICS]
    found = client.describe_configs(resources, request_timeout=10)
    return {
        resource.name: {name: entry.value for name, entry in future.result(10).items()}
        for resource, future in found.items()
    }


def partitions(kafka: str) -> dict[str, int]:
    topics = AdminClient({"bootstrap.servers": kafka, "log_level": 2}).list_topics(timeout=10).topics
    return {name: len(topics[name].partitions) for name in TOPICS}


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    delete_topics(kafka)
    return Settings(kafka=kafka, data=tmp_path, partitions=4)


def test_they_are_made_as_designed_and_again_is_nothing(settings: Settings) -> None:
    ensure_topics(settings)
    ensure_topics(settings)
    assert partitions(settings.kafka) == {WEBHOOKS: 8, FACTS: 4, DEAD: 1, SHARES: 1, INSTALLATION: 1}
    found = configs(settings.kafka)
    for name, topic in found.items():
        assert topic["cleanup.policy"] == ("compact,delete" if name == SHARES else "delete")
        assert topic["message.timestamp.type"] == "LogAppendTime"
    assert {name: topic["retention.ms"] for name, topic in found.items()} == {
        WEBHOOKS: str(30 * DAY_MS),
        FACTS: "-1",
        DEAD: str(90 * DAY_MS),
        INSTALLATION: "-1",
        SHARES: str(400 * DAY_MS),
    }
    assert found[FACTS]["compression.type"] == "zstd"
    assert found[WEBHOOKS]["max.message.bytes"] == str(settings.max_body + 65_536)


def test_another_number_of_partitions_is_refused(settings: Settings) -> None:
    ensure_topics(settings)
    with pytest.raises(StateError, match=r"REPORTS_PARTITIONS is 5, but .* with 4 partitions"):
        ensure_topics(msgspec.structs.replace(settings, partitions=5))
    assert partitions(settings.kafka)[FACTS] == 4


def test_webhooks_that_somebody_made_with_too_few_partitions_gets_the_others(settings: Settings) -> None:
    client = AdminClient({"bootstrap.servers": settings.kafka, "log_level": 2})
    for made in client.create_topics([NewTopic(WEBHOOKS, 3, 1)]).values():
        made.result(10)
    ensure_topics(settings)
    assert partitions(settings.kafka)[WEBHOOKS] == 8


def test_a_larger_body_raises_the_limit_and_a_smaller_one_leaves_it(settings: Settings) -> None:
    ensure_topics(settings)
    larger = msgspec.structs.replace(settings, max_body=settings.max_body * 2)
    ensure_topics(larger)
    limit = str(larger.max_body + 65_536)
    # The controller has taken it; the broker says so a moment later.
    wait_until(lambda: configs(settings.kafka)[WEBHOOKS]["max.message.bytes"] == limit, 10, "the new limit")
    ensure_topics(settings)
    found = configs(settings.kafka)[WEBHOOKS]
    assert found["max.message.bytes"] == limit
    assert found["retention.ms"] == str(30 * DAY_MS), "the other settings stay"


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match=r"Kafka at 127\.0\.0\.1:9 does not answer"):
        ensure_topics(Settings(kafka="127.0.0.1:9", data=tmp_path), timeout_s=1)
