"""Unique people: the whole campaign exact, windows from sketches in real databases, over campaigns and partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.uniques import NOTE
from app import facts as f
from app.times import utc_text
from tests.api.reading import MINUTE_MS, START_MS, Reading, World, event, query_process, reading
from tests.api.serving import serving

QUARTER_MS = 15 * MINUTE_MS
START = START_MS // QUARTER_MS
DAY = 96


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        yield running


def opened(
    number: int, quarter: int, campaign: str = "spring", *, kind: str = "opened", **more: Any
) -> f.Entry:
    """An open of person `number` in a quarter hour counted from the start."""
    at_ms = (START + quarter) * QUARTER_MS + number * 100
    return event(kind, f"p{number}@example.com", at_ms, campaign=campaign, **more)


async def uniques(
    api: Reading, query: str = "", path: str = "/api/v1/campaigns/spring/uniques"
) -> dict[str, Any]:
    answer = await api.api.get(path + query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["uniques"]
    return found


def between(first: int, end: int) -> str:
    return f"?from={(START + first) * QUARTER_MS}&to={(START + end) * QUARTER_MS}"


async def test_a_window_counts_everybody_once(api: Reading) -> None:
    await api.world.count(
        *(opened(n, quarter) for n in range(40) for quarter in (0, 1, n)),
        *(opened(n, n, kind="clicked", link="https://example.com/") for n in range(10)),
    )
    for first, end, opens, clicks in (
        (0, 1, 40, 1),
        (5, 10, 5, 5),
        (0, 40, 40, 10),
        (40, 90, 0, 0),
        (-500, 3, 40, 3),
    ):
        assert await uniques(api, between(first, end)) == {
            "from": utc_text((START + first) * QUARTER_MS),
            "to": utc_text((START + end) * QUARTER_MS),
            "opened": opens,
            "clicked": clicks,
            "standard_error_percent": 0,
        }


async def test_windows_are_widened_to_quarter_hours_and_may_be_open(api: Reading) -> None:
    await api.world.count(*(opened(n, n) for n in range(300)))
    begin = (START + 3) * QUARTER_MS
    exact = await uniques(api, f"?from={begin}&to={begin + QUARTER_MS}")
    for from_ms, to_ms in (
        (begin + 1, begin + 2),
        (begin + QUARTER_MS - 1, begin + QUARTER_MS),
        (begin, begin + 1),
    ):
        assert await uniques(api, f"?from={from_ms}&to={to_ms}") == exact
    assert exact["opened"] == 1
    assert (exact["from"], exact["to"]) == (utc_text(begin), utc_text(begin + QUARTER_MS))
    assert (await uniques(api, f"?from={begin}&to={begin}"))["opened"] == 0
    later = await uniques(api, f"?from={begin}")
    assert (later["opened"], later["from"], later["to"]) == (297, utc_text(begin), None)
    earlier = await uniques(api, f"?to={begin}")
    assert (earlier["opened"], earlier["from"], earlier["to"]) == (3, None, utc_text(begin))
    for far in ("?from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z", "?from=0&to=253402300799999"):
        assert (await uniques(api, far))["opened"] == 300
    zoned = await uniques(api, "?from=2026-09-21T16:00:00%2B02:00&to=2026-09-21T16:20:00%2B02:00")
    assert (zoned["from"], zoned["to"]) == ("2026-09-21T14:00:00.000Z", "2026-09-21T14:30:00.000Z")
    assert zoned["opened"] == 2


async def test_the_whole_campaign_is_the_summarys_number(api: Reading) -> None:
    late = [opened(n, n, evidence=f.AGENT_PROXY) for n in range(7)]
    await api.world.count(*(opened(n, n) for n in range(5, 30)), *late, opened(2, 9, kind="clicked"))
    for count in ("all", "people"):
        summary = (await api.get(f"/summary?count={count}"))["summary"]
        assert await uniques(api, f"?count={count}") == {
            "from": None,
            "to": None,
            "opened": summary["opened"],
            "clicked": summary["clicked"],
            "standard_error_percent": 0,
        }
        one = await uniques(api, f"?campaign=spring&type=opened&count={count}", "/api/v1/uniques")
        assert one == {"from": None, "to": None, "opened": summary["opened"], "standard_error_percent": 0}


async def test_people_go_by_their_own_evidence_and_the_answer_says_so(api: Reading) -> None:
    await api.world.count(
        *(opened(n, 0) for n in range(3)), *(opened(n, 0, evidence=f.AGENT_PROXY) for n in range(2, 9))
    )
    everybody = await uniques(api, between(0, 1))
    assert everybody["opened"] == 9
    assert "note" not in everybody
    people = await uniques(api, between(0, 1) + "&count=people")
    assert (people["opened"], people["note"]) == (3, NOTE)


async def test_over_campaigns_a_person_counts_once(api: Reading) -> None:
    await api.world.count(*(opened(n, 0) for n in range(10)))
    await api.world.count(*(opened(n, 2 * DAY, "autumn") for n in range(5, 20)), campaign="autumn")
    theirs = [
        event("opened", f"p{n}@example.com", START_MS, campaign="autumn", org="globex") for n in range(99)
    ]
    await api.world.count(*theirs, campaign="autumn", org="globex")
    both = await uniques(api, "?campaign=spring&campaign=autumn", "/api/v1/uniques")
    assert (both["opened"], both["clicked"], both["standard_error_percent"]) == (20, 0, 0)
    window = await uniques(
        api, "?campaign=spring&campaign=autumn&type=opened&" + between(DAY, 9 * DAY)[1:], "/api/v1/uniques"
    )
    assert window["opened"] == 15
    assert "clicked" not in window
    document = (await api.api.get("/api/v1/uniques?campaign=autumn&campaign=spring")).json()
    assert document["campaigns"] == ["autumn", "spring"]
    assert document["as_of"] == utc_text((START + 2 * DAY) * QUARTER_MS + 1900)
    assert (document["count"], document["stale"]) == ("all", False)


async def test_many_people_are_estimated_and_the_error_is_told(api: Reading) -> None:
    await api.world.count(*(opened(n, n % 200) for n in range(6_000)))
    found = await uniques(api, between(0, 200))
    assert found["standard_error_percent"] == 0.81
    assert abs(found["opened"] - 6_000) < 6_000 * 0.0325
    few = await uniques(api, between(0, 10))
    assert (few["opened"], few["standard_error_percent"]) == (300, 0)


async def test_without_a_query_process_only_the_whole_campaign(redis_db: str, tmp_path: Path) -> None:
    world = World(tmp_path / "state", redis_db)
    try:
        await world.count(opened(1, 0))
        async with serving(redis_db, ready=False) as api:
            answer = await api.get("/api/v1/campaigns/spring/uniques" + between(0, 1))
            assert answer.status_code == 503
            assert "role `query`" in answer.json()["message"]
            whole = (await api.get("/api/v1/campaigns/spring/uniques")).json()
            assert whole["uniques"]["opened"] == 1
            async with query_process(world.state, redis_db):
                again = await api.get("/api/v1/campaigns/spring/uniques" + between(0, 1))
                assert again.json()["uniques"]["opened"] == 1
    finally:
        await world.close()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("from=2&to=1", "from"),
        ("from=hostile", "from"),
        ("to=2026-09-21", "to"),
        ("count=some", "count"),
        ("from=1&from=2", "from"),
        ("timezone=Mars", "timezone"),
        ("type=opened", "known parameters"),
        ("campaign=hostile", "known parameters"),
    ],
)
async def test_a_bad_parameter_is_named(api: Reading, query: str, named: str) -> None:
    await api.world.count(opened(1, 0))
    document = await api.get(f"/uniques?{query}")
    assert document["status"] == 400
    assert document["message"].startswith(named)
    assert "hostile" not in document["message"]


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("", 400, "campaign"),
        ("campaign=spring&campaign=spring", 400, "campaign"),
        ("&".join(f"campaign=c{n}" for n in range(101)), 400, "campaign"),
        ("campaign=spring&type=sent", 400, "type"),
        ("campaign=spring&type=opened&type=clicked", 400, "type"),
        ("campaign=spring&from=2&to=1", 400, "from"),
        ("campaign=spring&campaign=none", 404, "no such campaign"),
        ("campaign=theirs", 404, "no such campaign"),
        ("campaign=", 404, "no such campaign"),
    ],
)
async def test_bad_lists_of_campaigns(api: Reading, query: str, status: int, named: str) -> None:
    await api.world.count(opened(1, 0))
    theirs = event("opened", "a@example.com", START_MS, campaign="theirs", org="globex")
    await api.world.count(theirs, campaign="theirs", org="globex")
    answer = await api.api.get(f"/api/v1/uniques?{query}")
    assert answer.status_code == status
    assert answer.json()["message"].startswith(named)
    assert (await api.api.get("/api/v1/campaigns/theirs/uniques")).status_code == 404
    assert (await api.api.http.get(f"/api/v1/uniques?{query}")).status_code == 401
