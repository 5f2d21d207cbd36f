"""Over real processes: small shell and Python children in place of the roles, then `reports run` with a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from cli import supervisor as module
from cli.addresses import read_address
from cli.supervisor import STAGES, STOP_TIMEOUT_S, Role, Supervisor
from tests.support.processes import ROOT, alive, children, end, environment, reports, wait_until

SLEEPER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


def shell(name: str, stage: str, script: str) -> Role:
    return Role(name, stage, ["/bin/sh", "-c", script])


class Heard:
    """What roles said, and when their processes ended."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def say(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for said_by, line in self.lines if said_by == name]


@contextlib.asynccontextmanager
async def running(
    roles: list[Role], heard: Heard, environ: dict[str, str] | None = None
) -> AsyncIterator[tuple[Supervisor, asyncio.Task[int]]]:
    supervisor = Supervisor(roles, heard.say, environ=environ)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor, task
    finally:
        supervisor.stop()
        await asyncio.wait_for(task, STOP_TIMEOUT_S + 2)


async def until(found: object, what: str, timeout_s: float = 10.0) -> None:
    assert callable(found)
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        await asyncio.sleep(0.01)


async def test_a_killed_role_comes_back() -> None:
    heard = Heard()
    async with running([shell("a", "api", f"echo born $$; {SLEEPER}")], heard) as (supervisor, _):
        await until(lambda: len(heard.of("a")) == 1, "the first life")
        first = supervisor.processes["a"].pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(heard.of("a")) == 2, "the second life")
        assert supervisor.processes["a"].pid != first
        assert heard.of("reports") == ["a ended (by SIGKILL), starts again in 0.2 s"]


