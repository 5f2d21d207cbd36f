"""What operators ask: lag, workers, metrics, health."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from api.lag import PartitionLag
from api.ops import NO_KEYS
from api.workers import FORGOTTEN_MS
from app.organisations import ApiKey, Organisations, Source
from app.times import utc_text
from app.verdicts import DEFAULT_RULES, Rules
from tables.conditions import Condition
from tables.presence import REFUSED_MS, SILENT_MS, WORKERS, Presence, presence
from tables.views import Delays, Owner
from tests.api.serving import Api, serving


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        api.lag.say(
            lag_ms=35,
            dead=3,
            partitions=(
                PartitionLag(topic="facts", partition=0, end=10, position=8, lag=2, oldest_at_ms=1_000),
                PartitionLag(topic="webhooks", partition=1, end=5, position=5, lag=0, oldest_at_ms=None),
            ),
            rates={"facts_in": 12.5},
        )
        yield api


async def announce(api: Api, worker: str, partition: int, p99_ms: float, at_ms: int) -> None:
    owner = Owner(
        worker, "/data/slot-0", at_ms, at_ms - 30_000, 1, Rules(burst_links=5) if partition else DEFAULT_RULES
    )
    delays = Delays(p50_ms=20.0, p99_ms=p99_ms, facts_per_s=100.0, at_ms=at_ms)
    said = Presence("0.9", 2, DEFAULT_RULES, at_ms - 60_000, at_ms)
    await api.worker.writer.announce(worker, {partition: owner}, delays, said)


async def test_lag(api: Api) -> None:
    now_ms = int(time.time() * 1000)
    await announce(api, "a", 0, 80.0, now_ms)
    await announce(api, "b", 1, 90.0, now_ms)
    await announce(api, "gone", 1, 9_000.0, now_ms - 600_000)
    document = (await api.get("/ops/lag", "acme-all")).json()
    assert document["lag_ms"] == 35
    assert document["lag"] == {"webhooks": 0, "facts": 2}
    assert document["partitions"][0] == {
        "topic": "facts",
        "partition": 0,
        "end": 10,
        "position": 8,
        "lag": 2,
        "oldest_at": "1970-01-01T00:00:01.000Z",
    }
    assert document["dead_letters"] == 3
    assert document["delay"] == {"p50_ms": 20.0, "p99_ms": 90.0, "facts_per_s": 200.0}


async def test_lag_without_redis() -> None:
    async with serving("redis://127.0.0.1:9/0", ready=False) as api:
        api.lag.say(lag_ms=None, stale=True, reason="Redis can't be asked")
        document = (await api.get("/ops/lag", "acme-all")).json()
        assert document["stale"] is True
        assert document["reason"] == "Redis can't be asked"
        assert document["delay"]["p99_ms"] is None
        assert (document["workers"], document["away"]) == (None, None)
        assert (await api.get("/ops/workers", "acme-all")).status_code == 503


async def test_workers(api: Api, redis_db: str) -> None:
    now_ms = int(time.time() * 1000)
    await announce(api, "a", 0, 80.0, now_ms)
    await announce(api, "a", 1, 80.0, now_ms)
    redis = Redis.from_url(redis_db)
    said = Presence("0.9", 2, DEFAULT_RULES, now_ms, now_ms, "normalize", (0, 3))
    await redis.hset("cr:workers", "parser", msgspec.json.encode(said))
    await redis.hset("cr:owners", "1" * 3, "not json")
    await redis.hset("cr:workers", "b", "[]")
    document = (await api.get("/ops/workers", "acme-all")).json()
    counts, parses = document["workers"]
    assert document["away"] == []
    assert (counts["worker"], counts["role"], counts["alive"]) == ("a", "aggregate", True)
    assert counts["versions"] == {"product": "0.9", "layout": 2, "rules": DEFAULT_RULES.version}
    assert (counts["at"], counts["since"]) == (utc_text(now_ms), utc_text(now_ms - 60_000))
    assert (counts["p99_ms"], counts["facts_per_s"]) == (80.0, 100.0)
    first, second = counts["partitions"]
    assert first == {
        "topic": "facts",
        "partition": 0,
        "state": "/data/slot-0",
        "at": utc_text(now_ms),
        "since": utc_text(now_ms - 30_000),
        "generation": 1,
        "rules": msgspec.structs.asdict(DEFAULT_RULES),
        "rebuild_needed": False,
    }
    assert (second["partition"], second["rules"]["burst_links"], second["rebuild_needed"]) == (1, 5, True)
    assert parses["worker"] == "parser"
    assert (parses["role"], parses["alive"]) == ("normalize", True)
    assert parses["partitions"] == [{"topic": "webhooks", "partition": n} for n in (0, 3)]
    assert set(parses) == set(counts)
    assert (await api.get("/ops/lag", "acme-all")).json()["workers"] == document["workers"]
    # One that says nothing of itself is of an older version.
    await redis.hset("cr:owners", "1", b'{"worker": "old", "state": "/s", "at_ms": %d}' % now_ms)
    await redis.aclose()
    old = (await api.get("/ops/workers", "acme-all")).json()["workers"][1]
    assert (old["worker"], old["alive"], old["since"]) == ("old", True, None)
    assert (old["partitions"][0]["rules"], old["partitions"][0]["rebuild_needed"]) == (None, None)


async def test_a_worker_that_is_gone(api: Api) -> None:
    now_ms = int(time.time() * 1000)
    await announce(api, "a", 0, 80.0, now_ms - 6_000)
    await announce(api, "b", 1, 90.0, now_ms)
    assert (await api.get("/ops/workers", "acme-all")).json()["away"] == []
    await announce(api, "a", 0, 80.0, now_ms - SILENT_MS)
    document = (await api.get("/ops/workers", "acme-all")).json()
    assert [(one["worker"], one["alive"]) for one in document["workers"]] == [("a", False), ("b", True)]
    assert document["away"] == [0], "nobody counts it at the moment"
    assert document["workers"][0]["facts_per_s"] is None
    await announce(api, "b", 0, 90.0, now_ms)
    document = (await api.get("/ops/workers", "acme-all")).json()
    assert (document["away"], document["workers"][0]["partitions"]) == ([], [])
    await announce(api, "a", 0, 80.0, now_ms - FORGOTTEN_MS - 1)
    await announce(api, "b", 0, 90.0, now_ms)
    document = (await api.get("/ops/workers", "acme-all")).json()
    assert [one["worker"] for one in document["workers"]] == ["b"]


@pytest.mark.parametrize("off_s", [-3_600, 3_600])
async def test_ages_go_by_one_clock(api: Api, off_s: int) -> None:
    """This host's clock is wrong: nobody is away by that."""
    now_ms = int(time.time() * 1000)
    api.context.clock = lambda: time.time() + off_s
    await announce(api, "a", 0, 80.0, now_ms)
    await announce(api, "a", 1, 80.0, now_ms)
    await announce(api, "gone", 1, 80.0, now_ms - 600_000)
    await announce(api, "a", 1, 80.0, now_ms)
    document = (await api.get("/ops/lag", "acme-all")).json()
    assert [(one["worker"], one["alive"]) for one in document["workers"]] == [("a", True), ("gone", False)]
    assert (document["away"], document["delay"]["facts_per_s"]) == ([], 100.0)


