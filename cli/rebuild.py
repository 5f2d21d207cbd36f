"""`reports rebuild`: makes the state anew, from the recipients (by the settings' verdict rules) or from the log.

The workers do it, each for the databases of its own folder; this asks them and waits. Readers keep the old numbers
until the new ones are there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import click
from redis import RedisError
from rich.console import Console

from app.errors import StateError
from app.settings import Settings
from cli.config import load_settings
from cli.identity import identify
from cli.progress import Progress
from cli.verifier.stored import owners
from tables.rebuilds import Request, write_request
from tables.redis_client import redis_of
from tables.views import Fence, ViewReader

POLL_S = 0.25


@click.command()
@click.option(
    "--from-log", is_flag=True, help="Forget the state and count topic facts again from its first record."
)
@click.option("--wait", default=3600.0, show_default=True, help="Seconds to wait for the workers; 0: don't.")
def command(*, from_log: bool, wait: float) -> int:
    """Make sums, sections and index anew from the recipients, by the verdict rules of the settings."""
    settings = identify(load_settings()).settings
    try:
        return asyncio.run(_rebuild(settings, from_log, wait))
    except RedisError as error:
        raise StateError(f"Redis can't be read: {error}") from None


async def _rebuild(settings: Settings, from_log: bool, wait_s: float) -> int:
    redis = redis_of(settings, timeout_s=5)
    try:
        owned = await owners(redis)
        if not owned:
            raise StateError("no worker has owned a partition yet: start `reports aggregate`")
        reader = ViewReader(redis, settings.partitions)
        before = await reader.partition_offsets()
        request = Request(secrets.token_hex(8), from_log)
        folders = {Path(owner.state).parent for owner in owned.values()}
        for folder in sorted(folders):
            if not folder.is_dir():
                raise StateError(f"{folder} is not on this machine: run this where the worker runs")
        for folder in sorted(folders):
            write_request(folder, request)
        if not wait_s:
            return 0
        return await _wait(reader, before, wait_s)
    finally:
        await redis.aclose()


async def _wait(reader: ViewReader, before: dict[int, Fence], wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    with Progress("partitions", len(before)) as progress:
        while True:
            now = await reader.partition_offsets()
            done = [
                p
                for p, fence in before.items()
                if p in now and now[p].generation > fence.generation and now[p].offset >= fence.offset
            ]
            progress.at(len(done))
            if len(done) == len(before):
                break
            if time.monotonic() > deadline:
                raise StateError(
                    f"{len(done)} of {len(before)} partitions are rebuilt after {wait_s:.0f} s; the workers go on "
                    "by themselves, their log tells how far they are"
                )
            await asyncio.sleep(POLL_S)
    Console(stderr=True).print(f"{len(before)} partitions rebuilt")
    return 0
