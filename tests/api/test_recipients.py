"""The recipients table and one recipient, on real databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from app import facts as f
from app import keys
from app.filters import STATUSES
from app.sections import link_id
from tests.api.reading import MINUTE_MS, START_MS, Reading, event, reading

LINKS = ("https://example.com/a", "https://example.com/b")


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        yield running


def mailing(people: int = 60) -> list[f.Entry]:
    """Everybody sent; of them some of everything."""
    events = []
    for number in range(people):
        address = f"p{number:03d}@example{number % 3}.com"
        at = START_MS + number * MINUTE_MS
        variant = {"subject": "AB"[number % 2], "content": str(number % 3)}
        if number % 10 == 9:
            events.append(event("rejected", address, at, variant=variant))
            continue
        events.append(event("sent", address, at, variant=variant))
        if number % 10 == 8:
            events.append(event("bounced", address, at + 1000, reason="no such user"))
            continue
        if number % 10 == 7:
            events.append(event("deferred", address, at + 1000))
        events.append(event("delivered", address, at + 30 * MINUTE_MS))
        if number % 2:
            machine = f.AGENT_PROXY if number % 3 == 0 else 0
            country = None if machine else ("DE", "FR")[number % 4 == 1]
            events.append(event("opened", address, at + 60 * MINUTE_MS, evidence=machine, country=country))
        if number % 5 == 0:
            scanner = f.AGENT_SCANNER if number % 15 == 0 else 0
            link = LINKS[number % 2]
            for click in range(1 + number % 4):
                when = at + (70 + click) * MINUTE_MS
                events.append(event("clicked", address, when, link=link, evidence=scanner, client="Gmail"))
        if number % 20 == 1:
            events.append(event("complained", address, at + 90 * MINUTE_MS))
        if number % 20 == 2:
            events.append(event("unsubscribed", address, at + 90 * MINUTE_MS))
        if number == 6:
            events.append(event("failed", address, at))
    return events


async def test_all_in_order_of_addresses(api: Reading) -> None:
    await api.world.count(*mailing())
    document = await api.get("/recipients?limit=500")
    assert [item["recipient"] for item in document["items"]] == [
        f"p{n:03d}@example{n % 3}.com" for n in range(60)
    ]
    assert document["next"] is None
    assert document["matching"] == 60
    assert document["campaign"] == "spring"
    assert document["count"] == "all"
    assert document["as_of"].endswith("Z")
    first = document["items"][0]
    assert first["status"] == "delivered"
    assert first["clicks"] == 1
    assert first["variant"] == {"content": "0", "subject": "A"}
    assert first["client"] is None  # a scanner's tells nothing
    assert document["items"][5]["client"] == "Gmail"


async def test_newest_activity_first(api: Reading) -> None:
    await api.world.count(*mailing())
    items = await api.all("/recipients?sort=-last_event_at", limit=7)
    times = [item["last_event_at"] for item in items]
    assert len(times) == 60
    assert times == sorted(times, reverse=True)
    assert len({item["recipient"] for item in items}) == 60


@pytest.mark.parametrize("count", ["all", "people"])
@pytest.mark.parametrize("sort", ["recipient", "-last_event_at"])
async def test_matching_is_the_number_of_rows_and_that_of_the_summary(
    api: Reading, sort: str, count: str
) -> None:
    await api.world.count(*mailing())
    summary = (await api.get(f"/summary?count={count}"))["summary"]
    links = {row["id"]: row for row in (await api.get(f"/links?count={count}"))["links"]["rows"]}
    sizes = {}
    for wanted in (
        *(f"status={status}" for status in STATUSES),
        "variant.subject=A",
        "variant.content=2",
        "country=DE",
        "country=FR",
        "country=not%20provided%20by%20the%20ESP",
        *(f"link={link_id(keys.text_id(link))}" for link in LINKS),
    ):
        pages = [page async for page in api.pages(f"/recipients?{wanted}&sort={sort}&count={count}", limit=4)]
        items = [item["recipient"] for page in pages for item in page["items"]]
        assert len(items) == len(set(items))
        assert {page["matching"] for page in pages} == {len(items)}, wanted
        name, _, value = wanted.partition("=")
        sizes[wanted] = len(items)
        if value in summary:
            assert len(items) == summary[value], wanted
        if name == "link":
            assert len(items) == (links[value]["unique_clicks"] if value in links else 0)
    assert sizes["status=not_opened"] == summary["sent"] - summary["opened"]
    assert sizes["status=not_clicked"] == summary["sent"] - summary["clicked"]
    assert 0 < sizes["status=inactive"] < summary["sent"]
    assert sizes["status=scanner"] == 4
    assert sizes["status=rejected"] == 6
    assert sizes["status=failed"] == 0  # it counts as sent
    assert sizes["variant.subject=A"] == sizes["variant.subject=A"] == 30


async def test_several_filters(api: Reading) -> None:
    await api.world.count(*mailing())
    everybody = await api.all("/recipients")
    path = "/recipients?status=opened&variant.subject=B&variant.content=1&search=P0"
    document = await api.get(path)
    assert document["matching"] is None
    wanted = [
        item for item in everybody if item["opened"] and item["variant"] == {"content": "1", "subject": "B"}
    ]
    assert document["items"] == wanted
    assert document["items"]
    newest = await api.all(path + "&sort=-last_event_at", limit=2)
    assert {item["recipient"] for item in newest} == {item["recipient"] for item in wanted}


async def test_search(api: Reading) -> None:
    await api.world.count(*mailing())
    for search, expected in (
        ("p01", 10),
        ("%20P01%20", 10),
        ("p059@example2.com", 1),
        ("p9", 0),
        ("@example1.com", 20),
        ("@EXAMPLE", 60),
        ("@xample", 0),
        ("example1", 0),
        ("%", 0),
        ("*", 0),
    ):
        for sort in ("recipient", "-last_event_at"):
            answer = await api.all(f"/recipients?search={quote(search, safe='%')}&sort={sort}", limit=3)
            assert len(answer) == expected, (search, sort)


async def test_a_rare_status_of_those_who_are_searched_for(api: Reading) -> None:
    await api.world.count(*mailing())
    for sort in ("recipient", "-last_event_at"):
        items = await api.all(f"/recipients?status=clicked&search=p01&sort={sort}", limit=1)
        assert {item["recipient"][:4] for item in items} == {"p010", "p015"}


async def test_excluded_are_not_listed_and_erased_have_no_name(api: Reading) -> None:
    events = [
        event("delivered", "a@example.com", START_MS),
        event("delivered", "seed-1@example.com", START_MS, evidence=f.EXCLUDED),
        event("clicked", "b@example.com", START_MS + MINUTE_MS, link=LINKS[0]),
    ]
    await api.world.count(*events)
    assert [item["recipient"] for item in await api.all("/recipients")] == ["a@example.com", "b@example.com"]
    assert (await api.get("/recipients/seed-1@example.com"))["status"] == 404
    api.world.erase("b@example.com")
    await api.world.published()
    for sort in ("recipient", "-last_event_at"):
        document = await api.get(f"/recipients?sort={sort}")
        assert {item["recipient"] for item in document["items"]} == {"a@example.com", None}
        assert document["matching"] == 2
    assert (await api.get("/recipients/b@example.com"))["status"] == 404
    assert await api.all("/recipients?search=e") == []
    assert [item["recipient"] for item in await api.all("/recipients?status=clicked")] == [None]
    clickers = await api.all(f"/links/{link_id(keys.text_id(LINKS[0]))}/clickers")
    assert clickers == [{"recipient": None, "clicks": 1}]


async def test_one_recipient_with_all_their_events(api: Reading) -> None:
    await api.world.count(*mailing())
    document = await api.get("/recipients/P005@example2.com?count=people")
    assert document["recipient"] == "p005@example2.com"
    assert document["campaign"] == "spring"
    assert document["clicks"] == 2
    assert [one["type"] for one in document["events"]] == [
        "sent", "delivered", "opened", "clicked", "clicked",
    ]  # fmt: skip
    assert document["events_complete"] is True
    assert document["events"][3]["link"] == LINKS[1]
    assert document["events"][3]["verdict"] == "human"
    for nobody in ("x@example.com", "", "%00", "p005@example2.com%2F", "a" * 5000):
        assert (await api.get(f"/recipients/{nobody}"))["status"] == 404
    plus = event("delivered", "a+b/c%d@example.com", START_MS)
    await api.world.count(plus)
    found = await api.get("/recipients/" + quote("a+b/c%d@example.com", safe=""))
    assert found["recipient"] == "a+b/c%d@example.com"


async def test_one_recipient_with_more_events_than_the_state_keeps(api: Reading) -> None:
    opens = [event("opened", "a@example.com", START_MS + n * 1000, client="Gmail") for n in range(450)]
    others = [event("delivered", f"o{n}@example.com", START_MS + n * 1000) for n in range(450)]
    await api.world.count(*opens, *others)
    document = await api.get("/recipients/a@example.com")
    assert document["opens"] == 450
    assert len(document["events"]) == 450
    assert document["events_complete"] is True
    assert [one["at"] for one in document["events"]] == sorted(one["at"] for one in document["events"])
    listed = await api.all("/events?recipient=a@example.com&order=asc", limit=100)
    assert listed == document["events"]
    assert (await api.get("/events?recipient=a@example.com"))["matching"] == 450


async def test_other_organisations_and_campaigns(api: Reading) -> None:
    await api.world.count(*mailing())
    for path in ("/recipients", "/recipients/p005@example2.com", "/events"):
        assert (await api.get(path, "globex-read"))["status"] == 404
        assert (await api.api.get(f"/api/v1/campaigns/none{path}")).status_code == 404
        assert (await api.api.http.get(f"/api/v1/campaigns/spring{path}")).status_code == 401


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("count=some", "count"),
        ("timezone=Mars", "timezone"),
        ("sort=clicks", "sort"),
        ("sort=last_event_at", "sort"),
        ("status=hostile", "status"),
        ("status=", "status"),
        ("status=sent&status=opened", "status"),
        ("link=9F2C000000000000", "link"),
        ("link=zz", "link"),
        ("country=", "country"),
        ("country=" + "x" * 400, "country"),
        ("search=", "search"),
        ("search=%20", "search"),
        ("search=@", "search"),
        ("search=" + "x" * 400, "search"),
        ("variant.=hostile", "variant.FIELD"),
        ("variant.subject=", "variant.FIELD"),
        ("variant=hostile", "known parameters"),
        ("colour=hostile", "known parameters"),
        ("cursor=hostile", "cursor"),
        ("cursor=" + "A" * 40, "cursor"),
        ("cursor=" + "A" * 4000, "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%00%ff", "cursor"),
    ],
)
async def test_a_bad_parameter_is_named_and_not_repeated(api: Reading, query: str, named: str) -> None:
    await api.world.count(*mailing(2))
    document = await api.get(f"/recipients?{query}")
    assert document["status"] == 400
    assert document["message"].startswith(named)
    assert "hostile" not in document["message"]


async def test_a_cursor_is_of_one_list(api: Reading) -> None:
    await api.world.count(*mailing())
    await api.world.count(event("sent", "a@example.com", START_MS, campaign="autumn"), campaign="autumn")
    cursor = (await api.get("/recipients?limit=5&status=sent"))["next"]
    assert len((await api.get(f"/recipients?limit=7&status=sent&cursor={cursor}"))["items"]) == 7
    for other in (
        "/recipients?",
        "/recipients?status=delivered&",
        "/recipients?status=sent&sort=-last_event_at&",
        "/recipients?status=sent&count=people&",
        "/recipients?status=sent&search=p&",
        "/events?",
    ):
        document = await api.get(f"{other}cursor={cursor}")
        assert document["status"] == 400
        assert document["message"].startswith("cursor")
    autumn = await api.api.get(f"/api/v1/campaigns/autumn/recipients?status=sent&cursor={cursor}")
    assert autumn.status_code == 400
    changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    assert (await api.get(f"/recipients?limit=5&status=sent&cursor={changed}"))["status"] == 400


@pytest.mark.parametrize(
    "hostile", ["%27%20OR%201%3D1", "%00", "%FF", "..%2F..", "%0d%0aSet-Cookie", "%F0%9F%98%80"]
)
async def test_hostile_values_find_nothing(api: Reading, hostile: str) -> None:
    await api.world.count(*mailing(3))
    for name in ("country", "search", "variant.subject", f"variant.{hostile}"):
        document = await api.get(f"/recipients?{name}={hostile}")
        assert document["items"] == [], name


async def test_addresses_that_are_hard_to_sort(api: Reading) -> None:
    addresses = [
        "\x7f@a",
        "a@a",
        "z@a",
        "ä@a",
        "\U0001f600@a",
        "\uffff@a",
        "a" * 300 + "@a",
        "erased:x@a",
        "A B@a",
    ]
    await api.world.count(*(event("sent", address, START_MS) for address in addresses))
    for limit in (1, 2, 100):
        items = [item["recipient"] for item in await api.all("/recipients", limit=limit)]
        assert items == sorted(addresses, key=lambda address: address.lower().encode())
        assert len(await api.all("/recipients?sort=-last_event_at", limit=limit)) == len(addresses)
    assert len(await api.all("/recipients?search=erased:x")) == 1
