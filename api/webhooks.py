"""`POST /webhooks/{org}/{source}`: an ESP's webhook into topic `webhooks`, as it came over the wire.

The order, each step only after the one before it:
1. the size that the request names (413), the source (404, one text for every reason)
2. the body, within its bounds (413; 408, or 429 where the ESP would take that for an end)
3. the source's keys are on this host (503, 429), the signature over the raw bytes (401), with the certificate where
   there is one (403 for a stranger's, before it is fetched); what asks for a confirmation is confirmed, and not stored
4. the encoding: known (415), and not a bomb (413); data that are broken are stored, since no retry mends them
5. the source's own limit (429, 503): only who can sign uses it up
6. a signature that vouches for one body only was not used for another one (406)
7. into Kafka; acknowledged: 200 with nothing in it; else what makes this ESP come again (503, 429), as after a bug of
   ours
Other methods are 405, but those with which the source's ESP tries a new address: 200 and nothing else.
No event is parsed here: a parser's mistake can't lose one. Plain ASGI without Starlette's Request, since a large sender
makes thousands of these a second. The address's `key` is a credential: it goes to `verify` and nowhere else.
"""

from __future__ import annotations

import contextlib
import time
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from api.body import BODY_WITHIN_S, CLOSES, ClientGone, check_length, content_encoding, read_body
from api.context import Context
from api.rates import RateLimited
from api.tokens import Tokens
from app.errors import PoisonEvent, RejectRequest, TryLater
from app.esps import ESPS
from app.esps.esp import CERTIFICATE, COMMON_HEADERS, NOW, QUERY_KEY, Busy, Esp, refused
from app.inflate import check_inflated, limit_for
from app.organisations import Organisations, Source
from app.topics import WEBHOOKS, Webhook, webhook_headers

PREFIX: Final = "/webhooks/"
MAX_HEADER_CHARACTERS: Final = 2_048
"""Of one header that is kept beside the body."""

_RawHeaders = list[tuple[bytes, bytes]]


class WebhookEndpoint:
    """The ASGI application behind all addresses below `/webhooks/`."""

    def __init__(self, body_within_s: float) -> None:
        self._body_within_s = body_within_s
        self._tokens = Tokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        context: Context = scope["app"].state.context
        source: Source | None = None
        try:
            if scope["method"] != "POST":
                _check_probe(context, scope)
                await _answer(send)
                return
            check_length(scope, context.settings.max_body)
            source = _find_source(context, scope["path"])
            body = await read_body(scope, receive, context.settings.max_body, self._body_within_s)
            await self._take(context, source, ESPS[source.esp], scope, body)
        except RejectRequest as error:
            status = 429 if error.status == 408 and busy_of(source).status == 429 else error.status
            headers = _extra_headers(error.status, source)
            await _refuse(send, status, error.code, error.message, headers)
            outcome = error.code
        except RateLimited as error:
            status = ESPS[source.esp].limited_status if source else 429
            await _refuse(send, status, "rate_limited", error.message, _retry_after(error.retry_after_s))
            outcome = "rate_limited"
        except TryLater as error:
            busy = busy_of(source)
            await _refuse(send, busy.status, "try_later", error.message, _retry_after(busy.retry_after_s))
            outcome = "try_later"
        except ClientGone:
            outcome = "client_gone"
        except Exception:
            # A bug, which the log is told; the ESP is told to come again, for some take 500 for an end.
            busy = busy_of(source)
            message = "something went wrong on our side, try again"
            await _refuse(send, busy.status, "internal", message, _retry_after(busy.retry_after_s))
            raise
        else:
            await _answer(send)
            outcome = "accepted"
        if source is not None:
            metrics = context.metrics
            metrics.webhooks.labels(source.org, source.name, outcome).inc()
            context.arrivals.note(source, outcome, context.clock())
            metrics.webhook_seconds.labels(source.esp).observe(time.perf_counter() - started)

    async def _take(self, context: Context, source: Source, esp: Esp, scope: Scope, body: bytes) -> None:
        if source.absent:
            raise TryLater(esp.busy.retry_after_s, "this host lacks a key of this address, try again")
        await _verify(context, source, esp, scope, body)
        if esp.confirmation is not None:
            confirmation = esp.confirmation(source, body)
            if confirmation is not None:
                await context.confirmations.confirm(source, confirmation)
                return
        encoding = content_encoding(scope)
        if encoding:
            # Broken data are stored all the same: who reads the log makes a dead letter of them.
            with contextlib.suppress(PoisonEvent):
                check_inflated(body, encoding, limit_for(context.settings.max_body))
        context.rates.check(source)
        if esp.once is not None and not source.insecure:
            once = esp.once(body)
            if once is not None:
                await self._tokens.check(context.redis, context.metrics, source, once)
        webhook = Webhook(
            org=source.org,
            source=source.name,
            esp=source.esp,
            received_at_ms=int(context.clock() * 1000),
            headers=kept_headers(scope["headers"], esp),
            body=body,
        )
        await context.producer.send(WEBHOOKS, body, webhook_headers(webhook))
        context.metrics.webhook_bytes.labels(source.org, source.name).inc(len(body))


