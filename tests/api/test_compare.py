"""Campaigns side by side at the same age: what the endpoint adds to `app.comparison`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app import contribution as c
from app.times import utc_text
from tables.views import Labels
from tests.api.serving import HOUR, Api, serving

PATH = "/api/v1/compare"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as running:
        yield running


async def test_side_by_side_in_the_order_asked_for(api: Api) -> None:
    await api.worker.publish("spring", sent=100, opened=40, labels=Labels("Spring", "Hello"))
    await api.worker.publish("spring", sent=100, opened=10, partition=1)
    await api.worker.publish("autumn", sent=10, opened=1, quarter=HOUR + 96)
    api.context.clock = lambda: (HOUR + 4 * 30) * c.QUARTER_MS / 1000
    answer = await api.get(f"{PATH}?campaign=autumn&campaign=spring&age_hours=12&count=people")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert {name: document[name] for name in ("count", "age_hours", "stale", "lag_ms", "as_of")} == {
        "count": "people",
        "age_hours": 12,
        "stale": False,
        "lag_ms": 0,
        "as_of": utc_text((HOUR + 96) * c.QUARTER_MS),
    }
    autumn, spring = document["campaigns"]
    assert (autumn["campaign"], autumn["start"]) == ("autumn", utc_text((HOUR + 96) * c.QUARTER_MS))
    assert (autumn["reached"], len(autumn["curve"])) == (False, 6)
    assert {name: spring[name] for name in ("campaign", "name", "subject", "start", "reached")} == {
        "campaign": "spring",
        "name": "Spring",
        "subject": "Hello",
        "start": utc_text(HOUR * c.QUARTER_MS),
        "reached": True,
    }
    assert (spring["numbers"]["sent"], spring["numbers"]["opened"], spring["numbers"]["open_rate"]) == (
        200,
        50,
        25.0,
    )
    assert [row["age_hours"] for row in spring["curve"]] == list(range(1, 13))
    assert spring["curve"][0]["opened"] == 50


async def test_the_age_is_48_hours_unless_said(api: Api) -> None:
    await api.worker.publish("spring", sent=1)
    document = (await api.get(f"{PATH}?campaign=spring")).json()
    assert (document["age_hours"], document["count"]) == (48, "all")


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("", 400, "campaign"),
        ("campaign=spring&campaign=spring", 400, "campaign"),
        ("&".join(f"campaign=hostile{n}" for n in range(21)), 400, "campaign: at most 20"),
        ("campaign=spring&age_hours=0", 400, "age_hours"),
        ("campaign=spring&age_hours=2401", 400, "age_hours"),
        ("campaign=spring&age_hours=hostile", 400, "age_hours"),
        ("campaign=spring&age_hours=1&age_hours=2", 400, "age_hours"),
        ("campaign=spring&count=some", 400, "count"),
        ("campaign=spring&colour=hostile", 400, "known parameters"),
        ("campaign=spring&campaign=none", 404, "no such campaign"),
        ("campaign=theirs", 404, "no such campaign"),
    ],
)
async def test_what_is_refused(api: Api, query: str, status: int, named: str) -> None:
    await api.worker.publish("spring", sent=1)
    await api.worker.publish("theirs", sent=1, org="globex")
    answer = await api.get(f"{PATH}?{query}")
    assert answer.status_code == status
    assert answer.json()["message"].startswith(named)
    assert "hostile" not in answer.text
    assert (await api.http.get(f"{PATH}?{query}")).status_code == 401


async def test_twenty_campaigns_and_not_before_all_are_known(redis_db: str) -> None:
    async with serving(redis_db, ready=False) as api:
        for number in range(19):
            await api.worker.publish(f"c{number}", sent=1)
        query = "&".join(f"campaign=c{number}" for number in range(20))
        assert (await api.get(f"{PATH}?{query}")).status_code == 503
        await api.worker.ready()
        await api.worker.publish("c19", sent=1)
        document = (await api.get(f"{PATH}?{query}")).json()
        assert [row["campaign"] for row in document["campaigns"]] == [f"c{number}" for number in range(20)]
