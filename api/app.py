"""The ASGI application: all routes, and what holds for every answer (headers, metrics, errors)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import (
    auth,
    campaigns,
    clickers,
    compare,
    dead,
    erasures,
    event_log,
    events,
    exports,
    live,
    openapi,
    ops,
    pages,
    recipients,
    reports,
    shared,
    shares,
    sources,
    tickets,
    uniques,
    webhooks,
    workers,
)
from api.context import Context
from api.errors import HANDLERS, SECURITY_HEADERS
from api.metrics import Metrics
from api.paths import SegmentPaths

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


def api_routes() -> list[BaseRoute]:
    """Everything but the pages, and the description of it."""
    described: list[BaseRoute] = [
        *webhooks.routes(),
        *events.routes(),
        *erasures.routes(),
        *live.routes(),
        *tickets.routes(),
        *shares.routes(),
        *shared.routes(),
        *campaigns.routes(),
        *reports.routes(),
        *recipients.routes(),
        *event_log.routes(),
        *exports.routes(),
        *clickers.routes(),
        *uniques.routes(),
        *compare.routes(),
        *sources.routes(),
        *dead.routes(),
        *ops.routes(),
        *workers.routes(),
        *auth.routes(),
    ]
    return [*described, *openapi.routes(described)]


def create_app(context: Context) -> Starlette:
    app = Starlette(
        routes=[*api_routes(), *pages.routes()],
        middleware=[
            Middleware(tickets.Tickets),
            Middleware(SegmentPaths),
            Middleware(EveryAnswer, metrics=context.metrics),
        ],
        exception_handlers=HANDLERS,
        lifespan=_lifespan(context),
    )
    app.state.context = context
    app.router.redirect_slashes = False
    return app


def _lifespan(context: Context) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        context.lag.start()
        context.shares.start()
        await context.hub.start()
        context.arrivals.start(context.redis, context.background)
        beside = [context.background.task(name, work) for name, work in context.beside.items()]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await context.hub.stop()
            context.lag.stop()
            context.shares.stop()
            await context.arrivals.stop()
            await context.producer.close()
            await context.certificates.close()
            await context.confirmations.close()
            await context.queries.close()
            await context.redis.aclose()

    return lifespan


class EveryAnswer:
    """Security headers on every answer, and its metrics by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500
        stream = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                stream = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            if not stream:
                self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
