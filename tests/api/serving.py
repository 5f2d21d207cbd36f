"""The API in this process, on real sockets and a real Redis, with views written as a worker writes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import uvicorn
from redis.asyncio import Redis

from api.app import create_app
from api.context import Context
from api.hub import LiveHub
from api.lag import LagReport
from api.metrics import Metrics
from api.producer import Producer
from api.share_log import ShareLog
from app import contribution as c
from app.experiment import warm_up
from app.keys import campaign_key
from app.organisations import ApiKey, Organisation, Organisations
from app.settings import Settings
from cli.api import Protocol, Server
from cli.listening import listen
from tables.background import Background
from tables.conditions import Conditions
from tables.redis_client import redis_client
from tables.view_writer import Update, ViewWriter
from tables.views import NUMBERS, SECTIONS, DayPart, Fence, Labels, SummaryPart, ViewReader

SECRET = b"secret of the installation"
PARTITIONS = 2
TOPIC = "topic"
"""Kafka's id of `facts`, as the published views have it."""
NO_KAFKA = "127.0.0.1:9"
HOUR = 1_790_000_000_000 // c.QUARTER_MS // 4 * 4
"""The first quarter of the hour in which the tests' mailings go out."""

_ALL = frozenset({"read", "write", "ops"})
ORGANISATIONS = Organisations(
    {
        "acme": Organisation(
            id="acme",
            name="Acme",
            timezone="Europe/Berlin",
            keys=(
                ApiKey(name="dashboard", org="acme", secret=b"acme-read", scopes=frozenset({"read"})),
                ApiKey(name="all", org="acme", secret=b"acme-all", scopes=_ALL),
            ),
        ),
        "globex": Organisation(
            id="globex",
            name="Globex",
            timezone="UTC",
            keys=(ApiKey(name="dashboard", org="globex", secret=b"globex-read", scopes=_ALL),),
        ),
    }
)


def bearer(secret: str = "acme-read") -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Lag:
    """A lag monitor that says what it is told."""

    def __init__(self) -> None:
        self.report = LagReport(at_ms=0, lag_ms=0, stale=False, reason=None)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def say(self, **changes: Any) -> None:
        self.report = msgspec.structs.replace(self.report, **changes)


class Worker:
    """What an aggregate worker publishes for one campaign: `opened` recipients of `sent`, all in one hour."""

    def __init__(self, redis: Redis) -> None:
        self.writer = ViewWriter(redis)
        self.topic = TOPIC
        self.offsets = dict.fromkeys(range(PARTITIONS), 0)

    async def ready(self) -> None:
        """All partitions have told how far they are: what isn't there doesn't exist."""
        for partition in range(PARTITIONS):
            for channel in (NUMBERS, SECTIONS):
                fence = Fence(1, self.offsets[partition], self.topic)
                begun = await self.writer.begin_repair(partition, fence, channel)
                assert await self.writer.end_repair(partition, begun.token, fence, channel)

    async def publish(
        self,
        campaign: str,
        *,
        sent: int,
        opened: int = 0,
        org: str = "acme",
        partition: int = 0,
        labels: Labels | None = None,
        quarter: int = HOUR,
    ) -> None:
        self.offsets[partition] += 1
        summary, days = share(sent, opened, quarter)
        update = Update(
            key=campaign_key(SECRET, org, campaign),
            org=org,
            campaign=campaign,
            summary=summary,
            days=days,
            labels=labels,
        )
        fence = Fence(1, self.offsets[partition], self.topic)
        await self.writer.publish(self.writer.encode(partition, fence, [update]))


