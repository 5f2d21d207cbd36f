"""A cancellation is never lost, and every wait ends."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tables.redis_client import redis_client


async def test_a_loop_ends_wherever_its_cancellation_finds_it(redis_db: str) -> None:
    client = redis_client(redis_db, timeout_s=2)

    async def loop() -> None:
        while True:
            await client.ping()

    for turns in range(60):
        task = asyncio.create_task(loop())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        assert done, f"cancelled after {turns} turns, it goes on"
    assert await client.ping()
    await client.aclose()


@pytest.mark.parametrize("connected", [False, True])
async def test_a_server_that_does_not_answer_costs_two_attempts(redis_db: str, connected: bool) -> None:
    client = redis_client(redis_db, timeout_s=0.2)
    if connected:
        await client.ping()
    async with Redis.from_url(redis_db) as other:
        await other.client_pause(3000)
        began = time.monotonic()
        with pytest.raises(RedisError):
            await client.ping()
        assert time.monotonic() - began < 2
        await other.client_unpause()
    await client.aclose()


async def test_a_write_that_nobody_reads_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = redis_client(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0", timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(RedisError):
            await client.set("key", b"x" * 50_000_000)
        assert time.monotonic() - began < 5
        await client.aclose()
