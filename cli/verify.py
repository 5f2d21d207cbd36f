"""`reports verify LEDGER`: every number anew from what was sent, compared with all the places that show it.

Exit status: 0 no difference; 1 differences, or the lag did not come to an end in time; 2 used wrongly; 3 a database
can't be read or is on another machine, or Kafka or Redis didn't answer.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import click
from confluent_kafka import KafkaException
from redis import RedisError
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from app.errors import StateError, TryLater
from app.organisations import Organisations
from app.settings import Settings
from app.topics import FACTS
from app.words import number_of
from cli.config import load_configuration
from cli.identity import identify
from cli.keys import Missing
from cli.owned import elsewhere
from cli.progress import Progress
from cli.streams import Position, Streams
from cli.verifier import erasures, stored
from cli.verifier.answers import compare_pages
from cli.verifier.compare import Comparison
from cli.verifier.ledger import Campaign, Ledger, read_ledger
from cli.verifier.shown import Pages
from cli.verifier.verdicts import Thresholds
from cli.verifier.verification import Expected, compare_database, compare_views, expect
from tables.kafka_clients import kafka_words
from tables.places import open_places
from tables.redis_client import redis_of, redis_words
from tables.views import SECTION_PARTITIONS, fence_of

POLL_S = 0.25


class LagError(Exception):
    """What was accepted is not counted in time."""


@click.command()
@click.argument("ledger", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--timeout", "timeout_s", default=300.0, show_default=True, help="Seconds to wait for lag 0.")
@click.option("--base-url", default="", help="Where the API is; the settings' address if not given.")
def command(ledger: Path, timeout_s: float, base_url: str) -> int:
    """Recompute every number from LEDGER and compare it with RocksDB, Redis, the API's JSON and its event streams."""
    settings, organisations = load_configuration(missing=Missing.REFUSE)
    settings = identify(settings).settings
    try:
        wanted = read_ledger(ledger)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(
        f"{number_of(wanted.fact_count, 'fact')} of {number_of(len(wanted.facts), 'campaign')} "
        f"({number_of(wanted.duplicates, 'duplicate')}, {number_of(sum(wanted.poison.values()), 'broken thing')})",
        err=True,
    )
    if wanted.unsure:
        raise click.UsageError(
            f"{wanted.unsure} requests were never accepted: nobody knows whether they count"
        )
    api = base_url or f"http://{settings.http}"
    places, _ = open_places(settings.geoip, settings.data)
    wanted.locate(places.look_up)
    places.close()
    try:
        return show(*asyncio.run(_verify(settings, organisations, wanted, timeout_s, api)))
    except LagError as error:
        click.echo(f"reports: {error}", err=True)
        return 1
    except RedisError as error:
        raise StateError(redis_words(error, settings.redis)) from None


async def _verify(
    settings: Settings, organisations: Organisations, ledger: Ledger, timeout_s: float, base_url: str
) -> tuple[Comparison, str]:
    """What was compared, and why that is not all; empty: it is."""
    with Progress("records", None) as progress, Streams(settings) as streams:
        positions = await wait_for_no_lag(streams, timeout_s, progress)
    result = Comparison()
    limits = Thresholds(
        settings.burst_links, settings.burst_ms, settings.click_after_ms, settings.open_after_ms
    )
    ends = {position.partition: position.end for position in positions if position.topic == FACTS}
    erased = await asyncio.to_thread(erasures.read_erased, settings.kafka, ends)
    ledger.erased = erasures.of_ledger(ledger, erased, settings.secret)
    wanted = {campaign: expect(ledger, campaign, limits) for campaign in ledger.campaigns()}
    redis = redis_of(settings, timeout_s=10)
    try:
        owned = await stored.owners(redis)
        await wait_for_sections(redis, ends, timeout_s)
        there = elsewhere(owned)
        if not there:  # sums are those of all partitions together
            database = await asyncio.to_thread(stored.read_databases, owned, ends)
            compare_database(result, ledger, wanted, database)
        views = await stored.read_views(redis, settings, list(wanted))
        rows = {campaign: stored.rows_of_view(view) for campaign, view in views.items() if view}
        compare_views(result, wanted, views, rows)
    finally:
        await redis.aclose()
    await asyncio.to_thread(_compare_pages, result, organisations, ledger, wanted, base_url)
    if not there:
        return result, ""
    return (
        result,
        f"RocksDB is not compared with the ledger: {'; '.join(there)} (run `reports reconcile --here` on each machine)",
    )


def _compare_pages(
    result: Comparison,
    organisations: Organisations,
    ledger: Ledger,
    wanted: dict[Campaign, Expected],
    base_url: str,
) -> None:
    for org in sorted({org for org, _ in wanted}):
        organisation = organisations.by_id[org]
        key = next(key for key in organisation.keys if "read" in key.scopes)
        with Pages(base_url, key.secret.decode()) as pages:
            compare_pages(result, ledger, wanted, org, pages, organisation.timezone)


async def wait_for_no_lag(streams: Streams, timeout_s: float, progress: Progress) -> list[Position]:
    """Positions in which nothing is left to do. Raises LagError when that takes too long."""
    deadline = time.monotonic() + timeout_s
    said = ""
    while True:
        unavailable = ""
        try:
            positions = await streams.all()
            lag = sum(position.lag for position in positions)
            if lag == 0:
                return positions
            last = f"{number_of(lag, 'record')} not yet counted"
            progress.at(sum(position.done for position in positions), last)
        except KafkaException as error:
            last = unavailable = kafka_words(error, streams.kafka)
        except RedisError as error:
            last = unavailable = redis_words(error, streams.redis)
        except TryLater as error:
            last = unavailable = str(error)
        if unavailable and unavailable != said:
            progress.say(f"waiting: {unavailable}")
        said = unavailable
        if time.monotonic() > deadline:
            raise LagError(f"no lag of 0 within {timeout_s:g} s: {last}")
        await asyncio.sleep(POLL_S)


async def wait_for_sections(redis: Redis, ends: dict[int, int], timeout_s: float) -> None:
    """The rows of the sections are published behind the other numbers. Raises LagError when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        stored = cast(dict[bytes, bytes], await redis.hgetall(SECTION_PARTITIONS))
        done = {int(partition): fence_of(text) for partition, text in stored.items()}
        behind = [
            partition
            for partition, end in ends.items()
            if end and ((fence := done.get(partition)) is None or fence.offset < end)
        ]
        if not behind:
            return
        if time.monotonic() > deadline:
            raise LagError(f"the sections of partitions {behind} are not published within {timeout_s:g} s")
        await asyncio.sleep(POLL_S)


def show(result: Comparison, unseen: str = "") -> int:
    """The table and the first differences; gives the exit status. `unseen`: what was not looked at.

    Raises StateError where there is no difference, and something was not looked at.
    """
    console = Console()
    table = Table(box=None, header_style="bold")
    for name, justify in (
        ("place", "left"),
        ("section", "left"),
        ("compared", "right"),
        ("differences", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for (place, section), cell in result.cells.items():
        style = "red" if cell.differences else None
        table.add_row(place, section, str(cell.compared), str(cell.differences), style=style)
    console.print(table)
    for (place, section), cell in result.cells.items():
        for told in cell.told:
            console.print(f"{place}, {section}: {told}", style="red", markup=False, highlight=False)
    console.print(number_of(result.differences, "difference") if result.differences else "no difference")
    if unseen and not result.differences:
        raise StateError(unseen)
    if unseen:
        click.echo(f"reports: {unseen}", err=True)
    return 1 if result.differences else 0
