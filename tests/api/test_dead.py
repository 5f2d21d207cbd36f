"""Dead letters through the API: only one's own, in pages, replayed with the bytes and the time of the first time."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from confluent_kafka import Producer

from api.desk import Desk
from app.dead import marked, readable_body
from app.settings import Settings
from app.topics import DEAD, WEBHOOKS, WEBHOOKS_PARTITIONS, webhook_of
from tests.api.serving import PARTITIONS, Api, bearer, serving
from tests.support.dead import RECEIVED_MS, bury, webhook
from tests.support.intake import stored
from tests.support.kafka import fresh_topics

BODY = b'[{"event":"open"}]'
PACKED = gzip.compress(BODY, mtime=0)


@pytest.fixture
async def api(kafka: str, redis_db: str) -> AsyncIterator[Api]:
    fresh_topics(Settings(kafka=kafka, partitions=PARTITIONS))
    async with serving(redis_db, kafka=kafka, ready=False) as api:
        yield api


async def listed(api: Api, query: str = "", secret: str = "acme-all") -> list[dict[str, object]]:
    answer = await api.get(f"/ops/dead{query}", secret)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["items"]
    return items


async def test_an_empty_topic(api: Api) -> None:
    assert (await api.get("/ops/dead", "acme-all")).json() == {"items": [], "next": None}
    assert (await api.get("/ops/dead/0", "acme-all")).status_code == 404


async def test_only_with_the_scope_and_only_ones_own(api: Api, kafka: str) -> None:
    bury(
        kafka,
        (webhook(b"1"), "not JSON"),
        (webhook(b"2", org="globex"), "not JSON"),
        (webhook(b"3", ""), "x"),
    )
    assert [item["id"] for item in await listed(api)] == [0]
    assert [item["id"] for item in await listed(api, secret="globex-read")] == [1]
    for path in ("/ops/dead", "/ops/dead/0"):
        assert (await api.http.get(path)).status_code == 401
        assert (await api.get(path, "acme-read")).status_code == 403
    for number in ("1", "2", "3", "99", "x", "9" * 400, "-1"):
        assert (await api.get(f"/ops/dead/{number}", "acme-all")).status_code == 404
        answer = await api.http.post(f"/ops/dead/{number}/replay", headers=bearer("acme-all"))
        assert answer.status_code == 404
    assert (await api.http.post("/ops/dead/0/replay", headers=bearer("acme-read"))).status_code == 403
    assert stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS) == []


async def test_a_letter_and_its_body(api: Api, kafka: str) -> None:
    bury(
        kafka,
        (webhook(gzip.compress(BODY, mtime=0), encoding="gzip"), "type: is missing"),
        (webhook(b"\xff\x1b[2J"), "not UTF-8"),
        (webhook(b"no gzip", encoding="gzip"), "broken gzip"),
    )
    letter = (await api.get("/ops/dead/0", "acme-all")).json()
    assert letter["body"] == BODY.decode() and letter["encoding"] is None
    assert letter["headers"] == [["content-type", "application/json"], ["content-encoding", "gzip"]]
    assert letter["received_at"] == "2026-09-21T14:13:20.000Z"
    assert (letter["reason"], letter["origin"], letter["index"]) == ("type: is missing", "webhooks/3/0", 1)
    assert letter["replayed"] is False
    assert (await api.get("/ops/dead/1", "acme-all")).json()["encoding"] == "base64"
    assert (await api.get("/ops/dead/2", "acme-all")).json()["body"] == "no gzip"


async def test_pages_and_filters(api: Api, kafka: str) -> None:
    letters = [
        (
            webhook(b"%d" % number, source=("news", "app")[number % 2]),
            ("not JSON", "not UTF-8")[number % 3 > 0],
        )
        for number in range(300)
    ]
    bury(kafka, *letters)
    seen: list[object] = []
    cursor = ""
    while True:
        answer = (await api.get(f"/ops/dead?limit=70{cursor}", "acme-all")).json()
        seen += [item["id"] for item in answer["items"]]
        if answer["next"] is None:
            break
        cursor = f"&cursor={answer['next']}"
    assert seen == list(range(299, -1, -1))
    found = await listed(api, "?reason=not%20JSON&source=news&limit=500")
    assert [item["id"] for item in found] == [number for number in range(299, -1, -1) if number % 6 == 0]
    assert len(await listed(api, "?source=acme/app&limit=500")) == 150
    assert await listed(api, "?until=2020-01-01T00:00:00Z") == []
    assert await listed(api, "?since=2100-01-01T00:00:00Z") == []
    assert len(await listed(api, "?since=2020-01-01T00:00:00Z&limit=500")) == 300
    for bad in ("limit=0", "limit=501", "cursor=x", "since=yesterday", "what=1"):
        assert (await api.get(f"/ops/dead?{bad}", "acme-all")).status_code == 400


async def test_replay(api: Api, kafka: str) -> None:
    bury(kafka, (webhook(gzip.compress(BODY, mtime=0), encoding="gzip"), "x"), (webhook(b"broken"), "x"))
    for before in (False, True):
        answer = await api.http.post("/ops/dead/0/replay", headers=bearer("acme-all"))
        assert answer.json() == {"id": 0, "replayed": True, "replayed_before": before, "edited": False}
    answer = await api.http.post("/ops/dead/1/replay", headers=bearer("acme-all"), content=BODY)
    assert answer.json() == {"id": 1, "replayed": True, "replayed_before": False, "edited": True}
    records = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    assert len(records) == 3
    for _, value, headers in records:
        again = webhook_of(value, headers)
        first = webhook(BODY) if again.replay_of == 1 else webhook(PACKED, encoding="gzip")
        assert (again.body, again.headers, again.received_at_ms) == (first.body, first.headers, RECEIVED_MS)
        assert time.time() * 1000 - again.accepted_at_ms < 60_000
    assert [item["replayed"] for item in await listed(api)] == [True, True]
    marks = [marked(value, headers) for _, value, headers in stored(kafka, DEAD, 1)]
    assert marks == [None, None, [0], [0], [1]]
    assert (await api.get("/ops/dead/3", "acme-all")).status_code == 404, "a mark is no letter"
    assert 'dead_letters_replayed_total{org="acme"} 3.0' in (await api.http.get("/metrics")).text


async def test_a_mended_body_may_be_as_large_as_the_one_that_is_shown(api: Api, kafka: str) -> None:
    api.context.settings = msgspec.structs.replace(api.context.settings, max_body=1024)
    large = b"[" + b" " * 3_000 + b"}"
    bury(kafka, (webhook(gzip.compress(large), encoding="gzip"), "not JSON"))
    shown = (await api.get("/ops/dead/0", "acme-all")).json()
    assert shown["body"] == large.decode() and shown["replay_of"] is None
    mended = large[:-1] + b"]"
    answer = await api.http.post(
        "/ops/dead/0/replay",
        headers=bearer("acme-all") | {"content-encoding": "gzip"},
        content=gzip.compress(mended),
    )
    assert answer.json()["edited"] is True
    ((_, value, headers),) = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    again = webhook_of(value, headers)
    assert len(again.body) <= 1024 and readable_body(again) == mended
    # It dies once more, and says whose replay it is.
    bury(kafka, (again, "type: is missing"))
    assert [item["replay_of"] for item in await listed(api)] == [0, None]


async def test_what_was_replayed_is_known_to_another_process(api: Api, kafka: str) -> None:
    bury(kafka, *((webhook(b"%d" % number), "x") for number in range(40)))
    await api.http.post("/ops/dead/7/replay", headers=bearer("acme-all"))
    bury(kafka, *((webhook(b"%d" % number), "y") for number in range(40)))
    api.context.dead = Desk()  # has read nothing yet
    first = (await api.get("/ops/dead?cursor=20", "acme-all")).json()
    assert [item["id"] for item in first["items"] if item["replayed"]] == [7]
    assert (await api.get("/ops/dead/7", "acme-all")).json()["replayed"] is True
    await api.http.post("/ops/dead/9/replay", headers=bearer("acme-all"))
    assert [item["id"] for item in await listed(api, "?limit=500") if item["replayed"]] == [9, 7]


async def test_a_body_that_is_too_large_or_broken(api: Api, kafka: str) -> None:
    bury(kafka, (webhook(b"broken"), "x"))
    api.context.settings = msgspec.structs.replace(api.context.settings, max_body=1024)

    async def status(body: bytes, **headers: str) -> int:
        sent = bearer("acme-all") | headers
        return (await api.http.post("/ops/dead/0/replay", headers=sent, content=body)).status_code

    assert await status(b"x" * 1025) == 413
    assert await status(gzip.compress(b"x" * 5000), **{"content-encoding": "gzip"}) == 413
    assert await status(b"x", **{"content-encoding": "br"}) == 415
    assert await status(b"x", **{"content-encoding": "gzip"}) == 400
    assert stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS) == []


async def test_records_of_strangers_are_letters_without_an_organisation(api: Api, kafka: str) -> None:
    producer = Producer({"bootstrap.servers": kafka, "log_level": 2})
    for headers in (
        [],
        [("org", b"acme"), ("received_at_ms", b"x"), ("headers", b"{")],
        [("replayed", b"1")],
    ):
        producer.produce(DEAD, b"\xff", partition=0, headers=headers)  # type: ignore[arg-type]
    assert producer.flush(10) == 0
    assert await listed(api) == []


async def test_kafka_away(redis_db: str) -> None:
    async with serving(redis_db, ready=False) as api:
        answer = await api.http.get("/ops/dead", headers=bearer("acme-all"), timeout=20)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
