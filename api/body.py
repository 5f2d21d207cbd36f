"""Reading a request's body with bounds on its size and on the time it may take.

Rules:
- What Content-Length promises is checked first, what comes is counted all the same: it may lie or be absent.
- Reading stops with the chunk that passes the limit; the answer closes the connection (`CLOSES`), so that nobody reads
  the rest. The server below holds back what isn't asked for (64 KiB), so memory stays at the limit.
- A body that isn't complete after `BODY_WITHIN_S` is refused with 408, which its sender repeats.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive, Scope

from app.errors import RejectRequest

BODY_WITHIN_S: Final = 8.0
"""Below the ten seconds that a stopping process has: a half-sent body is answered before it stops."""
CLOSES: Final = frozenset({408, 413})
"""Answers after which the rest of the body is left unread."""


class ClientGone(Exception):
    """The client closed the connection within its body: nobody is left to answer."""


def check_length(scope: Scope, limit: int) -> None:
    """Raises RejectRequest 413 where the request itself says that its body is too large."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            # The server has checked that it is a number; its digits alone tell, however many there are.
            if len(value.lstrip(b"0")) > 18 or (value.isdigit() and int(value) > limit):
                raise too_large(limit)
            return


async def read_body(scope: Scope, receive: Receive, limit: int, within_s: float = BODY_WITHIN_S) -> bytes:
    """The whole body, `limit` bytes at most. Raises RejectRequest 413 or 408, and ClientGone."""
    check_length(scope, limit)
    try:
        async with asyncio.timeout(within_s):
            return await _read(receive, limit)
    except TimeoutError:
        raise RejectRequest(
            408, "too_slow", f"the body was not complete within {within_s:g} seconds"
        ) from None


async def _read(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    first: bytes = message.get("body", b"")
    if len(first) > limit:
        raise too_large(limit)
    if not message.get("more_body"):
        return first
    chunks = [first]
    size = len(first)
    while message.get("more_body"):
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> RejectRequest:
    return RejectRequest(413, "too_large", f"the body must not be larger than {limit} bytes")


def content_encoding(scope: Scope) -> str:
    """`Content-Encoding` as one text, also where it stands on several lines."""
    return ", ".join(
        value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"
    )
