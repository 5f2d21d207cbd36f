"""A small HTTP/1.1 client that posts until it is accepted: keep-alive connections, a bounded number of them.

Rules:
- Every await has a timeout. A connection that misbehaves is closed and a new one made.
- 5xx, 429, a refused or broken connection and a timeout are repeated, with growing pauses; any other answer is final.
- Of an answer only the status and a body of known or chunked length are read.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

MAX_PAUSE_S: Final = 2.0


class Answer(NamedTuple):
    status: int
    body: bytes
    tries: int = 1


class Address(NamedTuple):
    host: str
    port: int
    tls: bool


def address_of(base_url: str) -> Address:
    parts = urlsplit(base_url)
    tls = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http address: {base_url}")
    return Address(parts.hostname, parts.port or (443 if tls else 80), tls)


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, address: Address, *, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """One try. Raises OSError, EOFError or TimeoutError; the connection is then closed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._request(method, path, headers, body)
        except BaseException:
            self.close()
            raise

    async def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._reader is None or self._writer is None:
            context = ssl.create_default_context() if self._address.tls else None
            self._reader, self._writer = await asyncio.open_connection(
                self._address.host, self._address.port, ssl=context, limit=1 << 20
            )
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._address.host}:{self._address.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {len(body)}", "", ""]
        self._writer.write("\r\n".join(lines).encode("latin-1") + body)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        content = await _read_body(self._reader, head)
        if b"\r\nconnection: close" in head:
            self.close()
        return Answer(status, content)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if found:
        length = int(rest[: rest.index(b"\r\n")])
        return await reader.readexactly(length) if length else b""
    if b"\r\ntransfer-encoding: chunked" not in head:
        return b""
    content = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        if size == 0:
            return bytes(content)
        content += chunk[:-2]


def is_retriable(status: int) -> bool:
    return status >= 500 or status == 429


async def post_until_accepted(
    connection: Connection,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    method: str = "POST",
    on_repeat: Callable[[str], None] | None = None,
) -> Answer:
    """The final answer: accepted, or refused for good. `on_repeat` hears why a try was in vain."""
    return await repeat_until_accepted(
        connection, path, lambda: (headers, body), method=method, on_repeat=on_repeat
    )


async def repeat_until_accepted(
    connection: Connection,
    path: str,
    attempt: Callable[[], tuple[Mapping[str, str], bytes]],
    *,
    method: str = "POST",
    on_repeat: Callable[[str], None] | None = None,
) -> Answer:
    """The same, with the headers and the body made anew for each try: signatures have times."""
    pause_s = 0.05
    tries = 0
    while True:
        tries += 1
        headers, body = attempt()
        try:
            answer = await connection.request(method, path, headers, body)
            if not is_retriable(answer.status):
                return answer._replace(tries=tries)
            trouble = f"answer {answer.status}"
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            trouble = type(error).__name__  # the same as "try later"
        if on_repeat is not None:
            on_repeat(trouble)
        await asyncio.sleep(pause_s * (0.5 + random.random()))
        pause_s = min(pause_s * 2, MAX_PAUSE_S)
