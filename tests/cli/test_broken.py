"""A database that can't be read, or isn't there: whoever says it says the same, by what the log still has."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from agents import aggregate
from agents.aggregate import LOG_INCOMPLETE, Aggregator
from agents.engine import EngineApp
from agents.set_aside import SET_ASIDE
from api.query.faults import Faults, tables_of
from cli import broken
from cli.main import run
from cli.owned import Owned, owned
from tables.broken import advice, damaged_file, partitions_named
from tables.completeness import lacking_of_published
from tables.views import Fence
from tests.cli.test_accept_gap import accept, counted, published, set_aside
from tests.support.counting import World

CORRUPT = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in {} offset 0 size 9"
SHORT = "Counted again from the log it would lack what is older than offset 3; to do so all the same, remove the folder"
WHOLE = "or remove the folder, and the partition is counted again from the log"
UNKNOWN = "Remove the folder only if topic facts still has everything"


async def query_says(world: World, error: Exception) -> str:
    """What the query process says of partition 0."""
    faults = Faults(world.state)
    faults.unread(0, error, tables_of(world.state / "p0"))
    (first,) = faults.said().values()
    assert UNKNOWN in first, "it isn't known yet"
    watching = asyncio.create_task(faults.watch_log(partial(lacking_of_published, world.settings)))
    for _ in range(400):
        (said,) = faults.said().values()
        if said != first:
            break
        await asyncio.sleep(0.025)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return said


def worker_says(aggregator: Aggregator, error: Exception) -> str:
    aggregator.set_aside(0, error)
    (said,) = [one.message for one in aggregator.conditions.current() if one.code == SET_ASIDE]
    return said


@pytest.mark.parametrize(("begin", "words"), [(0, WHOLE), (3, SHORT)], ids=["whole", "shortened"])
async def test_the_way_out_is_by_what_the_log_has(world: World, begin: int, words: str) -> None:
    await counted(world)
    table = world.state / "p0" / "000001.sst"
    error = Exception(CORRUPT.format(table))
    if begin:
        world.trim(0, begin)
    async with world.worker() as worker:
        assert (LOG_INCOMPLETE in worker.conditions) == bool(begin)
        assert words in worker_says(worker.aggregator, error)
    table.touch()
    assert words in await query_says(world, error)
    assert words in await asyncio.to_thread(broken.words, error)


def test_where_the_log_can_t_be_asked_nobody_is_told_to_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORTS_DATA", str(tmp_path))
    monkeypatch.delenv("REPORTS_KAFKA", raising=False)
    monkeypatch.setattr(broken, "ADDRESS_S", 0.0)
    said = broken.words(Exception(CORRUPT.format("/data/p0/000001.sst")))
    assert UNKNOWN in said
    assert WHOLE not in said


@pytest.mark.parametrize("above", ["/srv", "/srv/p1/reports/data", "/srv/p1/my p2/LOG/p12"])
@pytest.mark.parametrize(
    "words",
    [
        "Corruption: block checksum mismatch: stored = 1, computed = 2  in {}/000012.sst offset 0 size 10",
        "Corruption: Can't access /000012.sst: IO error: No such file: While open a file: {}/000012.sst: No such file",
        "IO error: While pread offset 0 len 9: {}/000012.sst: Input/output error",
        "Corruption: mismatch  The file {}/MANIFEST-000005 may be corrupted, or /elsewhere/p4/000001.sst is",
        "IO error: While open a file for random read: {}/CURRENT: Permission denied",
    ],
)
def test_the_folder_is_the_one_that_holds_the_file(above: str, words: str) -> None:
    error = Exception(words.format(f"{above}/state/p3"))
    named = {3, 4} if "p4" in words else {3}
    assert partitions_named(error) == named
    asked: list[int] = []

    def asked_of(partition: int) -> str:
        asked.append(partition)
        return ""

    assert f"{above}/state/p3 " in advice(error, asked_of)
    assert set(asked) <= {3}
    if "000012.sst" in words:
        assert damaged_file(error) == Path(f"{above}/state/p3/000012.sst")


async def test_a_removed_folder_that_was_the_only_copy(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is one is said from the moment when the log is short. What is in its place is not passed off as all."""
    await counted(world)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert LOG_INCOMPLETE not in worker.conditions
        world.trim(0, 3)
        monkeypatch.setattr(aggregate, "LOG_S", 0.05)
        tending = asyncio.create_task(
            aggregate._tend(worker.aggregator, cast(EngineApp, SimpleNamespace(rebalancing=True)))
        )
        for _ in range(400):
            if LOG_INCOMPLETE in worker.conditions:
                break
            await asyncio.sleep(0.025)
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        condition = worker.conditions[LOG_INCOMPLETE]
        assert (
            f"of partition 0 (what is older than offset 3): their folders in {world.state}"
            in condition.message
        )
        assert condition.reason is None, "the numbers are right"
        for _ in range(400):  # a worker says every second what it has
            if len((await asyncio.to_thread(owned, world.settings)).owners) == world.partitions:
                break
            await asyncio.sleep(0.025)
    shutil.rmtree(world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert LOG_INCOMPLETE not in worker.conditions, "an empty folder is no copy"
        capsys.readouterr()
        reading: list[Callable[[], int]] = [
            lambda: run(["reconcile"]),
            lambda: run(["export", "events", "spring", "--output", str(tmp_path / "events.csv")]),
        ]
        for read in reading:
            assert await asyncio.to_thread(read) == 3
            assert "partition 0 is set aside" in (said := capsys.readouterr().err)
            assert "its database lacks what reports show" in said
        assert await accept(worker, "0", "--yes", "--lose-counted") == 0
        await published(world, 7)
        assert await asyncio.to_thread(run, ["reconcile"]) == 0
        await worker.aggregator.check_log()
        assert LOG_INCOMPLETE not in worker.conditions, "what reports show is in the log"


def test_what_a_database_is_short_of() -> None:
    known = Owned({}, {0: Fence(3, 10, "a"), 1: Fence(3, 10, "b")}, frozenset({1}))
    assert known.shortage(0, Fence(3, 10, "a")) == ""
    assert "partition 0 is counted again" in known.shortage(0, Fence(4, 9, "a"))
    assert known.shortage(0, Fence(4, 0, "b")) == "", "it has just gone over to another topic"
    assert known.shortage(1, Fence(3, 12, "b")) == "", "it is set aside, and as far as readers are"
    assert "partition 1 is set aside" in known.shortage(1, Fence(4, 0, "a"))
    assert known.shortage(2, Fence(1, 0, "a")) == "", "nothing was published"
    assert known.unowned() == [
        "no worker has the database of partition 0",
        "no worker has the database of partition 1, which is set aside",
    ]
