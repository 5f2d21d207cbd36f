"""Keep-alive connections to the query processes: a POST of bytes, an answer of known length."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from urllib.parse import urlsplit

AT_ONCE: Final = 32
"""Connections to one process; more requests than that wait, as long as their timeout."""
MAX_ANSWER: Final = 256 << 20


class Connections:
    """Of one process. Not thread-safe: of one event loop."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise ValueError("not an address of a query process")
        self._host, self._port = parts.hostname, parts.port
        self._head = f" HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\ncontent-length: "
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._closed = False

    async def post(self, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Status and body. Raises OSError, EOFError, TimeoutError or ValueError where there is no answer."""
        async with asyncio.timeout(timeout_s), self._turns:
            data = f"POST {path}{self._head}{len(body)}\r\n\r\n".encode() + body
            if self._idle:
                # It may have been closed since by a process that is gone: then a new one is tried.
                with contextlib.suppress(OSError, EOFError):
                    return await self._exchange(*self._idle.pop(), data)
            return await self._exchange(
                *await asyncio.open_connection(self._host, self._port, limit=1 << 20), data
            )

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
    ) -> tuple[int, bytes]:
        reusable = False
        try:
            writer.write(data)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, found, rest = head.partition(b"\r\ncontent-length:")
            length = int(rest[: rest.index(b"\r\n")]) if found else 0
            if length > MAX_ANSWER:
                raise ValueError("too long an answer")
            body = await reader.readexactly(length) if length else b""
            status = int(head[9:12])
            reusable = b"\r\nconnection: close" not in head and not self._closed
            return status, body
        except asyncio.LimitOverrunError as error:
            raise ValueError("no answer of HTTP") from error
        finally:
            if reusable:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        self._closed = True
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
