"""Stands in front of the application until it is known which installation this is: the process listens at once.

Nothing may be stored before that, and nothing is lost by it: a webhook gets what makes its ESP come again, whoever
reads is told to come again, and probes see a process that is alive and not ready. Then the application takes over, on
the same socket. With Kafka there that takes a second: a request waits that long before it is told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import SECURITY_HEADERS, error_response
from api.webhooks import PREFIX, busy_of, source_at
from app.organisations import Organisations

RETRY_AFTER_S: Final = 2
HOLD_S: Final = 1.5
"""An ESP is answered within two seconds."""
MOST_HELD: Final = 500
_PROBES: Final = frozenset({"/healthz", "/readyz"})
_WHY: Final = "Kafka can't be reached yet, try again"


class Gate:
    """An ASGI application; `open` puts the real one in its place."""

    def __init__(self, organisations: Organisations) -> None:
        """`organisations`: which ESP a source is of; their secrets are not looked at."""
        self._organisations = organisations
        self._app: ASGIApp | None = None
        self._opened = asyncio.Event()
        self._held = 0

    def open(self, app: ASGIApp) -> None:
        self._app = app
        self._opened.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._app is None and path not in _PROBES and self._held < MOST_HELD:
            await self._hold()
        if self._app is not None:
            await self._app(scope, receive, send)
            return
        if path == "/healthz":
            await PlainTextResponse("ok\n", headers=SECURITY_HEADERS)(scope, receive, send)
            return
        status, retry_after_s = 503, RETRY_AFTER_S
        if path.startswith(PREFIX):
            busy = busy_of(source_at(self._organisations, path))
            status, retry_after_s = busy.status, busy.retry_after_s
        code = "not_ready" if path == "/readyz" else "try_later"
        headers = {**SECURITY_HEADERS, "Retry-After": str(retry_after_s)}
        await error_response(status, code, _WHY, headers)(scope, receive, send)

    async def _hold(self) -> None:
        self._held += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_S):
                    await self._opened.wait()
        finally:
            self._held -= 1
