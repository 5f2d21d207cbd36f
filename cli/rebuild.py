"""`reports rebuild`: computes the state again, from the recipients (by the settings' verdict rules) or from the log.

The workers do it, each for its own databases; this asks them through Redis, so it runs on any host, and waits until the
numbers of every partition are of a higher generation and as far as those before, which readers keep until then.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import cast

import click
from redis import RedisError
from redis.asyncio import Redis
from rich.console import Console

from agents.set_aside import SET_ASIDE
from app.errors import StateError, TryLater
from app.settings import Settings
from app.topics import FACTS
from app.words import number_of
from cli.config import load_settings
from cli.identity import identify
from cli.progress import Progress
from cli.verifier.stored import owners
from tables.completeness import lacking_of_published, partitions_of
from tables.conditions import Condition
from tables.presence import WORKERS, conditions_of
from tables.rebuilds import Request, ask
from tables.redis_client import redis_of, redis_words
from tables.redis_clock import time_ms
from tables.views import NUMBERS, SECTIONS, Fence, fences_of

POLL_S = 0.25


@click.command()
@click.option(
    "--from-log", is_flag=True, help="Forget the state and count topic facts again from its first record."
)
@click.option("--wait", default=3600.0, show_default=True, help="Seconds to wait for the workers; 0: don't.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --from-log: say whether topic facts still has everything, and do nothing.",
)
def command(*, from_log: bool, wait: float, dry_run: bool) -> int:
    """Compute sums, sections, index and sketches again from the recipients, by the verdict rules of the settings.

    Runs on any host: the workers are asked through Redis.
    """
    if dry_run and not from_log:
        raise click.UsageError("--dry-run goes with --from-log")
    settings = identify(load_settings()).settings
    if from_log:
        check_log(settings)
    if dry_run:
        click.echo(f"topic {FACTS} still has all that was counted: nothing would be lost")
        return 0
    try:
        return asyncio.run(_rebuild(settings, from_log, wait))
    except RedisError as error:
        raise StateError(redis_words(error, settings.redis)) from None


def check_log(settings: Settings) -> None:
    """Raises StateError where the log no longer has what was counted: counted again, it would be gone for good; and
    TryLater where that can't be told of every partition."""
    known = lacking_of_published(settings, range(settings.partitions))
    if lacks := partitions_of(known):
        raise StateError(
            f"topic {FACTS} no longer has all that was counted of partition {lacks}. `reports rebuild` without "
            "--from-log makes everything anew from the recipients, and loses nothing"
        )
    if unknown := sorted(set(range(settings.partitions)) - known.keys()):
        raise TryLater(
            1,
            f"the log of partition {', '.join(map(str, unknown))} can't be read at the moment, so nobody can say "
            "whether it has all that was counted: see that all of Kafka's brokers run, and try again",
        )


async def _rebuild(settings: Settings, from_log: bool, wait_s: float) -> int:
    redis = redis_of(settings, timeout_s=5)
    try:
        if not await owners(redis):
            raise StateError("no worker has owned a partition yet: start `reports aggregate`")
        before = await _positions(redis)
        await ask(redis, Request(secrets.token_hex(8), from_log))
        return await _wait(redis, before, settings.partitions, wait_s) if wait_s else 0
    finally:
        await redis.aclose()


async def _wait(redis: Redis, before: list[dict[int, Fence]], partitions: int, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    with Progress("partitions", partitions) as progress:
        while True:
            now = await _positions(redis)
            left = [
                partition
                for partition in range(partitions)
                if not all(
                    _rebuilt(then.get(partition), later.get(partition))
                    for then, later in zip(before, now, strict=True)
                )
            ]
            presences = cast(dict[bytes, bytes], await redis.hgetall(WORKERS))
            said = conditions_of(presences, time_ms(await redis.time()))
            progress.at(partitions - len(left), _told(left, said))
            if not left:
                break
            if aside := _set_aside(left, said):
                raise StateError(
                    f"{number_of(partitions - len(left), 'partition')} rebuilt; {', '.join(map(str, sorted(aside)))} "
                    f"can't be before they are counted again, which they then are by themselves: {aside[min(aside)]}"
                )
            if time.monotonic() > deadline:
                raise StateError(
                    f"{partitions - len(left)} of {number_of(partitions, 'partition')} rebuilt after {wait_s:.0f} s, "
                    f"not yet {', '.join(map(str, left))}; the workers go on by themselves, `reports lag` and "
                    "/ops/workers tell how far they are"
                )
            await asyncio.sleep(POLL_S)
    Console(stderr=True).print(f"{number_of(partitions, 'partition')} rebuilt")
    return 0


async def _positions(redis: Redis) -> list[dict[int, Fence]]:
    return [
        fences_of(cast(dict[bytes, bytes], await redis.hgetall(channel.positions)))
        for channel in (NUMBERS, SECTIONS)
    ]


def _rebuilt(before: Fence | None, now: Fence | None) -> bool:
    if now is None or before is None:
        return now is not None
    caught_up = now.topic != before.topic or now.offset >= before.offset
    return now.generation > before.generation and caught_up


def _set_aside(left: list[int], conditions: Sequence[Condition]) -> dict[int, str]:
    """Partition → what its worker says, where all that are left are set aside; empty while any other is under way."""
    said = {
        condition.partition: condition.message
        for condition in conditions
        if condition.code == SET_ASIDE and condition.partition in left
    }
    return {p: said[p] for p in left} if set(left) == said.keys() else {}


def _told(left: list[int], conditions: Sequence[Condition]) -> str:
    """How far the partitions are that are left, as their workers say it."""
    said = {
        condition.partition: condition.progress for condition in conditions if condition.progress is not None
    }
    return ", ".join(
        f"{partition}: {said[partition]:.0%}" if partition in said else f"{partition}: waits"
        for partition in left
    )
