"""`Client` and `AsyncClient`: they send calls (`client.calls`). The same methods, the second ones awaited.

Rules:
- Nothing is asked twice: who wants to ask again looks at `ApiError.retry_after_s`.
- Every wait for bytes has a timeout, that of a stream above the API's pings (15 s).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from client.calls import NOTHING, Call, ListCall
from client.errors import Unreachable, Unreadable, error_of
from client.events import Lines, LiveEvent

TIMEOUT_S: Final = 30.0
STREAM_QUIET_S: Final = 60.0

_T = TypeVar("_T")
_Item = TypeVar("_Item")


def _options(base_url: str, key: str, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "headers": {"authorization": f"Bearer {key}"},
        "timeout": timeout_s,
        "trust_env": False,
    }


def _request(call: Call[Any]) -> dict[str, Any]:
    return {"method": call.method, "url": call.target, "content": call.body}


def _check(status: int, headers: Mapping[str, str], content: bytes) -> None:
    if not 200 <= status < 300:
        raise error_of(status, headers, content)


def _decoded(call: Call[_T], content: bytes) -> _T:
    if call.answer is NOTHING:
        content = b"null"
    try:
        return msgspec.json.decode(content, type=call.answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"{call.path}: {error}") from None


def _next(call: Call[_T], page: Any) -> Call[_T] | None:
    return None if page["next"] is None else call.asking("cursor", page["next"])


@contextlib.contextmanager
def _reaching(call: Call[Any]) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise Unreachable(f"{call.path}: {type(error).__name__} {error}".rstrip()) from error


class Client:
    """One key's view of an API at `base_url`. To be used as a context, or closed."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._stream_timeout = httpx.Timeout(timeout_s, read=STREAM_QUIET_S)
        self._http = httpx.Client(**_options(base_url, key, timeout_s))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def raw(self, call: Call[Any]) -> bytes:
        """The answer as it came. Raises ClientError."""
        with _reaching(call):
            answer = self._http.request(**_request(call))
        _check(answer.status_code, answer.headers, answer.content)
        return answer.content

    def send(self, call: Call[_T]) -> _T:
        """The answer. Raises ClientError."""
        return _decoded(call, self.raw(call))

    def pages(self, call: Call[_T]) -> Iterator[_T]:
        """All pages from the one that is asked for, each fetched when it is wanted. Raises ClientError."""
        following: Call[_T] | None = call
        while following is not None:
            page = self.send(following)
            yield page
            following = _next(following, page)

    def items(self, call: ListCall[Any, _Item]) -> Iterator[_Item]:
        """The rows of all pages. Raises ClientError."""
        for page in self.pages(call):
            yield from page["items"]

    @contextlib.contextmanager
    def _stream(self, call: Call[Any]) -> Iterator[httpx.Response]:
        with _reaching(call), self._http.stream(**_request(call), timeout=self._stream_timeout) as answer:
            if not answer.is_success:
                _check(answer.status_code, answer.headers, answer.read())
            yield answer

    def download(self, call: Call[bytes]) -> Iterator[bytes]:
        """The pieces of a file, without compression. Raises ClientError, Unreachable where it breaks off."""
        with self._stream(call) as answer:
            yield from answer.iter_bytes()

    def watch(self, call: Call[_T]) -> Iterator[LiveEvent[_T]]:
        """The events of one stream, until it ends: the API ends each after about ten minutes. Raises ClientError."""
        lines = Lines(call.answer)
        with self._stream(call) as answer:
            for line in answer.iter_lines():
                if event := lines.take(line):
                    yield event


class AsyncClient:
    """The same for asyncio."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._stream_timeout = httpx.Timeout(timeout_s, read=STREAM_QUIET_S)
        self._http = httpx.AsyncClient(**_options(base_url, key, timeout_s))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[_T]) -> _T:
        """The answer. Raises ClientError."""
        with _reaching(call):
            answer = await self._http.request(**_request(call))
        _check(answer.status_code, answer.headers, answer.content)
        return _decoded(call, answer.content)

    async def pages(self, call: Call[_T]) -> AsyncIterator[_T]:
        following: Call[_T] | None = call
        while following is not None:
            page = await self.send(following)
            yield page
            following = _next(following, page)

    async def items(self, call: ListCall[Any, _Item]) -> AsyncIterator[_Item]:
        async for page in self.pages(call):
            for item in page["items"]:
                yield item

    @contextlib.asynccontextmanager
    async def _stream(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        with _reaching(call):
            async with self._http.stream(**_request(call), timeout=self._stream_timeout) as answer:
                if not answer.is_success:
                    _check(answer.status_code, answer.headers, await answer.aread())
                yield answer

    async def download(self, call: Call[bytes]) -> AsyncIterator[bytes]:
        async with self._stream(call) as answer:
            async for piece in answer.aiter_bytes():
                yield piece

    async def watch(self, call: Call[_T]) -> AsyncIterator[LiveEvent[_T]]:
        lines = Lines(call.answer)
        async with self._stream(call) as answer:
            async for line in answer.aiter_lines():
                if event := lines.take(line):
                    yield event
