"""`GET …/exports/recipients.csv` and `…/exports/events.csv`: every row that a filter holds for, streamed.

| parameter | |
|---|---|
| `status`, `variant.FIELD`, `link`, `country`, `search`, `count` | of recipients, as in `api.recipients`; by address |
| `type`, `recipient`, `link`, `verdict`, `variant.FIELD`, `from`, `to` | of events, as in `api.event_log` |
| `order` | of events: `asc` (the default here) or `desc` |
| `gzip` | 1: the file itself is compressed (`.csv.gz`). Else it is on its way, where `Accept-Encoding` says so |

Rules:
- `X-Report-Offsets: 0=123,1=456` says up to which offset (excluded) of topic `facts` each partition was counted.
- The rows are made in a process of the query process that has most partitions, which fetches the others' parts
  (`api.query.export_process`); here they are passed on. An export that breaks off breaks this answer off.
- When the reader is gone, the export ends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import quote

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from api import event_log, paged, parameters, recipients
from api.negotiation import codings_of
from api.operations import CSV, EVENT_FILTERS, RECIPIENT_FILTERS, REPORT, ApiRoute, Operation, Parameter
from api.paths import CAMPAIGN
from api.queries import Queries
from api.query import export_wire, wire
from api.query.export_wire import LENGTH_BYTES, MAX_HEAD, ExportHead, ExportRequest
from app.errors import TryLater
from tables.exports import Asked
from tables.views import Fence

log = logging.getLogger("reports.exports")

CONNECT_S: Final = 2.0
HEAD_S: Final = 75.0
BUSY_RETRY_S: Final = 30
OFFSETS: Final = "X-Report-Offsets"
RECIPIENTS_KNOWN: Final = ("count", "timezone", "gzip", "sort", "status", "link", "country", "search")
EVENTS_KNOWN: Final = (
    "count", "timezone", "gzip", "order", "type", "recipient", "link", "verdict", "from", "to",
)  # fmt: skip

_refusal = msgspec.msgpack.Decoder(wire.Refusal)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


async def recipients_csv(request: Request) -> Response:
    asked = paged.asked_of(request, RECIPIENTS_KNOWN, variants=True)
    parameters.choice_of(asked.query, "sort", ("recipient",), "recipient")
    wanted = recipients.filter_of(asked.query)
    return await _export(
        request, asked, Asked(campaign=asked.campaign, recipients=wanted, count=asked.count), "recipients"
    )


async def events_csv(request: Request) -> Response:
    asked = paged.asked_of(request, EVENTS_KNOWN, variants=True)
    order = parameters.choice_of(asked.query, "order", event_log.ORDERS, "asc")
    wanted = event_log.filter_of(asked.query, asked.context.secret, asked.campaign)
    return await _export(
        request,
        asked,
        Asked(campaign=asked.campaign, events=wanted, descending=order == "desc"),
        "events",
    )


async def _export(request: Request, asked: paged.Asked, what: Asked, name: str) -> Response:
    as_file = parameters.choice_of(asked.query, "gzip", ("0", "1"), "0") == "1"
    packed = not as_file and "gzip" in codings_of(request.headers.get("accept-encoding", ""))
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": disposition(f"{request.path_params['campaign']}-{name}.csv{'.gz' * as_file}"),
        "Vary": "Accept-Encoding",
    }
    if packed:
        headers["Content-Encoding"] = "gzip"
    media_type = "application/gzip" if as_file else "text/csv; charset=utf-8"
    queries = asked.context.queries
    await paged.beside_view(asked, queries.places())
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    stream = await open_export(queries, what, gzip=as_file or packed)
    offsets = sorted((partition, fence[1]) for partition, fence in stream.head.fences.items())
    headers[OFFSETS] = ",".join(f"{partition}={offset}" for partition, offset in offsets)
    return _Passed(stream, headers, media_type)


def disposition(name: str) -> str:
    """A file's name for old readers and for those that know RFC 8187."""
    plain = _UNSAFE.sub("_", name)
    text = f'attachment; filename="{plain}"'
    return (
        text
        if plain == name
        else f"{text}; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"
    )