def _check_probe(context: Context, scope: Scope) -> None:
    """Raises RejectRequest 405 unless the source's ESP tries new addresses with this method."""
    with contextlib.suppress(RejectRequest):
        if scope["method"] in ESPS[_find_source(context, scope["path"]).esp].probes:
            return
    raise RejectRequest(405, "method_not_allowed", "webhooks are posted")


def _find_source(context: Context, path: str) -> Source:
    source = source_at(context.organisations, path)
    if source is None:
        raise RejectRequest(404, "not_found", "there is no such webhook address")
    return source


def source_at(organisations: Organisations, path: str) -> Source | None:
    """The source that a webhook address belongs to."""
    parts = path.split("/")
    source = organisations.find_source(parts[2], parts[3]) if len(parts) == 4 else None
    return source if source is not None and source.esp in ESPS else None


async def _verify(context: Context, source: Source, esp: Esp, scope: Scope, body: bytes) -> None:
    # What stands under a name with a colon is ours alone.
    headers = {name: value for name, value in scope["headers"] if name[:1] != b":"}
    if esp.timed:
        headers[NOW] = b"%d" % int(context.clock())
    if query := scope["query_string"]:
        for parameter in query.split(b"&"):
            name, _, value = parameter.partition(b"=")
            if name == b"key":
                headers[QUERY_KEY] = unquote_to_bytes(value)
                break
    if esp.certificate_url is not None and not source.insecure:
        url = esp.certificate_url(source, body)
        if url is None:
            raise refused()
        headers[CERTIFICATE] = await context.certificates.get(url)
    esp.verify(source, headers, body)


def kept_headers(raw: _RawHeaders, esp: Esp) -> tuple[tuple[str, str], ...]:
    """What may help to read the body later; never a credential."""
    return tuple(
        (name, value.decode("latin-1")[:MAX_HEADER_CHARACTERS])
        for raw_name, value in raw
        if (name := raw_name.decode("latin-1")) in COMMON_HEADERS or name in esp.headers
    )


def busy_of(source: Source | None) -> Busy:
    """What makes the source's ESP come again."""
    return ESPS[source.esp].busy if source is not None else Busy()


def _retry_after(seconds: int) -> _RawHeaders:
    return [(b"retry-after", b"%d" % seconds)]


def _extra_headers(status: int, source: Source | None) -> _RawHeaders:
    headers: _RawHeaders = []
    if status in CLOSES or status in (404, 405):
        headers.append((b"connection", b"close"))
    if status == 405:
        headers.append((b"allow", b"POST"))
    if status == 401:
        # Some senders (SNS is one) give their password only when asked for it.
        scheme = b'Basic realm="webhooks"' if source and source.basic else b"Webhook"
        headers.append((b"www-authenticate", scheme))
    return headers


async def _answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, code: str, message: str, headers: _RawHeaders) -> None:
    body = msgspec.json.encode({"error": code, "message": message})
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


class WebhookRoute(BaseRoute):
    """All of `/webhooks/`, found by its prefix alone."""

    path: Final = PREFIX + "{org}/{source}"

    def __init__(self, body_within_s: float) -> None:
        self._endpoint = WebhookEndpoint(body_within_s)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            return Match.FULL, {"endpoint": self._endpoint, "route": self}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint(scope, receive, send)


def routes(body_within_s: float = BODY_WITHIN_S) -> list[BaseRoute]:
    return [WebhookRoute(body_within_s)]
