"""Whatever is wrong with one partition: it is set aside, the others go on, and what it says leads back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import redis
from rocksdict import Rdict

from agents import aggregate
from agents.aggregate import accepted
from agents.set_aside import DISK_FULL, SET_ASIDE, SetAside, _signature
from app import facts as f
from app.errors import LogGap, TryLater
from app.facts import FactsRecord, encode
from app.installation import History, LostWebhooks
from tables import layout
from tables.conditions import Conditions, GapSeen
from tables.installation import InstallationLog
from tables.layout import Meta, open_database
from tables.lookups import PagedReader
from tests.support import counting
from tests.support.counting import World
from tests.support.facts import ORG, START_MS


@pytest.fixture
def world(tmp_path: Path, kafka: str, redis_db: str) -> World:
    made = World(tmp_path, kafka, redis_db)
    made.fill()
    return made


async def counted(world: World) -> None:
    async with world.worker() as worker:
        await worker.settle()
        assert worker.conditions == {}
    assert (world.offset(0), world.offset(1)) == (5, 5)


def flip(path: Path) -> None:
    """One byte of each table: RocksDB notices when it is read from the disk, and not from the process's cache."""
    layout._cache = None
    tables = sorted((path).glob("*.sst"))
    assert tables
    for table in tables:
        data = bytearray(table.read_bytes())
        data[len(data) // 20] ^= 0xFF
        table.write_bytes(data)


def truncate(path: Path) -> None:
    (manifest,) = path.glob("MANIFEST-*")
    os.truncate(manifest, 20)


def change_meta(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        db = open_database(path)
        meta = msgspec.msgpack.decode(db.get(layout.META) or b"", type=Meta)
        db.put(layout.META, encode(msgspec.structs.replace(meta, **changes)))
        db.close()

    return change


BROKEN = {
    "a flipped byte": (flip, "is broken (Corruption"),
    "a truncated manifest": (truncate, "is broken (Corruption"),
    "no CURRENT": (lambda path: (path / "CURRENT").unlink(), "is broken"),
    "a wrong CURRENT": (lambda path: (path / "CURRENT").write_text("MANIFEST-000000\n"), "is broken"),
    "another version": (change_meta(version=99), "written by another version (layout 99"),
    "another secret": (change_meta(secret="other"), "another REPORTS_SECRET"),
    "another installation's folder": (change_meta(partitions=4), "made for partition 0 of 4"),
    "another partition's folder": (
        change_meta(partition=1),
        "put that of partition 0 in its place; or move the folder away",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_database(world: World, fault: str) -> None:
    """It is said, the other partition is counted on, and with the folder removed all is counted again by itself."""
    await counted(world)
    breaks, words = BROKEN[fault]
    breaks(world.state / "p0")
    world.fill(begin=5)
    async with world.worker() as worker:
        await worker.settle()
        said = worker.conditions[SET_ASIDE]
        assert said.partition == 0
        assert words in said.message
        assert said.reason is not None
        assert str(world.folder) not in said.reason
        assert worker.aggregator.positions == {1: 10}, "the other one goes on, and this one's position stays"
        await worker.tend()
        assert 0 in worker.held, "nothing has changed, so it isn't tried all the time"
        shutil.rmtree(world.state / "p0")
        await worker.settle()
        assert worker.conditions == {}
        assert worker.aggregator.positions == {0: 10, 1: 10}
    assert world.opens(0) == world.opens(1) == 10


def test_an_error_that_is_kept_holds_no_iterator(tmp_path: Path) -> None:
    """RocksDB would keep its lock on the folder, and the partition could not be tried again."""

    def read(db: Rdict) -> None:
        place = db.iter()
        place.seek_to_first()
        raise Exception("Corruption: block checksum mismatch")

    aside = SetAside(tmp_path, Conditions())
    db = open_database(tmp_path / "p0")
    try:
        read(db)
    except Exception as error:  # noqa: BLE001  rocksdict raises plain ones
        aside.add(0, error)
    db.close()
    open_database(tmp_path / "p0").close()


def test_nothing_is_made_among_the_files_of_another(tmp_path: Path) -> None:
    """After kill -9 there is a write-ahead log: RocksDB would take what is in it for all there ever was."""
    db = open_database(tmp_path / "p0")
    db.put(b"name", b"value")
    db.flush_wal(True)
    shutil.copytree(tmp_path / "p0", tmp_path / "p1")
    db.close()
    (tmp_path / "p1" / "CURRENT").unlink()
    for _ in range(2):
        with pytest.raises(Exception, match="Corruption: CURRENT is not there"):
            open_database(tmp_path / "p1")


def test_a_reader_neither_makes_a_folder_nor_changes_one(tmp_path: Path) -> None:
    """A writer that still has the removed one open would write into it; and a broken one would be tried each second."""
    for read in (lambda path: open_database(path, secondary=tmp_path / "own"), PagedReader):
        with pytest.raises(Exception, match=r"No such file or directory: .*CURRENT"):
            read(tmp_path / "p0")
        assert not (tmp_path / "p0").exists()
    db = open_database(tmp_path / "p0")
    db[b"k"] = b"v"
    db.flush()
    db.close()
    for table in (tmp_path / "p0").glob("*.sst"):
        table.write_bytes(b"")
    before = _signature(tmp_path / "p0")
    for read in (lambda path: open_database(path, secondary=tmp_path / "own"), PagedReader):
        with contextlib.suppress(Exception):
            read(tmp_path / "p0").close()
        assert _signature(tmp_path / "p0") == before


async def test_a_folder_that_is_removed_under_a_worker(world: World) -> None:
    """RocksDB goes on with its open files; readers find none, so it is opened again."""
    async with world.worker() as worker:
        await worker.settle()
        shutil.rmtree(world.state / "p0")
        world.fill(begin=5)
        await worker.settle()
        assert worker.conditions == {}
        assert worker.aggregator.positions == {0: 10, 1: 10}
    assert world.opens(0) == world.opens(1) == 10


async def test_a_repaired_folder_is_taken_at_once(world: World) -> None:
    await counted(world)
    shutil.copytree(world.state / "p0", world.folder / "copy")
    (world.state / "p0" / "CURRENT").unlink()
    world.fill(begin=5)
    async with world.worker() as worker:
        await worker.settle()
        assert SET_ASIDE in worker.conditions
        shutil.rmtree(world.state / "p0")
        (world.folder / "copy").rename(world.state / "p0")
        await worker.settle()
        assert worker.conditions == {}
    assert world.opens(0) == 10


async def test_forbidden_files(world: World) -> None:
    """Root may read everything: what the kernel says to others is put in its place."""
    await counted(world)
    async with world.worker() as worker:
        worker.aggregator.set_aside(0, PermissionError("Permission denied (os error 13)"))
        said = worker.conditions[SET_ASIDE].message
        assert "permission denied" in said
        assert f"(number {os.getuid()})" in said
        os.utime(world.state / "p0" / "CURRENT")
        await worker.settle()
        assert worker.conditions == {}


@pytest.mark.parametrize(
    "value",
    [b"\xc1 no record of ours", counting.record(9, 0).replace(b"spring", b"\xff" * 6)],
    ids=["no record", "no text in it"],
)
async def test_a_record_that_is_none_is_skipped_when_that_is_accepted(world: World, value: bytes) -> None:
    world.produce(0, value)
    world.fill(begin=5)
    async with world.worker() as worker:
        await worker.settle()
        said = worker.conditions[SET_ASIDE]
        assert "the record at offset 5 is none of this project" in said.message
        assert "accept-gap 0" in said.message
        assert said.gap is not None
        assert (said.gap.position, said.gap.to) == (5, 6)
        assert worker.aggregator.positions == {1: 10}
    assert world.offset(0) == 5, "what is before it is counted"


async def test_a_record_of_a_newer_version(world: World) -> None:
    world.produce(0, encode(FactsRecord(f.FACTS_VERSION + 1, ORG, "spring", START_MS, [])))
    async with world.worker() as worker:
        await worker.settle()
        assert "upgrade the workers that count" in worker.conditions[SET_ASIDE].message
        assert worker.aggregator.positions == {1: 5}


async def test_a_bug_while_counting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is ahead of the disk then: nothing of it may be used again."""
    async with world.worker() as worker:
        database = worker.aggregator.databases[0]
        add, calls = database.aggregates.add, []

        def fails(*arguments: object) -> object:
            calls.append(add(*arguments))  # type: ignore[arg-type]
            raise KeyError("a bug")

        monkeypatch.setattr(database.aggregates, "add", fails)
        await worker.feed()
        assert calls
        assert "KeyError: 'a bug'" in worker.conditions[SET_ASIDE].message
        assert worker.aggregator.positions == {1: 5}
        os.utime(world.state / "p0" / "CURRENT")
        await worker.settle()
        assert worker.conditions == {}
    assert world.opens(0) == 5


async def test_a_database_that_another_process_has_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once that one has ended it is counted by itself."""
    await counted(world)
    monkeypatch.setattr("agents.aggregate.LOCK_WAIT_S", 0.2)
    other = open_database(world.state / "p0")
    async with world.worker() as worker:
        assert "is open in another process" in worker.conditions[SET_ASIDE].message
        assert worker.aggregator.positions == {1: 5}
        other.close()
        os.utime(world.state / "p0" / "CURRENT")
        await worker.settle()
        assert worker.conditions == {}


async def test_a_full_disk_stops_all_and_no_database_is_blamed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.worker() as worker:
        await worker.settle()
        world.fill(begin=5)

        def full(*_: object, **__: object) -> None:
            raise Exception("IO error: No space left on device: While appending to file: 000004.log")

        free, total = 0, 1 << 20
        monkeypatch.setattr(worker.aggregator.databases[1], "apply", full)
        monkeypatch.setattr(
            "agents.set_aside.shutil.disk_usage", lambda _: SimpleNamespace(total=total, free=free)
        )
        worker.aggregator.aside._clock = lambda: 1e9  # long after any pause
        await worker.settle()
        (said,) = worker.aggregator.conditions.current()
        assert said.code == DISK_FULL
        assert "remove none" in said.message and "room for 1 MiB" in said.message
        assert said.reason is not None
        assert worker.aggregator.positions == {}
        assert worker.held == {0, 1}
        free = 1 << 40
        worker.aggregator.aside._clock = lambda: 2e9
        await worker.settle()
        assert worker.conditions == {}
        assert worker.aggregator.positions == {0: 10, 1: 10}


async def test_a_publisher_that_cannot_read_a_database_sets_it_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks that a repair of Redis reads are others than those that counting reads."""
    await counted(world)
    layout._cache = None
    async with world.worker(publishing=True) as worker:
        await published(world)

        def broken(_: int) -> None:
            raise Exception("Corruption: block checksum mismatch in /state/p0/000009.sst offset 0 size 4867")

        database = worker.aggregator.databases[0]
        monkeypatch.setattr(database, "touched_numbers", lambda since: map(broken, (since,)))
        with redis.Redis.from_url(world.settings.redis) as client:
            client.flushall()
        async with asyncio.timeout(10):
            while SET_ASIDE not in worker.conditions:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert worker.conditions[SET_ASIDE].partition == 0
        os.utime(world.state / "p0" / "CURRENT")
        await worker.settle()
        assert worker.conditions == {}
        await published(world)


async def published(world: World) -> None:
    async with asyncio.timeout(10):
        while (view := await world.view()) is None or sum(view.patterns.values()) != 10:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_every_partition_is_bad(world: World) -> None:
    await counted(world)
    for partition in range(2):
        (world.state / f"p{partition}" / "CURRENT").unlink()
    async with world.worker() as worker:
        said = [one for one in worker.aggregator.conditions.current() if one.code == SET_ASIDE]
        assert [one.partition for one in said] == [0, 1]
        assert worker.aggregator.positions == {}
        for one in said:
            assert "No partition of this worker is counted; this one is tried again" in one.message
            assert one.reason == "the numbers are not counted at the moment (all partitions are set aside)"
        shutil.rmtree(world.state / "p0")
        await worker.settle()
        (one,) = worker.aggregator.conditions.current()
        assert "The other partitions go on; this one is tried again" in one.message
        assert one.reason == "a part of the numbers is not counted at the moment (partition 1 is set aside)"
        shutil.rmtree(world.state / "p1")
        await worker.settle()
        assert worker.conditions == {}


def test_words_of_several_gaps(tmp_path: Path) -> None:
    """As long as one waits it is named; then the way on for all is, too."""
    counted = {2}
    conditions = Conditions()
    aside = SetAside(tmp_path, conditions, counted=lambda: counted, partitions=3)
    aside.add(0, LogGap("a gap"), seen=GapSeen("topic", 5, 1))
    (one,) = conditions.current()
    assert "`reports accept-gap 0`, which says what is lost. The other partitions go on" in one.message
    counted.clear()
    aside.add(1, LogGap("a gap"))
    for one in conditions.current():
        assert f"`reports accept-gap {one.partition}` (`reports accept-gap --all` for all" in one.message
        assert "No partition of this worker is counted" in one.message
        assert (
            one.reason == "a part of the numbers is not counted at the moment (partitions 0, 1 are set aside)"
        )
    assert conditions.current()[0].gap == GapSeen("topic", 5, 1), "what accept-gap goes by stays"
    aside.put_off(0)
    aside.remove(1)
    (one,) = conditions.current()
    assert "--all" not in one.message
    assert one.gap is not None


async def test_one_that_is_given_away_while_it_is_tried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka doesn't answer, and gives the partition to another worker meanwhile: it ended the process."""
    await counted(world)
    truncate(world.state / "p0")
    async with world.worker() as worker:
        aggregator = worker.aggregator
        assert 0 in aggregator.aside
        asked, answered = threading.Event(), threading.Event()

        def silent(topic: str) -> str:
            asked.set()
            answered.wait(10)
            raise TryLater(1, f"topic {topic}: Kafka doesn't answer")

        monkeypatch.setattr(aggregator._inspector, "topic_id", silent)
        trying = asyncio.create_task(aggregator.retry(0))
        assert await asyncio.to_thread(asked.wait, 10)
        aggregator.close(0)
        answered.set()
        assert await trying is None
        assert 0 not in aggregator.aside
        assert worker.conditions == {}


async def test_the_accepted_gaps_are_gone_through_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.worker() as worker:
        InstallationLog(world.kafka).append(
            LostWebhooks(partition=0, topic_before="w", position=2, topic="w", to=5, lost=3, at_ms=START_MS)
        )
        threads: list[threading.Thread] = []

        def seen(history: History) -> set[int]:
            threads.append(threading.current_thread())
            return accepted(history)

        monkeypatch.setattr(aggregate, "accepted", seen)
        worker.aggregator._gaps_at = 0.0
        assert await worker.aggregator.due() == [0]
        assert len(threads) == 2
        assert threading.main_thread() not in threads


async def test_partitions_beyond_the_installations_are_not_read(world: World) -> None:
    async with world.worker() as worker:
        assert await worker.aggregator.open({0, 1, 2, 3}) == {2, 3}
        assert worker.aggregator.positions == {0: 0, 1: 0}