async def test_a_role_that_cant_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process to be had, or no memory: that passes."""
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.02)
    right, tries = asyncio.create_subprocess_exec, 0

    async def scarce(*command: str, **options: object) -> asyncio.subprocess.Process:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await right(*command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", scarce)
    heard = Heard()
    async with running([shell("a", "api", f"echo up; {SLEEPER}")], heard):
        await until(lambda: heard.of("a") == ["up"], "its life")
    assert heard.of("reports")[0] == "a can't be started: Resource temporarily unavailable"


async def test_back_off_doubles_and_is_reset_by_a_long_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 0.2)
    heard = Heard()
    async with running([shell("a", "worker", "exit 70")], heard):
        await until(lambda: len(heard.of("reports")) == 5, "five ends")
    waits = [line.rpartition(" in ")[2] for line in heard.of("reports")[:5]]
    assert waits == ["0.1 s", "0.1 s", "0.2 s", "0.2 s", "0.2 s"]
    monkeypatch.setattr(module, "BACKOFF_RESET_S", 0.0)
    heard = Heard()
    async with running([shell("a", "worker", "exit 70")], heard):
        await until(lambda: len(heard.of("reports")) == 4, "four ends")
    assert {line.rpartition(" in ")[2] for line in heard.of("reports")[:4]} == {"0.1 s"}


async def test_status_2_ends_all() -> None:
    heard = Heard()
    roles = [shell("good", "worker", SLEEPER), shell("bad", "api", "echo REPORTS_HTTP: wrong >&2; exit 2")]
    async with running(roles, heard) as (supervisor, task):
        assert await asyncio.wait_for(task, 10) == 2
        assert supervisor.processes == {}
    assert heard.of("bad") == ["REPORTS_HTTP: wrong"]
    assert heard.of("reports") == ["bad can't run with this configuration: ending all"]


async def test_a_role_that_refuses_to_start_is_tried_seldom_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(module, "REFUSED_S", 0.3)
    cured, tries = tmp_path / "cured", tmp_path / "tries"
    cure = f"test -e {cured} && {{ echo counting; {SLEEPER}; }}"
    script = f"echo >> {tries}; {cure}; echo restore that secret >&2; exit 3"
    heard = Heard()
    roles = [shell("api", "api", SLEEPER), shell("bad", "worker", script)]
    async with running(roles, heard) as (supervisor, _):
        await until(lambda: len(heard.of("bad")) == 3, "three refusals")
        await until(lambda: supervisor.refused == {"bad": "restore that secret"}, "who asks is told")
        began = time.monotonic()
        await until(lambda: len(tries.read_text()) >= 6, "three more")
        assert time.monotonic() - began > 0.6
        cured.touch()
        await until(lambda: heard.of("bad")[-1] == "counting", "its life")
        assert heard.of("bad") == [*["restore that secret"] * 3, "counting"], "three times are enough"
        assert "api" in supervisor.processes
    assert heard.of("reports") == [
        "bad ended (status 3), starts again in 0.0 s",
        "bad ended (status 3), starts again in 0.0 s",
        "bad ended (status 3) each time, for the reason above: it is tried again every 0.3 s and on "
        "SIGHUP, without a word while the reason is the same. The roles that run go on",
    ]


async def test_where_the_api_is_refused_it_is_said_that_nothing_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.02)
    heard = Heard()
    async with running([shell("api", "api", "echo no secret >&2; exit 3")], heard):
        await until(lambda: len(heard.of("reports")) == 3, "the refusals")
    last = heard.of("reports")[-1]
    assert "go on" not in last
    assert last.endswith(
        "No webhooks are taken here meanwhile (connections are refused): ESPs give up after the times in docs/esps.md"
    )


async def test_a_reload_tries_a_refused_role_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(module, "REFUSED_S", 3600.0)
    cured = tmp_path / "cured"
    script = f"test -e {cured} && {{ echo counting; {SLEEPER}; }}; echo restore that secret >&2; exit 3"
    heard = Heard()
    async with running([shell("bad", "worker", script)], heard) as (supervisor, _):
        await until(lambda: any("each time" in line for line in heard.of("reports")), "the refusals")
        cured.touch()
        supervisor.reload()
        await until(lambda: heard.of("bad")[-1] == "counting", "its life")


async def test_a_configuration_that_broke_later_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_RESET_S", 0.5)
    broken = tmp_path / "broken"
    heard = Heard()
    role = shell("api", "api", f"test -e {broken} && {{ echo bad file >&2; exit 2; }}; echo up; {SLEEPER}")
    async with running([role], heard) as (supervisor, task):
        await until(lambda: heard.of("api") == ["up"], "the start")
        await asyncio.sleep(0.6)
        broken.touch()
        supervisor.processes["api"].kill()
        await until(lambda: "bad file" in heard.of("api"), "the refusal")
        broken.unlink()
        await until(lambda: heard.of("api")[-1] == "up", "its life with a mended file")
        assert not task.done()


async def test_stages_end_one_after_the_other(tmp_path: Path) -> None:
    log = tmp_path / "ends"
    script = f"trap 'sleep 0.1; echo $NAME >> {log}; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    # Started in another order than they are to end.
    roles = [shell(stage, stage, f"NAME={stage}; {script}") for stage, _ in reversed(STAGES)]
    heard = Heard()
    async with running(roles, heard) as (supervisor, task):
        await until(lambda: len(heard.lines) == len(roles), "all starts")
        supervisor.stop()
        assert await asyncio.wait_for(task, STOP_TIMEOUT_S) == 0
    assert log.read_text().split() == [stage for stage, _ in STAGES]


async def test_roles_that_do_not_end_are_killed_in_time() -> None:
    heard = Heard()
    roles = [shell(stage, stage, f"echo up; {STUBBORN}") for stage, _ in STAGES]
    async with running(roles, heard) as (supervisor, task):
        await until(lambda: len(heard.lines) == len(roles), "all starts")
        pids = [process.pid for process in supervisor.processes.values()]
        began = time.monotonic()
        supervisor.stop()
        await asyncio.wait_for(task, STOP_TIMEOUT_S + 1)
        assert time.monotonic() - began < 10
    assert not any(alive(pid) for pid in pids)


async def test_what_a_role_left_behind_ends_with_it() -> None:
    heard = Heard()
    async with running([shell("a", "api", "sleep 60 & echo $!; wait")], heard) as (supervisor, _):
        await until(lambda: heard.of("a"), "the start")
        grandchild = int(heard.of("a")[0])
        supervisor.processes["a"].kill()
        await until(lambda: not alive(grandchild), "the grandchild's end")


async def test_a_role_that_is_added_while_running_and_long_and_broken_lines() -> None:
    heard = Heard()
    async with running([], heard) as (supervisor, _):
        script = r"printf 'a\n\377\033[?25hb\033[31m\007\r\nlast'; head -c 300000 /dev/zero | tr '\0' x; echo; sleep 60"
        supervisor.add(shell("late", "load", script))
        await until(lambda: sum(map(len, heard.of("late"))) >= 300_006, "the output")
    lines = heard.of("late")
    assert lines[:2] == ["a", "�b"]
    assert max(map(len, lines)) <= 2 * module.LINE_MAX_BYTES


async def test_sighup_reaches_the_roles_that_read_the_file() -> None:
    heard = Heard()
    script = f"trap 'echo again' HUP; echo up; {SLEEPER}"
    async with running([shell("api", "api", script), shell("kafka", "kafka", script)], heard) as (
        supervisor,
        _,
    ):
        await until(lambda: len(heard.lines) == 2, "the starts")
        supervisor.reload()
        await until(lambda: "again" in heard.of("api"), "the reload")
    assert heard.of("kafka") == ["up"]


def test_no_orphan_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import asyncio
        from cli.supervisor import Role, Supervisor
        role = Role("a", "api", ["/bin/sh", "-c", "{STUBBORN}"])
        asyncio.run(Supervisor([role], print).run())
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        (child,) = wait_until(lambda: children(parent.pid))
        wait_until(lambda: Path(f"/proc/{child}/comm").read_text() == "sh\n")
    finally:
        parent.kill()
        parent.wait(10)
    wait_until(lambda: not alive(child), 5, "the child's end")


def test_run_brings_a_real_role_back_and_ends_it(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with reports(["run", "redis"], environment(tmp_path / "var"), output) as parent:
        wait_until(lambda: output.read_text().count("ready after") == 1)
        (role,) = children(parent.pid)
        (server,) = children(role)
        with redis.Redis.from_url(read_address(tmp_path / "var", "redis")) as client:
            client.set("kept", "yes")
        os.kill(role, signal.SIGKILL)
        wait_until(lambda: output.read_text().count("ready after") == 2, what="the second life")
        assert not alive(server)
        with redis.Redis.from_url(read_address(tmp_path / "var", "redis")) as client:
            assert client.get("kept") == b"yes"
        pids = [*(roles := children(parent.pid)), *children(roles[0])]
        assert len(pids) == 2
        assert end(parent, signal.SIGINT) == 0
    assert not any(alive(pid) for pid in pids)


def test_run_waits_where_no_own_server_is_needed(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with reports(["run", "redis"], environment(tmp_path, redis="redis://127.0.0.1:1/0"), output) as parent:
        wait_until(lambda: "no own server is needed" in output.read_text())
        assert end(parent) == 0
