from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive

from api.body import ClientGone, content_encoding, read_body
from app.errors import RejectRequest

LIMIT = 1_000


def receiving(messages: Iterable[Message], then_wait: bool = False) -> tuple[Receive, list[Message]]:
    """Gives these messages one after the other, and those that were given."""
    given: list[Message] = []
    coming = iter(messages)

    async def receive() -> Message:
        for message in coming:
            given.append(message)
            return message
        if then_wait:
            await asyncio.sleep(60)
        raise AssertionError("asked for more than there is")

    return receive, given


def chunks(*bodies: bytes, more_at_end: bool = False) -> list[Message]:
    last = len(bodies) - 1
    return [
        {"type": "http.request", "body": body, "more_body": place < last or more_at_end}
        for place, body in enumerate(bodies)
    ]


async def read(
    messages: Iterable[Message], length: str | None = None, then_wait: bool = False, within_s: float = 5
) -> bytes:
    headers = [] if length is None else [(b"content-length", length.encode())]
    receive, _ = receiving(messages, then_wait)
    return await read_body({"type": "http", "headers": headers}, receive, LIMIT, within_s)


async def test_a_body_in_one_and_in_many_chunks() -> None:
    assert await read(chunks(b"abc"), "3") == b"abc"
    assert await read(chunks(b"a", b"", b"bc", b"")) == b"abc"
    assert await read(chunks(b"")) == b""
    assert await read(chunks(b"x" * 500, b"x" * 500)) == b"x" * LIMIT


@pytest.mark.parametrize("length", ["1001", "9" * 30, "0001001"])
async def test_a_length_above_the_limit_is_refused_before_anything_is_read(length: str) -> None:
    with pytest.raises(RejectRequest) as refused:
        await read([], length)
    assert refused.value.status == 413


@pytest.mark.parametrize("length", [None, "10", "0"])
async def test_what_comes_is_counted_whatever_the_length_says(length: str | None) -> None:
    receive, given = receiving(chunks(b"x" * 600, b"x" * 600, b"x" * 600, b""))
    headers = [] if length is None else [(b"content-length", length.encode())]
    with pytest.raises(RejectRequest) as refused:
        await read_body({"type": "http", "headers": headers}, receive, LIMIT)
    assert refused.value.status == 413
    assert len(given) == 2, "reading stops with the chunk that passes the limit"
    with pytest.raises(RejectRequest):
        await read(chunks(b"x" * 1_001))


@pytest.mark.parametrize("messages", [[], chunks(b"ab", more_at_end=True)])
async def test_a_slow_body_is_refused_in_time(messages: list[Message]) -> None:
    with pytest.raises(RejectRequest) as refused:
        await read(messages, "10", then_wait=True, within_s=0.05)
    assert refused.value.status == 408


@pytest.mark.parametrize("messages", [[], chunks(b"ab", more_at_end=True)])
async def test_a_client_that_went_away_is_told_apart(messages: list[Message]) -> None:
    with pytest.raises(ClientGone):
        await read([*messages, {"type": "http.disconnect"}])


def test_several_lines_of_content_encoding_are_one() -> None:
    scope = {"headers": [(b"content-encoding", b"gzip"), (b"x", b"y"), (b"content-encoding", b"br")]}
    assert content_encoding(scope) == "gzip, br"
    assert content_encoding({"headers": []}) == ""
