"""`reports query`: reads the partition databases beside their worker, for the API's pages of recipients and events.

It needs Redis to be found by the API, and Kafka only at its start, to see which installation this is, and to say what
may be done about a database that can't be read. One per state folder; a second one does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec
import uvicorn
import uvloop

from api.query.announcer import Announcer
from api.query.exports import COMMAND
from api.query.partitions import Partitions
from api.query.reach import Reach
from api.query.server import QueryServer
from app.configuration import fingerprints
from app.settings import PREFIX, Settings
from cli.identity import identify
from cli.leash import leashed
from cli.listening import listen, raise_file_limit
from cli.role_configuration import Follow, begin_role
from tables.background import Background
from tables.completeness import lacking_of_published
from tables.conditions import Conditions
from tables.own_files import OwnFiles
from tables.presence import Presence, presence
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock, keep_time, measured_clock
from tables.telling import take_back, tell

GRACE_S: Final = 1
"""What is under way is done within this time: a page looks for 50 ms."""
KEEP_ALIVE_S: Final = 300


@click.command()
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the partition databases (default: state in the data folder): that of the worker beside it.",
)
def command(state: Path | None) -> None:
    """Read recipients, events and long tails for the API, beside the worker that counts."""
    configuration = begin_role(only_settings=True)
    settings = configuration.settings
    with listen(msgspec.structs.replace(settings, http=settings.query), f"{PREFIX}QUERY") as sock:
        settings = configuration.settle(identify(settings, state=state, wait_s=None))
        raise_file_limit()  # a reader holds all files of its databases open
        with OwnFiles() as files:
            clock = measured_clock(settings.redis)
            state = state or settings.data / "state"
            uvloop.run(serve(settings, configuration.follow, state, sock, files.path, clock))


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again in the end: an orderly stop would look like a death."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(
    settings: Settings, follow: Follow, state: Path, sock: socket.socket, own_files: Path, clock: RedisClock
) -> None:
    """Answers and announces until a signal."""
    conditions = Conditions(clock.seconds)
    background = Background(conditions, wall=clock.seconds)
    partitions = Partitions(state, settings.secret, own_files)
    queries = QueryServer(partitions, settings.secret, leashed(signal.SIGKILL, [*COMMAND]))
    redis = redis_of(settings)
    announcer = Announcer(redis, partitions, state, url_of(sock), clock=clock, conditions=conditions)
    reach = Reach(redis, url_of(sock), conditions, clock)
    config = uvicorn.Config(
        queries.app(),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        log_level=settings.log_level,
        log_config=None,
    )
    name = f"{socket.gethostname()}:{sock.getsockname()[1]}"
    since_ms = clock.now_ms()
    configuration = fingerprints(settings, None)

    def said() -> Presence:
        return presence(
            settings.rules,
            since_ms,
            clock.now_ms(),
            role="query",
            conditions=conditions.current(),
            configuration=configuration,
        )

    beside = [
        background.task("announcer", announcer.run),
        background.task("reach", reach.run),
        background.task("log", lambda: partitions.faults.watch_log(partial(lacking_of_published, settings))),
        background.task("presence", lambda: tell(redis, name, said)),
        background.task("clock", lambda: keep_time(redis, clock, conditions)),
        # Only settings are of use here, and these take effect with the next start.
        background.task("reload", lambda: follow(conditions, lambda _: None)),
    ]
    try:
        await Server(config).serve([sock])
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await announcer.stop()
        await take_back(redis, name)
        await redis.aclose()
        await queries.close()
        partitions.close()
