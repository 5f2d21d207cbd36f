"""`reports check`: says what is wrong with the configuration, in one line each; writes nothing.

It asks Kafka, where it answers, whether this host may start under the installation there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from app.errors import ConfigError
from app.organisations import Organisations
from app.settings import Settings
from app.words import number_of
from cli.complaints import complaint, complaints
from cli.config import COPY_KEYS, ConfigFile, ensure_data_folder, load_with_keys, read_file
from cli.identity import why_no_start
from cli.keys import Missing, describe_absent, not_to_be_made
from tables.places import Places, default_geoip, open_places


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, file: Path | None) -> None:
    """Read the configuration and say what is wrong, or why no role would start; exit status 2 if anything is.

    FILE is judged as if it stood in the place of reports.toml, before it is put there: paths in it are relative to that
    one's folder.
    """
    wrong, warnings, summary = check(os.environ, file)
    for line in wrong:
        click.echo(f"wrong: {line}", err=True)
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    if wrong:
        ctx.exit(2)
    click.echo(summary)


def check(environ: Mapping[str, str], path: Path | None = None) -> tuple[list[str], list[str], str]:
    """What is wrong, what is worth a warning, and a line that sums up what is right. `path`: of another file."""
    path = path or Path(environ.get("REPORTS_CONFIG") or Settings().config)
    try:
        file: ConfigFile | ConfigError = read_file(path)
    except ConfigError as error:
        file = error
    wrong = list(dict.fromkeys(complaints(environ, file)))
    if isinstance(file, ConfigError):
        return wrong, [], ""
    try:
        settings, organisations, keys = load_with_keys(environ, missing=Missing.LEAVE_OUT, file=file)
        lost = not_to_be_made(settings.data, keys.absent)
    except ConfigError as error:
        return wrong or [str(error)], [], ""
    wrong += _wrong(settings)
    warnings = list(_warnings(settings, organisations))
    if lost:
        warnings.append(
            f"{describe_absent(lost)}: requests for the sources and API keys that need them are told to try again "
            f"later on this host; {COPY_KEYS}"
        )
    return wrong, warnings, _summary(path, settings, organisations)


def _wrong(settings: Settings) -> Iterator[str]:
    # The folder itself is made by whatever is started first; here only what stands in its way.
    if settings.data.exists():
        try:
            ensure_data_folder(settings.data)
        except ConfigError as error:
            yield str(error)
    else:
        above = next(parent for parent in settings.data.parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            yield f"REPORTS_DATA: {settings.data} can't be made in {above}"
    for folder in (settings.data / name for name in ("run", "state")):
        if folder.exists() and not folder.is_dir():
            yield f"{folder} is no folder: move it away, it is made again"
    try:
        if refusal := why_no_start(settings):
            yield f"no role of this host will start: {refusal}"
    except ConfigError as error:
        yield str(error)
    if settings.geoip:
        yield from complaint(lambda: Places(settings.geoip).close())


def _warnings(settings: Settings, organisations: Organisations) -> Iterator[str]:
    if not settings.geoip and default_geoip(settings.data):
        places, line = open_places("", settings.data)
        places.close()
        if line:
            yield line
    if not organisations.by_id:
        yield "orgs: there is no organisation, so nothing can be sent and nothing be shown"
    for organisation in organisations.by_id.values():
        if not organisation.keys:
            yield f"orgs.{organisation.id}.keys: there is no key, so nobody can sign in"
        for source in organisation.sources.values():
            if source.insecure:
                yield f"orgs.{organisation.id}.sources.{source.name}.insecure: takes webhooks from anybody"


def _summary(path: Path, settings: Settings, organisations: Organisations) -> str:
    keys = sum(len(organisation.keys) for organisation in organisations.by_id.values())
    sources = sum(len(organisation.sources) for organisation in organisations.by_id.values())
    places = (
        settings.geoip or default_geoip(settings.data) or "the ESPs alone (`reports geo` fetches a database)"
    )
    return (
        f"{path.absolute()} is right: {number_of(len(organisations.by_id), 'organisation')}, "
        f"{number_of(sources, 'source')}, {number_of(keys, 'key')}; "
        f"Kafka {settings.kafka or 'own'}, Redis {'as set' if settings.redis else 'own'}, data in {settings.data}; "
        f"places from {places}"
    )
