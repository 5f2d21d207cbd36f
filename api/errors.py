"""What went wrong → the answer: always `{"error": code, "message": text}`, never a stack, a host or an input.

| raised | answer |
|---|---|
| RejectRequest | its status and code; 401 names the scheme `Bearer`, 408 and 413 close the connection (`api.body`) |
| TryLater | 503 with Retry-After; 429 where it is for a source's limit (`api.rates`) |
| redis.RedisError, and OS errors and timeouts of its socket (`redis_errors`) | 503 with Retry-After |
| Starlette's own (no route, wrong method) | its status |
| anything else | 500; the exception goes to the log, not to the caller |
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.body import CLOSES, ClientGone
from api.rates import RateLimited
from app.errors import RejectRequest, TryLater

log = logging.getLogger("reports.api")

RETRY_AFTER_S = 2
"""How soon a reader comes back while Redis is away: it is back within seconds or a person has to act."""

# Scripts and styles from our own files only: what a campaign's name or a link carries can't run.
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_encode = msgspec.json.Encoder().encode


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        _encode(document),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def error_response(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    return json_response({"error": code, "message": message}, status, headers)


async def _rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, RejectRequest)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
    if error.status in CLOSES:
        headers["Connection"] = "close"
    return error_response(error.status, error.code, error.message, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # to nobody


async def _later(request: Request, error: Exception) -> Response:
    assert isinstance(error, TryLater)
    return error_response(503, "try_later", error.message, {"Retry-After": str(error.retry_after_s)})


async def _limited(request: Request, error: Exception) -> Response:
    assert isinstance(error, RateLimited)
    return error_response(429, "rate_limited", error.message, {"Retry-After": str(error.retry_after_s)})


async def _views_away(request: Request, error: Exception) -> Response:
    return error_response(
        503,
        "reports_unavailable",
        "the report numbers can't be read at the moment; nothing is lost",
        {"Retry-After": str(RETRY_AFTER_S)},
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    message = HTTPStatus(error.status_code).phrase.lower()
    return error_response(error.status_code, code, message, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    # Starlette raises it again behind the answer, and uvicorn logs it with its stack.
    return error_response(500, "internal", "something went wrong on our side", SECURITY_HEADERS)


HANDLERS: Mapping[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    RejectRequest: _rejected,
    ClientGone: _gone,
    TryLater: _later,
    RateLimited: _limited,
    RedisError: _views_away,
    HTTPException: _http,
    Exception: _bug,
}
