"""`reports up`: everything on one machine under one parent; `reports demo` is the same with traffic.

Rules:
- Own servers only where the settings name none.
- All roles start at once; those that need the servers wait for their addresses, so that the page is there soon.
- One `up` per data folder.
- What it prints: each role's lines under its name, its own with the seconds since the start, and, when `/readyz`
  answers 200, the page's address with a sign-in link (the key stands behind `#`, so it never reaches a log).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import click
import msgspec

from app.errors import UNDECODABLE, ConfigError, StateError
from app.organisations import Organisations
from app.settings import PREFIX, Settings
from cli import hangup
from cli.addresses import read_address, withdraw_address
from cli.config import ensure_data_folder, load_configuration
from cli.keys import FOLDER, Missing
from cli.role_configuration import configuration_beside
from cli.supervisor import Role, Supervisor, reports_role

POLL_S = 0.1
REMIND_S = 15.0
REQUEST_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 16 * 1024
TRAFFIC = ["load", "--rate", "50", "--forever"]


class ErrorBody(msgspec.Struct):
    """Of an answer that is no 200."""

    message: str


@click.command()
@click.option(
    "--aggregate", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that count."
)
@click.option(
    "--normalize", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that parse."
)
@click.pass_context
def command(ctx: click.Context, aggregate: int, normalize: int) -> None:
    """Start everything, for real use on one machine, until Ctrl-C."""
    ctx.exit(run_up(aggregate=aggregate, normalize=normalize, traffic=False))


def run_up(*, aggregate: int, normalize: int, traffic: bool) -> int:
    """Run all roles until a signal; gives the exit status. Raises ConfigError or StateError before anything starts."""
    settings, _ = configuration_beside()
    ensure_data_folder(settings.data)
    # First: another `up` has the port, too, and it is the folder that tells who it is.
    with only_one(settings):
        settings = with_http_port(settings)
        for server in ("kafka", "redis"):
            withdraw_address(settings.data, server)
        return asyncio.run(_run(settings, roles_of(settings, aggregate, normalize), traffic))


def roles_of(settings: Settings, aggregate: int, normalize: int) -> list[Role]:
    """The roles of an installation on one machine, the slowest to start first."""
    roles = [] if settings.kafka else [reports_role("kafka", "kafka", ["kafka"])]
    if not settings.redis:
        roles.append(reports_role("redis", "redis", ["redis"]))
    roles.append(reports_role("api", "api", ["api"]))
    for name, count in (("normalize", normalize), ("aggregate", aggregate)):
        names = [name] if count == 1 else [f"{name}.{number}" for number in range(1, count + 1)]
        roles.extend(reports_role(each, "worker", [name]) for each in names)
    roles.append(reports_role("query", "query", ["query"]))
    return roles


def with_http_port(settings: Settings) -> Settings:
    """The settings with a port that is free now. Raises ConfigError when the one that is set isn't."""
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.http_host, settings.http_port))
            listener.listen(1)
        except OSError as error:
            raise ConfigError(
                f"{PREFIX}HTTP", f"{settings.http} can't be used: {error.strerror or error}"
            ) from None
        port = listener.getsockname()[1]
    return msgspec.structs.replace(settings, http=f"{settings.http.rpartition(':')[0]}:{port}")


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Keep the data folder's lock. Raises StateError when another `up` has it."""
    path = settings.data / "run" / "up.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read().strip()
            raise StateError(
                f"`reports up` or `demo` runs already with the data folder {settings.data}"
                f"{f', as process {other}' if other else ''}: end that one first, or set {PREFIX}DATA to another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


async def _run(settings: Settings, roles: list[Role], traffic: bool) -> int:
    teller = Teller()
    # The data folder, so that a role finds what was accepted there while the file can't be read.
    own = {f"{PREFIX}HTTP": settings.http, f"{PREFIX}DATA": str(settings.data)}
    supervisor = Supervisor(roles, teller.say, environ=dict(os.environ) | own)
    loop = asyncio.get_running_loop()

    def end() -> None:
        teller.say("reports", "ending all; the data stays")
        supervisor.stop()
        # A second Ctrl-C has nothing to add: the end has a time limit of its own.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    # In a terminal SIGHUP says that it was closed; elsewhere, that reports.toml is to be read anew.
    hangup.listen(loop, end if sys.stdin and sys.stdin.isatty() else supervisor.reload)
    teller.say("reports", f"starting {', '.join(role.name for role in roles)}; data in {settings.data}")
    greeter = asyncio.create_task(_greet(settings, teller, supervisor, traffic))
    try:
        status = await supervisor.run()
    finally:
        greeter.cancel()
        await asyncio.gather(greeter, return_exceptions=True)
    teller.say("reports", "all ended")
    return status


async def _greet(settings: Settings, teller: Teller, supervisor: Supervisor, traffic: bool) -> None:
    """Tell how the start goes, then where the page is; then let the traffic begin."""
    awaited = [server for server in ("kafka", "redis") if not getattr(settings, server)]
    remind_at = time.monotonic() + REMIND_S
    while (problem := await why_not_ready(settings)) is not None:
        for server in [server for server in awaited if read_address(settings.data, server)]:
            teller.say("reports", f"{server} is there")
            awaited.remove(server)
        if time.monotonic() > remind_at:
            what = " and ".join(awaited) or "the API to be ready"
            # One that is being tried again may have what it lacked.
            refused = {
                role: line for role, line in supervisor.refused.items() if role not in supervisor.processes
            }
            reasons = [f"{role} is refused: {line}" for role, line in refused.items()]
            teller.say("reports", f"still waiting for {what}: {'; '.join([problem, *reasons])}")
            remind_at += REMIND_S
        await asyncio.sleep(POLL_S)
    base = page_address(settings)
    teller.say("reports", f"the page is live: {base}/")
    # Only now: at the first start it is the roles who make the keys.
    with contextlib.suppress(ConfigError):  # changed since, and wrong: the roles say so
        if link := sign_in_link(base, settings.data, load_configuration(missing=Missing.LEAVE_OUT)[1]):
            teller.say("reports", f"sign in with:     {link}")
    teller.say("reports", "Ctrl-C ends all")
    if traffic:
        supervisor.add(reports_role("load", "load", TRAFFIC))


async def why_not_ready(settings: Settings) -> str | None:
    """What `GET /readyz` says is missing; None: it answers 200."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)  # noqa: S104
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, settings.http_port)
            try:
                writer.write(
                    f"GET /readyz HTTP/1.1\r\nHost: {settings.http}\r\nConnection: close\r\n\r\n".encode()
                )
                answer = await reader.read(MAX_ANSWER_BYTES)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        what = error.strerror or "no answer in time"
        return f"nothing answers at {settings.http} ({what})"
    if b" 200 " in answer.partition(b"\r\n")[0]:
        return None
    with contextlib.suppress(*UNDECODABLE):
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=ErrorBody).message
    return "the API gives no answer to /readyz"


def page_address(settings: Settings) -> str:
    """Where a browser on this machine finds the page."""
    if settings.public_url:
        return settings.public_url
    host = "127.0.0.1" if settings.http_host == "0.0.0.0" else settings.http.rpartition(":")[0]  # noqa: S104
    return f"http://{host}:{settings.http_port}"


def sign_in_link(base: str, data: Path, organisations: Organisations) -> str:
    """A link that signs in with the first key that may read, and of several organisations whose it is; empty if there
    is none."""
    for organisation in organisations.by_id.values():
        others = (
            f" (of {organisation.name}; the keys of the others lie in {data / FOLDER}, or where reports.toml says)"
            if len(organisations.by_id) > 1
            else ""
        )
        for key in organisation.keys:
            if "read" in key.scopes and not key.absent:
                return f"{base}/#key={quote(key.secret, safe='')}{others}"
    return ""


class Teller:
    """Prints lines as `seconds name | line`. Where nobody reads or the disk is full it is silent: the roles go on."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, name: str, line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(f"{time.monotonic() - self._began:7.1f} s {name:<11} | {line}\n")
            sys.stdout.flush()
