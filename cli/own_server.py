"""What the own Kafka and the own Redis have in common: a data folder, ports, a child process, an address.

Rules:
- One server per data folder: a lock on `<data>/<name>/lock`, which the server's process inherits, so that a new role
  waits until the old server is really gone, whatever happened to its role.
- Ports are chosen free once, remembered in `<data>/<name>/ports` and used again while they are free; a port that is
  set (`REPORTS_KAFKA_PORT`) is used or refused.
- Loopback only. The server has a session of its own (a terminal's Ctrl-C doesn't reach it) and is killed by the
  kernel when its role is.
- The address stands in `<data>/run/<name>` from the moment the server answers until it is told to stop.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from app.errors import ConfigError, StateError
from app.settings import PREFIX
from cli.addresses import publish_address, withdraw_address
from cli.leash import leashed
from tables.drafts import FOR_ALL, write_whole

HOST = "127.0.0.1"
LOCK_TIMEOUT_S = 15.0
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 8.0
LOG_MAX_BYTES = 10 * 1024 * 1024
LOG_LINES_SHOWN = 8


class OwnServer:
    """One server process. `start` gives its address; `stop` ends it; both may be called once.

    To be started from the main thread: for the kernel the parent of a process is the thread that started it.
    """

    def __init__(self, name: str, data: Path) -> None:
        self.name = name
        self.data = data
        self.folder = data / name
        self.log = data / "log" / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{PREFIX}DATA", f"{data} can't be written to: {error.strerror}") from None

    def lock(self) -> None:
        """Take the data folder; waits for a server that is just ending. StateError if another one keeps it."""
        self._lock = (self.folder / "lock").open("wb")
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._lock.close()
                    raise StateError(f"another {self.name} runs with the data folder {self.folder}") from None
                time.sleep(0.05)
        withdraw_address(self.data, self.name)

    def ports(self, wanted: Sequence[int]) -> list[int]:
        """As many free ports as `wanted` has items; an item other than 0 is the port that the settings ask for."""
        memory = self.folder / "ports"
        try:
            remembered = [int(word) for word in memory.read_text().split()]
        except (OSError, ValueError):
            remembered = []
        if len(remembered) != len(wanted) or not all(0 <= port < 1 << 16 for port in remembered):
            remembered = [0] * len(wanted)
        ports = []
        with contextlib.ExitStack() as held:
            for set_port, old_port in zip(wanted, remembered, strict=True):
                candidates = (set_port,) if set_port else (old_port, 0)
                ports.append(self._free_port(held, candidates, bool(set_port)))
        write_whole(memory, f"{' '.join(map(str, ports))}\n".encode(), FOR_ALL)
        return ports

    def _free_port(self, held: contextlib.ExitStack, candidates: Sequence[int], is_set: bool) -> int:
        """The first candidate that can be bound (0: any), kept bound until all are chosen."""
        for candidate in candidates:
            listener = held.enter_context(socket.socket())
            # As the servers do it: connections of the last run in TIME_WAIT don't count as "in use".
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, candidate))
                listener.listen(1)
            except OSError as error:
                if is_set:
                    setting = f"{PREFIX}{self.name.upper()}_PORT"
                    raise ConfigError(setting, f"port {candidate} can't be used: {error.strerror}") from None
                continue
            return int(listener.getsockname()[1])
        raise StateError(f"no free port for {self.name}")

    def start(self, command: list[str], is_ready: Callable[[], bool], address: str) -> str:
        """Start the command and wait until it answers; StateError with the end of its log if it doesn't."""
        if self._lock is None:
            raise RuntimeError("lock() comes first")
        if self.log.exists() and self.log.stat().st_size > LOG_MAX_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                leashed(signal.SIGKILL, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if (status := self.process.poll()) is not None:
                self._fail(f"ended with status {status} instead of starting")
            if time.monotonic() > deadline:
                self.stop()
                self._fail(f"did not answer within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.02)
        publish_address(self.data, self.name, address)
        return address

    def _fail(self, what: str) -> NoReturn:
        raise StateError(f"{self.name} {what}; {self.log} ends with: {self.log_end()}")

    def log_end(self) -> str:
        """The last lines of the server's log in one line."""
        try:
            lines = self.log.read_bytes()[-8192:].decode("utf-8", "replace").splitlines()
        except OSError:
            return "(nothing)"
        return (
            " | ".join(line.strip() for line in lines[-LOG_LINES_SHOWN:] if line.strip())[:1500]
            or "(nothing)"
        )

    def wait(self) -> int:
        """Wait until the process ends by itself; gives its status."""
        if self.process is None:
            raise RuntimeError("start() comes first")
        return self.process.wait()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the process: SIGTERM, then SIGKILL after the timeout. The data stays."""
        withdraw_address(self.data, self.name)
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._lock is not None:
            self._lock.close()


class Stopped(BaseException):
    """A signal asked this role to end."""


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, the first SIGTERM or SIGINT raises Stopped; further ones are ignored."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(start: Callable[[Callable[[str], None]], OwnServer]) -> None:
    """Run a server in the foreground until a signal ends it. StateError when it ends by itself."""
    server: OwnServer | None = None
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        with stopped_by_signals():
            server = start(say)
            say(
                f"ready after {time.monotonic() - began:.1f} s, process {server.process and server.process.pid}"
            )
            status = server.wait()
            withdraw_address(server.data, server.name)
            raise StateError(
                f"{server.name} ended with status {status}; its log ends with: {server.log_end()}"
            )
    except Stopped:
        say("stopping")
    finally:
        if server is not None:
            server.stop()


def answers(port: int, request: bytes, expected: int | bytes) -> bool:
    """Whether a server on the port answers the request: with `expected` bytes at least, or with what starts so."""
    try:
        with socket.create_connection((HOST, port), 0.5) as connection:
            connection.sendall(request)
            reply = connection.recv(64)
    except OSError:
        return False
    return len(reply) >= expected if isinstance(expected, int) else reply.startswith(expected)
