"""The list of campaigns: order, pages and search, over a real Redis."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from redis.asyncio import Redis

from tables import campaign_list
from tables.views import Labels
from tests.api.serving import HOUR, Api, serving

LIST = "/api/v1/campaigns"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        yield api


async def page_of(api: Api, **asked: Any) -> dict[str, Any]:
    answer = await api.get(f"{LIST}?{urlencode(asked)}")
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def names_of(api: Api, **asked: Any) -> list[str]:
    """Of all pages, in the order in which they come."""
    names: list[str] = []
    page = await page_of(api, **asked)
    while True:
        names += [item["campaign"] for item in page["items"]]
        if page["next"] is None:
            return names
        assert page["items"], "a page that is not the last one has rows"
        page = await page_of(api, **asked, cursor=page["next"])


async def test_pages_newest_first(api: Api) -> None:
    for n in range(7):
        await api.worker.publish(f"mailing {n}", sent=n, quarter=HOUR + n)
    await api.worker.publish("foreign", sent=1, org="globex", quarter=HOUR + 99)
    newest_first = [f"mailing {n}" for n in range(6, -1, -1)]
    for limit in (1, 3, 6, 7, 500):
        assert await names_of(api, limit=limit) == newest_first
    first = await page_of(api, limit=3)
    assert (first["matching"], [item["summary"]["sent"] for item in first["items"]]) == (7, [6, 5, 4])
    assert (await page_of(api, limit=7))["next"] is None


async def test_nothing_there(api: Api) -> None:
    assert await page_of(api) == {"items": [], "next": None, "matching": 0}
    assert await page_of(api, search="spring") == {"items": [], "next": None, "matching": 0}


async def test_same_time_and_no_event_yet(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_list, "STEP", 2)
    names = [f"c{n}" for n in range(9)]
    for n, name in enumerate(names):
        await api.worker.publish(name, sent=1, quarter=HOUR if n % 2 else -1)
    wanted = sorted(names[1::2], reverse=True) + sorted(names[0::2], reverse=True)
    for few in (0, 500):
        monkeypatch.setattr(campaign_list, "FEW", few)
        for asked in ({}, {"search": "C"}):
            for limit in (1, 2, 4, 5, 50):
                assert await names_of(api, limit=limit, **asked) == wanted


@pytest.mark.parametrize("few", [0, 500])
@pytest.mark.parametrize("search", ["", "mail", "mail even"])
async def test_rows_that_do_not_move_come_once_while_others_do(
    api: Api, monkeypatch: pytest.MonkeyPatch, search: str, few: int
) -> None:
    monkeypatch.setattr(campaign_list, "FEW", few)
    monkeypatch.setattr(campaign_list, "STEP", 3)
    chance = random.Random(3)
    everyone = [f"mail {n} {'odd' if n % 2 else 'even'}" for n in range(40)]
    for n, name in enumerate(everyone):
        await api.worker.publish(name, sent=1, quarter=HOUR + n // 3)
    asked = {"limit": 4} | ({"search": search} if search else {})
    before = await names_of(api, **asked)
    assert set(before) == {name for name in everyone if search != "mail even" or "even" in name}
    moved: list[str] = []
    found: list[str] = []
    page = await page_of(api, **asked)
    while True:
        found += [item["campaign"] for item in page["items"]]
        if page["next"] is None:
            break
        # The row that the cursor stands at moves as well.
        for name in (found[-1], *chance.sample(everyone, 2)):
            moved.append(name)
            await api.worker.publish(name, sent=2, quarter=HOUR + 1_000 + len(moved))
        page = await page_of(api, **asked, cursor=page["next"])
    assert [name for name in found if name not in moved] == [name for name in before if name not in moved]
    assert len(found) == len(set(found)), "who moves, moves to the front: behind nobody"
    after = await names_of(api, **asked)
    assert set(after) == set(before)
    assert [name for name in reversed(list(dict.fromkeys(reversed(moved)))) if name in after] == [
        name for name in reversed(after) if name in moved
    ]


async def test_search_by_id_name_and_subject(api: Api) -> None:
    await api.worker.publish("c-2026-17", sent=1, labels=Labels("Spring Sale", "Hallo Straße", {}))
    await api.worker.publish("c-2026-18", sent=1, labels=Labels("Autumn Sale", None, {}), quarter=HOUR + 1)
    await api.worker.publish("spring", sent=1, org="globex")
    await api.worker.publish("nameless", sent=1, quarter=HOUR + 2)
    for search, wanted in (
        ("SALE", ["c-2026-18", "c-2026-17"]),
        ("sale 2026 spring", ["c-2026-17"]),
        ("strasse", ["c-2026-17"]),
        ("name", ["nameless"]),
        ("winter", []),
    ):
        page = await page_of(api, search=search)
        assert [item["campaign"] for item in page["items"]] == wanted
        assert page["matching"] == len(wanted)
    assert (await page_of(api, search="sale", count="people"))["items"][0]["count"] == "people"


async def test_search_knows_what_is_new_and_newly_named(api: Api, redis_db: str) -> None:
    await api.worker.publish("c1", sent=1, labels=Labels("Spring", None, {}))
    assert await names_of(api, search="spring") == ["c1"]
    await api.worker.publish("c2", sent=1, labels=Labels("Spring again", None, {}), quarter=HOUR + 1)
    await api.worker.publish("c3 spring", sent=1, quarter=HOUR + 2)
    assert await names_of(api, search="spring") == ["c3 spring", "c2", "c1"]
    await api.worker.publish("c1", sent=1, labels=Labels("Summer", "Sun", {}))
    assert await names_of(api, search="spring") == ["c3 spring", "c2"]
    assert await names_of(api, search="sun") == ["c1"]
    # The same again is no news: nothing has to be read anew.
    redis = Redis.from_url(redis_db)
    renames = await redis.get("cr:v4:topic:renames:acme")
    await api.worker.publish("c1", sent=2, labels=Labels("Summer", "Sun", {"subject": {"A": "x"}}))
    await api.worker.publish("c1", sent=3)
    assert await redis.get("cr:v4:topic:renames:acme") == renames
    await redis.aclose()


async def test_search_after_redis_was_emptied(api: Api, redis_db: str) -> None:
    await api.worker.publish("c1", sent=1, labels=Labels("Spring", None, {}))
    assert await names_of(api, search="spring") == ["c1"]
    redis = Redis.from_url(redis_db)
    await redis.flushall()
    await redis.aclose()
    assert await names_of(api, search="spring") == []
    await api.worker.publish("c1", sent=1, labels=Labels("Spring", None, {}))
    assert await names_of(api, search="spring") == ["c1"]


async def test_only_the_organisations_that_search_are_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_list, "ORGANISATIONS", 1)
    for org, key in (("acme", "acme-read"), ("globex", "globex-read"), ("acme", "acme-read")):
        await api.worker.publish(f"spring of {org}", sent=1, org=org)
        items = (await api.get(f"{LIST}?search=spring", key)).json()["items"]
        assert [item["campaign"] for item in items] == [f"spring of {org}"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=501", "limit"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=50", "cursor"),
        ("cursor=", "cursor"),
        ("search=", "search"),
        ("search=%20%09", "search"),
        ("search=" + "x" * 321, "search"),
        ("search=a&search=b", "search"),
        ("count=some", "count"),
        ("timezone=Mars", "timezone"),
        ("sort=name", "known parameters"),
    ],
)
async def test_a_bad_parameter_is_named(api: Api, query: str, named: str) -> None:
    answer = await api.get(f"{LIST}?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(named)


async def test_a_cursor_is_of_its_search_and_organisation(api: Api) -> None:
    for n in range(3):
        await api.worker.publish(f"spring {n}", sent=1)
        await api.worker.publish(f"spring {n}", sent=1, org="globex")
    cursor = (await page_of(api, limit=1, search="spring"))["next"]
    # Another count, other spaces and other capitals are the same list.
    assert (await page_of(api, limit=1, search=" SPRING spring", count="people", cursor=cursor))["items"]
    for path, key in (
        (f"{LIST}?search=s", "acme-read"),
        (f"{LIST}?limit=1", "acme-read"),
        (f"{LIST}?search=spring", "globex-read"),
    ):
        answer = await api.get(f"{path}&cursor={quote(cursor)}", key)
        assert (answer.status_code, answer.json()["message"][:6]) == (400, "cursor")


async def test_long_names_page_as_well(api: Api) -> None:
    names = sorted(("\N{SNOWMAN}" * 199 + letter for letter in "abc"), reverse=True)
    for name in names:
        await api.worker.publish(name, sent=1)
    assert await names_of(api, limit=1) == names
    assert await names_of(api, limit=1, search="\N{SNOWMAN}") == names
