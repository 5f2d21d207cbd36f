"""Reports of campaigns with more links than a partition publishes, and of rows that come later than the numbers."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agents.publish import Publisher
from api import building, tops
from api.feed import FeedKey
from app import facts as f
from app import report, sections, top_rows
from app.keys import campaign_key
from app.report import ROWS_BEHIND
from app.report import SECTIONS as SECTIONS_OF_REPORT
from tables import ranking
from tables.views import SECTIONS, Channel, sections_name
from tests.api.reading import MINUTE_MS, START_MS, Reading, event, reading
from tests.api.serving import SECRET, TOPIC

LIMIT, SHOWN = 20, 10
KEY = campaign_key(SECRET, "acme", "spring")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "LIMITS", {})
    monkeypatch.setattr(ranking, "DEFAULT_LIMIT", LIMIT)
    for module in (sections, top_rows):
        monkeypatch.setattr(module, "LINKS", SHOWN)
        monkeypatch.setattr(module, "ROWS", SHOWN)
    monkeypatch.setattr(sections.links, "__defaults__", (None, SHOWN))


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as found:
        yield found


def numbers_only(publisher: Publisher) -> Callable[[Channel], Awaitable[bool]]:
    """A publisher's step that leaves the rows for later."""
    step = publisher.step

    async def later(channel: Channel) -> bool:
        return channel is not SECTIONS and await step(channel)

    return later


def clicks(number: int) -> list[f.Entry]:
    """Of 200 links, some far more than others, by people and scanners."""
    chance = random.Random(1)
    return [
        event(
            "clicked", f"r{place}@example.com", START_MS + place * MINUTE_MS,
            link=f"https://example.com/{int(200 * chance.random() ** 3)}",
            evidence=f.AGENT_SCANNER if chance.random() < 0.3 else 0, country=f"C{chance.randrange(60)}",
        )
        for place in range(number)
    ]  # fmt: skip


def by_link(entries: list[f.Entry], count: str) -> Counter[str]:
    return Counter(
        f.decode_detail(one.detail).link or ""
        for one in entries
        if count == "all" or not one.fact.evidence & f.AGENT_SCANNER
    )


@pytest.mark.parametrize("count", ["all", "people"])
async def test_shown_rows_are_exact_and_add_up(api: Reading, count: str) -> None:
    made = clicks(1_500)
    await api.world.count(*made)
    true = by_link(made, count)
    document = await api.get(f"/report?count={count}")
    rows = document["links"]["rows"]
    assert {row["link"]: row["total_clicks"] for row in rows}.items() <= true.items()
    assert len(rows) == SHOWN
    # The first ones differ by more than the parts leave out.
    assert [row["total_clicks"] for row in rows[:3]] == [number for _, number in true.most_common(3)]
    shown = sum(row["total_clicks"] for row in rows)
    assert shown + document["links"]["other"]["total_clicks"] == sum(true.values())
    assert sum(row["clicks"] for row in document["places"]["countries"]) == sum(true.values())
    assert all(row["first_at"] and row["last_at"] for row in rows)


