"""`reports run ROLE`: one role under a parent that starts it again when it dies. The Procfile's lines are these.

A role whose server the settings name elsewhere only waits for the end, so that a Procfile fits every installation.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from cli.config import load_settings
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
    settings = load_settings()
    if role in ("kafka", "redis") and getattr(settings, role):
        click.echo(f"REPORTS_{role.upper()} is set: no own server is needed")
        roles = []
    else:
        roles = [reports_role(role, STAGE_OF[role], [role, *arguments])]
    ctx.exit(asyncio.run(_run(roles)))


async def _run(roles: list[Role]) -> int:
    supervisor = Supervisor(roles, _say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    return await supervisor.run()


def _say(name: str, line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