def share(sent: int, opened: int, quarter: int = HOUR) -> tuple[SummaryPart, dict[int, DayPart]]:
    totals = [0] * c.METRICS
    totals[c.FIRST_SENT] = sent
    totals[c.FIRST_OPENED] = totals[c.FIRST_OPENED_PEOPLE] = totals[c.OPENS] = opened
    patterns = {c.SENT: sent - opened, c.SENT | c.OPENED | c.OPENED_PEOPLE: opened}
    part = SummaryPart(quarter * c.QUARTER_MS, patterns, totals, [0] * c.METRICS)
    return part, {quarter // 96: {quarter: totals}}


class Api:
    """A running server."""

    def __init__(self, context: Context, address: str, lag: Lag, worker: Worker) -> None:
        self.context = context
        self.address = address
        self.lag = lag
        self.worker = worker
        self.http = httpx.AsyncClient(base_url=address, timeout=5, trust_env=False, verify=False)

    async def get(self, path: str, secret: str = "acme-read") -> httpx.Response:
        return await self.http.get(path, headers=bearer(secret))

    @contextlib.asynccontextmanager
    async def live(
        self, path: str, secret: str = "acme-read", last_id: str | None = None
    ) -> AsyncIterator[Events]:
        headers = bearer(secret) | ({"Last-Event-ID": last_id} if last_id else {})
        async with self.http.stream("GET", path, headers=headers, timeout=30) as response:
            yield Events(response)


class Event:
    def __init__(self, lines: list[str]) -> None:
        fields = dict(line.split(": ", 1) for line in lines)
        self.name = fields.get("event")
        self.id = fields.get("id")
        self.retry = fields.get("retry")
        self.data: Any = json.loads(fields["data"]) if "data" in fields else None


class Events:
    """The events of one stream, one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, timeout_s: float = 20.0) -> Event:
        async def read() -> Event:
            lines: list[str] = []
            async for line in self._lines:
                if line:
                    lines.append(line)
                elif lines:
                    return Event(lines)
            raise EOFError

        return await asyncio.wait_for(read(), timeout_s)

    async def until(self, name: str, timeout_s: float = 30.0) -> Event:
        """The next event of that name; what comes before it is passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                event = await self.next(timeout_s)
                if event.name == name:
                    return event

    async def until_clicks(self, clicks: int, timeout_s: float = 30.0) -> Event:
        """The next event whose links have so many clicks in all."""
        async with asyncio.timeout(timeout_s):
            while True:
                event = await self.next(timeout_s)
                rows = event.data.get("links", {}).get("rows", []) if event.data else []
                if sum(row["total_clicks"] for row in rows) == clicks:
                    return event

    async def until_opened(self, opened: int, timeout_s: float = 30.0) -> Event:
        """The next event whose summary says so."""
        async with asyncio.timeout(timeout_s):
            while True:
                event = await self.next(timeout_s)
                if event.data and event.data.get("summary", {}).get("opened") == opened:
                    return event


class NoShares(ShareLog):
    """Where there is no Kafka that could be followed: it knows nothing, and says so."""

    def start(self) -> None:
        pass


@contextlib.contextmanager
def free_socket() -> Iterator[Any]:
    with listen(Settings(http="127.0.0.1:0")) as sock:
        yield sock


@contextlib.asynccontextmanager
async def serving(
    redis_url: str,
    *,
    kafka: str = NO_KAFKA,
    ready: bool = True,
    organisations: Organisations = ORGANISATIONS,
    producer: Any = None,
    **settings: Any,
) -> AsyncIterator[Api]:
    """An API whose Redis is at the URL. Kafka isn't there unless told where; `producer`: in place of the real one."""
    warm_up()  # as in the process: no thread may meet it in the middle of an import
    redis = redis_client(redis_url)
    views = ViewReader(redis, PARTITIONS)
    metrics = Metrics()
    conditions = Conditions()
    background = Background(conditions, lambda name: metrics.background_restarts.labels(name).inc())
    lag = Lag()
    context = Context(
        settings=Settings(
            http="127.0.0.1:0", redis=redis_url, kafka=kafka, partitions=PARTITIONS, **settings
        ),
        organisations=organisations,
        secret=SECRET,
        redis=redis,
        producer=producer or Producer(kafka, max_message_bytes=6_000_000, background=background),
        views=views,
        lag=lag,  # type: ignore[arg-type]  # it has all that is used
        hub=LiveHub(
            redis,
            views,
            lag,  # type: ignore[arg-type]
            metrics,
            background,
            secret=SECRET,
            partitions=PARTITIONS,
        ),
        metrics=metrics,
        conditions=conditions,
        background=background,
    )
    if kafka == NO_KAFKA:
        context.shares = NoShares(kafka, background)
        context.uncounted = lambda *asked, **bound: set()
    with free_socket() as sock:
        config = uvicorn.Config(
            create_app(context),
            http=Protocol,
            ws="none",
            lifespan="on",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=2,
        )
        server = Server(config)
        server.context = context
        task = asyncio.create_task(server._serve([sock]))  # without its signal handlers
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        host, port = sock.getsockname()[:2]
        own = Redis.from_url(redis_url)
        api = Api(context, f"http://{host}:{port}", lag, Worker(own))
        try:
            if ready:
                await api.worker.ready()
                # Which topic there is was not known before: it would be another epoch in a moment.
                context.hub._ticks.ask()
                while await context.hub.epoch() != await views.epoch():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield api
        finally:
            await api.http.aclose()
            await own.aclose()
            server.should_exit = True
            await asyncio.wait_for(task, 10)