@pytest.mark.parametrize("many", [True, False])
async def test_many_rows_are_not_put_together_on_the_event_loop(
    api: Reading, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """Reports and what watchers get: webhooks are taken on that loop."""
    monkeypatch.setattr(building, "MANY_ROWS", SHOWN if many else 100 * SHOWN)
    threads: list[bool] = []
    made = sections.links

    def noting(*args: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return made(*args)

    monkeypatch.setattr("app.report.links", noting)
    await api.world.count(*clicks(200))
    documents = [await api.get("/report"), await api.get("/links")]
    hub = api.api.context.hub
    key = FeedKey("all", "UTC", frozenset(SECTIONS_OF_REPORT))
    subscription = await hub.subscribe("acme", "spring", key, None)
    assert await subscription.wait()
    await api.world.count(event("clicked", "new@example.com", START_MS, link="https://example.com/0"))
    while b'"total_clicks":201' not in await subscription.wait():
        pass
    subscription.leave()
    assert [len(document["links"]["rows"]) for document in documents] == [SHOWN, SHOWN]
    assert len(threads) >= 4
    assert not any(threads) if many else all(threads)


async def test_without_anyone_to_ask_nothing_is_too_small(api: Reading) -> None:
    made = clicks(1_500)
    await api.world.count(*made)
    api.process.partitions.close()
    document = await api.get("/links")
    true = by_link(made, "all")
    rows = document["links"]["rows"]
    assert {row["link"]: row["total_clicks"] for row in rows}.items() <= true.items()
    shown = sum(row["total_clicks"] for row in rows)
    assert shown + document["links"]["other"]["total_clicks"] == sum(true.values())


async def test_rows_are_put_together_once_for_all(api: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.world.count(*clicks(1_500))
    queries = api.api.context.queries
    asked: list[int] = []
    tops = queries.tops

    async def counted(*args: Any) -> top_rows.Answer:
        asked.append(len(args[2]))
        return await tops(*args)

    monkeypatch.setattr(queries, "tops", counted)
    documents = await asyncio.gather(
        *(api.get(f"/report?count={count}") for count in ("all", "people") for _ in range(3))
    )
    assert all("links" in document for document in documents)
    await api.get("/links")
    assert len(asked) == 1
    await api.world.count(*clicks(1))  # the same ones: nothing has changed
    assert asked[0] < 20 * SHOWN
    await api.world.count(event("clicked", "new@example.com", START_MS, link="https://example.com/0"))
    async with asyncio.timeout(10):  # rows go their own way to Redis
        clicks_shown = 0
        while clicks_shown != 1_501:
            document = await api.get("/report")
            clicks_shown = sum(row["clicks"] for row in document["places"]["countries"])
    assert len(asked) > 1


async def test_rows_that_are_not_published_yet_are_not_shown_as_complete(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows go their own way to Redis, and after a flood they take longer than the numbers."""
    publisher = api.world.publisher
    step = publisher.step
    monkeypatch.setattr(publisher, "step", numbers_only(publisher))
    made = clicks(50)
    api.world.write(made)
    async with asyncio.timeout(10):
        summary = await api.get("/summary")
        while summary.get("summary", {}).get("total_clicks") != 50:
            summary = await api.get("/summary")
    assert not summary["stale"]
    document = await api.get("/report")
    assert document["summary"]["total_clicks"] == 50
    assert document["links"]["rows"] == []
    assert document["lag_ms"] > 0
    monkeypatch.setattr(report, "ROWS_BEHIND_MS", 0)
    for path in ("/report", "/links", "/places", "/clients", "/providers", "/variants"):
        document = await api.get(path)
        assert (document["stale"], document["reason"]) == (True, ROWS_BEHIND), path
    assert not (await api.get("/summary"))["stale"]
    monkeypatch.setattr(publisher, "step", step)
    publisher._marked[SECTIONS].set()
    await api.world.published()
    document = await api.get("/report")
    assert (document["stale"], document["lag_ms"]) == (False, 0)
    assert len(document["links"]["rows"]) == SHOWN


async def test_rows_that_are_lost_in_redis_are_said(api: Reading) -> None:
    await api.world.count(*clicks(50))
    assert not (await api.get("/links"))["stale"]
    await api.world.redis.hdel(sections_name(TOPIC, KEY), "f:0", "x:0:1")
    document = await api.get("/links")
    assert (document["stale"], document["reason"]) == (True, ROWS_BEHIND)


async def test_whoever_watches_is_told_that_rows_are_behind(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.world.count(*clicks(50))
    async with api.api.live("/api/v1/campaigns/spring/live") as stream:
        assert not (await stream.until("snapshot")).data["stale"]
        monkeypatch.setattr(report, "ROWS_BEHIND_MS", 0)
        monkeypatch.setattr(api.world.publisher, "step", numbers_only(api.world.publisher))
        api.world.write([event("clicked", "new@example.com", START_MS, link="https://example.com/0")])
        async with asyncio.timeout(10):
            while (await stream.until("change")).data["reason"] != ROWS_BEHIND:
                pass


class Slow:
    """Questions for rows that are answered when the test says so."""

    def __init__(self, api: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        queries = api.api.context.queries
        tops = queries.tops

        async def later(*args: Any) -> top_rows.Answer:
            self.asked.set()
            await self.may.wait()
            return await tops(*args)

        monkeypatch.setattr(queries, "tops", later)


def clicks_in(document: Any) -> int:
    rows = sum(row["total_clicks"] for row in document["links"]["rows"])
    return int(rows + document["links"]["other"]["total_clicks"])


async def test_who_looks_again_is_shown_recent_rows_with_their_age(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tops, "RECENT_S", 60.0)
    await api.world.count(*clicks(1_500))
    before = await api.get("/report")
    assert (before["summary"]["total_clicks"], clicks_in(before), before["lag_ms"]) == (1_500, 1_500, 0)
    slow = Slow(api, monkeypatch)
    await api.world.count(event("clicked", "new@example.com", START_MS, link="https://example.com/0"))
    for _ in range(3):
        document = await api.get("/report")
        assert (document["summary"]["total_clicks"], clicks_in(document)) == (1_501, 1_500)
        assert document["lag_ms"] > 0 and not document["stale"]
    slow.may.set()
    while clicks_in(document := await api.get("/report")) != 1_501:
        assert document["lag_ms"] > 0
    assert document["lag_ms"] == 0


async def test_who_comes_later_waits_for_what_is_published(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tops, "RECENT_S", 0.0)
    await api.world.count(*clicks(1_500))
    await api.get("/report")
    slow = Slow(api, monkeypatch)
    await api.world.count(event("clicked", "new@example.com", START_MS, link="https://example.com/0"))
    asking = [asyncio.create_task(api.get(path)) for path in ("/report", "/links", "/report?count=people")]
    await slow.asked.wait()
    assert not any(task.done() for task in asking)
    slow.may.set()
    documents = await asyncio.gather(*asking)
    assert [clicks_in(document) for document in documents[:2]] == [1_501, 1_501]
    assert [document["lag_ms"] for document in documents] == [0, 0, 0]


async def test_an_error_while_rows_are_made_is_told_to_who_waits(
    api: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.world.count(*clicks(1_500))
    queries = api.api.context.queries

    async def broken(*args: Any) -> top_rows.Answer:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(queries, "tops", broken)
        assert (await api.api.get("/api/v1/campaigns/spring/report")).status_code == 500
    assert clicks_in(await api.get("/report")) == 1_500
