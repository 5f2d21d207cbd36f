"""Dead letters for operators: `GET /ops/dead`, `GET /ops/dead/{id}`, `POST /ops/dead/{id}/replay`, scope `ops`.

Rules:
- Only letters of the key's organisation: another one's are 404, and so are those whose record names none (the command
  `reports dead` shows them).
- The topic is read in a thread, one request at a time in a process, each with a bounded time: a page may come short,
  and its `next` goes on.
- A body in `POST …/replay` takes the place of the letter's, without compression unless it says one. What it inflates to
  may be as large as what is shown of a letter.
- Replaying twice changes nothing that is counted; the answer says that it was done before.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import authenticate
from api.body import content_encoding, read_body
from api.context import Context, context_of
from api.errors import json_response
from api.operations import CURSOR, LIMIT, TOO_LARGE, ApiRoute, Moment, Operation, Parameter
from app.dead import Letter, Selection, mark, readable_body, replay_of
from app.errors import PoisonEvent, RejectRequest
from app.inflate import inflate, limit_for
from app.shapes_operations import DeadLetters as DeadLetterPage
from app.shapes_operations import Replayed, WholeDeadLetter
from app.times import utc_text
from app.topics import DEAD, WEBHOOKS, webhook_headers
from tables.dead_letters import DeadLetters

log = logging.getLogger("reports.api")

WITHIN_S: Final = 2.0
DEFAULT_LIMIT: Final = 50
MAX_TEXT: Final = 1_000


async def list_letters(request: Request) -> Response:
    """{"items": [letter without body], "next": cursor or null}, newest first."""
    context = context_of(request)
    principal = authenticate(request, context, "ops")
    query = request.query_params
    parameters.only(query, ("reason", "source", "since", "until", "limit", "cursor"))
    selection = Selection(
        org=principal.org,
        reason=_text(request, "reason"),
        source=_text(request, "source"),
        since_ms=parameters.time_of(query, "since"),
        until_ms=parameters.time_of(query, "until"),
    )
    limit = parameters.whole_of(query, "limit", DEFAULT_LIMIT, 1, parameters.MAX_LIMIT)
    before = None
    if "cursor" in query:
        before = _number(query["cursor"])
        if before is None:
            raise parameters.bad("cursor", "must be what `next` of the page before says")
    page = await context.dead.ask(
        context.settings.kafka,
        lambda letters: letters.page(selection, limit, before=before, within_s=WITHIN_S),
    )
    return json_response(
        {
            "items": [_row(one.letter, one.replayed) for one in page.found],
            "next": None if page.next is None else str(page.next),
        }
    )


async def show_letter(request: Request) -> Response:
    """One letter with its headers and its body (without compression): a text, or base64 where it is not UTF-8."""
    context = context_of(request)
    principal = authenticate(request, context, "ops")
    parameters.only(request.query_params, ())
    letter, replayed = await _find(request, context, principal.org)
    body = readable_body(letter.webhook, limit_for(context.settings.max_body))
    try:
        text, encoding = body.decode(), None
    except UnicodeDecodeError:
        text, encoding = b64encode(body).decode(), "base64"
    return json_response(
        {
            **_row(letter, replayed),
            "headers": letter.webhook.headers,
            "body": text,
            "encoding": encoding,
        }
    )


async def replay_letter(request: Request) -> Response:
    """200 {"id", "replayed": true, "replayed_before", "edited"} when it is in the log once more."""
    context = context_of(request)
    principal = authenticate(request, context, "ops")
    parameters.only(request.query_params, ())
    max_body = context.settings.max_body
    wire = await read_body(request.scope, request.receive, max_body)
    try:
        body = inflate(wire, content_encoding(request.scope), limit_for(max_body))
    except PoisonEvent as error:
        raise RejectRequest(400, "broken_encoding", error.reason) from None
    letter, replayed = await _find(request, context, principal.org)
    webhook = replay_of(letter, body or None, int(context.clock() * 1000), max_body)
    await context.producer.send(WEBHOOKS, webhook.body, webhook_headers(webhook))
    value, mark_headers = mark([letter.id])
    await context.producer.send(DEAD, value, mark_headers, 0)
    context.metrics.dead_replayed.labels(principal.org).inc()
    log.info("dead letter %d of %s replayed with key %s", letter.id, principal.org, principal.key_name)
    return json_response(
        {"id": letter.id, "replayed": True, "replayed_before": replayed, "edited": bool(body)}
    )


async def _find(request: Request, context: Context, org: str) -> tuple[Letter, bool | None]:
    number = _number(request.path_params["id"])
    found = None
    if number is not None:
        found = await context.dead.ask(context.settings.kafka, lambda letters: _get(letters, number, org))
    if found is None:
        raise RejectRequest(404, "not_found", "there is no such dead letter")
    return found


def _get(letters: DeadLetters, number: int, org: str) -> tuple[Letter, bool | None] | None:
    letter = letters.get(number)
    if letter is None or letter.webhook.org != org:
        return None
    return letter, letters.is_replayed(number, WITHIN_S)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None


def _text(request: Request, name: str) -> str | None:
    value = request.query_params.get(name)
    if value is not None and len(value) > MAX_TEXT:
        raise parameters.bad(name, f"must have at most {MAX_TEXT} characters")
    return value


def _row(letter: Letter, replayed: bool | None) -> dict[str, object]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "stage": letter.stage,
        "source": letter.webhook.source,
        "esp": letter.webhook.esp,
        "origin": letter.origin,
        "index": letter.index,
        "replay_of": letter.webhook.replay_of,
        "size": letter.size,
        "received_at": utc_text(letter.webhook.received_at_ms),
        "died_at": utc_text(letter.at_ms),
        "replayed": replayed,
    }


_LETTERS: Final = Operation(
    about="What could not be read, newest first",
    answer=DeadLetterPage,
    scope="ops",
    parameters=(
        Parameter(name="reason", about="Only with this reason."),
        Parameter(name="source", about="Only of this source."),
        Parameter(name="since", type=Moment, about="RFC 3339 with its offset, or milliseconds since 1970."),
        Parameter(name="until", type=Moment, about="The same; not included."),
        LIMIT,
        CURSOR,
    ),
)
_LETTER: Final = Operation(
    about="One dead letter with its headers and body", answer=WholeDeadLetter, scope="ops"
)
_REPLAY: Final = Operation(
    about="Sends a dead letter once more; with a body in place of its own, if there is one",
    answer=Replayed, scope="ops", others=TOO_LARGE,
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("GET", "/ops/dead", list_letters, _LETTERS),
        ApiRoute("GET", "/ops/dead/{id}", show_letter, _LETTER),
        ApiRoute("POST", "/ops/dead/{id}/replay", replay_letter, _REPLAY),
    ]