class ExportStream:
    """An export under way: its head, and then the bytes of the file. To be closed whatever happens."""

    def __init__(
        self, head: ExportHead, rest: bytes, body: AsyncIterator[bytes], stack: AsyncExitStack
    ) -> None:
        self.head = head
        self._rest = rest
        self._body = body
        self._stack = stack

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises httpx.HTTPError where the export breaks off."""
        if self._rest:
            yield self._rest
        async for chunk in self._body:
            yield chunk

    async def close(self) -> None:
        await self._stack.aclose()


async def open_export(queries: Queries, what: Asked, *, gzip: bool) -> ExportStream:
    """Raises TryLater where a partition can't be read, or too many exports run."""
    by_url, published = await queries.places()
    leader = max(by_url, key=lambda url: len(by_url[url]))
    request = ExportRequest(
        asked=what,
        partitions=tuple(sorted(by_url[leader])),
        elsewhere=tuple((url, tuple(sorted(some))) for url, some in sorted(by_url.items()) if url != leader),
        gzip=gzip,
    )
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(HEAD_S):
                stream = await _begin(leader, queries, request, stack)
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            raise await queries.refusal(request.partitions) from error
        if missing := stream.head.missing:
            raise await queries.refusal(missing)
        behind = {
            partition
            for partition, fence in stream.head.fences.items()
            if (stands := published.get(partition)) is not None
            and Fence(*fence, stands.topic).is_behind(stands)
        }
        if behind:
            raise await queries.refusal(behind)
        stream._stack = stack.pop_all()
        return stream


async def _begin(url: str, queries: Queries, request: ExportRequest, stack: AsyncExitStack) -> ExportStream:
    timeout = httpx.Timeout(export_wire.QUIET_S, connect=CONNECT_S)
    # Plain HTTP: without this each client reads the machine's certificate authorities, 30 ms on the event loop.
    no_authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = await stack.enter_async_context(
        httpx.AsyncClient(timeout=timeout, trust_env=False, verify=no_authorities)
    )
    answer = await stack.enter_async_context(
        client.stream(
            "POST",
            url + export_wire.PATH,
            content=export_wire.encode(request),
            headers={"authorization": f"Bearer {queries.token}", "accept-encoding": "identity"},
        )
    )
    if answer.status_code == HTTPStatus.CONFLICT:
        raise await queries.refusal(_refusal.decode(await answer.aread()).missing)
    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        raise TryLater(BUSY_RETRY_S, "other exports are running, try again when they are done")
    if answer.status_code != HTTPStatus.OK:
        log.error("the query process of partitions %s answered %s", request.partitions, answer.status_code)
        raise await queries.refusal(request.partitions)
    body = answer.aiter_raw()
    data = b""
    while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big"):
        if len(data) > MAX_HEAD:
            raise ValueError("no answer of an export")
        if not (more := await anext(body, b"")):
            raise ValueError("no answer of an export")
        data += more
    end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
    return ExportStream(export_wire.decode_head(data[LENGTH_BYTES:end]), data[end:], body, stack)


class _Passed(StreamingResponse):
    """The export's bytes; when the answer is over, however it ends, the export is."""

    def __init__(self, stream: ExportStream, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(stream.chunks(), headers=headers, media_type=media_type)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.close()


_GZIP_FILE: Final = Parameter(
    name="gzip", type=Literal["0", "1"], default="0", about="1: a file that is compressed."
)
_RECIPIENTS: Final = Operation(
    about="All recipients as a CSV file, by address", media=CSV, scope="read",
    parameters=(
        *REPORT, _GZIP_FILE, Parameter(name="sort", type=Literal["recipient"], about="By address."),
        *RECIPIENT_FILTERS,
    ),
)  # fmt: skip
_EVENTS: Final = Operation(
    about="All events as a CSV file, oldest first", media=CSV, scope="read",
    parameters=(
        *REPORT, _GZIP_FILE, Parameter(name="order", type=event_log.Order, default="asc", about="By time."),
        *EVENT_FILTERS,
    ),
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("GET", CAMPAIGN + "/exports/recipients.csv", recipients_csv, _RECIPIENTS),
        ApiRoute("GET", CAMPAIGN + "/exports/events.csv", events_csv, _EVENTS),
    ]
