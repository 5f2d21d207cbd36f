"""`reports export recipients CAMPAIGN` and `reports export events CAMPAIGN`: CSV to a file or to standard output.

The partition databases are read where their workers keep them, as of one moment each and without a word to the workers;
so it runs on the workers' machine. Elsewhere there is `GET …/exports/recipients.csv`. Up to which offset each partition
was counted stands on standard error. A file is there when it is complete, or not at all.
Exit status: 0; 1 nobody reads any more; 2 used wrongly, or no such campaign; 3 it can't be read or written now.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from app.errors import StateError, TryLater
from app.facts import TYPE_NAMES, TYPE_NUMBERS
from app.filters import STATUSES, EventFilter, RecipientFilter
from app.keys import campaign_key, normalise_address, recipient_key, text_id
from app.organisations import Organisations
from app.settings import Settings
from app.summary import Count
from app.verdicts import VERDICT_NAMES
from app.words import number_of
from cli.config import load_configuration
from cli.identity import identify
from cli.moments import Moment as MomentType
from cli.owned import Owned, elsewhere, owned
from cli.progress import Progress
from tables import exports
from tables.csv_output import CsvOutput, write_all
from tables.exports import Asked
from tables.moments import Moment, small_cache
from tables.sorting import Sorter

_LINK_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


@click.group()
def command() -> None:
    """Recipients or the event log of a campaign as CSV."""


def _shared(function: Callable[..., int]) -> Callable[..., int]:
    """What both have."""
    for decorate in reversed(
        (
            click.argument("campaign"),
            click.option("--org", help="The organisation; needed where there are several."),
            click.option(
                "--output",
                "-o",
                type=click.Path(path_type=Path, dir_okay=False),
                help="File; else standard output.",
            ),
            click.option(
                "--gzip", "packed", is_flag=True, help="Compress it (so does a FILE that ends with .gz)."
            ),
            click.option(
                "--variant",
                "variants",
                multiple=True,
                metavar="FIELD=VALUE",
                help="With this value; several may stand.",
            ),
            click.option("--link", help="Who or what clicked this link: its address, or its id."),
        )
    ):
        function = decorate(function)
    return function


@command.command()
@_shared
@click.option("--count", type=click.Choice(["all", "people"]), default="all", show_default=True)
@click.option("--status", type=click.Choice(STATUSES), help="The recipients that this number counts.")
@click.option("--country", help="The recipient's own, such as DE.")
@click.option("--search", help="The start of an address, or @ and the start of a domain.")
def recipients(
    campaign: str,
    org: str | None,
    output: Path | None,
    packed: bool,
    variants: Sequence[str],
    link: str | None,
    count: Count,
    status: str | None,
    country: str | None,
    search: str | None,
) -> int:
    """All recipients of CAMPAIGN, by address."""
    settings, owner = _configured(org)
    wanted = RecipientFilter(
        status, _variants(variants), _link(link), country, normalise_address(search or "") or None
    )
    asked = Asked(campaign=campaign_key(settings.secret, owner, campaign), recipients=wanted, count=count)
    return _export(settings, asked, f"{owner}/{campaign}", output, packed)


@command.command()
@_shared
@click.option("--type", "kind", type=click.Choice(TYPE_NAMES))
@click.option("--recipient", help="An address: only this recipient's.")
@click.option("--verdict", type=click.Choice(VERDICT_NAMES), help="Only opens and clicks of this verdict.")
@click.option("--from", "since", type=MomentType(), help="From this time on.")
@click.option("--to", "until", type=MomentType(), help="Before this time.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True)
def events(
    campaign: str,
    org: str | None,
    output: Path | None,
    packed: bool,
    variants: Sequence[str],
    link: str | None,
    kind: str | None,
    recipient: str | None,
    verdict: str | None,
    since: int | None,
    until: int | None,
    order: str,
) -> int:
    """The event log of CAMPAIGN, by time."""
    settings, owner = _configured(org)
    key = campaign_key(settings.secret, owner, campaign)
    wanted = EventFilter(
        type=TYPE_NUMBERS[kind] if kind is not None else None,
        recipient=recipient_key(settings.secret, key, normalise_address(recipient)) if recipient else None,
        link=_link(link),
        verdict=VERDICT_NAMES.index(verdict) if verdict is not None else None,
        variant=_variants(variants),
        from_ms=since,
        to_ms=until,
    )
    asked = Asked(campaign=key, events=wanted, descending=order == "desc")
    return _export(settings, asked, f"{owner}/{campaign}", output, packed)


def _configured(org: str | None) -> tuple[Settings, str]:
    settings, organisations = load_configuration()
    owner = _org_of(organisations, org)
    return identify(settings).settings, owner


def _org_of(organisations: Organisations, named: str | None) -> str:
    known = sorted(organisations.by_id)
    if named is None and len(known) == 1:
        return known[0]
    if named is None or named not in organisations.by_id:
        raise click.UsageError(
            f"--org must be one of: {', '.join(known) or 'there is none in the configuration'}"
        )
    return named


def _variants(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.UsageError(f"--variant {text}: must be FIELD=VALUE")
        pairs.append((name, value))
    return tuple(sorted(pairs))


def _link(text: str | None) -> int | None:
    if text is None:
        return None
    return int(text, 16) if _LINK_ID.fullmatch(text) else text_id(text)


def _export(settings: Settings, asked: Asked, name: str, output: Path | None, packed: bool) -> int:
    known = owned(settings)
    paths = _paths(settings, known)
    with contextlib.ExitStack() as stack:
        # Nothing here makes cycles, and looking for them takes a fifth of the time.
        gc.disable()
        stack.callback(gc.enable)
        cache = small_cache()
        try:
            moments = {
                partition: stack.enter_context(contextlib.closing(Moment(path, cache)))
                for partition, path in paths.items()
            }
        except TryLater as error:
            raise StateError(error.message) from None
        if short := [said for p, moment in moments.items() if (said := known.shortage(p, moment.fence()))]:
            raise StateError(f"it would not be complete: {'; '.join(short)}")
        if all(moment.campaign_row(asked.campaign) is None for moment in moments.values()):
            raise click.UsageError(f"there is no campaign {name}")
        offsets = ",".join(f"{partition}={moment.offset}" for partition, moment in moments.items())
        scratch = output.absolute().parent if output is not None else next(iter(paths.values())).parent
        sorter = stack.enter_context(
            contextlib.closing(Sorter(scratch if os.access(scratch, os.W_OK) else None))
        )
        try:
            with _target(output) as descriptor:
                rows = _write(asked, moments, sorter, descriptor, packed or str(output).endswith(".gz"))
        except BrokenPipeError:
            return 1
        except OSError as error:
            raise StateError(f"it can't be written: {error.strerror or error}") from None
    Console(stderr=True).print(f"{number_of(rows, 'row')}; offsets {offsets}", highlight=False)
    return 0


def _write(asked: Asked, moments: dict[int, Moment], sorter: Sorter, descriptor: int, packed: bool) -> int:
    unit = "recipients" if asked.events is None else "events"
    filtered = asked.events is not None and asked.events.parts > 0
    total = None if filtered else exports.total_of(asked, moments)
    output = CsvOutput(write_all(descriptor), exports.header_of(asked), gzip=packed)
    rows_of = exports.rows_of(asked)
    rows = 0
    with Progress(unit, total) as progress:

        def tell(read: int) -> None:
            progress.at(read, number_of(rows, "row") if rows else "")

        for block in exports.records(asked, moments, sorter, tell):
            if block:
                output.rows(rows_of(block))
                rows += len(block)
        output.finish()
    return rows


@contextlib.contextmanager
def _target(path: Path | None) -> Iterator[int]:
    """Where it is written to: standard output, or a file that gets its name when it is complete."""
    if path is None:
        yield sys.stdout.fileno()
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with draft.open("wb") as file:
            yield file.fileno()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _paths(settings: Settings, known: Owned) -> dict[int, Path]:
    """The databases of all partitions. Raises StateError where one isn't on this machine."""
    missing = [str(partition) for partition in range(settings.partitions) if partition not in known.owners]
    if missing:
        raise StateError(f"partition {', '.join(missing)} has no worker yet: start `reports aggregate`")
    if there := elsewhere(known.owners):
        raise StateError(
            f"{'; '.join(there)}: run this where all of them are, or ask the API (GET …/exports/recipients.csv)"
        )
    return {partition: Path(known.owners[partition].state) for partition in range(settings.partitions)}
