"""Kafka nodes in one cluster, each a process in a folder of its own: killed and started again by tests."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.settings import Settings
from cli.jars import LIST, ensure_jars, maven_repository, pinned_jars
from cli.own_kafka import java_command
from tables.kafka_clients import client_settings
from tests.support.processes import wait_until
from tests.support.stack import free_port

NODES = 3
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.bootstrap.servers={controllers}
listeners=PLAINTEXT://{address}:{port},CONTROLLER://{address}:{controller}
advertised.listeners=PLAINTEXT://{address}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/log
auto.create.topics.enable=true
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor={nodes}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={nodes}
share.coordinator.state.topic.replication.factor={nodes}
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""
"""Clients that make topics by asking for them would get one partition without a copy."""


class Cluster:
    """A context manager that begins with all nodes running."""

    def __init__(
        self, folder: Path, *, nodes: int = NODES, address: str = "127.0.0.1", within: Sequence[str] = ()
    ) -> None:
        """`within` begins the nodes' command lines, where they are on a host of their own (`tests.support.hosts`)."""
        self.folder = folder
        self.nodes = range(nodes)
        self._address = address
        self._within = within
        self.ports = [free_port() for _ in self.nodes]
        self.kafka = ",".join(f"{address}:{port}" for port in self.ports)
        jars = ensure_jars(pinned_jars(LIST.read_text()), maven_repository(), print)
        self._java = [java_command(jars, self._path(node)) for node in self.nodes]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._format()

    def _path(self, node: int) -> Path:
        path = self.folder / f"node{node}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _format(self) -> None:
        controllers = [free_port() for _ in self.nodes]
        ids = [base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode() for _ in range(len(self.nodes) + 1)]
        voters = ",".join(
            f"{node}@{self._address}:{controllers[node]}:A{ids[node][1:]}" for node in self.nodes
        )
        for node in self.nodes:
            properties = self._path(node) / "server.properties"
            properties.write_text(
                PROPERTIES.format(
                    node=node,
                    nodes=len(self.nodes),
                    address=self._address,
                    port=self.ports[node],
                    controller=controllers[node],
                    controllers=",".join(f"{self._address}:{port}" for port in controllers),
                    folder=self._path(node),
                )
            )
            tool = [
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id=A{ids[-1][1:]}",
                "-c",
                str(properties),
            ]
            subprocess.run(
                [*self._java[node], *tool, "--initial-controllers", voters],
                check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            )  # fmt: skip

    def start(self, node: int) -> None:
        with (self._path(node) / "output").open("ab") as output:
            self._processes[node] = subprocess.Popen(
                [*self._within, *self._java[node], "kafka.Kafka", str(self._path(node) / "server.properties")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill(self, node: int) -> None:
        """SIGKILL, and waits for the end."""
        process = self._processes.pop(node)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)

    def wait_for(self, brokers: int) -> None:
        """Until so many brokers are in the cluster."""
        client = AdminClient(client_settings(self.kafka, "test"))

        def are_there() -> bool:
            with contextlib.suppress(KafkaException):
                return len(client.list_topics(timeout=5).brokers) == brokers
            return False

        wait_until(are_there, 90, f"{brokers} brokers")

    def settings(self, **more: object) -> Settings:
        return Settings(kafka=self.kafka, data=self.folder, **more)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        for node in self.nodes:
            self.start(node)
        self.wait_for(len(self.nodes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in list(self._processes):
            self.kill(node)
