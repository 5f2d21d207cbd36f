"""CSV exports through the API: all rows of the pages, as of one moment, and no process left behind."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import io
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from api.exports import disposition
from api.query import export_wire
from api.query import exports as query_exports
from app import facts as f
from app.csv_rows import cell
from app.facts import encode
from app.items import EVENT_FIELDS, RECIPIENT_FIELDS
from app.keys import text_id
from app.sections import link_id
from tables import layout
from tests.api.reading import MINUTE_MS, START_MS, WORD, Reading, World, event, query_process, reading
from tests.api.serving import bearer, serving
from tests.api.test_recipients import LINKS, mailing

RECIPIENTS = "/api/v1/campaigns/spring/exports/recipients.csv"
EVENTS = "/api/v1/campaigns/spring/exports/events.csv"

PLAIN = bearer() | {"accept-encoding": "identity"}


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        yield running


def rows_of(data: bytes) -> list[list[str]]:
    assert data.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


async def fetch(api: Reading, path: str, **headers: str) -> httpx.Response:
    headers.setdefault("accept-encoding", "identity")
    answer = await api.api.http.get(path, headers=bearer() | headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def as_rows(items: list[dict[str, object]]) -> list[list[str]]:
    """What a reader of CSV finds of these items."""
    lines = [",".join(cell(*pair) for pair in item.items()) for item in items]
    return rows_of("".join(f"{line}\r\n" for line in lines).encode())


async def same_as_pages(api: Reading, export: str, pages: str) -> int:
    found = rows_of((await fetch(api, export)).content)
    items = await api.all(pages, limit=500)
    assert found[0] == list(RECIPIENT_FIELDS if "recipients" in export else EVENT_FIELDS)
    assert found[1:] == (as_rows(items) if items else [])
    return len(items)


# What filters hold for is proved in `tests/tables/test_exports.py`; here, that they arrive.
RECIPIENT_FILTERS = (
    "", "status=not_opened", "status=opened&count=people", "variant.subject=B&variant.content=1", "country=FR",
    "search=@example1", f"link={link_id(text_id(LINKS[0]))}&count=people", "search=nobody",
)  # fmt: skip


async def test_recipients_are_those_of_the_pages(api: Reading) -> None:
    await api.world.count(*mailing())
    found = {
        query: await same_as_pages(api, f"{RECIPIENTS}?{query}", f"/recipients?{query or 'count=all'}")
        for query in RECIPIENT_FILTERS
    }
    assert found[""] == 60
    assert found["search=nobody"] == 0
    assert all(found[query] for query in found if query != "search=nobody")


EVENT_FILTERS = (
    "order=asc", "order=desc", "order=asc&type=opened", "order=desc&verdict=scanner",
    "order=asc&recipient=P010@example1.com", f"order=desc&link={link_id(text_id(LINKS[0]))}",
    f"order=asc&variant.subject=A&from={START_MS + 30 * MINUTE_MS}&to={START_MS + 60 * MINUTE_MS}",
    "order=asc&recipient=nobody@example.com",
)  # fmt: skip


async def test_events_are_those_of_the_pages(api: Reading) -> None:
    await api.world.count(*mailing())
    found = {
        query: await same_as_pages(api, f"{EVENTS}?{query}", f"/events?{query}") for query in EVENT_FILTERS
    }
    assert found["order=asc"] == found["order=desc"] == len(mailing())
    assert all(found[query] for query in found if "nobody" not in query)


async def test_events_stand_from_the_first_one_on(api: Reading) -> None:
    await api.world.count(*mailing())
    assert (await fetch(api, EVENTS)).content == (await fetch(api, EVENTS + "?order=asc")).content


async def test_headers(api: Reading) -> None:
    await api.world.count(*mailing())
    answer = await fetch(api, RECIPIENTS)
    offsets = {partition: database.next_offset for partition, database in api.world.databases.items()}
    assert answer.headers["x-report-offsets"] == ",".join(
        f"{p}={offset}" for p, offset in sorted(offsets.items())
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="spring-recipients.csv"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-encoding" not in answer.headers
    head = await api.api.http.head(RECIPIENTS, headers=bearer())
    assert (head.status_code, head.content) == (200, b"")


async def test_compressed_on_the_way_or_as_a_file(api: Reading) -> None:
    await api.world.count(*mailing())
    plain = (await fetch(api, RECIPIENTS)).content
    on_the_way = await fetch(api, RECIPIENTS, **{"accept-encoding": "br, gzip;q=0.5"})
    assert on_the_way.headers["content-encoding"] == "gzip"
    assert on_the_way.headers["content-type"] == "text/csv; charset=utf-8"
    assert on_the_way.content == plain
    file = await fetch(api, RECIPIENTS + "?gzip=1", **{"accept-encoding": "gzip"})
    assert "content-encoding" not in file.headers
    assert file.headers["content-type"] == "application/gzip"
    assert file.headers["content-disposition"] == 'attachment; filename="spring-recipients.csv.gz"'
    assert gzip.decompress(file.content) == plain


def test_names_of_files() -> None:
    assert disposition("a-b.csv") == 'attachment; filename="a-b.csv"'
    assert disposition('a"\r\nb/ä.csv') == (
        "attachment; filename=\"a_b_.csv\"; filename*=UTF-8''a%22%0D%0Ab%2F%C3%A4.csv"
    )


async def test_hostile_campaign_and_addresses(api: Reading) -> None:
    name = 'a/b "c"\r\nx: y'
    addresses = ["=1+1@example.com", 'a","b@example.com', "a\r\nb@example.com", "ä@example.com"]
    await api.world.count(
        *(event("sent", one, START_MS, campaign=name, variant={"=x": "@SUM(1)"}) for one in addresses),
        campaign=name,
    )
    answer = await api.api.http.get(
        f"/api/v1/campaigns/{quote(name, safe='')}/exports/recipients.csv", headers=bearer(), timeout=30
    )
    found = rows_of(answer.content)[1:]
    assert {row[0].removeprefix("'") for row in found} == set(addresses)
    assert {row[RECIPIENT_FIELDS.index("variant")] for row in found} == {"'=x=@SUM(1)"}
    assert "x" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (RECIPIENTS + "?status=dead", 400),
        (RECIPIENTS + "?limit=5", 400),
        (RECIPIENTS + "?sort=-last_event_at", 400),
        (RECIPIENTS + "?gzip=yes", 400),
        (EVENTS + "?type=dead", 400),
        (EVENTS + "?order=up", 400),
        ("/api/v1/campaigns/nothing/exports/events.csv", 404),
        ("/api/v1/campaigns/spring/exports/nothing.csv", 404),
    ],
)
async def test_refused(api: Reading, path: str, status: int) -> None:
    await api.world.count(*mailing(3))
    answer = await api.api.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_only_for_the_organisation(api: Reading) -> None:
    await api.world.count(*mailing(3))
    assert (await api.api.get(RECIPIENTS, "globex-read")).status_code == 404
    assert (await api.api.get(RECIPIENTS, "wrong")).status_code == 401
    token = await api.api.http.post(api.process.url + export_wire.PATH, content=b"")
    assert token.status_code == 401


async def test_an_erased_person_is_a_row_without_a_name(api: Reading) -> None:
    await api.world.count(*mailing(5))
    api.world.erase("p001@example1.com")
    await api.world.published()
    for path in (RECIPIENTS, EVENTS):
        data = (await fetch(api, path)).content
        assert b"p001" not in data and b"p002" in data
    assert await same_as_pages(api, RECIPIENTS, "/recipients") == 5
    await same_as_pages(api, EVENTS, "/events?order=asc")


# Several query processes.


@contextlib.asynccontextmanager
async def two_processes(redis_url: str, folder: Path) -> AsyncIterator[Reading]:
    """Partition 0 is on one machine, partition 1 on another."""
    world = World(folder / "state", redis_url)
    states = []
    for partition in (0, 1):
        state = folder / f"machine{partition}"
        (state / "slots").mkdir(parents=True)
        (state / "slots" / "id").write_text(WORD)
        (state / f"p{partition}").symlink_to(world.state / f"p{partition}")
        states.append(state)
    try:
        async with (
            query_process(states[0], redis_url) as process,
            query_process(states[1], redis_url),
            serving(redis_url, ready=False) as api,
        ):
            yield Reading(api, world, process)
    finally:
        await world.close()


async def test_partitions_on_several_machines(redis_db: str, tmp_path: Path) -> None:
    async with two_processes(redis_db, tmp_path) as api:
        await api.world.count(*mailing())
        assert await same_as_pages(api, RECIPIENTS, "/recipients") == 60
        assert await same_as_pages(api, EVENTS + "?order=desc&type=opened", "/events?type=opened") > 10
        answer = await fetch(api, EVENTS + "?gzip=1")
        assert len(rows_of(gzip.decompress(answer.content))) == len(mailing()) + 1
        offsets = {partition: database.next_offset for partition, database in api.world.databases.items()}
        assert answer.headers["x-report-offsets"] == f"0={offsets[0]},1={offsets[1]}"
        assert not running(api)


# Large ones, and what goes wrong.


def running(api: Reading) -> list[int]:
    """Processes of exports that live as children of this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == os.getpid() and b"export_process" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def memory(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def until(found: Callable[[], Any], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not found():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


LARGE = 12_000


async def fill(api: Reading) -> None:
    """More than all pipes and sockets hold."""
    for first in range(0, LARGE, 3_000):
        api.world.write(
            [
                event(
                    "sent", f"p{number:06d}@example.com", START_MS + number, variant={"filler": "x" * 2_000}
                )
                for number in range(first, first + 3_000)
            ]
        )
    await api.world.published()


async def test_everything_as_of_one_moment_while_counting_goes_on(api: Reading) -> None:
    await fill(api)
    done = False

    async def count() -> None:
        number = LARGE
        while not done:
            api.world.write(
                [
                    event("opened", f"p{n % LARGE:06d}@example.com", START_MS + n)
                    for n in range(number, number + 20)
                ]
            )
            number += 20
            await asyncio.sleep(0.001)

    counting = asyncio.create_task(count())
    try:
        people = rows_of((await fetch(api, RECIPIENTS)).content)[1:]
        answer = await fetch(api, EVENTS)
    finally:
        done = True
        await counting
    assert len(people) == LARGE
    assert [row[0] for row in people] == sorted(row[0] for row in people)
    log = rows_of(answer.content)[1:]
    assert [row[1] for row in log] == sorted(row[1] for row in log)
    assert len({row[0] for row in log}) == len(log) >= LARGE


async def test_when_the_reader_is_gone_the_export_ends(api: Reading) -> None:
    await fill(api)
    async with api.api.http.stream("GET", RECIPIENTS, headers=PLAIN, timeout=30) as answer:
        body = answer.aiter_raw()
        await anext(body)
        assert running(api)
    await until(lambda: not running(api))
    # And the place is free again.
    for _ in range(query_exports.AT_ONCE + 1):
        assert len(rows_of((await fetch(api, RECIPIENTS)).content)) == LARGE + 1


async def test_a_slow_reader_costs_no_memory_and_no_pages(api: Reading) -> None:
    await fill(api)
    async with api.api.http.stream("GET", RECIPIENTS, headers=PLAIN, timeout=30) as answer:
        body = answer.aiter_raw()
        await anext(body)
        await asyncio.sleep(0.5)
        (process,) = running(api)
        assert memory(process) < 200 << 20
        assert len((await api.get("/recipients?limit=10"))["items"]) == 10


async def test_a_few_at_a_time(api: Reading) -> None:
    await fill(api)
    bodies = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(query_exports.AT_ONCE):
            answer = await stack.enter_async_context(
                api.api.http.stream("GET", EVENTS, headers=PLAIN, timeout=30)
            )
            bodies.append(answer.aiter_raw())
            await anext(bodies[-1])
        refused = await api.api.get(EVENTS)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "30"
        assert refused.json()["error"] == "try_later"
    await until(lambda: not running(api))


async def test_an_end_of_the_roles_waits_for_no_export(redis_db: str, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with reading(redis_db, tmp_path) as api:
            await fill(api)
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=api.api.address, timeout=30, verify=False)
            )
            answer = await stack.enter_async_context(client.stream("GET", RECIPIENTS, headers=PLAIN))
            body = answer.aiter_raw()
            await anext(body)
            (process,) = running(api)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 8
        assert process not in running(api)


async def test_an_export_that_fails_is_never_taken_for_all(api: Reading) -> None:
    await fill(api)
    async with api.api.http.stream("GET", RECIPIENTS, headers=PLAIN, timeout=30) as answer:
        body = answer.aiter_raw()
        await anext(body)
        (process,) = running(api)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in body:
                pass
    await until(lambda: not running(api))


async def test_a_killed_export_leaves_nothing_behind(
    redis_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever point: its reader goes away, or something kills it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def folders() -> set[Path]:
        return set(temporary.iterdir())

    chance = random.Random(16)
    async with reading(redis_db, tmp_path) as api:
        await fill(api)
        own = folders()  # of those who read for the pages
        seen = 0
        for number in range(8):
            exporting = asyncio.create_task(api.api.http.get(RECIPIENTS, headers=PLAIN, timeout=30))
            await until(lambda: running(api))
            if number % 2:
                await until(lambda: folders() - own or not running(api))
            await asyncio.sleep(chance.uniform(0, 0.3))
            seen += bool(folders() - own)
            if number < 4:
                exporting.cancel()
            else:
                for process in running(api):
                    os.kill(process, signal.SIGKILL)
            await asyncio.gather(exporting, return_exceptions=True)
            await until(lambda: not running(api) and folders() == own)
        assert seen >= 3, "some were killed while they had files"
    assert not folders()


async def test_a_database_that_cannot_be_read(api: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.world.count(*mailing(5))
    monkeypatch.setattr(query_exports, "COMMAND", ("/bin/false",))
    answer = await api.api.get(RECIPIENTS)
    assert (answer.status_code, answer.json()["error"]) == (503, "try_later")


async def test_no_query_process(redis_db: str, tmp_path: Path) -> None:
    async with reading(redis_db, tmp_path) as api:
        await api.world.count(*mailing(5))
        api.process.announcer.announced.clear()
        await api.world.redis.delete("cr:queries")
        api.process.partitions.close()
        answer = await api.api.get(EVENTS)
        while answer.status_code == 200:  # announced once more in between
            answer = await api.api.get(EVENTS)
        assert (answer.status_code, answer.json()["error"]) == (503, "try_later")


async def test_types_of_facts_all_have_a_row(api: Reading) -> None:
    await api.world.count(*(event(kind, "a@example.com", START_MS) for kind in f.TYPE_NAMES))
    found = rows_of((await fetch(api, EVENTS)).content)[1:]
    assert {row[2] for row in found} == set(f.TYPE_NAMES)


async def test_a_database_that_is_being_made_anew(api: Reading) -> None:
    await api.world.count(*mailing(5))
    database = api.world.databases[0]
    database._db.put(layout.META, encode(msgspec.structs.replace(database.meta, rebuilding=True)))
    answer = await api.api.get(EVENTS)
    assert answer.status_code == 503
    assert "partition 0" in answer.json()["message"]
    await until(lambda: not running(api))
