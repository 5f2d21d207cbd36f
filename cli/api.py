"""`reports api`: one process that takes webhooks, answers reports and feeds event streams.

Rules:
- It listens at once. Until Kafka has said which installation this is (`cli.identity`), webhooks get what makes their
  ESP come again (`api.gate`).
- It starts without Redis: webhooks are taken all the same, reports are answered once it is there.
- SIGTERM and SIGINT: no new connections, streams end at once, requests under way get `GRACE_S`, then the process ends.
- SIGHUP reads the configuration anew (`cli.role_configuration`): organisations, keys and sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

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
from app.experiment import warm_up
from app.organisations import Organisations
from app.settings import Settings
from app.topics import RECORD_OVERHEAD
from cli.identity import identify
from cli.listening import BACKLOG, listen, raise_file_limit
from cli.role_configuration import RoleConfiguration, begin_role
from tables.background import Background, in_thread
from tables.conditions import Conditions
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock, keep_time, measured_clock
from tables.views import ViewReader

GRACE_S: Final = 5
KEEP_ALIVE_S: Final = 75
"""Longer than proxies and ESPs keep an idle connection: who closes first must not be us, just when a request comes."""
MAX_HEAD_BYTES: Final = 1024 * 1024 + 64 * 1024
"""Of a request's line and headers: a signature of a megabyte is still told that it is wrong."""
_TOO_LARGE: Final = b'{"error":"headers_too_large","message":"the request\'s headers are too large"}'


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
    configuration = begin_role(needs_keys=True)
    with listen(configuration.settings) as sock:
        raise_file_limit()
        uvloop.run(serve(configuration, sock))


def prepare(configuration: RoleConfiguration) -> tuple[Settings, RedisClock]:
    """What the application is made of; blocks until the installation is known. Raises StateError and ConfigError."""
    settings = configuration.settle(identify(configuration.settings, wait_s=None))
    warm_up()  # here, where it keeps no webhook waiting
    return settings, measured_clock(settings.redis)


def make_context(settings: Settings, organisations: Organisations, clock: RedisClock) -> Context:
    """The process's shared parts; inside its event loop (the producer wants one)."""
    metrics = Metrics()
    conditions = Conditions(clock.seconds)
    background = Background(
        conditions, lambda name: metrics.background_restarts.labels(name).inc(), wall=clock.seconds
    )
    redis = redis_of(settings)
    views = ViewReader(redis, settings.partitions)
    producer = Producer(
        settings.kafka,
        max_message_bytes=settings.max_body + RECORD_OVERHEAD,
        background=background,
        why_not=lambda: lag.report.unready,
    )
    positions = LogPositions(
        settings.kafka, settings.redis, settings.partitions, settings.installation, producer.acknowledged
    )
    lag = LagMonitor(positions, metrics, background, clock=clock.seconds)
    hub = LiveHub(
        redis, views, lag, metrics, background, secret=settings.secret, partitions=settings.partitions
    )
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
        clock=clock.seconds,
        conditions=conditions,
        background=background,
    )


async def serve(configuration: RoleConfiguration, sock: socket.socket) -> None:
    """Serves until a signal."""
    # Which ESP a source is of: as long as the installation is not known, that is all there is to know.
    gate = Gate(configuration.organisations)
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
        log_level=configuration.settings.log_level,
        log_config=None,
    )
    server = Server(config)
    host, port = sock.getsockname()[:2]
    click.echo(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()
    serving = asyncio.create_task(server.serve([sock]), name="server")
    preparing = in_thread(partial(prepare, configuration))
    try:
        await asyncio.wait((serving, preparing), return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            settings, clock = preparing.result()
            context = make_context(settings, configuration.organisations, clock)
            watch = Watch(context, f"{socket.gethostname()}:{port}")
            context.beside = beside(context, configuration, clock, watch)
            app = create_app(context)
            # What is loaded stays: going through it again and again would stop all requests for nothing.
            gc.freeze()
            gc.set_threshold(50_000, 50, 100)
            async with app.router.lifespan_context(app):
                server.context = context
                gate.open(app)
                try:
                    await serving
                finally:
                    await watch.stop()
    finally:
        server.should_exit = True
        await serving


def beside(
    context: Context, configuration: RoleConfiguration, clock: RedisClock, watch: Watch
) -> dict[str, Callable[[], Awaitable[None]]]:
    """What runs while the process serves."""

    def take(organisations: Organisations) -> None:
        context.organisations = organisations

    def kafka_off_s() -> float | None:
        seen = context.producer.kafka_time
        return None if seen is None else seen.kafka_s - clock.at(seen.at_s)

    return {
        "reload": partial(configuration.follow, context.conditions, take),
        "clock": partial(keep_time, context.redis, clock, context.conditions, kafka_off_s),
        "presence": watch.tell,
        "watch": watch.run,
    }
