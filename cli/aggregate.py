"""`reports aggregate`: the worker that counts facts."""

from __future__ import annotations

from pathlib import Path

import click

from cli.identity import identify
from cli.role_configuration import begin_role
from cli.topic_checks import differences


@click.command()
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the partition databases (default: state in the data folder). Workers of one machine may share it.",
)
def command(state: Path | None) -> None:
    """Count facts: topic facts to the partition databases and the views in Redis."""
    configuration = begin_role(only_settings=True)
    settings = configuration.settle(identify(configuration.settings, state=state, wait_s=None))
    # Faust takes a second to import: after the checks, so that their errors are there at once.
    from agents.aggregate import aggregate_app
    from agents.worker import run

    run(
        aggregate_app(
            settings, state or settings.data / "state", configuration.follow, lambda: differences(settings)
        )
    )
