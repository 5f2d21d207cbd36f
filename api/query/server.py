"""The query process's HTTP side: `POST /<request>` with the token, MessagePack in and out.

| answer | when |
|---|---|
| 200 | the answer |
| 400 | the body is not what the path wants |
| 401 | without the token |
| 409 | `Refusal`: these partitions are not here or not fit to be read |
| 503 | too many wait already |

Reading is done in a few threads, so that a page that looks for long doesn't stop the others.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.query import events, export_wire, people, recipients, sections, wire
from api.query.answering import Books, Readers
from api.query.exports import Exports
from api.query.partitions import Missing, Partitions
from app.errors import UNDECODABLE

log = logging.getLogger("reports.query")

THREADS: Final = 4
WAITING: Final = 200
"""Requests at a time; whoever comes on top is told to come again rather than to wait for ever."""
MAX_BODY: Final = 1 << 20


class _Question(NamedTuple):
    decoder: msgspec.msgpack.Decoder[Any]
    answer: Callable[[Readers, Books, Any], msgspec.Struct]


QUESTIONS: Final = {
    "recipients": _Question(msgspec.msgpack.Decoder(wire.RecipientsRequest), recipients.page),
    "events": _Question(msgspec.msgpack.Decoder(wire.EventsRequest), events.page),
    "recipient": _Question(msgspec.msgpack.Decoder(wire.RecipientRequest), events.one),
    "clickers": _Question(
        msgspec.msgpack.Decoder(wire.ClickersRequest),
        lambda readers, _, asked: sections.clickers(readers, asked),
    ),
    "top_clickers": _Question(
        msgspec.msgpack.Decoder(wire.TopClickersRequest),
        lambda readers, _, asked: sections.top_clickers(readers, asked),
    ),
    "rows": _Question(
        msgspec.msgpack.Decoder(wire.RowsRequest), lambda readers, _, asked: sections.rows(readers, asked)
    ),
    "tops": _Question(
        msgspec.msgpack.Decoder(wire.TopsRequest), lambda readers, _, asked: sections.tops(readers, asked)
    ),
    "people": _Question(
        msgspec.msgpack.Decoder(wire.PeopleRequest), lambda readers, _, asked: people.people(readers, asked)
    ),
}


class QueryServer:
    def __init__(self, partitions: Partitions, secret: bytes, export: Sequence[str] | None = None) -> None:
        """`export`: the command line of an export's process, where it isn't the usual one."""
        self._partitions = partitions
        self._token = wire.token_of(secret).encode()
        self._books = Books()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="query")
        self._waiting = 0
        self.exports = Exports(
            partitions.state,
            wire.token_of(secret),
            export,
            partitions.unread,
        )

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *(
                    Route("/" + name, self._endpoint(question), methods=["POST"])
                    for name, question in QUESTIONS.items()
                ),
                Route(export_wire.PATH, self._export, methods=["POST"]),
            ]
        )

    async def close(self) -> None:
        await self.exports.close()
        self._threads.shutdown(cancel_futures=True)

    def _endpoint(self, question: _Question) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            if not self._trusted(request):
                return Response(status_code=401)
            if self._waiting >= WAITING:
                return Response(status_code=503)
            self._waiting += 1
            try:
                body = await _body(request)
                if body is None:
                    return Response(status_code=400)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._answer, question, body)
            finally:
                self._waiting -= 1

        return endpoint

    def _trusted(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, b"Bearer " + self._token)

    async def _export(self, request: Request) -> Response:
        if not self._trusted(request):
            return Response(status_code=401)
        body = await _body(request)
        return Response(status_code=400) if body is None else await self.exports.answer(body)

    def _answer(self, question: _Question, body: bytes) -> Response:
        try:
            asked = question.decoder.decode(body)
        except UNDECODABLE:
            return Response(status_code=400)
        try:
            with self._partitions.using(asked.partitions) as readers:
                answer = question.answer(readers, self._books, asked)
        except Missing as missing:
            return Response(wire.encode(wire.Refusal(missing.partitions)), 409)
        return Response(wire.encode(answer), 200, media_type="application/msgpack")


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)
