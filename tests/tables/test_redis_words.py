"""What a real Redis refuses is said in words with the way out; following it, it takes writes again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis._parsers.base import BaseParser

from api.log_positions import REFUSES_WRITES, LogPositions
from tables.redis_client import redis_words


@pytest.fixture
def server(redis_db: str) -> Iterator[redis.Redis]:
    """What a test changes is put back."""
    with redis.Redis.from_url(redis_db) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("requirepass", "")
        client.replicaof("NO", "ONE")


def refused(url: str) -> str:
    with redis.Redis.from_url(url, socket_timeout=2) as client, pytest.raises(redis.RedisError) as refusal:
        client.set("cr:x", "1")
    return redis_words(refusal.value, url)


def taken(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=2) as client:
        return bool(client.set("cr:x", "1"))


def test_out_of_memory(server: redis.Redis, redis_db: str) -> None:
    server.config_set("maxmemory", 1)
    words = refused(redis_db)
    assert words.startswith("Redis at 127.0.0.1:")
    assert "out of memory and takes no writes: raise `maxmemory`" in words
    server.config_set("maxmemory", 0)
    assert taken(redis_db)


def test_a_replica(server: redis.Redis, redis_db: str) -> None:
    server.replicaof("127.0.0.1", 9)
    assert "read-only replica: name the primary in REPORTS_REDIS" in refused(redis_db)


def test_passwords(server: redis.Redis, redis_db: str) -> None:
    server.config_set("requirepass", "right")
    try:
        assert "it wants a password: put it into REPORTS_REDIS" in refused(redis_db)
        wrong = redis_db.replace("redis://", "redis://:wrong@")
        words = refused(wrong)
        assert "refuses the user or password" in words
        assert "wrong" not in words
        assert taken(redis_db.replace("redis://", "redis://:right@"))
    finally:
        server.auth("right")
    server.config_set("requirepass", "")
    assert "it refuses the user or password" in refused(redis_db.replace("redis://", "redis://user:none@"))


def test_nobody_there() -> None:
    assert "can't be reached: see whether it runs" in refused("redis://127.0.0.1:9/0")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
            "make room",
        ),
        (
            "CROSSSLOT Keys in request don't hash to the same slot",
            "is a Redis Cluster, which is not supported",
        ),
        ("MOVED 3999 127.0.0.1:6381", "is a Redis Cluster, which is not supported"),
        ("SELECT is not allowed in cluster mode", "is a Redis Cluster, which is not supported"),
        ("NOPERM this user has no permissions to run the 'eval' command", "allow it all commands"),
        ("ERR max number of clients reached", "raise its `maxclients`"),
        (
            "DENIED Running in protected mode because protected mode is enabled and no password is set",
            "protected mode refuses other hosts; give it a password",
        ),
        ("something else", "something else"),
    ],
)
def test_what_a_single_server_does_not_show(said: str, words: str) -> None:
    """Words of Redis 8 and Valkey 8, as the client hands them on."""
    error = BaseParser.parse_error(said)  # type: ignore[no-untyped-call]
    assert words in redis_words(error, "unix:///run/redis.sock?db=1")
    assert "/run/redis.sock" in redis_words(error, "unix:///run/redis.sock?db=1")


def test_reports_are_stale_while_redis_takes_no_writes(server: redis.Redis, redis_db: str) -> None:
    """The workers can't say it: that would be a write."""
    positions = LogPositions("127.0.0.1:9", redis_db, 1)
    try:
        assert positions.conditions() == []
        server.config_set("maxmemory", 1)
        (said,) = positions.conditions()
        (again,) = positions.conditions()
        assert (said.code, said.since_ms) == (REFUSES_WRITES, again.since_ms)
        assert "raise `maxmemory`" in said.message
        assert said.reason == "the report numbers can't be stored at the moment and stand still"
        server.config_set("maxmemory", 0)
        assert positions.conditions() == []
    finally:
        positions.close()
