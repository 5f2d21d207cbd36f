"""The query process as the API sees it: there, away, behind, rebuilt, of somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from api.query import wire
from api.query.announcer import here
from api.query.partitions import Missing, Partitions
from app import keys
from app.facts import encode
from app.verdicts import DEFAULT_RULES
from tables import layout
from tables.conditions import Condition
from tables.presence import SILENT_MS, WORKERS, presence
from tables.views import Owner
from tests.api.reading import START_MS, Reading, event, query_process, reading, recipient_of
from tests.api.serving import PARTITIONS, SECRET, serving

CAMPAIGN = keys.campaign_key(SECRET, "acme", "spring")
PAGES = ("/recipients", "/recipients/p1@example.com", "/events", "/links/00000000000000aa/clickers")


@pytest.fixture
async def api(redis_db: str, tmp_path: Path) -> AsyncIterator[Reading]:
    async with reading(redis_db, tmp_path) as running:
        await running.world.count(*(event("sent", f"p{n}@example.com", START_MS + n) for n in range(20)))
        yield running


async def test_what_was_written_is_there_at_once(api: Reading) -> None:
    for n in range(20, 60):
        api.world.write([event("sent", f"p{n}@example.com", START_MS + n)])
        assert len((await api.get("/recipients?limit=500"))["items"]) == n + 1


async def test_nobody_reads(redis_db: str, tmp_path: Path, api: Reading) -> None:
    await api.process.announcer.stop()
    for path in PAGES:
        answer = await api.api.get(f"/api/v1/campaigns/spring{path}")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert "`query`" in answer.json()["message"]
    assert (await api.get("/summary"))["summary"]["sent"] == 20
    assert (await api.api.get("/api/v1/campaigns/none/recipients")).status_code == 404


async def test_who_announced_itself_does_not_answer(api: Reading) -> None:
    """A process that was killed: refused, or taken over by something that says nothing, or nonsense."""
    await api.process.announcer.stop()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the asker goes
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    for handler in (silent, nonsense, None):
        server = await asyncio.start_server(handler or silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if handler is None:
            server.close()
        said = msgspec.json.encode(wire.Announcement(f"http://127.0.0.1:{port}", 1 << 60))
        await api.world.redis.hset(wire.QUERIES, mapping={str(p): said for p in range(PARTITIONS)})
        async with asyncio.timeout(3):
            answer = await api.api.get("/api/v1/campaigns/spring/recipients")
        assert answer.status_code == 503
        assert "partition 0, 1" in answer.json()["message"]
        server.close()


async def test_an_old_announcement_is_of_one_that_is_gone(api: Reading) -> None:
    await api.process.announcer.stop()
    said = msgspec.json.encode(wire.Announcement(api.process.url, 1_000))
    await api.world.redis.hset(wire.QUERIES, mapping={str(p): said for p in range(PARTITIONS)})
    assert (await api.get("/recipients"))["status"] == 503
    await api.world.redis.hset(wire.QUERIES, mapping={str(p): b"\xff{" for p in range(PARTITIONS)})
    assert (await api.get("/recipients"))["status"] == 503


@pytest.mark.parametrize("partition", [1, None])
async def test_a_damaged_database_is_named(api: Reading, partition: int | None) -> None:
    """For as long as its process lives."""
    await api.process.announcer.stop()
    said = Condition(code=wire.UNREADABLE, message="/state/p1 is broken", since_ms=1, partition=partition)
    now_ms = int(time.time() * 1000)
    for at_ms, words in (
        (now_ms, f"the database of partition {'0, 1' if partition is None else '1'} can't be read"),
        (now_ms - 2 * SILENT_MS, "no query process (role `query`) can read partition 0, 1"),
    ):
        one = presence(DEFAULT_RULES, 0, at_ms, role="query", conditions=(said,))
        await api.world.redis.hset(WORKERS, "host:1", msgspec.json.encode(one))
        for path in ("/recipients", "/events", "/exports/recipients.csv"):
            document = await api.get(path)
            assert document["status"] == 503
            assert words in document["message"]
            assert "/state" not in document["message"]


async def test_a_copy_that_is_behind_is_not_shown(api: Reading) -> None:
    await api.world.redis.hset("cr:v4:partitions", "1", "1:1000:topic")
    document = await api.get("/recipients")
    assert document["status"] == 503
    assert "partition 1 " in document["message"]


async def test_a_partition_that_is_missing_makes_no_shorter_list(api: Reading) -> None:
    api.world.publisher.remove(1)
    api.world.databases.pop(1).close()
    shutil.rmtree(api.world.state / "p1")
    await asyncio.to_thread(api.process.partitions.refresh)
    document = await api.get("/recipients")
    assert document["status"] == 503
    assert "partition 1 " in document["message"]


async def test_a_database_that_was_made_anew(api: Reading) -> None:
    before = await api.get("/recipients?limit=500")
    api.world.publisher.remove(0)
    api.world.databases.pop(0).close()
    shutil.rmtree(api.world.state / "p0")
    api.world.databases[0] = api.world.open(0, generation=2)
    await api.world.count(event("sent", "new@example.com", START_MS), *[
        event("sent", f"new{n}@example.com", START_MS) for n in range(20)
    ])  # fmt: skip
    await asyncio.to_thread(api.process.partitions.refresh)
    items = [item["recipient"] for item in await api.all("/recipients")]
    kept = [
        item["recipient"]
        for item in before["items"]
        if keys.recipient_partition(keys.recipient_key(SECRET, CAMPAIGN, item["recipient"]), PARTITIONS)
    ]
    assert [item for item in items if item.startswith("p")] == kept
    assert len([item for item in items if item.startswith("new")]) == 21


async def test_while_the_index_is_rebuilt_nothing_is_shown(api: Reading) -> None:
    database = api.world.databases[0]._db
    stored = database.get(layout.META)
    assert stored is not None
    meta = msgspec.msgpack.decode(stored, type=layout.Meta)
    database.put(layout.META, encode(msgspec.structs.replace(meta, rebuilding=True)))
    assert "partition 0 " in (await api.get("/recipients"))["message"]
    database.put(layout.META, encode(meta))
    assert len(await api.all("/recipients")) == 20


async def test_two_processes_make_one_list(redis_db: str, tmp_path: Path, api: Reading) -> None:
    """As on two machines: each has a part of the partitions."""
    async with query_process(api.world.state, redis_db) as second:
        stamp = 1 << 60
        await api.process.announcer.stop()
        for partition, url in ((0, api.process.url), (1, second.url)):
            said = msgspec.json.encode(wire.Announcement(url, stamp))
            await api.world.redis.hset(wire.QUERIES, str(partition), said)
        items = [item["recipient"] for item in await api.all("/recipients", limit=3)]
        assert items == sorted(f"p{n}@example.com" for n in range(20))
        newest = [item["recipient"] for item in await api.all("/recipients?sort=-last_event_at", limit=3)]
        assert newest == [f"p{n}@example.com" for n in range(19, -1, -1)]


async def test_only_who_has_the_secret_is_answered(api: Reading) -> None:
    request = wire.RowsRequest(CAMPAIGN, (0, 1), ())
    async with httpx.AsyncClient(base_url=api.process.url, trust_env=False, verify=False) as client:
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer x"}, 401),
            ({"authorization": "Bearer " + wire.token_of(b"another secret")}, 401),
            ({"authorization": "Bearer ü".encode("latin-1")}, 401),
            ({"authorization": "Bearer " + wire.token_of(SECRET)}, 200),
        ):
            answer = await client.post("/rows", content=wire.encode(request), headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == status
        good = {"authorization": "Bearer " + wire.token_of(SECRET)}
        for body in (b"", b"\x00", b"{}", b"x" * (2 << 20)):
            assert (await client.post("/rows", content=body, headers=good)).status_code == 400
        assert (await client.get("/rows", headers=good)).status_code == 405
        assert (await client.post("/nothing", headers=good)).status_code == 404


async def test_a_process_of_another_secret(redis_db: str, tmp_path: Path, api: Reading) -> None:
    await api.process.announcer.stop()
    async with query_process(api.world.state, redis_db, secret=b"another secret of another one"):
        assert (await api.get("/recipients"))["status"] == 503


async def test_a_broken_connection_costs_nothing(redis_db: str, tmp_path: Path, api: Reading) -> None:
    """The process was started again on its old port: the kept connections are dead, the next ones are not."""
    assert len(await api.all("/recipients")) == 20
    process = api.api.context.queries._processes[api.process.url]
    for _, writer in process._idle:
        writer.transport.abort()
    assert len(await api.all("/recipients")) == 20


async def test_many_at_a_time(api: Reading) -> None:
    documents = await asyncio.gather(*(api.get(f"/recipients?limit={1 + n % 20}") for n in range(150)))
    assert [len(document["items"]) for document in documents] == [1 + n % 20 for n in range(150)]


def test_partitions_of_another_folders_worker_are_not_announced() -> None:
    owners = {
        b"0": encode_owner("thisfolder-0"),
        b"1": encode_owner("otherfolder-0"),
        b"2": encode_owner("thisfolder-12"),
        b"3": b"nonsense",
        b"x": encode_owner("otherfolder-0"),
    }
    assert here({0, 1, 2, 3, 4}, owners, "thisfolder") == {0, 2, 3, 4}
    assert here({0, 1}, {}, "") == {0, 1}


def encode_owner(worker: str) -> bytes:
    return msgspec.json.encode(Owner(worker, "/state/p0", 1))


def test_no_folder_yet(tmp_path: Path) -> None:
    partitions = Partitions(tmp_path / "nothing", SECRET)
    assert partitions.refresh() == set()
    (tmp_path / "nothing" / "p0").mkdir(parents=True)
    (tmp_path / "nothing" / "p0" / "CURRENT").write_text("broken\n")
    (tmp_path / "nothing" / "p0" / "IDENTITY").write_text("x")
    (tmp_path / "nothing" / "p1x").mkdir()
    assert partitions.refresh() == set()
    with pytest.raises(Missing), partitions.using([0]):
        pass


async def test_redis_is_away(tmp_path: Path) -> None:
    async with serving("redis://127.0.0.1:9/0", ready=False) as api:
        answer = await api.get("/api/v1/campaigns/spring/recipients")
        assert answer.status_code == 503


async def flip(api: Reading) -> dict[Path, bytes]:
    """A byte of each table of partition 1, whose worker is gone; gives what they held."""
    api.world.publisher.remove(1)
    api.world.databases.pop(1).close()
    whole = {table: table.read_bytes() for table in (api.world.state / "p1").glob("*.sst")}
    assert whole
    for table, data in whole.items():
        place = len(data) // 20
        table.write_bytes(data[:place] + bytes((data[place] ^ 0xFF,)) + data[place + 1 :])
    return whole


async def test_what_an_export_could_not_read_is_said(api: Reading) -> None:
    await flip(api)
    said = api.process.partitions.faults.said
    async with asyncio.timeout(20):
        # One that begins in the tick of the clock in which the file changed doesn't know it.
        while not said():
            with contextlib.suppress(httpx.HTTPError):  # it breaks off where it had begun
                await api.api.get("/api/v1/campaigns/spring/exports/recipients.csv", "acme-read")
    assert list(said()) == [1]


@pytest.mark.parametrize("path", [*PAGES, "/recipients?status=sent", "/events?order=asc"])
async def test_a_flipped_byte_is_a_503_and_no_shorter_list(api: Reading, path: str) -> None:
    """RocksDB's own iterators end at a broken block as if it were the end."""
    whole = await flip(api)
    document = await api.get(path)
    if "p1@" in path and keys.recipient_partition(recipient_of("p1@example.com"), PARTITIONS) != 1:
        return  # its partition is sound
    async with asyncio.timeout(10):
        while "partition 1 " not in document["message"]:  # on a busy machine nobody may answer in time
            assert document["status"] == 503
            document = await api.get(path)
    async with asyncio.timeout(10):
        while not api.process.partitions.faults.said():  # the first reader was there before the damage
            await asyncio.to_thread(api.process.partitions.refresh)
            await api.get(path)
    assert list(api.process.partitions.faults.said()) == [1]
    for table, data in whole.items():
        table.write_bytes(data)
    async with asyncio.timeout(10):
        while (await api.get(path)).get("status") == 503:
            await asyncio.to_thread(api.process.partitions.refresh)
