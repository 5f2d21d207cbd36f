"""The Python client against a running API: every call, its errors, pages, files, streams; its doc's examples."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from api.app import api_routes
from api.openapi import document_of
from app.settings import Settings
from client import ApiError, AsyncClient, Client, Unreachable, Unreadable, calls
from client.calls import Call
from client.events import Lines
from tests.api.reading import MINUTE_MS, START_MS, Reading, event, reading
from tests.api.serving import PARTITIONS, serving
from tests.support.dead import bury, webhook
from tests.support.kafka import fresh_topics
from tests.support.processes import ROOT

LINK = "https://example.com/a"
PEOPLE = [f"r{number}@example.com" for number in range(5)]
_T = TypeVar("_T")


@pytest.fixture
async def world(redis_db: str, tmp_path: Path, kafka: str) -> AsyncIterator[Reading]:
    fresh_topics(Settings(kafka=kafka, data=tmp_path / "settings", partitions=PARTITIONS))
    bury(kafka, (webhook(b"broken"), "not JSON"))
    async with reading(redis_db, tmp_path, kafka=kafka) as found:
        entries = []
        for number, address in enumerate(PEOPLE):
            variant = {"subject": "AB"[number % 2], "content": "12"[number % 2]}
            entries += [
                event("sent", address, START_MS, variant=variant),
                event("opened", address, START_MS + MINUTE_MS, country="DE", client="Gmail", variant=variant),
                event("clicked", address, START_MS + 2 * MINUTE_MS, link=LINK, variant=variant),
            ]
        await found.world.count(*entries)
        await found.world.count(event("sent", "x@example.com", START_MS, campaign="a/b"), campaign="a/b")
        async with asyncio.timeout(10):
            while not found.api.context.shares.fresh:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield found


async def in_thread(world: Reading, work: Callable[[Client], _T], key: str = "acme-all") -> _T:
    """What a blocking client does, while the API runs in this thread."""

    def done() -> _T:
        with Client(world.api.address, key) as api:
            return work(api)

    return await asyncio.to_thread(done)


def reads(link: str, letter: int) -> list[Call[Any]]:
    """Each way of reading."""
    c = "spring"
    return [
        calls.campaigns(limit=1),
        calls.campaigns(search="spring", count="people", timezone="Asia/Kathmandu"),
        calls.report(c),
        calls.report(c, sections=["summary", "links"], count="people", timezone="Asia/Kathmandu"),
        calls.summary(c),
        calls.timeline(c, unit="day", from_=START_MS, to=START_MS + 3_600_000),
        calls.links(c),
        calls.places(c),
        calls.clients(c),
        calls.providers(c),
        calls.variants(c, rate="open_rate", x="subject", y="content", variant={"subject": "A"}),
        calls.uniques(c, from_=START_MS),
        calls.several_uniques([c, "a/b"], type="opened"),
        calls.compare([c, "a/b"], age_hours=1),
        calls.recipients(c, status="clicked", sort="-last_event_at", variant={"subject": "A"}),
        calls.recipient(c, PEOPLE[0]),
        calls.events(c, type="clicked", order="asc", from_=START_MS),
        calls.clickers(c, link),
        calls.shares(c),
        calls.sources(),
        calls.lag(),
        calls.workers(),
        calls.dead_letters(limit=1),
        calls.dead_letter(letter),
    ]


async def test_answers_are_the_documents_with_nothing_lost(world: Reading) -> None:
    def work(api: Client) -> None:
        link = api.send(calls.links("spring"))["links"]["rows"][0]["id"]
        letter = api.send(calls.dead_letters())["items"][0]["id"]
        for call in reads(link, letter):
            same = json.loads(api.raw(call))
            decoded = json.loads(json.dumps(api.send(call)))
            for moving in ("at", "lag_ms"):
                same.pop(moving, None)
                decoded.pop(moving, None)
            assert decoded == same, call.path
        assert api.send(calls.summary("a/b"))["summary"]["sent"] == 1

    await in_thread(world, work)


async def test_what_is_sent(world: Reading) -> None:
    def work(api: Client) -> None:
        accepted = api.send(
            calls.send_events(
                [{"type": "sent", "campaign": "spring", "recipient": "new@example.com", "at": START_MS}]
            )
        )
        assert accepted == {"accepted": 1, "refused": []}
        named = api.send(calls.name_campaign("a/b", name="Both", fields={"subject": {"A": "Hi"}}))
        assert named == {
            "campaign": "a/b",
            "name": "Both",
            "subject": None,
            "fields": {"subject": {"A": "Hi"}},
        }
        assert api.send(calls.erase(PEOPLE[0]))["campaigns"] == 2
        made = api.send(calls.share("spring", int(world.api.context.clock() * 1000) + 3_600_000))
        assert api.send(calls.shared_link("spring", made["id"]))["state"] == "live"
        assert [one["id"] for one in api.items(calls.shares("spring"))] == [made["id"]]
        api.send(calls.revoke_share("spring", made["id"]))
        assert api.send(calls.shared_link("spring", made["id"]))["state"] == "revoked"
        assert api.send(calls.live_ticket("spring"))["ticket"]
        letter = api.send(calls.dead_letters())["items"][0]["id"]
        assert api.send(calls.replay(letter, b"[]"))["edited"]

    await in_thread(world, work)


async def test_pages_files_and_streams(world: Reading) -> None:
    def work(api: Client) -> None:
        pages = list(api.pages(calls.recipients("spring", limit=2)))
        assert [len(page["items"]) for page in pages][:2] == [2, 2]
        assert [one["recipient"] for page in pages for one in page["items"]] == PEOPLE
        assert len(list(api.items(calls.events("spring", limit=4)))) == 15
        text = b"".join(api.download(calls.export_recipients("spring", search="r1"))).decode()
        assert text.count("\r\n") == 2 and PEOPLE[1] in text
        first = next(iter(api.watch(calls.live("spring", sections=["summary"]))))
        assert (first.name, first.data["summary"]["opened"]) == ("snapshot", 5)
        assert first.id and re.fullmatch(r"\d+-\d+", first.id)
        assert next(iter(api.watch(calls.live_lag()))).name == "lag"

    await in_thread(world, work)


async def test_the_same_awaited(world: Reading) -> None:
    async with AsyncClient(world.api.address, "acme-all") as api:
        assert (await api.send(calls.summary("spring")))["summary"]["opened"] == 5
        found = [one["recipient"] async for one in api.items(calls.recipients("spring", limit=2))]
        assert found == PEOPLE
        pieces = [piece async for piece in api.download(calls.export_events("spring", type="clicked"))]
        assert b"".join(pieces).count(b"\r\n") == 6
        async for one in api.watch(calls.live("spring", sections=["summary"])):
            if one.name == "snapshot":
                await world.world.count(event("opened", "late@example.com", START_MS))
            elif one.data["summary"]["opened"] == 6:
                break
        with pytest.raises(ApiError) as refused:
            async for _ in api.download(calls.export_events("nowhere")):
                pass
        assert refused.value.status == 404


async def test_errors_say_what_and_when_to_come_again(world: Reading) -> None:
    wrong: list[tuple[Call[Any], int, str]] = [
        (calls.summary("nowhere"), 404, "not_found"),
        (calls.summary("spring", timezone="Nowhere"), 400, "bad_parameter"),
        (calls.section("spring", "nothing"), 404, "not_found"),
        (calls.erase(""), 400, "bad_erasure"),
    ]

    def work(api: Client) -> None:
        for call, status, code in wrong:
            with pytest.raises(ApiError) as refused:
                api.send(call)
            error = refused.value
            assert (error.status, error.code, error.retry_after_s) == (status, code, None)
        with pytest.raises(ApiError):
            next(iter(api.watch(calls.live("nowhere"))))

    await in_thread(world, work)
    with pytest.raises(ApiError) as refused:
        await in_thread(world, lambda api: api.send(calls.summary("spring")), key="wrong")
    assert refused.value.status == 401


async def test_later_says_when(redis_db: str) -> None:
    async with serving(redis_db) as api, AsyncClient(api.address, "acme-all") as client:
        with pytest.raises(ApiError) as later:
            await client.send(calls.name_campaign("spring", name="Spring"))  # Kafka is away
    assert later.value.status == 503 and later.value.retry_after_s


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9", "key", timeout_s=2) as api, pytest.raises(Unreachable):
        api.send(calls.summary("spring"))


def test_an_event_of_another_shape_is_unreadable() -> None:
    lines = Lines(calls.live("spring").answer)
    assert lines.take("event: snapshot") is None and lines.take('data: {"campaign": 1}') is None
    with pytest.raises(Unreadable):
        lines.take("")


WITHOUT_CALL = re.compile(r"/(session|healthz|readyz|metrics|docs|openapi\.json|webhooks/.*|api/v1/shared.*)")
"""For browsers, probes, ESPs and whoever has a link."""


def test_every_operation_has_a_call() -> None:
    given: dict[str, Any] = {
        "campaign": "C", "campaigns": ["C"], "address": "A", "link": "L", "name": "report", "events": [],
        "recipient": "A", "expires": 1, "share_id": "S", "letter_id": 1,
    }  # fmt: skip
    made = set()
    for function in vars(calls).values():
        if (
            inspect.isfunction(function)
            and function.__module__ == calls.__name__
            and function.__name__[0] != "_"
        ):
            needed = {
                name: given[name]
                for name, one in inspect.signature(function).parameters.items()
                if one.default is one.empty and one.kind is not one.VAR_KEYWORD
            }
            call = function(**needed)
            made.add((call.method.lower(), call.path))
    for path, methods in document_of(api_routes())["paths"].items():
        if not WITHOUT_CALL.fullmatch(path):
            where = path.format(campaign="C", address="A", link="L", share_id="S", id=1)
            assert {(method, where) for method in methods} <= made, path


async def test_examples_of_the_document_run(world: Reading) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "client.md").read_text(), re.M | re.S)
    environ = {**os.environ, "URL": world.api.address, "KEY": "acme-all", "PYTHONPATH": str(ROOT)}
    said = []
    for block in blocks:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", block, env=environ, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        assert process.returncode == 0
        said.append(out.decode())
    assert said[0].startswith("5 of 5 opened\n") and said[0].endswith("404 not_found None\n")
    assert said[0].count("@example.com") == 5
    assert said[1].endswith("snapshot 5\n")
