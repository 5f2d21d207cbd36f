"""For operators: stream lag, metrics, and whether the process is alive and ready.

`/ops/*` needs the scope `ops`. `/healthz`, `/readyz` and `/metrics` need no key, since probes have none: they tell of a
tenant no more than how many webhooks its sources sent. A public proxy is not to let them through (`docs/operate.md`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import authenticate
from api.context import Context, context_of
from api.errors import error_response, json_response
from api.feed import Subscription, event_bytes, json_text
from api.lag import topic_lags
from api.live import StreamResponse, still_allowed
from api.operations import EVENTS, LAST_EVENT_ID, TEXT, ApiRoute, Operation
from api.workers import Told, told, workers_document
from app.shapes_operations import Lag
from app.times import utc_text

EVERY_S: Final = 1.0
NO_KEYS: Final = (
    "no source and no API key that may write has its key on this host, so nothing can be let in: the condition "
    "keys_missing says what to do"
)
FRESH_MS: Final = 90_000
"""A worker publishes its delays each few seconds; what is older is of one that is gone."""


async def lag_document(context: Context) -> dict[str, object]:
    """Lag per topic and partition, end-to-end delay by worker, rates, dead letters, workers."""
    report = context.lag.report
    try:
        said: Told | None = await told(context)
    except (RedisError, OSError):
        said = None  # the lag itself is then still worth telling
    fresh = [one for one in said.delays.values() if one.at_ms > said.now_ms - FRESH_MS] if said else []
    return {
        "at": utc_text(report.at_ms),
        "known_at": utc_text(report.known_at_ms) if report.known_at_ms is not None else None,
        "lag_ms": report.lag_ms,
        "stale": report.stale,
        "reason": report.reason,
        "trouble": report.trouble,
        "lag": topic_lags(report),
        "partitions": [
            {
                "topic": row.topic,
                "partition": row.partition,
                "end": row.end,
                "position": row.position,
                "lag": row.lag,
                "oldest_at": utc_text(row.oldest_at_ms) if row.oldest_at_ms is not None else None,
            }
            for row in report.partitions
        ],
        "rates": report.rates,
        "dead_letters": report.dead,
        # Of the slowest worker: percentiles of several can't be merged, and the worst one is what a viewer meets.
        "delay": {
            "p50_ms": max((one.p50_ms for one in fresh if one.p50_ms is not None), default=None),
            "p99_ms": max((one.p99_ms for one in fresh if one.p99_ms is not None), default=None),
            "facts_per_s": sum(one.facts_per_s for one in fresh),
        },
        **(workers_document(context, said) if said else {"workers": None, "away": None}),
    }


async def lag(request: Request) -> Response:
    context = context_of(request)
    authenticate(request, context, "ops")
    parameters.only(request.query_params, ())
    return json_response(await lag_document(context))


class OpsFeed:
    """The lag document as events, made once a second for all who watch, and not at all when nobody does."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watchers: set[Subscription] = set()
        self._latest = b""
        self._task: asyncio.Task[None] | None = None

    def join(self) -> Subscription:
        subscription = Subscription(self)
        self._context.hub.track(subscription)
        self._watchers.add(subscription)
        if self._task is None:
            self._task = self._context.background.task("ops_feed", self._run)
        elif self._latest:
            subscription.wake()
        return subscription

    def chunk_for(self, watcher: Subscription) -> bytes:
        return self._latest

    def leave(self, watcher: Subscription) -> None:
        self._context.hub.untrack(watcher)
        self._watchers.discard(watcher)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task, self._latest = None, b""

    async def _run(self) -> None:
        while True:
            self._latest = event_bytes("lag", json_text(await lag_document(self._context)))
            for watcher in self._watchers:
                watcher.wake()
            await asyncio.sleep(EVERY_S)


async def live(request: Request) -> Response:
    """`lag` events once a second, in the shape of `/ops/lag`."""
    context = context_of(request)
    principal = authenticate(request, context, "ops")
    parameters.only(request.query_params, ("last_event_id",))
    feed: OpsFeed | None = getattr(request.app.state, "ops_feed", None)
    if feed is None:
        feed = request.app.state.ops_feed = OpsFeed(context)
    return StreamResponse(feed.join(), context, "ops", still_allowed(request, context, "ops", principal.org))


async def healthz(request: Request) -> Response:
    """The process is alive: its event loop answers."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """It can take webhooks: Kafka answers, the topics are there, and not every source waits for its key.
    Redis is not asked: taking doesn't need it."""
    context = context_of(request)
    unready = context.lag.report.unready
    if unready is None and context.organisations.takes_nothing():
        unready = NO_KEYS
    if unready is not None:
        return error_response(503, "not_ready", unready, {"Retry-After": "2"})
    return PlainTextResponse("ready\n")


async def metrics(request: Request) -> Response:
    text = await asyncio.to_thread(context_of(request).metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


_LAG: Final = Operation(
    about="Lag per topic and partition, delay, rates, dead letters, workers", answer=Lag, scope="ops"
)
_LIVE: Final = Operation(
    about="The same as server-sent events `lag`, once a second", media=EVENTS, scope="ops",
    parameters=(LAST_EVENT_ID,),
)  # fmt: skip
_ALIVE: Final = Operation(about="Is the process alive", media=TEXT)
_READY: Final = Operation(about="Can it take webhooks", media=TEXT)
_METRICS: Final = Operation(about="Metrics for Prometheus", media=CONTENT_TYPE_LATEST)


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("GET", "/ops/lag", lag, _LAG),
        ApiRoute("GET", "/ops/live", live, _LIVE),
        ApiRoute("GET", "/healthz", healthz, _ALIVE),
        ApiRoute("GET", "/readyz", readyz, _READY),
        ApiRoute("GET", "/metrics", metrics, _METRICS),
    ]
