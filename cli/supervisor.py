"""Starts roles as child processes, starts one again that ends, and ends all of them in order.

Rules:
- Each role has a session of its own: a terminal's Ctrl-C reaches this parent only, and a role's whole process group
  can be ended. If the parent is killed, the kernel ends the roles (`cli/leash.py`).
- A role that ends is started again after `BACKOFF_FIRST_S`, twice as long each time up to `BACKOFF_MAX_S`; one that
  lived for `BACKOFF_RESET_S` begins anew.
- Status 2 (wrong configuration) of a role that has never lived that long ends all: somebody stands there and mends it.
- A role that ends soon with 2 or 3 (state) `REFUSALS` times in a row waits for a person: a try costs a line, so it has
  one every `REFUSED_S` and one with each `reload()`, and this parent says so once. Those that run go on: what the API
  takes is counted later; where the API itself is refused, nothing is taken, and this parent says that.
- On `stop()` the stages end one after the other, load first and Kafka last, each with SIGTERM and, when its time is
  over, SIGKILL. The whole takes `STOP_TIMEOUT_S` at most; what a stage leaves over, the later ones have.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cli import hangup
from cli.leash import leashed

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
BACKOFF_RESET_S = 30.0
STOP_TIMEOUT_S = 9.5
CONFIG_STATUS = 2
STATE_STATUS = 3
REFUSALS = 3
REFUSED_S = 15.0
LINE_MAX_BYTES = 64 * 1024

# Order of stopping, and the seconds that are kept for a stage whatever the earlier ones take.
STAGES: tuple[tuple[str, float], ...] = (
    ("load", 0.5),
    ("api", 4.0),
    ("worker", 2.0),
    ("query", 0.3),
    ("redis", 0.5),
    ("kafka", 2.2),
)
_MEANWHILE = {
    False: "The roles that run go on",
    True: "No webhooks are taken here meanwhile (connections are refused): ESPs give up after the times in "
    "docs/esps.md",
}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

RELOADING_STAGES = ("api", "worker", "query")


class Role(NamedTuple):
    """One long-running child. `command` begins with a full path; `stage` is one of STAGES."""

    name: str
    stage: str
    command: list[str]
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when the parent is gone."""


def reports_role(name: str, stage: str, arguments: Sequence[str]) -> Role:
    """A role that is a command of `reports`. The servers' roles are to stop their servers when the parent is gone."""
    death_signal = signal.SIGTERM if stage in ("redis", "kafka") else signal.SIGKILL
    return Role(name, stage, [sys.executable, "-m", "cli.main", *arguments], death_signal)


