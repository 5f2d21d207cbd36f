"""The report as JSON, over views in a real Redis."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from app import contribution as c
from tables.views import Labels
from tests.api.serving import HOUR, Api, bearer, serving

SPRING = "/api/v1/campaigns/spring"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        yield api


async def test_summary_sums_the_partitions(api: Api) -> None:
    await api.worker.publish("spring", sent=10, opened=2, labels=Labels("Spring sale", "Hello", {}))
    await api.worker.publish("spring", sent=5, opened=1, partition=1)
    api.lag.say(lag_ms=35)
    document = (await api.get(f"{SPRING}/summary")).json()
    assert document["summary"]["sent"] == 15
    assert document["summary"]["open_rate"] == 20.0
    assert document["name"] == "Spring sale"
    assert document["lag_ms"] == 35
    assert document["stale"] is False
    assert document["as_of"].endswith("Z")


async def test_report_and_timeline_agree(api: Api) -> None:
    await api.worker.publish("spring", sent=10, opened=2)
    report = (await api.get(f"{SPRING}/report")).json()
    assert (await api.get(f"{SPRING}/timeline")).json()["timeline"] == report["timeline"]
    assert (await api.get(f"{SPRING}/summary")).json()["summary"] == report["summary"]
    assert report["timeline"]["timezone"] == "Europe/Berlin"
    assert [row["sent"] for row in report["timeline"]["rows"]] == [10]
    only = (await api.get(f"{SPRING}/report?sections=summary")).json()
    assert "timeline" not in only
    assert only["summary"] == report["summary"]


async def test_timeline_parameters(api: Api) -> None:
    await api.worker.publish("spring", sent=10, opened=2)
    end_ms = HOUR * c.QUARTER_MS
    timeline = (await api.get(f"{SPRING}/timeline?timezone=Asia/Kathmandu&unit=day&to={end_ms + 1}")).json()
    assert timeline["timeline"]["unit"] == "day"
    assert len(timeline["timeline"]["rows"]) == 1
    assert (await api.get(f"{SPRING}/timeline?to={end_ms}")).json()["timeline"]["rows"] == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("count=some", "count"),
        ("count=", "count"),
        ("timezone=Mars", "timezone"),
        ("timezone=", "timezone"),
        ("timezone=..%2F..%2Fetc%2Fpasswd", "timezone"),
        ("unit=minute", "unit"),
        ("from=yesterday", "from"),
        ("from=2026-11-23T10:00:00", "from"),
        ("to=99999999999999999", "to"),
        ("count=all&count=people", "count"),
        ("colour=red", "known parameters"),
    ],
)
async def test_a_bad_parameter_is_named_and_not_repeated(api: Api, query: str, named: str) -> None:
    await api.worker.publish("spring", sent=10)
    answer = await api.get(f"{SPRING}/timeline?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(named)
    assert "passwd" not in answer.text


async def test_unknown_campaigns(api: Api) -> None:
    for name in ("none", "%00", "..%2F..", "%0d%0ax", "x" * 10_000, "%C3%A9", "%FF", "%25"):
        answer = await api.get(f"/api/v1/campaigns/{name}/summary")
        assert answer.status_code == 404, name
        assert answer.json() == {"error": "not_found", "message": "no such campaign"}


@pytest.mark.parametrize(
    "name", ["a/b", "50% off", "a b", "ü", "x/summary", "<svg onload=alert(1)>", "a\nb", "%2F"]
)
async def test_names_with_anything_in_them(api: Api, name: str) -> None:
    from urllib.parse import quote

    await api.worker.publish(name, sent=4)
    answer = await api.get(f"/api/v1/campaigns/{quote(name, safe='')}/summary")
    assert answer.json()["campaign"] == name
    assert answer.headers["content-type"] == "application/json"


async def test_two_organisations_same_name(api: Api) -> None:
    await api.worker.publish("spring", sent=10)
    await api.worker.publish("spring", sent=77, org="globex")
    assert (await api.get(f"{SPRING}/summary")).json()["summary"]["sent"] == 10
    assert (await api.get(f"{SPRING}/summary", "globex-read")).json()["summary"]["sent"] == 77


async def test_stale_lag_makes_a_stale_report(api: Api) -> None:
    await api.worker.publish("spring", sent=10)
    api.lag.say(lag_ms=None, stale=True, reason="Kafka can't be asked", progress=0.5)
    document = (await api.get(f"{SPRING}/summary")).json()
    assert (document["lag_ms"], document["stale"]) == (None, True)
    assert (document["reason"], document["progress"]) == ("Kafka can't be asked", 0.5)


async def test_redis_emptied(api: Api, redis_db: str) -> None:
    await api.worker.publish("spring", sent=10)
    redis = Redis.from_url(redis_db)
    await redis.flushall()
    answer = await api.get(f"{SPRING}/summary")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    await api.worker.publish("spring", sent=10)
    assert (await api.get(f"{SPRING}/summary")).json()["stale"] is True
    await api.worker.ready()
    assert (await api.get(f"{SPRING}/summary")).json()["stale"] is False
    assert (await api.get("/api/v1/campaigns/none/summary")).status_code == 404
    await redis.aclose()


async def test_redis_is_down_or_hangs() -> None:
    hanging = socket.create_server(("127.0.0.1", 0))
    port = hanging.getsockname()[1]
    for url in ("redis://127.0.0.1:9/0", f"redis://127.0.0.1:{port}/0"):
        async with serving(url, ready=False) as api:
            for path in (f"{SPRING}/summary", f"{SPRING}/live", "/api/v1/campaigns"):
                started = time.monotonic()
                answer = await api.http.get(path, headers=bearer())
                assert answer.status_code == 503
                assert "retry-after" in answer.headers
                assert time.monotonic() - started < 6.0, "two seconds, and a busy machine's slack"
            assert (await api.http.get("/readyz")).status_code == 200
    hanging.close()


async def test_methods_and_errors_are_json(api: Api) -> None:
    for answer, status in (
        (await api.http.post(f"{SPRING}/summary", headers=bearer()), 405),
        (await api.http.get("/nothing/here"), 404),
        (await api.http.get("/api/v1/campaigns/spring/nothing"), 404),
    ):
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "message"}


async def test_a_bug_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.worker.publish("spring", sent=10)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr("api.reports.summary_document", broken)
    answer = await api.get(f"{SPRING}/summary")
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
