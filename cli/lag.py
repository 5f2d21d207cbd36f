"""`reports lag`: records that are accepted and not yet counted, per topic and partition, once or until Ctrl-C."""

from __future__ import annotations

import asyncio

import click
import msgspec
from confluent_kafka import KafkaException
from redis import RedisError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from api.lag import judge
from api.log_positions import LogPositions
from app.errors import StateError
from app.settings import Settings
from cli.addresses import wait_for_addresses
from cli.config import load_settings
from cli.identity import known_identity
from cli.streams import Position, Streams
from tables.conditions import worst
from tables.missing_topics import kafka_trouble
from tables.redis_client import redis_words
from tables.redis_clock import measured_clock

EVERY_S = 1.0
TRIES = 6
"""New clients may need more than the half second of one try to find who has a record."""


@click.command()
@click.option("--follow", is_flag=True, help="Show it anew every second, until Ctrl-C.")
def command(*, follow: bool) -> int:
    """Show the stream lag per topic and partition."""
    settings = wait_for_addresses(load_settings(), timeout_s=5.0)
    settings = msgspec.structs.replace(settings, installation=known_identity(settings).id)
    try:
        with Streams(settings) as streams:
            asyncio.run(_show(streams, follow=follow))
        click.echo(health(settings), nl=False)
    except KeyboardInterrupt:
        return 0
    except KafkaException as error:
        words = kafka_trouble(error, settings.kafka, settings.partitions)
        raise StateError(f"the positions can't be read: {words}") from None
    except RedisError as error:
        raise StateError(f"the positions can't be read: {redis_words(error, settings.redis)}") from None
    return 0


async def _show(streams: Streams, *, follow: bool) -> None:
    console = Console()
    before = await streams.all()
    if not follow:
        console.print(table(before))
        return
    with Live(table(before), console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(EVERY_S)
            now = await streams.all()
            live.update(table(now, before, EVERY_S), refresh=True)
            before = now


def health(settings: Settings) -> str:
    """Why reports are stale, and what is wrong with the workers, as `/ops/lag` and `/ops/workers` say it, in one line;
    empty where nothing is. Raises KafkaException and RedisError."""
    positions = LogPositions(settings.kafka, settings.redis, settings.partitions, settings.installation)
    try:
        ends, _ = positions.ends()
        places = positions.places(ends)
        conditions = positions.conditions()
        behind = {key for key, place in places.items() if place.start < place.end}
        for _ in range(TRIES):
            oldest = positions.oldest_times(places)
            if behind <= oldest.keys():
                break
        _, _, reason = judge(places, oldest, now_ms=measured_clock(settings.redis).now_ms())
    finally:
        positions.close()
    known = worst(conditions)
    said = [f"stale: {known.reason if known is not None else reason}"] if known or reason else []
    if codes := sorted({one.code for one in conditions}):
        said.append(f"conditions: {', '.join(codes)}")
    return f"{'; '.join(said)}; see GET /ops/workers, or the page Operations\n" if said else ""


def table(positions: list[Position], before: list[Position] | None = None, seconds: float = 1.0) -> Table:
    """One line per partition, and the sum of each topic."""
    shown = Table(box=None, header_style="bold")
    shown.add_column("topic")
    for name in ("partition", "end", "done", "lag", *(("records/s",) if before else ())):
        shown.add_column(name, justify="right")
    done_before = {(position.topic, position.partition): position.done for position in before or ()}
    for topic in dict.fromkeys(position.topic for position in positions):
        of_topic = [position for position in positions if position.topic == topic]
        for position in of_topic:
            cells = [str(position.partition), str(position.end), str(position.done), str(position.lag)]
            if before:
                moved = position.done - done_before.get((topic, position.partition), position.done)
                cells.append(f"{moved / seconds:.0f}")
            shown.add_row(topic, *cells, style="yellow" if position.lag else None)
        shown.add_row(topic, "all", "", "", str(sum(position.lag for position in of_topic)), style="bold")
    return shown
