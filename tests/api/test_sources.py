"""What an operator sees of each source; counts that survive a restart and never hold up a webhook."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from api.arrivals import Arrivals
from app.organisations import ApiKey, Organisation, Organisations, Source
from app.rhythm import QUARTER_MS, WEEK_QUARTERS, quarter_of
from tables.background import Background
from tables.redis_client import redis_client
from tests.api.serving import Api, bearer, serving

NEWS = Source(org="acme", name="news", esp="sendgrid", secrets=(b"k",))
LOOSE = Source(org="acme", name="loose", esp="postmark", insecure=True)
MANDRILL = Source(org="acme", name="m", esp="mandrill", secrets=(b"k",), public_url="https://x.example/m/")
SECRET = Source(org="globex", name="secret", esp="sendgrid", secrets=(b"k",))
_ALL = frozenset({"read", "write", "ops"})


def _organisation(org: str, *sources: Source) -> Organisation:
    return Organisation(
        id=org,
        name=org,
        timezone="UTC",
        keys=(
            ApiKey(name="all", org=org, secret=f"{org}-all".encode(), scopes=_ALL),
            ApiKey(name="read", org=org, secret=f"{org}-read".encode(), scopes=frozenset({"read"})),
        ),
        sources={source.name: source for source in sources},
    )


ORGANISATIONS = Organisations(
    {"acme": _organisation("acme", NEWS, LOOSE, MANDRILL), "globex": _organisation("globex", SECRET)}
)


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db, ready=False) as api:
        api.context.organisations = ORGANISATIONS
        yield api


async def test_a_source_whose_key_is_not_on_this_host(api: Api) -> None:
    lacking = msgspec.structs.replace(NEWS, secrets=(), absent=("secrets",))
    api.context.organisations = Organisations({"acme": _organisation("acme", lacking, LOOSE)})
    found = await rows(api)
    assert {name: row["key_missing"] for name, row in found.items()} == {
        "news": True,
        "loose": False,
        "api": False,
    }
    assert found["news"]["verification"] == ["secrets"]


async def rows(api: Api) -> dict[str, dict[str, object]]:
    answer = await api.get("/api/v1/sources", "acme-all")
    assert answer.status_code == 200
    return {row["source"]: row for row in answer.json()["sources"]}


async def test_addresses_and_verification(api: Api) -> None:
    found = await rows(api)
    assert list(found) == ["news", "loose", "m", "api"]
    assert found["news"]["address"] == f"{api.address}/webhooks/acme/news"
    assert found["m"]["address"] == "https://x.example/m/"
    assert found["api"]["address"] == f"{api.address}/api/v1/events"
    assert (found["news"]["verification"], found["news"]["insecure"]) == (["secrets"], False)
    assert (found["loose"]["verification"], found["loose"]["insecure"]) == ([], True)
    assert found["api"]["verification"] == ["api_key"]
    for row in found.values():
        assert (row["last_event_at"], row["silent"]) == (None, False)
        assert row["counts"] == {"accepted": 0, "refused": {}}
    api.context.settings = msgspec.structs.replace(api.context.settings, public_url="https://mail.example")
    assert (await rows(api))["news"]["address"] == "https://mail.example/webhooks/acme/news"


async def test_only_with_the_scope_and_only_ones_own(api: Api) -> None:
    assert (await api.http.get("/api/v1/sources")).status_code == 401
    answer = await api.get("/api/v1/sources", "acme-read")
    assert (answer.status_code, answer.json()["error"]) == (403, "missing_scope")
    assert "scope ops" in answer.json()["message"], "the page can say which key it needs"
    text = (await api.get("/api/v1/sources", "globex-all")).text
    assert "secret" in text and "news" not in text
    assert (await api.get("/api/v1/sources?x=1", "acme-all")).status_code == 400


async def test_refusals_are_counted_by_reason(api: Api) -> None:
    for _ in range(3):
        assert (await api.http.post("/webhooks/acme/news", content=b"[]")).status_code == 401
    packed = await api.http.post("/webhooks/acme/loose", content=b"[]", headers={"content-encoding": "br"})
    assert packed.status_code == 415
    await api.context.arrivals.flush()
    row = (await rows(api))["news"]
    counts = row["counts"]
    assert isinstance(counts, dict)
    assert counts["accepted"] == 0
    assert counts["refused"]["unauthorized"] == 3
    assert row["last_event_at"] is None
    counts = (await rows(api))["loose"]["counts"]
    assert counts == {"accepted": 0, "refused": {"unsupported_encoding": 1}}


async def test_counts_of_several_processes_and_after_a_restart(api: Api, redis_db: str) -> None:
    now_s = time.time()
    for number in range(2):
        redis = redis_client(redis_db)
        process = Arrivals()
        process.start(redis, Background())
        for _ in range(5):
            process.note(NEWS, "accepted", now_s - number)
        process.note(NEWS, "try_later", now_s)
        await process.stop()  # writes what is left
        await redis.aclose()
    row = (await rows(api))["news"]
    assert row["counts"] == {"accepted": 10, "refused": {"try_later": 2}}
    (seen,) = await api.context.arrivals.seen(api.context.redis, [("acme", "news")])
    assert seen.last_ms == int(now_s * 1000), "an older arrival doesn't take the place of a later one"


async def test_since_when_none_has_come_is_told(api: Api) -> None:
    """After Redis was emptied the page waited for the first event of sources that had sent thousands."""

    async def since() -> str:
        found = (await api.get("/api/v1/sources", "acme-all")).json()
        assert found["sources"][0]["last_event_at"] is None
        return str(found["counted_since"])

    first = await since()
    assert await since() == first
    await api.context.redis.flushall()
    await asyncio.sleep(0.002)
    assert await since() > first


async def test_a_source_that_has_fallen_silent(api: Api) -> None:
    now_s = api.context.clock()
    for quarter in range(10):
        api.context.arrivals.note(NEWS, "accepted", now_s - 86_400 + quarter * QUARTER_MS / 1000)
        api.context.arrivals.note(LOOSE, "accepted", now_s - quarter * QUARTER_MS / 1000)
    await api.context.arrivals.flush()
    found = await rows(api)
    assert found["news"]["silent"] is True
    assert found["news"]["allowed_silence_ms"] == 3_600_000
    assert found["loose"]["silent"] is False
    api.context.arrivals.note(NEWS, "unauthorized", now_s)
    await api.context.arrivals.flush()
    assert (await rows(api))["news"]["silent"] is True, "a refused webhook is no sign of life"
    api.context.arrivals.note(NEWS, "accepted", now_s)
    await api.context.arrivals.flush()
    assert (await rows(api))["news"]["silent"] is False


async def test_without_redis_the_addresses_are_shown_and_nothing_waits() -> None:
    async with serving("redis://127.0.0.1:9/0", ready=False) as api:
        api.context.organisations = ORGANISATIONS
        arrivals = api.context.arrivals
        for second in range(3):
            for _ in range(1_000):
                arrivals.note(NEWS, "accepted", 1_790_000_000 + second)
            await arrivals.flush()
        assert (await api.http.post("/webhooks/acme/news", content=b"[]")).status_code == 401
        answer = await api.http.get("/api/v1/sources", headers=bearer("acme-all"))
        assert answer.status_code == 200
        assert answer.json()["known"] is False
        assert answer.json()["sources"][0]["counts"] is None
        # What is kept is the time alone.
        pending = arrivals._pending["acme", "news"]
        assert pending.last_ms == 1_790_000_002_000
        assert pending.counts.get("accepted") is None
        assert len(pending.quarters) == 1


async def test_times_are_caught_up_when_redis_is_back(redis_db: str) -> None:
    away, there = redis_client("redis://127.0.0.1:9/0"), redis_client(redis_db)
    arrivals = Arrivals()
    arrivals.start(away, Background())
    now_s = time.time()
    arrivals.note(NEWS, "accepted", now_s)
    await arrivals.flush()
    arrivals._redis = there
    arrivals.note(NEWS, "accepted", now_s - 5)
    await arrivals.stop()
    (seen,) = await arrivals.seen(there, [("acme", "news")])
    assert seen.last_ms == int(now_s * 1000)
    assert quarter_of(seen.last_ms) in seen.quarters
    assert seen.counts == {"accepted": 1}
    assert await there.ttl(f"cr:rhythm:acme:news:{quarter_of(seen.last_ms) // WEEK_QUARTERS}") > 0
    await away.aclose()
    await there.aclose()