async def test_live(api: Api) -> None:
    async with api.live("/ops/live", "acme-all") as events:
        first = await events.until("lag")
        assert first.data["lag_ms"] == 35
        assert (first.data["dead_letters"], first.data["workers"], first.data["away"]) == (3, [], [0, 1])
        api.lag.say(lag_ms=99)
        while (await events.until("lag")).data["lag_ms"] != 99:
            pass
    assert (await api.get("/ops/live")).status_code == 403
    assert (await api.get("/ops/live?token=x", "acme-all")).status_code == 401


async def test_health(api: Api) -> None:
    assert (await api.http.get("/healthz")).status_code == 200
    assert (await api.http.get("/readyz")).status_code == 200
    api.lag.say(unready="topic webhooks is not there")
    answer = await api.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["message"] == "topic webhooks is not there"
    assert answer.headers["retry-after"] == "2"
    assert (await api.http.get("/healthz")).status_code == 200


async def test_a_host_on_which_every_key_is_absent_is_not_ready(api: Api) -> None:
    """A load balancer went on sending it webhooks that it could only answer 503."""
    replace = msgspec.structs.replace

    def source(name: str, **settings: Any) -> Source:
        return Source(**({"org": "acme", "name": name, "esp": "sendgrid"} | settings))

    def key(*, absent: bool, scope: str = "write") -> ApiKey:
        return ApiKey(name="k", org="acme", secret=b"", scopes=frozenset({scope}), absent=absent)

    lacking, has = source("a", absent=("secrets",)), source("b", secrets=(b"key",))
    topics = source("c", esp="amazon_ses", topics=("arn",))
    generic = source("d", esp="generic")
    acme = replace(api.context.organisations.by_id["acme"], keys=())
    for sources, keys, status in (
        ((lacking,), (), 503),
        ((lacking, lacking), (key(absent=True),), 503),
        ((lacking, generic), (key(absent=True), key(absent=False, scope="read")), 503),
        ((lacking, generic), (key(absent=True), key(absent=False)), 200),
        ((lacking, has), (key(absent=True),), 200),
        ((lacking, topics), (key(absent=True),), 200),
        ((), (key(absent=True),), 503),
        ((), (key(absent=True), key(absent=True, scope="read")), 503),
        ((), (key(absent=True), key(absent=False)), 200),
        ((), (key(absent=True, scope="read"),), 200),
        ((), (), 200),
    ):
        named = {str(number): one for number, one in enumerate(sources)}
        api.context.organisations = Organisations({"acme": replace(acme, keys=keys, sources=named)})
        answer = await api.http.get("/readyz")
        assert answer.status_code == status, (sources, keys)
        if status == 503:
            assert (answer.json()["error"], answer.json()["message"]) == ("not_ready", NO_KEYS)
            assert answer.headers["retry-after"] == "2"


