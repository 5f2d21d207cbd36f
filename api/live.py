"""`GET …/{campaign}/live`: a report as server-sent events (`docs/live.md`).

Rules:
- First `retry`, then `snapshot` (nothing for who comes back with the newest id; `reset` before it for who comes with
  the id of another epoch), then `change` with the new values of the sections that moved; a named `ping` every 15 s.
- A stream ends after about ten minutes (clients come back; a deployment drains), when its key ends, within seconds when
  its shared link does, when the process does, and when its client has not taken a message for `SEND_TIMEOUT_S`. Then
  the socket is cut: a flush would wait for a client that doesn't read.
- The stream only ever awaits its own slot (`api.feed`), never a client: one slow reader holds up nobody.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

import msgspec
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import authenticate
from api.context import Context, context_of
from api.feed import FeedKey, Subscription
from api.operations import EVENTS, LAST_EVENT_ID, REPORT, SECTION_LIST, ApiRoute, Operation, Parameter
from api.paths import CAMPAIGN
from api.tickets import TICKET, taken
from api.viewers import SHARED_REPORT, Viewer, viewer_of
from app.errors import RejectRequest, TryLater

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PING_S: Final = 15.0
SEND_TIMEOUT_S: Final = 5.0
LIFETIME_S: Final = 600.0
RECHECK_S: Final = 30.0
"""How often a stream's key is looked up again: a revoked one must end within a minute."""
SHARED_RECHECK_S: Final = 1.0
"""The same of a shared link, which people revoke since somebody is not to see the report any more."""
SEND_BUFFER_BYTES: Final = 32_768
"""What may wait to be sent for one stream, here and in the kernel. By default the kernel takes megabytes, and a client
that stopped reading would be noticed only when they are full."""
TRANSPORT: Final = "campaign_reports.transport"
"""Name under `scope["extensions"]` where the server's protocol class leaves its transport (`cli/api.py`)."""

_LAST_ID: Final = re.compile(r"[0-9]{1,32}-[0-9]{1,20}", re.ASCII)


class _Ping(ServerSentEvent):
    def __init__(self) -> None:
        super().__init__(data="{}", event="ping", sep="\n")


class StreamResponse(EventSourceResponse):
    """An event stream of one subscription, which it lets go however it ends."""

    def __init__(
        self,
        subscription: Subscription,
        context: Context,
        stream: str,
        allowed: Callable[[], bool],
        *,
        shared: bool = False,
    ) -> None:
        super().__init__(
            self._events(),
            ping=PING_S,
            ping_message_factory=_Ping,
            sep="\n",
            send_timeout=SEND_TIMEOUT_S,
            headers={"Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0"},
            cleanup_timeout=1.0,
        )
        self._subscription = subscription
        self._metrics = context.metrics
        self._stream = stream
        self._allowed = allowed
        self._recheck_s = SHARED_RECHECK_S if shared else RECHECK_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get("extensions", {}).get(TRANSPORT)
        if transport is not None:
            _shrink_buffers(transport)
        gauge = self._metrics.sse_clients.labels(self._stream)
        gauge.inc()
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self._metrics.sse_closed.labels("stuck").inc()
            if transport is not None:
                transport.abort()
                await asyncio.sleep(0)  # the server hears of the cut, and doesn't complain of half an answer
        finally:
            # What a slow client has not taken would hold up the end of the process.
            ending = self._subscription.closed == "shutdown"
            if ending and transport is not None and transport.get_write_buffer_size():
                transport.abort()
            gauge.dec()
            self._subscription.leave()

    async def _events(self) -> AsyncIterator[bytes]:
        subscription = self._subscription
        loop = asyncio.get_running_loop()
        subscription.deadline = loop.time() + LIFETIME_S * random.uniform(0.8, 1.0)
        subscription.recheck_at = loop.time() + self._recheck_s
        # Jittered, so that a restart doesn't bring everybody back in the same moment.
        yield b"retry: %d\n\n" % random.randint(2000, 5000)
        while subscription.closed is None:
            chunk = await subscription.wait()
            if chunk:
                yield chunk
            if loop.time() >= subscription.recheck_at:
                subscription.recheck_at = loop.time() + self._recheck_s
                if not self._allowed():
                    subscription.end("unauthorised")
        self._metrics.sse_closed.labels(subscription.closed).inc()


def _shrink_buffers(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        # Not SO_SNDBUF: that bounds what is on its way, too, and each such part of a large event would wait for an
        # acknowledgement, which a receiver may hold back for 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SEND_BUFFER_BYTES)


def last_event_id(request: Request) -> str | None:
    """From the header, or from the query: a page that makes its EventSource anew can't set headers."""
    value = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    return value if value is not None and _LAST_ID.fullmatch(value) else None


def still_allowed(request: Request, context: Context, scope: str, org: str) -> Callable[[], bool]:
    def check() -> bool:
        try:
            return authenticate(request, context, scope).org == org
        except (RejectRequest, TryLater):
            return False

    return check


async def _watcher(request: Request, context: Context) -> tuple[Viewer, Callable[[], bool]]:
    """Who wants to watch, and what says whether they still may."""
    if TICKET in request.scope:
        ticket = await taken(request, context)
        return Viewer(ticket.org, ticket.campaign, shared=False), lambda: ticket.still_holds(context)
    viewer = viewer_of(request, context)

    def allowed() -> bool:
        try:
            return viewer_of(request, context) == viewer
        except (RejectRequest, TryLater):
            return False

    return viewer, allowed


async def live(request: Request) -> Response:
    context = context_of(request)
    viewer, allowed = await _watcher(request, context)
    query = request.query_params
    parameters.only(query, ("count", "timezone", "sections", "last_event_id"))
    key = FeedKey(
        parameters.count_of(query),
        parameters.timezone_of(query, context.organisations.by_id[viewer.org].timezone),
        parameters.sections_of(query),
        viewer.shared,
    )
    subscription = await context.hub.subscribe(viewer.org, viewer.campaign, key, last_event_id(request))
    return StreamResponse(subscription, context, "report", allowed, shared=viewer.shared)


_LIVE: Final = Operation(
    about="The report as server-sent events: `snapshot`, then `change`, a `ping` every 15 s",
    media=EVENTS, scope="read", parameters=(*REPORT, SECTION_LIST, LAST_EVENT_ID),
)  # fmt: skip
_TICKET: Final = Parameter(
    name="ticket", about="A one-time ticket for this campaign, in place of a key (`POST …/live/tickets`)."
)
_OPERATIONS: Final = {
    CAMPAIGN: msgspec.structs.replace(_LIVE, parameters=(*_LIVE.parameters, _TICKET)),
    SHARED_REPORT: _LIVE,
}


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", one + "/live", live, operation) for one, operation in _OPERATIONS.items()]
