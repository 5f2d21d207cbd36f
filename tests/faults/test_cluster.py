"""Two hosts with folders of their own on three brokers, which are killed in turn; topics there are checked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from app.topics import FACTS
from cli.topic_checks import differences
from cli.topics import TOPICS, ensure_topics
from tables.kafka_clients import client_settings
from tests.faults.chaos import start_load
from tests.support.cluster import NODES, Cluster
from tests.support.processes import wait_until
from tests.support.stack import Stack

pytestmark = pytest.mark.long
EVENTS = 30_000
RATE = 150
EVENT: dict[str, object] = {
    "type": "sent",
    "campaign": "x",
    "recipient": "a@example.com",
    "at": 1_790_000_000_000,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def set_config(cluster: Cluster, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = AdminClient(client_settings(cluster.kafka, "test"))
    for future in client.incremental_alter_configs([resource]).values():
        future.result(10)


def test_topics_have_copies_and_what_differs_is_said(cluster: Cluster) -> None:
    settings = cluster.settings(partitions=4)
    ensure_topics(settings)
    assert differences(settings) == []
    found = AdminClient(client_settings(cluster.kafka, "test")).list_topics(timeout=10).topics
    assert {len(part.replicas) for topic in TOPICS for part in found[topic].partitions.values()} == {NODES}
    set_config(cluster, FACTS, "min.insync.replicas", "1")
    (said,) = wait_until(lambda: differences(settings), 10, "a broker knows of the change")
    advice = re.search(r"--entity-name (\S+) --add-config ([a-z.]+)=(\S+?)`", said.line)
    assert advice is not None, said
    assert advice.groups() == (FACTS, "min.insync.replicas", "2")
    set_config(cluster, *advice.groups())
    wait_until(lambda: differences(settings) == [], 10, "as designed again")


def test_each_broker_is_killed_once_and_two_at_a_time(cluster: Cluster, tmp_path: Path) -> None:
    with Stack(tmp_path, PARTITIONS="4", KAFKA=cluster.kafka) as first:
        first.environ["REPORTS_KAFKA"] = first.kafka = cluster.kafka
        first.start("redis")
        first.wait_for_port(first.redis_port)
        first.start("api")
        first.start("normalize")
        first.start("run", "aggregate")
        first.start("query")
        first.wait_ready(90)
        with first.beside("second") as second:
            second.data.mkdir()
            shutil.copy(first.data / "secret", second.data / "secret")
            shutil.copytree(first.data / "keys", second.data / "keys")
            for role in ("api", "normalize", "query"):
                second.start(role)
            second.start("run", "aggregate")
            second.wait_ready(90)
            ledger = tmp_path / "ledger"
            loading = start_load(first, ledger, 3, EVENTS, RATE)
            for node in range(NODES):
                before = accepted(ledger)
                cluster.kill(node)
                wait_until(lambda before=before: accepted(ledger) > before + 2, 120, "taken by the others")  # type: ignore[misc]
                cluster.start(node)
                cluster.wait_for(NODES)
            # Fewer than two copies: nothing is taken, and nothing lost.
            cluster.kill(0)
            cluster.kill(1)
            first.wait_for(lambda: first.post_events([EVENT], again_s=0).status_code == 503, 60, "refused")
            cluster.start(0)
            cluster.start(1)
            cluster.wait_for(NODES)
            assert loading.wait(300) == 0
            keep_alive(first, second)
            first.assert_verified(ledger, timeout_s=300)


def keep_alive(*hosts: Stack) -> None:
    """As their parent does: what has ended is started again."""
    for host in hosts:
        for name in ("api", "normalize", "run", "query"):
            if not host.is_alive(name):
                host.start(name, *(["aggregate"] if name == "run" else []))


def accepted(ledger: Path) -> int:
    """Requests that were answered 200 so far."""
    return ledger.read_bytes().count(b'"status":200') if ledger.exists() else 0
