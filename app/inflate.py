"""Undoing `Content-Encoding`, with a bound: a body of 100 KB can stand for 100 MB of zeros.

Known encodings: `identity`, `gzip`, `deflate` (with zlib's wrapping, as RFC 9110 says, or raw, as many send it). One
encoding on top of another is refused: no ESP sends that.
"""

from __future__ import annotations

import zlib
from typing import Final

from app.errors import PoisonEvent, RejectRequest

DEFAULT_LIMIT: Final = 20 * 1024 * 1024
"""Bytes after inflation: four times the default MAX_BODY (`limit_for`)."""

GZIP_WBITS: Final = 31
"""What zlib calls a gzip file."""
_CHUNK: Final = 256 * 1024
_MAX_MEMBERS: Final = 64
"""Gzip files one behind the other in one body; each start costs, and bodies have one."""


def limit_for(max_body: int) -> int:
    """How large a body may be after inflation where `max_body` bytes are taken over the wire."""
    return 4 * max_body


def inflate(body: bytes, encoding: str, limit: int = DEFAULT_LIMIT) -> bytes:
    """The body without its encoding.

    Raises RejectRequest 413 (more than `limit` bytes) or 415 (an encoding that isn't known), and PoisonEvent where the
    data are broken or end too early.
    """
    if (kind := _kind(encoding)) == "identity":
        return _bounded(body, limit)
    return b"".join(_chunks(body, kind, limit))


def check_inflated(body: bytes, encoding: str, limit: int = DEFAULT_LIMIT) -> None:
    """Raises what `inflate` would, without keeping what it inflates."""
    if (kind := _kind(encoding)) == "identity":
        _bounded(body, limit)
        return
    _chunks(body, kind, limit, keep=False)


def _kind(encoding: str) -> str:
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return "identity"
    if kind in ("gzip", "x-gzip"):
        return "gzip"
    if kind == "deflate":
        return "deflate"
    raise RejectRequest(415, "unsupported_encoding", "Content-Encoding must be gzip, deflate or none")


def _bounded(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> RejectRequest:
    return RejectRequest(413, "too_large", f"the body must not inflate to more than {limit} bytes")


def _chunks(body: bytes, kind: str, limit: int, *, keep: bool = True) -> list[bytes]:
    if kind == "gzip":
        wbits = GZIP_WBITS
    else:
        # A zlib header is 0x78 and a byte that makes both a multiple of 31 (RFC 1950); raw deflate has none.
        wbits = 15 if len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0 else -15
    chunks: list[bytes] = []
    size = 0
    rest = body
    for _ in range(_MAX_MEMBERS):
        inflater = zlib.decompressobj(wbits)
        while not inflater.eof:
            try:
                chunk = inflater.decompress(rest, _CHUNK)
            except zlib.error:
                raise PoisonEvent(f"broken {kind}") from None
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if keep:
                chunks.append(chunk)
            rest = inflater.unconsumed_tail
            if not chunk and not rest and not inflater.eof:
                raise PoisonEvent(f"{kind} is cut short")
        rest = inflater.unused_data
        if not rest or kind != "gzip":
            return chunks
    raise PoisonEvent(f"broken {kind}")