class Supervisor:
    """Runs roles until `stop()` is called or one says that the configuration is wrong."""

    def __init__(
        self,
        roles: Sequence[Role],
        say: Callable[[str, str], None],
        *,
        environ: dict[str, str] | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        """`say(role, line)` gets every line that a role prints, and this parent's own under the name `reports`."""
        self.roles = list(roles)
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        """The living process of each role, by its name."""
        self.refused: dict[str, str] = {}
        """Roles that refused to start when they were tried last → the line with which they said why."""
        self._last_line: dict[str, str] = {}
        self._silenced: dict[str, str] = {}
        """With which a role goes on refusing: it was said often enough."""
        self._say = say
        # A role prints into a pipe; without this its lines would come in blocks.
        self._environ = (dict(os.environ) if environ is None else environ) | {"PYTHONUNBUFFERED": "1"}
        self._stop_timeout_s = stop_timeout_s
        self._stopping = asyncio.Event()
        self._awake = asyncio.Event()
        """Ends the waiting of who waits now: set when everything is to stop, or refused roles are to be tried again."""
        self._status = 0

    def stop(self) -> None:
        """Ask for the end; `run` returns when all roles have ended."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        self._awake.set()
        self._awake = asyncio.Event()

    def reload(self) -> None:
        """Pass SIGHUP on to the roles that read reports.toml, and start those at once that wait to be started."""
        self._wake()
        for role in self.roles:
            if role.stage in RELOADING_STAGES and role.name in self.processes:
                _signal_leader(self.processes[role.name], signal.SIGHUP)

    def add(self, role: Role) -> None:
        """Start one more role, while running."""
        if not self._stopping.is_set():
            self.roles.append(role)
            self._keepers[role.name] = asyncio.create_task(self._keep(role))

    async def run(self) -> int:
        """Run all roles; gives 0, or the status of the role that ended everything."""
        self._keepers = {role.name: asyncio.create_task(self._keep(role)) for role in self.roles}
        try:
            await self._stopping.wait()
            await self._stop_in_order()
        finally:
            # Does nothing after an orderly end; after a cancellation each life kills its process.
            for keeper in self._keepers.values():
                keeper.cancel()
            results = await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self._status

    async def _keep(self, role: Role) -> None:
        """Start a role, and again whenever it ends, until everything is to stop."""
        backoff_s = BACKOFF_FIRST_S
        refusals = 0
        proven = False
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                status = await self._live(role)
            except OSError as error:  # no process or memory to be had at the moment
                self._say("reports", f"{role.name} can't be started: {error.strerror or error}")
                status = 1
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= BACKOFF_RESET_S:
                backoff_s = BACKOFF_FIRST_S
                refusals = 0
                self._silenced.pop(role.name, None)
                proven = True
            if status == CONFIG_STATUS and not proven:
                self._say("reports", f"{role.name} can't run with this configuration: ending all")
                self._status = CONFIG_STATUS
                self.stop()
                return
            if status in (CONFIG_STATUS, STATE_STATUS):
                refusals += 1
                self.refused[role.name] = self._last_line.get(role.name, "").removeprefix("reports: ")
            else:
                refusals = 0
                self.refused.pop(role.name, None)
                self._silenced.pop(role.name, None)
            ended = f"{role.name} ended ({_described(status)})"
            if refusals < REFUSALS:
                wait_s, backoff_s = backoff_s, min(backoff_s * 2, BACKOFF_MAX_S)
                self._say("reports", f"{ended}, starts again in {wait_s:.1f} s")
            else:
                wait_s = REFUSED_S
                if refusals == REFUSALS:
                    self._silenced[role.name] = self._last_line.get(role.name, "")
                    self._say(
                        "reports",
                        f"{ended} each time, for the reason above: it is tried again every {wait_s:g} s and on "
                        f"SIGHUP, without a word while the reason is the same. {_MEANWHILE[role.stage == 'api']}",
                    )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()

    async def _live(self, role: Role) -> int:
        """One life of a role; gives its status."""
        # Not asyncio's own pipe: with that, wait() would wait for everybody who still holds its other end.
        reading, writing = os.pipe()
        try:
            with hangup.held():  # `reload` may come before the role listens
                process = await asyncio.create_subprocess_exec(
                    *leashed(role.death_signal, role.command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    env=self._environ,
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.processes[role.name] = process
        if self._stopping.is_set():
            # The end began while it was being started: its stage may be over.
            _signal_leader(process, signal.SIGTERM)
        printer = asyncio.create_task(self._print(role.name, reading))
        try:
            return await process.wait()
        finally:
            # What it started and left behind goes with it, and with that the pipe's last writer.
            _signal_group(process, signal.SIGKILL)
            await process.wait()
            del self.processes[role.name]
            done, _ = await asyncio.wait([printer], timeout=0.5)
            if not done:
                printer.cancel()

    async def _print(self, name: str, pipe: int) -> None:
        reader = asyncio.StreamReader(LINE_MAX_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
        )
        try:
            rest = b""
            while chunk := await reader.read(LINE_MAX_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_MAX_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._hear(name, _plain(line))
            if rest:
                self._hear(name, _plain(rest))
        finally:
            transport.close()

    def _hear(self, name: str, line: str) -> None:
        self._last_line[name] = line
        if line != self._silenced.get(name):
            self._say(name, line)

    async def _stop_in_order(self) -> None:
        deadline = time.monotonic() + self._stop_timeout_s
        kept_s = sum(seconds for _, seconds in STAGES)
        for stage, seconds in STAGES:
            kept_s -= seconds
            ending = {self._keepers[role.name] for role in self.roles if role.stage == stage}
            processes = [
                self.processes[role.name]
                for role in self.roles
                if role.stage == stage and role.name in self.processes
            ]
            if not ending:
                continue
            for process in processes:
                _signal_leader(process, signal.SIGTERM)
            await asyncio.wait(ending, timeout=max(0.1, deadline - kept_s - time.monotonic()))
            for process in processes:
                if process.returncode is None:
                    self._say("reports", f"a process of {stage} does not end: killed")
                    _signal_group(process, signal.SIGKILL)
            await asyncio.wait(ending, timeout=1.0)


def _signal_leader(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The child leads a session of its own, so its group has its number.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _plain(line: bytes) -> str:
    """A line without what would steer a terminal: it may carry what somebody sent us."""
    return _CONTROL.sub("", line.decode("utf-8", "replace"))


def _described(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
