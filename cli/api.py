"""`reports api`: one process that takes webhooks, answers reports and feeds event streams.

Rules:
- It listens at once. Until Kafka has said which installation this is (`cli.identity`), webhooks get what makes their
  ESP come again (`api.gate`).
- It starts without Redis: webhooks are taken all the same, reports are answered once it is there.
- SIGTERM and SIGINT: no new connections, streams end at once, requests under way get `GRACE_S`, then the process ends.
- SIGHUP reads the configuration anew; a bad file is refused and the old configuration stays. Settings (addresses,
  partitions, the secret) need a restart; organisations, keys and sources don't.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar, cast

import click
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.context import Context
from api.gate import Gate
from api.hub import LiveHub
from api.lag import LagMonitor
from api.live import TRANSPORT
from api.log_positions import LogPositions
from api.metrics import Metrics
from api.producer import Producer
from api.watch import Watch
from app.errors import ConfigError
from app.experiment import warm_up
from app.organisations import Organisations
from app.settings import Settings
from app.topics import RECORD_OVERHEAD
from cli.config import Missing, load_configuration, stored_secret
from cli.identity import identify
from cli.listening import BACKLOG, listen, raise_file_limit
from cli.logs import set_up_logging
from tables.redis_client import redis_of
from tables.views import ViewReader

log = logging.getLogger("reports.api")

GRACE_S: Final = 5
KEEP_ALIVE_S: Final = 75
"""Longer than proxies and ESPs keep an idle connection: who closes first must not be us, just when a request comes."""
MAX_HEAD_BYTES: Final = 1024 * 1024 + 64 * 1024
"""Of a request's line and headers: a signature of a megabyte is still told that it is wrong."""
_TOO_LARGE: Final = b'{"error":"headers_too_large","message":"the request\'s headers are too large"}'


_Result = TypeVar("_Result")


class Protocol(HttpToolsProtocol):
    """Hands the transport to the streams: only who can cut it gets rid of a client that doesn't read.

    uvicorn itself takes headers of any length: whoever sends one without end would fill the memory.
    """

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            head = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            tail = f"content-length: {len(_TOO_LARGE)}\r\nconnection: close\r\n\r\n"
            self.transport.write((head + tail).encode() + _TOO_LARGE)
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn waits for open requests before it tells the application; streams have to end before that."""

    context: Context | None = None
    """Once the installation is known."""

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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.context is not None:
            self.context.hub.end_all("shutdown")
        await super().shutdown(sockets)


@click.command()
def command() -> None:
    """Take webhooks and answer reports."""
    settings, organisations = load_configuration()
    set_up_logging(settings.log_level)
    with listen(settings) as sock:
        raise_file_limit()
        uvloop.run(serve(settings, organisations, sock))


def prepare(settings: Settings) -> tuple[Settings, Organisations, Missing]:
    """What the application is made of; blocks until the installation is known. Raises StateError and ConfigError."""
    found = identify(settings, wait_s=None)
    warm_up()  # here, where it keeps no webhook waiting
    return found.settings, load_configuration(missing=found.missing)[1], found.missing


def make_context(settings: Settings, organisations: Organisations) -> Context:
    """The process's shared parts; inside its event loop (the producer wants one)."""
    metrics = Metrics()
    redis = redis_of(settings)
    views = ViewReader(redis, settings.partitions)
    lag = LagMonitor(
        LogPositions(settings.kafka, settings.redis, settings.partitions, settings.installation), metrics
    )
    hub = LiveHub(redis, views, lag, metrics, secret=settings.secret, partitions=settings.partitions)
    producer = Producer(settings.kafka, max_message_bytes=settings.max_body + RECORD_OVERHEAD)
    return Context(
        settings=settings,
        organisations=organisations,
        secret=settings.secret,
        redis=redis,
        producer=producer,
        views=views,
        lag=lag,
        hub=hub,
        metrics=metrics,
    )


async def serve(settings: Settings, organisations: Organisations, sock: socket.socket) -> None:
    """Serves until a signal. `organisations`: which ESP a source is of, as long as the installation is not known."""
    gate = Gate(organisations)
    config = uvicorn.Config(
        gate,
        loop="none",
        http=Protocol,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        log_level=settings.log_level,
        log_config=None,
    )
    server = Server(config)
    host, port = sock.getsockname()[:2]
    click.echo(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    # What it would read anew is read when the installation is known.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    serving = asyncio.create_task(server.serve([sock]), name="server")
    preparing = in_thread(partial(prepare, settings))
    try:
        await asyncio.wait((serving, preparing), return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            settings, organisations, missing = preparing.result()
            context = make_context(settings, organisations)
            app = create_app(context)
            async with app.router.lifespan_context(app):
                server.context = context
                loop.add_signal_handler(signal.SIGHUP, reload, context, missing)
                gate.open(app)
                watch = Watch(context, f"{socket.gethostname()}:{port}")
                watch.start()
                try:
                    await serving
                finally:
                    await watch.stop()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        server.should_exit = True
        await serving


def in_thread(function: Callable[[], _Result]) -> asyncio.Future[_Result]:
    """Runs it in a thread that nobody waits for when the process ends: an executor's would be waited for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(cast(_Result, result))

    def run() -> None:
        result: _Result | None = None
        caught: BaseException | None = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  # whoever awaits it raises it
            caught = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, caught)

    threading.Thread(target=run, name=getattr(function, "__name__", "prepare"), daemon=True).start()
    return future


def reload(context: Context, missing: Missing) -> None:
    """Takes over what the configuration says now, or says why not."""
    try:
        settings, organisations = load_configuration(missing=missing)
        secret = stored_secret(settings)
    except ConfigError as error:
        log.error("configuration refused, the old one stays: %s", error)
        return
    if secret != context.secret or settings.partitions != context.settings.partitions:
        log.warning("settings have changed: they take effect with the next start")
    context.organisations = organisations
    log.info("configuration read anew: %d organisations", len(organisations.by_id))
