"""The event log, on real databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app import facts as f
from app import keys
from app.fold import KEPT
from app.sections import link_id
from app.times import utc_text
from tables import paging
from tests.api.reading import MINUTE_MS, START_MS, Reading, event, reading
from tests.api.test_recipients import LINKS, mailing


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        yield running


async def test_every_fact_in_order_both_ways(api: Reading) -> None:
    entries = mailing()
    await api.world.count(*entries)
    oldest = await api.all("/events?order=asc", limit=7)
    newest = await api.all("/events", limit=500)
    assert oldest == newest[::-1]
    assert [one["id"] for one in oldest] == [
        one.fact.identity.hex()
        for one in sorted(entries, key=lambda one: (one.fact.at_ms, one.fact.identity))
    ]
    assert (await api.get("/events"))["matching"] == len(entries)
    assert (await api.get("/events?count=people"))["matching"] == len(entries)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_filters(api: Reading, order: str) -> None:
    await api.world.count(*mailing())
    everything = await api.all(f"/events?order={order}", limit=500)
    half_ms = START_MS + 60 * MINUTE_MS
    half = utc_text(half_ms)
    until_ms = half_ms + 16 * MINUTE_MS
    until = utc_text(until_ms)
    assert half is not None and until is not None
    link = link_id(keys.text_id(LINKS[1]))

    def check(name: str, wanted: Any) -> tuple[str, list[Any]]:
        return name, [one for one in everything if wanted(one)]

    def persons_click(one: Any) -> bool:
        return bool(one["type"] == "clicked" and one["verdict"] == "human" and one["link"] == LINKS[1])

    def early_click(one: Any) -> bool:
        return bool(one["type"] == "clicked" and one["recipient"][:4] == "p005" and one["at"] < until)

    cases = [
        *(check(f"type={kind}", lambda one, kind=kind: one["type"] == kind) for kind in f.TYPE_NAMES),
        *(
            check(f"verdict={name}", lambda one, name=name: one["verdict"] == name)
            for name in ("human", "proxy", "scanner")
        ),
        check("recipient=P005@example2.com", lambda one: one["recipient"] == "p005@example2.com"),
        check("recipient=nobody@example.com", lambda one: False),
        check(f"link={link}", lambda one: one["link"] == LINKS[1]),
        check("variant.subject=A", lambda one: (one["variant"] or {}).get("subject") == "A"),
        check(f"from={half}", lambda one: one["at"] >= half),
        check(f"to={half_ms}", lambda one: one["at"] < half),
        check(f"from={half}&to={half_ms}", lambda one: False),
        check("from=1900-01-01T00:00:00Z&to=9999-01-01T00:00:00Z", lambda one: True),
        check("to=1900-01-01T00:00:00Z", lambda one: False),
        check(f"type=clicked&verdict=human&link={link}", persons_click),
        check(f"recipient=p005@example2.com&type=clicked&to={until_ms}", early_click),
    ]  # fmt: skip
    sizes = {}
    for name, wanted in cases:
        pages = [page async for page in api.pages(f"/events?order={order}&{name}", limit=4)]
        found = [one for page in pages for one in page["items"]]
        assert found == wanted, name
        alone = "&" not in name
        reported = alone and name.startswith(("type=", "recipient=", "link=", "verdict="))
        whole = len(pages) == 1 and (alone or name.startswith("from="))
        known = len(found) if reported or whole else None
        assert {page["matching"] for page in pages} == {known}, name
        sizes[name] = len(found)
    assert sizes["type=complained"] == 3
    assert sizes["verdict=scanner"] > 0 < sizes["verdict=proxy"]
    assert sizes[f"type=clicked&verdict=human&link={link}"] > 0


async def test_matching_is_never_wrong(api: Reading) -> None:
    """What is in the log and not in the report's rows: then it is known only where the page is the whole list."""
    link = link_id(keys.text_id(LINKS[0]))
    filters = (f"link={link}", "verdict=human", "verdict=scanner", "variant.subject=A", f"from={START_MS}")

    async def known() -> dict[str, set[int | None]]:
        found: dict[str, set[int | None]] = {}
        for name in filters:
            pages = [page async for page in api.pages(f"/events?{name}", limit=4)]
            found[name] = {page["matching"] for page in pages}
            total = sum(len(page["items"]) for page in pages)
            assert found[name] in ({total}, {None}), name
            assert (await api.get(f"/events?{name}&limit=500"))["matching"] == total, name
        return found

    await api.world.count(*mailing())
    # An unsubscription that names a link is no click of it.
    await api.world.count(event("unsubscribed", "u@example.com", START_MS, link=LINKS[0]))
    document = await api.get("/links")
    clicks = {row["link"]: row["total_clicks"] for row in document["links"]["rows"]}
    found = await known()
    assert found[f"link={link}"] == {clicks[LINKS[0]]}
    assert None not in found["verdict=human"] | found["verdict=scanner"]
    # A click of an excluded address is in the log alone.
    await api.world.count(event("clicked", "seed@example.com", START_MS, link=LINKS[1], evidence=f.EXCLUDED))
    found = await known()
    assert all(numbers == {None} for numbers in found.values())


