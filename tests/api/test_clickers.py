"""Who clicked a link, and what the report asks of the query process beyond its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import breakdown as b
from app import facts as f
from app import keys
from app.breakdown import row_key
from app.sections import clicks_of, link_id
from app.tally import field_of
from tests.api.reading import MINUTE_MS, START_MS, Reading, event, reading
from tests.api.serving import SECRET

LINK = "https://example.com/a"
ID = link_id(keys.text_id(LINK))


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        yield running


def clicks(people: int = 30) -> list[f.Entry]:
    """Person n clicks n % 7 + 1 times; every fifth one is a scanner."""
    return [
        event(
            "clicked",
            f"p{person:03d}@example.com",
            START_MS + click * 40 * MINUTE_MS + person,
            link=LINK,
            evidence=0 if person % 5 else f.AGENT_SCANNER,
        )
        for person in range(people)
        for click in range(person % 7 + 1)
    ]


@pytest.mark.parametrize("count", ["all", "people"])
async def test_most_clicks_first(api: Reading, count: str) -> None:
    await api.world.count(*clicks())
    pages = [page async for page in api.pages(f"/links/{ID}/clickers?count={count}", limit=4)]
    items = [item for page in pages for item in page["items"]]
    people = [n for n in range(30) if count == "all" or n % 5]
    assert {page["matching"] for page in pages} == {len(people)}
    assert sorted((item["recipient"], item["clicks"]) for item in items) == [
        (f"p{n:03d}@example.com", n % 7 + 1) for n in people
    ]
    assert [item["clicks"] for item in items] == sorted((item["clicks"] for item in items), reverse=True)


async def test_links_that_are_none(api: Reading) -> None:
    machine = [event("clicked", "a@example.com", START_MS, link=LINK, evidence=f.AGENT_SCANNER)]
    await api.world.count(*machine)
    for none in ("0" * 16, "f" * 16, "x", "", "%00", ID.upper(), ID + "0"):
        assert (await api.get(f"/links/{none}/clickers"))["status"] == 404, none
    nobody = await api.get(f"/links/{ID}/clickers?count=people")
    assert (nobody["items"], nobody["matching"], nobody["next"]) == ([], 0, None)
    assert (await api.get(f"/links/{ID}/clickers", "globex-read"))["status"] == 404
    cursor = "x"
    assert (await api.get(f"/links/{ID}/clickers?cursor={cursor}"))["message"].startswith("cursor")


async def test_top_clickers_of_many_links(api: Reading) -> None:
    other = [event("clicked", "z@example.com", START_MS, link="https://example.com/z")]
    await api.world.count(*clicks(), *other)
    campaign = keys.campaign_key(SECRET, "acme", "spring")
    link, last, none = keys.text_id(LINK), keys.text_id("https://example.com/z"), 5
    found = await api.api.context.queries.top_clickers(campaign, [link, last, none], "people", 3)
    assert [clicks for _, clicks in found[link]] == [7, 7, 7]
    assert found[last] == [("z@example.com", 1)]
    assert found[none] == []


async def test_rows_and_sections_beyond_what_is_published(api: Reading) -> None:
    links = [f"https://example.com/{n}" for n in range(1_700)]
    await api.world.count(
        *(
            event("clicked", f"p{n % 10}@example.com", START_MS + n, link=link)
            for n, link in enumerate(links)
        ),
        event("clicked", "p0@example.com", START_MS, link=links[5]),
    )
    campaign = keys.campaign_key(SECRET, "acme", "spring")
    queries = api.api.context.queries
    fifth = keys.text_id(links[5])
    keyed = [row_key(b.LINK, fifth), row_key(b.LINK, 7), row_key(b.TYPE, f.CLICKED)]
    answer = await queries.tops(campaign, [b.LINK, b.TYPE, b.CITY], keyed)
    assert [field_of(answer.tallies[key], b.E_CLICKED) for key in keyed[:2]] == [2, 0]
    assert answer.tallies[keyed[2]] == answer.totals[b.TYPE] == 1_701
    assert clicks_of(answer.totals[b.LINK]) == clicks_of(answer.totals[b.CITY]) == 1_701
    assert answer.ends.keys() == {fifth}
    assert answer.ends[fifth][0] == START_MS
    assert await queries.rows(campaign, keyed) == answer.tallies
    nothing = await queries.tops(b"nothing.", [b.LINK], keyed[:1])  # type: ignore[arg-type]
    assert (nothing.totals, nothing.tallies, nothing.ends) == ({b.LINK: 0}, {keyed[0]: 0}, {})
