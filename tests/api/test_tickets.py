"""One-time tickets: one stream of one campaign, once, soon, and for as long as the key that asked for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from api import live as live_module
from api import tickets as tickets_module
from api.tickets import TICKET, TICKET_S, Tickets
from app.organisations import ApiKey, Organisation, Organisations
from tests.api.serving import ORGANISATIONS, Api, Events, bearer, serving

SPRING = "/api/v1/campaigns/spring"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        for org in ("acme", "globex"):
            for campaign in ("spring", "summer"):
                await api.worker.publish(campaign, sent=4 if org == "acme" else 77, org=org)
        yield api


async def ticket(api: Api, path: str = SPRING, key: str = "acme-read") -> str:
    answer = await api.http.post(f"{path}/live/tickets", headers=bearer(key))
    assert answer.status_code == 201, answer.text
    assert set(answer.json()) == {"ticket", "expires"}
    return str(answer.json()["ticket"])


async def status(api: Api, path: str, **headers: str) -> int:
    """Of a stream's answer; what it sends is not waited for."""
    async with api.http.stream("GET", path, headers=headers) as answer:
        return answer.status_code


def key_with(name: str, secret: bytes, scope: str) -> ApiKey:
    return ApiKey(name=name, org="acme", secret=secret, scopes=frozenset({scope}))


async def test_it_opens_one_stream_once(api: Api) -> None:
    one = await ticket(api)
    path = f"{SPRING}/live?sections=summary&ticket={one}&count=people"
    async with api.http.stream("GET", path) as response:
        assert response.status_code == 200
        snapshot = await Events(response).until("snapshot")
        assert (snapshot.data["summary"]["sent"], snapshot.data["count"]) == (4, "people")
        assert "timeline" not in snapshot.data
    assert await status(api, path) == 401
    assert await ticket(api) != one


async def test_a_hundred_at_once_open_one(api: Api) -> None:
    one = await ticket(api)
    seen = await asyncio.gather(*(status(api, f"{SPRING}/live?ticket={one}") for _ in range(30)))
    assert sorted(seen) == [200] + [401] * 29


async def test_it_is_bound_to_its_campaign_and_organisation(api: Api) -> None:
    one = await ticket(api)
    assert await status(api, f"/api/v1/campaigns/summer/live?ticket={one}") == 401
    assert await status(api, f"{SPRING}/live?ticket={one}") == 401, "whoever tried it has used it up"
    foreign = await ticket(api, key="globex-read")
    async with api.http.stream("GET", f"{SPRING}/live?ticket={foreign}") as response:
        snapshot = await Events(response).until("snapshot")
        assert snapshot.data["summary"]["sent"] == 77, "the organisation is that of the ticket"
    assert (
        await status(api, f"{SPRING}/live?ticket={await ticket(api)}", Origin="https://evil.example") == 403
    )


async def test_it_is_good_for_nothing_else(api: Api) -> None:
    one = await ticket(api)
    for path in (
        SPRING + "/report",
        SPRING + "/summary",
        "/api/v1/campaigns",
        "/ops/live",
        SPRING + "/events",
    ):
        for headers in ({}, bearer("acme-all")):
            answer = await api.http.get(f"{path}?ticket={one}", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "credential_in_query"), path
    assert (await api.http.post(f"{SPRING}/live/tickets?ticket={one}", headers=bearer())).status_code == 401
    assert (await api.http.post(f"{SPRING}/live/tickets")).status_code == 401
    assert (await api.get(SPRING + "/report", one)).status_code == 401
    assert await status(api, f"{SPRING}/live?ticket={one}&token=x") == 401
    write = Organisation(id="acme", name="", timezone="UTC", keys=(key_with("w", b"acme-write", "write"),))
    api.context.organisations = Organisations({"acme": write})
    assert (await api.http.post(f"{SPRING}/live/tickets", headers=bearer("acme-write"))).status_code == 403


@pytest.mark.parametrize(
    "value", ["", "x", "é", "x" * 43, "%00", "x" * 5_000, "{0}%0A", "{0}&ticket={0}", "{1}"]
)
async def test_what_is_no_ticket(api: Api, value: str) -> None:
    one = await ticket(api)
    value = value.format(one, one.swapcase())
    assert await status(api, f"{SPRING}/live?ticket={value}") == 401
    assert await status(api, f"{SPRING}/live?ticket={value}", **bearer()) == 401, "a good key changes nothing"


async def test_it_expires(api: Api, redis_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TICKET_S <= 60
    await ticket(api)
    redis = Redis.from_url(redis_db)
    (name,) = await redis.keys("cr:ticket:*")
    assert 0 < await redis.ttl(name) <= TICKET_S
    await redis.aclose()
    monkeypatch.setattr(tickets_module, "TICKET_S", 1)
    one = await ticket(api)
    assert one.encode() not in name
    await asyncio.sleep(1.1)
    assert await status(api, f"{SPRING}/live?ticket={one}") == 401
    one = await ticket(api)
    await api.context.redis.flushall()
    assert await status(api, f"{SPRING}/live?ticket={one}") == 401, "an emptied Redis takes them along"


async def test_it_ends_with_its_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "RECHECK_S", 0.3)
    rotated = Organisation(
        id="acme", name="", timezone="UTC", keys=(key_with("dashboard", b"other", "read"),)
    )
    one, two = await ticket(api), await ticket(api)
    async with api.http.stream("GET", f"{SPRING}/live?ticket={one}", timeout=10) as response:
        events = Events(response)
        await events.until("snapshot")
        began = time.monotonic()
        api.context.organisations = Organisations({"acme": rotated})
        with pytest.raises(EOFError):
            await events.until("never")
        assert time.monotonic() - began < 4
    assert await status(api, f"{SPRING}/live?ticket={two}") == 401
    api.context.organisations = ORGANISATIONS


@pytest.mark.parametrize(
    ("path", "query", "rest", "taken"),
    [
        (b"/api/v1/campaigns/a/live", b"ticket=abc", b"", "abc"),
        (b"/api/v1/campaigns/a/live", b"count=all&ticket=abc", b"count=all", "abc"),
        (b"/api/v1/campaigns/a%2Fb/live", b"ticket=abc&count=all", b"count=all", "abc"),
        (b"/api/v1/campaigns/a/live", b"a=1&ticket=abc&b=2", b"a=1&b=2", "abc"),
        (b"/api/v1/campaigns/a/live", b"ticket=a&ticket=b", b"", ""),
        (b"/api/v1/campaigns/a/live", b"xticket=abc", b"xticket=abc", ""),
        (b"/api/v1/campaigns/a/report", b"ticket=abc", b"ticket=abc", None),
    ],
)
async def test_it_is_out_of_the_address_before_anything_sees_it(
    path: bytes, query: bytes, rest: bytes, taken: str | None
) -> None:
    seen: list[Any] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope))

    scope: dict[str, Any] = {"type": "http", "path": path.decode(), "raw_path": path, "query_string": query}
    await Tickets(inside)(scope, None, None)  # type: ignore[arg-type]
    assert seen[0]["query_string"] == rest
    assert scope["query_string"] == rest, "the server's own log of requests shows this one"
    assert seen[0].get(TICKET) == taken
