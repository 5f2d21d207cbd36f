"""Two installations on one Redis: neither sees nor touches what the other one has."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from app.keys import campaign_key
from tables.predecessor import forget_predecessor
from tables.redis_client import redis_client
from tables.redis_names import placed, placed_command, sync_client
from tables.view_writer import ViewWriter
from tables.views import TICK, Fence, ViewReader, report_name
from tests.api.serving import PARTITIONS, SECRET, TOPIC, Worker

A, B = "a" * 16, "b" * 16
KEY = campaign_key(SECRET, "acme", "spring")


def test_each_kind_of_command_is_placed() -> None:
    assert placed("cr:tick", "") == "cr:tick"
    assert placed("cr:tick", A) == placed(placed("cr:tick", A), A) == f"cr:{A}:tick"
    assert placed(b"cr:tick", A) == f"cr:{A}:tick".encode()
    for command, expected in (
        (("HSET", "cr:x", "cr:field", "cr:value"), ("HSET", f"cr:{A}:x", "cr:field", "cr:value")),
        (("EXISTS", "cr:x", "cr:y"), ("EXISTS", f"cr:{A}:x", f"cr:{A}:y")),
        (
            ("EVALSHA", "sha", 2, "cr:x", "cr:y", "cr:z"),
            ("EVALSHA", "sha", 2, f"cr:{A}:x", f"cr:{A}:y", "cr:z"),
        ),
        (("SCAN", "0", "MATCH", "cr:v1:*", "COUNT", 5), ("SCAN", "0", "MATCH", f"cr:{A}:v1:*", "COUNT", 5)),
        (("INFO", "server"), ("INFO", "server")),
    ):
        assert tuple(placed_command(command, A)) == expected
        assert tuple(placed_command(command, "")) == command


@pytest.mark.parametrize("command", [("RENAME", "cr:x", "cr:y"), ("SCAN", "0"), ("HGET", "of others", "x")])
def test_what_might_reach_others_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"table|begins with"):
        placed_command(command, A)


async def publish(redis: Redis, sent: int) -> None:
    worker = Worker(redis)
    await worker.ready()
    await worker.publish("spring", sent=sent)


async def test_views_ticks_and_positions_are_each_installations_own(redis_db: str) -> None:
    a, b = (redis_client(redis_db, installation=word) for word in (A, B))
    listening = b.pubsub()
    await listening.subscribe(TICK)
    await publish(a, 10)
    reader_a, reader_b = ViewReader(a, PARTITIONS), ViewReader(b, PARTITIONS)
    assert await reader_b.partition_offsets() == {}
    assert await reader_b.load(KEY, epoch="e", hours=False) is None
    await publish(b, 3)
    seen = [await reader.load(KEY, epoch="e", hours=True) for reader in (reader_a, reader_b)]
    assert [sum(view.patterns.values()) for view in seen if view is not None] == [10, 3]
    async with asyncio.timeout(5):
        while await listening.get_message(ignore_subscribe_messages=True, timeout=1.0) is None:
            pass
    assert await listening.get_message(ignore_subscribe_messages=True, timeout=0.1) is None, (
        "its own one only"
    )
    # One is emptied: the other one has everything.
    async for name in a.scan_iter(match="cr:*"):
        await a.unlink(name)
    assert await reader_a.partition_offsets() == {}
    assert await reader_b.partition_offsets() == dict.fromkeys(range(PARTITIONS), Fence(1, 0, TOPIC))
    with sync_client(redis_db, B, timeout_s=1) as threads:
        assert threads.hget(report_name(TOPIC, KEY), "campaign") == b"spring"
    for client in (a, b):
        await client.aclose()
    await listening.aclose()  # type: ignore[no-untyped-call]


async def test_what_stood_there_before_ids_goes_only_where_it_is_ours(redis_db: str) -> None:
    everyone = redis_client(redis_db)
    mine = redis_client(redis_db, installation=A)
    await publish(mine, 10)
    report = f"cr:v3:report:{KEY.hex()}"
    await everyone.hset(report, mapping={"org": "acme", "campaign": "spring"})
    before = (
        "cr:v3:partitions",
        "cr:v3:campaigns:acme",
        "cr:workers",
        "cr:source:acme:news",
        "cr:once:acme:gun:1",
    )
    for name in (*before, "of others"):
        await everyone.set(name, "1")
    assert await forget_predecessor(mine.everyone(), b"another installation's secret") == 0
    assert await everyone.exists(report, *before) == 1 + len(before)
    assert await ViewWriter(mine).forget_older_formats() == 0, (
        "without the secret nothing is known to be ours"
    )
    assert await ViewWriter(mine, SECRET).forget_older_formats() == 1 + len(before)
    left = {name async for name in everyone.scan_iter()}
    assert {name for name in left if not name.startswith(f"cr:{A}:".encode())} == {b"of others"}
    assert await ViewReader(mine, PARTITIONS).load(KEY, epoch="e", hours=False) is not None
    assert await ViewWriter(mine, SECRET).forget_older_formats() == 0
    for client in (everyone, mine):
        await client.aclose()