async def test_clicks_beyond_a_recipients_bound_belong_to_no_link(api: Reading) -> None:
    link = link_id(keys.text_id(LINKS[0]))
    many = [
        event("clicked", "a@example.com", START_MS + number * MINUTE_MS, link=LINKS[0])
        for number in range(KEPT + 50)
    ]
    await api.world.count(*many)
    pages = [page async for page in api.pages(f"/events?link={link}", limit=100)]
    assert sum(len(page["items"]) for page in pages) == len(many)
    assert {page["matching"] for page in pages} == {None}
    assert (await api.get("/events?verdict=human&limit=1"))["matching"] == len(many)


async def test_excluded_ones_stand_there_with_a_mark(api: Reading) -> None:
    await api.world.count(
        event("complained", "a@example.com", START_MS),
        event("complained", "seed-1@example.com", START_MS + 1, evidence=f.EXCLUDED),
    )
    items = await api.all("/events?type=complained&order=asc")
    assert [(one["recipient"], one["excluded"]) for one in items] == [
        ("a@example.com", False),
        ("seed-1@example.com", True),
    ]
    assert (await api.get("/events?type=complained"))["matching"] == 2
    assert len(await api.all("/events?recipient=seed-1@example.com")) == 1


async def test_a_rare_type_is_looked_up_and_never_short(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounce that a delivery undid is in the log, and not in the index of the bounced."""
    await api.world.count(
        event("bounced", "a@example.com", START_MS),
        event("bounced", "b@example.com", START_MS, evidence=f.SOFT_BOUNCE),
        event("delivered", "b@example.com", START_MS + 1),
        event("unsubscribed", "c@example.com", START_MS + 2),
    )
    assert len(await api.all("/events?type=bounced", limit=1)) == 2

    def scanned(*_: object, **__: object) -> None:
        raise AssertionError("the log was scanned")

    monkeypatch.setattr(paging, "by_time", scanned)
    assert len(await api.all("/events?type=unsubscribed", limit=1)) == 1


async def test_erased_people_are_in_the_log_without_a_name(api: Reading) -> None:
    await api.world.count(event("delivered", "a@example.com", START_MS))
    api.world.erase("a@example.com")
    await api.world.published()
    (item,) = await api.all("/events")
    assert (item["recipient"], item["ip"]) == (None, None)
    document = await api.get("/events?recipient=a@example.com")
    assert (document["items"], document["matching"]) == ([], 0)


async def test_new_events_do_not_move_the_older_ones(api: Reading) -> None:
    await api.world.count(*mailing(20))
    first = await api.get("/events?limit=10")
    await api.world.count(*(event("opened", f"new{n}@example.com", START_MS * 2 + n) for n in range(30)))
    second = await api.get(f"/events?limit=10&cursor={first['next']}")
    before = [one for one in await api.all("/events") if not one["recipient"].startswith("new")]
    assert first["items"] + second["items"] == before[:20]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("order=up", "order"),
        ("type=hostile", "type"),
        ("type=", "type"),
        ("verdict=hostile", "verdict"),
        ("link=hostile", "link"),
        ("recipient=", "recipient"),
        ("recipient=" + "x" * 400, "recipient"),
        ("from=hostile", "from"),
        ("to=99999999999999999", "to"),
        ("sort=recipient", "known parameters"),
        ("cursor=hostile", "cursor"),
    ],
)
async def test_a_bad_parameter_is_named_and_not_repeated(api: Reading, query: str, named: str) -> None:
    await api.world.count(*mailing(2))
    document = await api.get(f"/events?{query}")
    assert document["status"] == 400
    assert document["message"].startswith(named)
    assert "hostile" not in document["message"]
