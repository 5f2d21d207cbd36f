"""`reports normalize`: the worker that turns webhooks into facts."""

from __future__ import annotations

import logging

import click

from app.errors import ConfigError
from app.organisations import Organisations
from cli.addresses import wait_for_addresses
from cli.config import load_configuration
from cli.logs import set_up_logging
from cli.topics import ensure_topics

log = logging.getLogger("reports.normalize")


@click.command()
def command() -> None:
    """Turn webhooks into facts: topic webhooks to topic facts, dead letters to webhooks.dead."""
    settings, organisations = load_configuration()
    set_up_logging(settings.log_level)
    settings = wait_for_addresses(settings)
    ensure_topics(settings)
    # Faust takes a second to import: after the checks, so that their errors are there at once.
    from agents.normalize import normalize_app
    from agents.worker import run

    run(normalize_app(settings, organisations, _reload))


def _reload() -> Organisations | None:
    try:
        return load_configuration()[1]
    except ConfigError as error:
        log.error("the configuration stays as it was: %s", error)
        return None
