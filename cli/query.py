"""`reports query`: reads the partition databases beside their worker, for the API's pages of recipients and events.

It needs Redis to be found by the API, and Kafka only at its start, to see which installation this is. One per state
folder; a second one does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
import uvicorn
import uvloop

from api.query.announcer import Announcer
from api.query.partitions import Partitions
from api.query.server import QueryServer
from app.configuration import fingerprints
from app.settings import PREFIX, Settings
from cli.config import load_settings
from cli.identity import identify
from cli.listening import listen, raise_file_limit
from cli.logs import set_up_logging
from tables.own_files import OwnFiles
from tables.presence import Presence, presence
from tables.redis_client import redis_of
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
    settings = load_settings()
    set_up_logging(settings.log_level)
    with listen(msgspec.structs.replace(settings, http=settings.query), f"{PREFIX}QUERY") as sock:
        settings = identify(settings, state=state, wait_s=None).settings
        raise_file_limit()  # a reader holds all files of its databases open
        with OwnFiles() as files:
            uvloop.run(serve(settings, state or settings.data / "state", sock, files.path))


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again in the end: an orderly stop would look like a death."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        # No configuration is read but settings, and these need a restart: nothing to do.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(settings: Settings, state: Path, sock: socket.socket, own_files: Path) -> None:
    """Answers and announces until a signal."""
    partitions = Partitions(state, settings.secret, own_files)
    queries = QueryServer(partitions, settings.secret)
    redis = redis_of(settings)
    announcer = Announcer(redis, partitions, state, url_of(sock))
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
    since_ms = int(time.time() * 1000)
    configuration = fingerprints(settings, None)

    def said() -> Presence:
        return presence(
            settings.rules, since_ms, int(time.time() * 1000), role="query", configuration=configuration
        )

    telling = asyncio.create_task(tell(redis, name, said), name="presence")
    announcing = asyncio.create_task(announcer.run(), name="announcer")
    serving = asyncio.create_task(Server(config).serve([sock]), name="server")
    try:
        # A bug in any ends the process, and its parent starts it again.
        done, _ = await asyncio.wait((announcing, serving, telling), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (announcing, serving, telling):
            task.cancel()
        await asyncio.gather(announcing, serving, telling, return_exceptions=True)
        await announcer.stop()
        await take_back(redis, name)
        await redis.aclose()
        queries.close()
        partitions.close()
