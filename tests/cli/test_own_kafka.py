from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from app.errors import ConfigError, StateError
from app.settings import Settings
from cli import own_server
from cli.addresses import read_address, wait_for_addresses
from cli.jars import LIST, Jar, ensure_jars, maven_repository, pinned_jars
from cli.own_kafka import start
from cli.topics import ensure_topics
from tests.support.processes import alive, children, end, environment, reports, wait_until


def no_path(environ: dict[str, str]) -> dict[str, str]:
    """An environment in which no java and no mvn can be found."""
    return {name: value for name, value in environ.items() if name != "JAVA_HOME"} | {"PATH": "/nonexistent"}


def produce(kafka: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "log_level": 2})
    producer.produce("facts", value, partition=0)
    assert producer.flush(10) == 0


def read(kafka: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "test", "enable.auto.commit": False, "log_level": 2}
    )
    try:
        consumer.assign([TopicPartition("facts", 0, 0)])
        return [message.value() for message in consumer.consume(count, 15)]
    finally:
        consumer.close()


def test_it_keeps_its_data_through_an_end_and_through_kill_9(tmp_path: Path) -> None:
    address = ""
    for life, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
        output = tmp_path / f"output-{life}"
        with reports(["kafka"], no_path(environment(tmp_path)), output) as role:
            # The address of a killed one is still there: its own word counts.
            wait_until(lambda output=output: b"ready after" in output.read_bytes(), 60)  # type: ignore[misc]
            kafka = wait_for_addresses(Settings(data=tmp_path, redis="redis://unused"), 60).kafka
            assert address in ("", kafka), "the remembered port is used again"
            address = kafka
            (server,) = children(role.pid)
            ensure_topics(Settings(data=tmp_path, partitions=2, kafka=kafka))
            produce(kafka, b"life %d" % life)
            assert read(kafka, life + 1) == [b"life %d" % past for past in range(life + 1)]
            status = end(role, number)
            assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            wait_until(lambda pid=server: not alive(pid), 5, "the end of the server")  # type: ignore[misc]
            assert (read_address(tmp_path, "kafka") == "") == (number == signal.SIGTERM)


def test_a_killed_server_ends_its_role_with_a_line(tmp_path: Path) -> None:
    with reports(["kafka"], environment(tmp_path), tmp_path / "output") as role:
        wait_until(lambda: read_address(tmp_path, "kafka"), 60)
        os.kill(children(role.pid)[0], signal.SIGKILL)
        assert role.wait(10) == 3
    last = (tmp_path / "output").read_text().splitlines()[-1]
    assert last.startswith("reports: kafka ended with status -9")
    assert read_address(tmp_path, "kafka") == ""


def test_a_second_one_with_the_same_folder_is_refused(
    kafka: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = next(
        path for path in tmp_path_factory.getbasetemp().glob("kafka*") if read_address(path, "kafka") == kafka
    )
    monkeypatch.setattr(own_server, "LOCK_TIMEOUT_S", 0.2)
    with pytest.raises(StateError, match="another kafka runs with the data folder"):
        start(Settings(data=data), print)
    assert read_address(data, "kafka") == kafka


def test_a_set_port_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with reports(["kafka"], environment(tmp_path, kafka_port=str(port)), tmp_path / "output") as role:
            assert role.wait(30) == 2
    assert (tmp_path / "output").read_text() == (
        f"reports: REPORTS_KAFKA_PORT: port {port} can't be used: Address already in use\n"
    )


def test_a_failed_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    # Storage that is there but is not Kafka's.
    (tmp_path / "kafka" / "log").mkdir(parents=True)
    (tmp_path / "kafka" / "log" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=x\n")
    with reports(["kafka"], environment(tmp_path), tmp_path / "output") as role:
        assert role.wait(60) == 3
    said = (tmp_path / "output").read_text()
    assert said.count("\n") == 1
    assert "instead of starting" in said
    assert "kafka.log ends with: " in said
    assert "node" in said


def test_with_a_cluster_set_no_own_node_is_started(tmp_path: Path) -> None:
    with reports(["kafka"], environment(tmp_path, kafka="127.0.0.1:1"), tmp_path / "output") as role:
        assert role.wait(30) == 2
    assert "so no own node is started" in (tmp_path / "output").read_text()


def test_a_data_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("a file")
    with pytest.raises(ConfigError, match="REPORTS_DATA"):
        start(Settings(data=tmp_path), print)


class TestJars:
    """Over a few of the real pinned jars, in a cache of its own."""

    def small(self) -> list[Jar]:
        return [jar for jar in pinned_jars(LIST.read_text()) if jar.artifact in ("slf4j-api", "slf4j-simple")]

    def test_the_list_is_whole(self) -> None:
        jars = pinned_jars(LIST.read_text())
        assert len(jars) > 40
        assert all(len(jar.sha256) == 64 for jar in jars)
        assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars)
        versions = {jar.artifact: jar.version for jar in jars if jar.group == "org.apache.kafka"}
        assert set(versions.values()) == {versions["kafka_2.13"]}
        assert versions["kafka_2.13"].startswith("4.")

    def test_missing_ones_are_fetched_and_checked(self, tmp_path: Path) -> None:
        said: list[str] = []
        paths = ensure_jars(self.small(), tmp_path, said.append)
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [
            j.sha256 for j in self.small()
        ]
        assert said[-1] == "fetched 2 of 2 jars"
        assert not list(tmp_path.glob(".campaign*"))

    def test_a_changed_one_is_refused(self, tmp_path: Path, kafka: str) -> None:
        for jar in self.small():
            jar.path_in(tmp_path).parent.mkdir(parents=True)
            shutil.copy(jar.path_in(maven_repository()), jar.path_in(tmp_path))
        with self.small()[0].path_in(tmp_path).open("ab") as file:
            file.write(b"x")
        with pytest.raises(ConfigError, match="is not the pinned one"):
            ensure_jars(self.small(), tmp_path, print)

    def test_one_that_comes_with_another_sum_is_refused_and_not_kept(self, tmp_path: Path) -> None:
        wrong = [self.small()[0]._replace(sha256="0" * 64)]
        with pytest.raises(ConfigError, match="came with another SHA-256"):
            ensure_jars(wrong, tmp_path, print)
        assert not wrong[0].path_in(tmp_path).exists()

    def test_a_failed_download_says_so_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Nothing listens on port 9 (discard) of this machine.
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        with pytest.raises(ConfigError, match="the jars of the own node can't be fetched") as caught:
            ensure_jars(self.small(), tmp_path, print)
        assert caught.value.setting == "REPORTS_KAFKA"
        assert "\n" not in str(caught.value)