async def test_a_role_that_was_refused_is_told_and_counts_as_nobody(api: Api) -> None:
    now_ms = int(time.time() * 1000)
    condition = Condition(code="role_refused", message="why", since_ms=1)
    redis = api.context.redis
    told = ["role_refused"]
    for at_ms, said in ((now_ms, told), (now_ms - 2 * SILENT_MS, told), (now_ms - REFUSED_MS, [])):
        one = presence(DEFAULT_RULES, 1, at_ms, conditions=(condition,), refused=True)
        await redis.hset(WORKERS, "aggregate of b", msgspec.json.encode(one))
        document = (await api.get("/ops/workers", "acme-all")).json()
        (row,) = document["workers"]
        assert (row["worker"], row["role"], row["alive"]) == ("aggregate of b", "aggregate", False)
        assert [one["code"] for one in row["conditions"]] == said
        assert document["away"] == [0, 1]


async def test_metrics(api: Api) -> None:
    await api.worker.publish("spring", sent=1)
    await api.get("/api/v1/campaigns/spring/summary")
    await api.get("/api/v1/campaigns/secret-name/summary")
    await api.http.get("/no/such/place")
    text = (await api.http.get("/metrics")).text
    assert (
        'http_requests_total{method="GET",route="/api/v1/campaigns/{campaign:name}/summary",status="200"} 1.0'
        in text
    )
    assert 'route="none",status="404"' in text
    assert "secret-name" not in text
    assert "no/such" not in text
    for name in ("webhooks_total", "webhook_bytes_total", "webhook_seconds", "lag_seconds", "sse_clients"):
        assert f"# HELP {name} " in text
