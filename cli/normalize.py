"""`reports normalize`: the worker that turns webhooks into facts."""

from __future__ import annotations

import logging
from functools import partial

import click

from app.errors import ConfigError
from app.organisations import Organisations
from cli.config import Missing, load_configuration
from cli.identity import identify
from cli.logs import set_up_logging

log = logging.getLogger("reports.normalize")


@click.command()
def command() -> None:
    """Turn webhooks into facts: topic webhooks to topic facts, dead letters to webhooks.dead."""
    settings, _ = load_configuration()  # what is wrong with it is said before anything else
    set_up_logging(settings.log_level)
    found = identify(settings, wait_s=None)
    _, organisations = load_configuration(missing=found.missing)
    # Faust takes a second to import: after the checks, so that their errors are there at once.
    from agents.normalize import normalize_app
    from agents.worker import run

    run(normalize_app(found.settings, organisations, partial(_reload, found.missing)))


def _reload(missing: Missing) -> Organisations | None:
    try:
        return load_configuration(missing=missing)[1]
    except ConfigError as error:
        log.error("the configuration stays as it was: %s", error)
        return None
