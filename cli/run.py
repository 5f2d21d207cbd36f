"""`reports run ROLE`: one role under a parent that starts it again when it dies. The Procfile's lines are these.

A role whose server the settings name elsewhere only waits for the end, so that a Procfile fits every installation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import click

from app.settings import PREFIX
from cli import hangup
from cli.role_configuration import settings_beside
from cli.supervisor import Role, Supervisor, reports_role

STAGE_OF = {
    "kafka": "kafka",
    "redis": "redis",
    "api": "api",
    "normalize": "worker",
    "aggregate": "worker",
    "query": "query",
    "load": "load",
}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("role", type=click.Choice(list(STAGE_OF)))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, role: str, arguments: tuple[str, ...]) -> None:
    """Run ROLE, with ARGUMENTS of its command, and start it again when it dies."""
    settings = settings_beside()
    idle = ""
    roles = []
    if role in ("kafka", "redis") and getattr(settings, role):
        idle = f"REPORTS_{role.upper()} is set: no own server is needed"
    else:
        roles = [reports_role(role, STAGE_OF[role], [role, *arguments])]
    # The data folder, so that a role finds what was accepted there while the file can't be read.
    environ = dict(os.environ) | {f"{PREFIX}DATA": str(settings.data)}
    ctx.exit(asyncio.run(_run(roles, environ, idle)))


async def _run(roles: list[Role], environ: dict[str, str], idle: str) -> int:
    supervisor = Supervisor(roles, _say, environ=environ)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.stop)
    hangup.listen(loop, supervisor.reload)
    if idle:
        _say("reports", idle)  # once a signal ends it in order
    return await supervisor.run()


def _say(name: str, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads, or the disk is full: the role goes on
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
