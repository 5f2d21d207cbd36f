"""One-time tickets: how an `EventSource` that has neither cookie nor header opens a report's stream.

`POST …/{campaign}/live/tickets` gives one, `GET …/{campaign}/live?ticket=…` takes it. Rules:
- A ticket opens one stream of one campaign within `TICKET_S`, and then never again: it is taken out of Redis as it is
  looked up, whatever comes of it. Redis emptied means tickets gone, and a client asks for another one.
- Redis holds a hash of it, and whose it is: the key's name and fingerprint. A key that is removed, rotated or loses its
  scope takes its tickets, and the streams that were opened with them, along.
- Addresses end up in logs: `Tickets` takes it out of the request before anything else looks at it. Anywhere but at a
  report's stream it is a credential in the query, and refused as such.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import (
    authenticated_key,
    check_origin,
    fingerprint_of,
    key_of_fingerprint,
    refuse_credentials_in_query,
)
from api.context import Context, context_of
from api.errors import json_response
from api.operations import ApiRoute, Operation
from api.paths import CAMPAIGN, CAMPAIGNS
from app.errors import RejectRequest, TryLater
from app.shapes_operations import LiveTicket
from app.times import utc_text

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TICKET_S: Final = 30
"""Long enough to open a stream with it at once, and half of what is allowed."""
TICKET: Final = "campaign_reports.ticket"
"""Where `Tickets` leaves it in the request's scope."""
_LIVE: Final = re.compile(re.escape(CAMPAIGNS) + "/[^/]+/live")
_ASKED: Final = re.compile(r"(?:^|(?<=&))ticket=([^&]*)(?:&|$)")
_SPELLED: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    org: str
    campaign: str
    key_name: str
    fingerprint: bytes

    def holds(self, context: Context) -> bool:
        """Whether its key is still there and may read. Raises TryLater where that can't be said for now."""
        key = key_of_fingerprint(context, self.org, self.key_name, self.fingerprint)
        return key is not None and "read" in key.scopes

    def still_holds(self, context: Context) -> bool:
        with contextlib.suppress(TryLater):
            return self.holds(context)
        return False


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Ticket] = msgspec.msgpack.Decoder(Ticket)


class Tickets:
    """Takes the ticket out of a stream's address. First of all: servers' logs show the scope as it is at the end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and b"ticket=" in scope["query_string"]
            and _LIVE.fullmatch(_wire_path(scope))
        ):
            query = scope["query_string"].decode("latin-1")
            found: list[str] = _ASKED.findall(query)
            scope["query_string"] = _ASKED.sub("", query).rstrip("&").encode("latin-1")
            # Two of them are none.
            scope[TICKET] = found[0] if len(found) == 1 else ""
        await self._app(scope, receive, send)


def _wire_path(scope: Scope) -> str:
    return cast(bytes, scope.get("raw_path") or scope["path"].encode()).decode("latin-1")


def _name(ticket: str) -> str:
    return "cr:ticket:" + blake2b(ticket.encode(), digest_size=16).hexdigest()


async def post_ticket(request: Request) -> Response:
    """201 `{"ticket", "expires"}`. Scope `read`."""
    context = context_of(request)
    key = authenticated_key(request, context, "read")
    parameters.only(request.query_params, ())
    campaign: str = request.path_params["campaign"]
    ticket = secrets.token_urlsafe(32)
    stored = _encode(Ticket(key.org, campaign, key.name, fingerprint_of(context, key)))
    await context.redis.set(_name(ticket), stored, ex=TICKET_S)
    expires_ms = int((context.clock() + TICKET_S) * 1000)
    return json_response({"ticket": ticket, "expires": utc_text(expires_ms)}, 201)


async def taken(request: Request, context: Context) -> Ticket:
    """The request's ticket, which is used up by this. Raises RejectRequest 401 and 403, RedisError."""
    refuse_credentials_in_query(request)
    text: str = request.scope[TICKET]
    stored = await context.redis.getdel(_name(text)) if _SPELLED.fullmatch(text) else None
    if stored is None:
        raise RejectRequest(401, "unauthorized", "the ticket was used, has expired or is none")
    ticket = _decoder.decode(cast(bytes, stored))
    if ticket.campaign != request.path_params["campaign"] or not ticket.holds(context):
        raise RejectRequest(401, "unauthorized", "the ticket was used, has expired or is none")
    check_origin(request, context, proof=False)
    return ticket


_TICKET: Final = Operation(
    about="A ticket for one event stream, for who can't send headers",
    answer=LiveTicket,
    status=201,
    scope="read",
)


def routes() -> list[BaseRoute]:
    return [ApiRoute("POST", CAMPAIGN + "/live/tickets", post_ticket, _TICKET)]
