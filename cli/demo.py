"""`reports demo`: `reports up` with the traffic of a demo campaign that never ends."""

from __future__ import annotations

import click

from cli.up import run_up


@click.command()
@click.pass_context
def command(ctx: click.Context) -> None:
    """Start everything with a demo campaign that moves, until Ctrl-C."""
    ctx.exit(run_up(aggregate=1, normalize=1, traffic=True))
