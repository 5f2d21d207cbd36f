"""`reports api`: one process that takes webhooks, answers reports and feeds event streams.

Rules:
- It starts without Redis: webhooks are taken all the same, reports are answered once it is there.
- SIGTERM and SIGINT: no new connections, streams end at once, requests under way get `GRACE_S`, then the process ends.
- SIGHUP reads the configuration anew (`cli.role_configuration`): organisations, keys and sources.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import click
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.context import Context
from api.hub import LiveHub
from api.lag import LagMonitor
from api.live import TRANSPORT
from api.log_positions import LogPositions
from api.metrics import Metrics
from api.producer import Producer
from app.organisations import Organisations
from app.settings import Settings
from app.topics import RECORD_OVERHEAD
from cli.addresses import wait_for_addresses
from cli.listening import BACKLOG, listen, raise_file_limit
from cli.role_configuration import RoleConfiguration, begin_role
from cli.topics import ensure_topics
from tables.background import Background
from tables.conditions import Conditions
from tables.redis_client import redis_client
from tables.redis_clock import RedisClock, keep_time, measured_clock
from tables.views import ViewReader

WAIT_S: Final = 60.0
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

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

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
        self._context.hub.end_all("shutdown")
        await super().shutdown(sockets)


@click.command()
def command() -> None:
    """Take webhooks and answer reports."""
    configuration = begin_role()
    settings = configuration.settings
    with listen(settings) as sock:
        settings = wait_for_addresses(settings, WAIT_S)
        ensure_topics(settings)
        raise_file_limit()
        clock = measured_clock(settings.redis)
        uvloop.run(serve(settings, configuration, clock, sock))


def make_context(settings: Settings, organisations: Organisations, clock: RedisClock) -> Context:
    """The process's shared parts; inside its event loop (the producer wants one)."""
    metrics = Metrics()
    conditions = Conditions(clock.seconds)
    background = Background(
        conditions, lambda name: metrics.background_restarts.labels(name).inc(), wall=clock.seconds
    )
    redis = redis_client(settings.redis)
    views = ViewReader(redis, settings.partitions)
    positions = LogPositions(settings.kafka, settings.redis, settings.partitions)
    lag = LagMonitor(positions, metrics, background, clock=clock.seconds)
    hub = LiveHub(
        redis, views, lag, metrics, background, secret=settings.secret, partitions=settings.partitions
    )
    producer = Producer(
        settings.kafka, max_message_bytes=settings.max_body + RECORD_OVERHEAD, background=background
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


async def serve(
    settings: Settings, configuration: RoleConfiguration, clock: RedisClock, sock: socket.socket
) -> None:
    context = make_context(settings, configuration.organisations, clock)

    def take(organisations: Organisations) -> None:
        context.organisations = organisations

    def kafka_off_s() -> float | None:
        seen = context.producer.kafka_time
        return None if seen is None else seen.kafka_s - clock.at(seen.at_s)

    context.beside = {
        "reload": partial(configuration.follow, context.conditions, take),
        "clock": partial(keep_time, context.redis, clock, context.conditions, kafka_off_s),
    }
    config = uvicorn.Config(
        create_app(context),
        loop="none",
        http=Protocol,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        log_level=settings.log_level,
        log_config=None,
    )
    host, port = sock.getsockname()[:2]
    click.echo(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()
    await Server(config, context).serve([sock])
