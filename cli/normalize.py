"""`reports normalize`: the worker that turns webhooks into facts."""

from __future__ import annotations

import click

from cli.identity import identify
from cli.role_configuration import begin_role


@click.command()
def command() -> None:
    """Turn webhooks into facts: topic webhooks to topic facts, dead letters to webhooks.dead."""
    configuration = begin_role()
    settings = configuration.settle(identify(configuration.settings, wait_s=None))
    # Faust takes a second to import: after the checks, so that their errors are there at once.
    from agents.normalize import normalize_app
    from agents.worker import run

    run(normalize_app(settings, configuration.organisations, configuration.follow))
