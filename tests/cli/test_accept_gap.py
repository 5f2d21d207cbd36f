"""`reports accept-gap`: the way on after lost records, for a database that is there and for an empty folder."""

from __future__ import annotations

import asyncio
import re
import shutil
import time

import msgspec
import pytest
import redis
from confluent_kafka import Producer

from agents.aggregate import LOG_INCOMPLETE, PAUSED_S
from agents.log_checks import LogInspector
from agents.set_aside import SET_ASIDE
from app import facts as f
from app import keys
from app.errors import TryLater
from app.facts import FactsRecord, encode
from app.installation import LATE_MS, LostWebhooks
from app.report import Freshness, head
from app.topics import FACTS
from cli.accept_gap import waiting
from cli.main import run
from cli.topics import ensure_topics
from tables.cache import RecipientCache
from tables.checkpoints import Checkpoint
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.reading import PartitionReader
from tables.rebuilds import Request, ask, write_request
from tables.redis_names import sync_client
from tables.views import NUMBERS, OWNERS, Fence, Owner
from tests.support.counting import Worker, World, record
from tests.support.facts import ORG, START_MS
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until


async def counted(world: World) -> None:
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert worker.conditions == {}
        await published(world, 10)


async def published(world: World, opens: int, campaign: str = "spring") -> None:
    """Waits until readers see so many people who opened, and rows as of then."""
    found = None
    for _ in range(400):
        view = await world.view(campaign)
        found = None if view is None else sum(view.patterns.values())
        if view is not None and found == opens and not view.behind_ms:
            return
        await asyncio.sleep(0.025)
    behind_ms = view.behind_ms if view is not None else 0
    raise AssertionError(f"readers see {found}, not {opens}; rows are behind by {behind_ms} ms")


async def notices(world: World, campaign: str = "spring") -> list[str]:
    view = await world.view(campaign)
    assert view is not None
    found = head(view, freshness=Freshness(0), count="all")["notices"]
    assert {one["code"] for one in found} <= {"gap", "lost_webhooks"}
    return [one["message"] for one in found]


async def accept(worker: Worker, *arguments: str) -> int:
    """Runs the command while the worker goes on, as both do as processes."""
    # A worker asks every few seconds whether a gap was accepted.
    command = asyncio.create_task(asyncio.to_thread(run, ["accept-gap", *arguments]))
    while not command.done():
        worker.aggregator._gaps_at = 0.0
        await worker.settle()
        await asyncio.sleep(0.01)
    return command.result()


async def set_aside(worker: Worker) -> None:
    await worker.settle()
    said = worker.conditions[SET_ASIDE]
    assert "reports accept-gap 0" in said.message
    assert said.gap is not None
    for _ in range(400):
        if await asyncio.to_thread(waiting, worker.world.settings) == {0: said.gap}:
            return
        await asyncio.sleep(0.025)
    raise AssertionError("the worker doesn't say where it waits")


async def told(world: World, partitions: set[int]) -> None:
    """Waits until the worker's presence says that these wait at a gap."""
    for _ in range(400):
        if (await asyncio.to_thread(waiting, world.settings)).keys() == partitions:
            return
        await asyncio.sleep(0.025)
    raise AssertionError(f"no worker says that partitions {partitions} wait")


async def test_a_trimmed_log(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await counted(world)
    world.fill(begin=5)
    world.trim(0, 8)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert run(["accept-gap", "1", "--yes"]) == 3
        assert "no worker waits at a gap of partition 1" in capsys.readouterr().err
        assert await accept(worker, "0", "--yes") == 0
        said = capsys.readouterr().out
        assert "offsets 5 to 7 (3 records, stored before 20" in said
        assert SET_ASIDE not in worker.conditions
        assert worker.aggregator.positions == {0: 10, 1: 10}
        await published(world, 10 + 5 + 2)
        assert len(await notices(world)) == 1
        assert "3 records of the event log (partition 0) were lost" in (await notices(world))[0]
        await noted_everywhere(worker, 1)
        # One that begins a day later has lost nothing, and one that appears before that may have lost its beginning.
        now_ms = time.time_ns() // 1_000_000
        world.fill(begin=10, campaign="autumn", accepted_ms=now_ms + LATE_MS + 60_000)
        await worker.settle()
        world.fill(begin=10, campaign="summer", accepted_ms=now_ms + 60_000)
        await worker.settle()
        await published(world, 10, "autumn")
        assert await notices(world, "autumn") == []
        await published(world, 10, "summer")
        assert await notices(world, "summer") == await notices(world)
        world.fill(begin=20, campaign="winter")
        await worker.settle()
        await published(world, 10, "winter")
        assert await notices(world, "winter") == await notices(world)
        # What is made anew from the recipients still says it.
        database = worker.aggregator.databases[0]
        worker.aggregator.publisher.remove(0)
        database.rebuild(world.settings.rules, "again", database.generation + 1, lambda done: None)
        row = database.aggregates.campaign_row(keys.campaign_key(world.settings.secret, ORG, "spring"))
        assert row is not None
        assert [note.lost for note in database.notes(row)] == [3]
        # And from the log it would lose what was counted before.
        assert await asyncio.to_thread(run, ["rebuild", "--from-log", "--wait", "0"]) == 3
        assert "of partition 0 (what is older than offset 8)" in capsys.readouterr().err
    assert world.opens(0) == 7


@pytest.mark.parametrize("kept", [2, 0])
async def test_a_trimmed_log_and_an_empty_folder(
    world: World, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    """The database that had counted all is lost: that is said before, and in every campaign of that time."""
    await counted(world)
    world.trim(0, 5 - kept)
    shutil.rmtree(world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert await accept(worker, "0", "--yes") == 3
        said = capsys.readouterr()
        assert "Another database has counted it" in said.out
        (advice,) = re.findall(r"`reports accept-gap ([^`]*)`", said.err)
        assert await accept(worker, *advice.split(), "--yes") == 0
        assert worker.aggregator.positions == {0: 5, 1: 5}
        worker.aggregator._gaps_at = 0.0
        await worker.settle()
        await published(world, kept + 5)
        (notice,) = await notices(world)
        assert "that had been counted may be missing (partition 0)" in notice
    # Again from the log, elsewhere: what was accepted stays accepted, and said.
    shutil.rmtree(world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        await published(world, kept + 5)
        assert len(await notices(world)) == 1


@pytest.mark.long
async def test_a_second_host_that_accepts_and_the_first_that_has_all(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A generation belongs to one database: readers take the whole one's numbers when it is back."""
    await counted(world)
    whole = world.state
    for partition in (0, 1):
        world.trim(partition, 5)
    world.state = world.folder / "second"
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await told(world, {0, 1})
        assert await accept(worker, "--all", "--yes") == 3
        assert "put a copy of that database's folder" in capsys.readouterr().err
        assert await accept(worker, "--all", "--yes", "--lose-counted") == 0
        world.fill(1, begin=5)
        await worker.settle()
        await published(world, 2)
    world.state = whole
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        await published(world, 12)
    # What the second one accepted doesn't go for this one's folder.
    shutil.rmtree(world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        await published(world, 12)


@pytest.mark.long
async def test_a_new_database_on_a_recreated_topic(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It lacks what was counted of the topic before, however whole the new one's log is."""
    await counted(world)
    whole = world.state
    delete_topics(world.kafka, (FACTS,))
    ensure_topics(world.settings)
    world.fill(3, begin=10)
    world.state = world.folder / "early"
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert "has nothing of what was counted of the topic before" in worker.conditions[SET_ASIDE].message
        await published(world, 10)
    world.state = whole
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await told(world, {0, 1})
        assert await accept(worker, "--all", "--yes") == 0
        await published(world, 16)
        assert await asyncio.to_thread(run, ["rebuild", "--from-log", "--wait", "0"]) == 3
        assert (
            "partition 0 (what was counted of the topic before it was recreated)" in capsys.readouterr().err
        )
        # Nor does a worker that hears of a request in spite of it.
        await ask(worker.aggregator.redis, Request("again", from_log=True))
    async with world.worker(publishing=True) as worker:
        assert worker.aggregator.positions == {0: 3, 1: 3}
        assert not await worker.aggregator.rebuild_wanted()
        await published(world, 16)
    world.state = world.folder / "second"
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert "has nothing of what was counted of the topic before" in worker.conditions[SET_ASIDE].message
        await told(world, {0, 1})
        await published(world, 16)
        assert await accept(worker, "--all", "--yes") == 3
        assert await accept(worker, "--all", "--yes", "--lose-counted") == 0
        await published(world, 6)
    world.state = whole
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await published(world, 16)


@pytest.mark.long
async def test_a_copy_from_before_a_rebuild_from_the_log(world: World) -> None:
    """It is no answer to the request, which was answered: nothing is counted again."""
    await counted(world)
    shutil.copytree(world.state, world.folder / "copy")
    async with world.worker() as worker:
        await ask(worker.aggregator.redis, Request("again", from_log=True))
        assert await worker.aggregator.rebuild_wanted()
    async with world.worker(publishing=True) as worker:
        assert worker.aggregator.positions == {0: 0, 1: 0}
        await worker.settle()
        await published(world, 10)
    shutil.rmtree(world.state)
    (world.folder / "copy").rename(world.state)
    async with world.worker(publishing=True) as worker:
        assert worker.aggregator.positions == {0: 5, 1: 5}
        assert not await worker.aggregator.rebuild_wanted()
        world.fill(1, begin=20)
        await worker.settle()
        await published(world, 12)


async def test_a_recreated_topic(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What was counted of the old one stays; the new one is counted from its begin."""
    await counted(world)
    world.fill(4, begin=50, campaign="winter")
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await published(world, 8, "winter")
    delete_topics(world.kafka, (FACTS,))
    ensure_topics(world.settings)
    world.fill(3, begin=10)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        said = [one for one in worker.aggregator.conditions.current() if one.code == SET_ASIDE]
        assert [one.partition for one in said] == [0, 1]
        assert all("topic facts was recreated" in one.message for one in said)
        await told(world, {0, 1})
        assert await accept(worker, "--all", "--yes") == 0
        assert "topic facts was recreated" in capsys.readouterr().out
        assert worker.aggregator.positions == {0: 3, 1: 3}
        await published(world, 10 + 6)
        await published(world, 8, "winter")  # of which the new one has nothing
        (notice,) = await notices(world)
        assert "(partitions 0, 1) was recreated" in notice
        lack = "what was counted of the topic before it was recreated"
        said_of_the_log = worker.conditions[LOG_INCOMPLETE]
        assert f"of partition 0 ({lack}), 1 ({lack}): their folders" in said_of_the_log.message
        assert said_of_the_log.reason is None, "reports are right"
        worker.aggregator.set_aside(1, Exception("Corruption: block checksum mismatch"))
        assert f"Counted again from the log it would lack {lack}" in worker.conditions[SET_ASIDE].message
        assert ", 1 (" not in worker.conditions[LOG_INCOMPLETE].message
    world.fill(2, begin=20)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions, "it is crossed once"
        await published(world, 10 + 6 + 4)


@pytest.mark.parametrize("gone", ["topic installation", "Redis"])
async def test_a_recreated_topic_that_has_nothing_yet(world: World, gone: str) -> None:
    await counted(world)
    delete_topics(world.kafka, (FACTS,))
    ensure_topics(world.settings)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await told(world, {0, 1})
        assert await accept(worker, "--all", "--yes") == 0
        assert worker.aggregator.positions == {0: 0, 1: 0}
        await noted(worker, 1)
        InstallationLog(world.kafka).append(
            LostWebhooks(partition=3, topic_before="w", position=2, topic="w", to=5, lost=3, at_ms=START_MS)
        )
        await noted(worker, 2)
        assert LOG_INCOMPLETE in worker.conditions
    # The databases still know what the log lacks.
    if gone == "Redis":
        with redis.Redis.from_url(world.settings.redis) as client:
            client.flushall()
    else:
        world.remake_installation()
        write_request(world.state, Request("counted again", from_log=True))
    async with world.worker(publishing=True) as worker:
        await worker.aggregator.check_log()
        assert LOG_INCOMPLETE in worker.conditions
        await worker.settle()
        await published(world, 10)
    assert world.opens() == 5, "what only the database has is not removed"


async def test_all_but_what_another_database_has_counted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await counted(world)
    world.fill(begin=5)
    world.trim(0, 5)
    world.trim(1, 8)
    shutil.move(world.state / "p0", world.folder / "another")
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await told(world, {0, 1})
        # Nothing tends the worker while it waits.
        assert await asyncio.to_thread(run, ["accept-gap", "--all", "--yes", "--wait", "0.01"]) == 3
        refusal = "counted what is missing in partition 0,"
        said = capsys.readouterr().err
        assert "partition 1 is not counted on after" in said and refusal in said
        assert await accept(worker, "--all", "--yes") == 3
        assert worker.aggregator.positions == {1: 10}
        assert refusal in capsys.readouterr().err
        # What it advises.
        worker.aggregator.close(0)
        shutil.rmtree(world.state / "p0")
        shutil.copytree(world.folder / "another", world.state / "p0")
        await worker.open()
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        await published(world, 10 + 5 + 2)


async def test_lost_webhooks_are_noted_in_every_report(world: World) -> None:
    """By a worker that runs, for good: also in a database that is made again from the log."""
    await counted(world)

    def lost(partition: int, count: int | None, at_ms: int) -> LostWebhooks:
        return LostWebhooks(
            partition=partition, topic_before="w", position=2, topic="w", to=5, lost=count, at_ms=at_ms
        )  # fmt: skip

    log = InstallationLog(world.kafka)
    async with world.worker(publishing=True) as worker:
        for partition in (3, 4, 4):  # found by two workers: it is the same
            log.append(lost(partition, 3, START_MS - LATE_MS + 1))
        await noted(worker, 1)
        (said,) = await notices(world)
        assert "6 webhooks of this installation were accepted and lost" in said
        assert worker.conditions == {}, "nothing waits for it"
        world.fill(begin=10, campaign="autumn")
        await worker.settle()
        await published(world, 10, "autumn")
        assert await notices(world, "autumn") == [said], "its beginning may be what was lost"
        log.append(lost(5, None, START_MS - LATE_MS))
        await noted(worker, 2)
        perhaps = (
            "webhooks of this installation were accepted and lost before they were read, or may have been;"
        )
        assert perhaps in (await notices(world))[0]
        world.fill(begin=20, campaign="winter")
        await worker.settle()
        await published(world, 10, "winter")
        assert await notices(world, "winter") == [said], "it came a day after the other ones"
    for partition in range(world.partitions):
        shutil.rmtree(world.state / f"p{partition}")
    async with world.worker(publishing=True) as worker:
        for _ in range(400):
            await worker.settle()
            if not worker.conditions:
                break
            await asyncio.sleep(0.025)
        assert worker.conditions == {}, "readers have the numbers of the new database"
        assert await notices(world, "winter") == [said]
        assert said in await notices(world)
        # Where topic `installation` begins anew, what it says then is found, noted and published all the same.
        world.remake_installation()
        log.append(lost(6, 2, START_MS + 1))
        await noted(worker, 2)
        assert said in await notices(world)
    # What stood there before is recorded again by who noted it, and is no news.
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        installation = log.read()
        assert installation is not None
        assert [one.partition for one in installation.unseen] == [6]
        assert {one.partition for one in installation.lost} == {3, 4, 5, 6}
        assert len(installation.lost) == 4, "once, not by each partition"
    for partition in range(world.partitions):
        shutil.rmtree(world.state / f"p{partition}")
    async with world.worker(publishing=True) as worker:
        await noted(worker, 2)
        assert said in await notices(world)


async def test_a_loss_of_long_before_is_no_news_to_a_campaign(world: World) -> None:
    log = InstallationLog(world.kafka)
    await counted(world)
    for days, partition in ((2, 3), (1, 4)):
        at_ms = START_MS - days * LATE_MS + 1
        log.append(
            LostWebhooks(
                partition=partition, topic_before="w", position=2, topic="w", to=5, lost=days, at_ms=at_ms
            )
        )
        async with world.worker(publishing=True) as worker:
            await worker.settle()
            await noted_everywhere(worker, partition - 2)
            await noted(worker, partition - 3)


async def test_a_gap_that_was_crossed_before_topic_installation_was_made_again(world: World) -> None:
    """Nobody has counted what was gone before it: the log has everything, and a new database crosses it, too."""
    world.trim(0, 3)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert await accept(worker, "0", "--yes") == 0
        await published(world, 7)
    world.remake_installation()
    for _ in range(2):
        async with world.worker(publishing=True) as worker:
            await worker.settle()
            assert worker.conditions == {}
            await published(world, 7)
            assert len(await notices(world)) == 1
        shutil.rmtree(world.state / "p0")


async def noted_everywhere(worker: Worker, count: int) -> None:
    """Waits until the databases of all partitions have noted so many gaps."""

    def everywhere() -> bool:
        databases = worker.aggregator.databases
        return len(databases) == worker.world.partitions and all(
            len(database._gaps._known) == count for database in databases.values()
        )

    for _ in range(400):
        worker.aggregator._gaps_at = 0.0
        await worker.settle()
        if everywhere():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("not all partitions have noted it")


async def noted(worker: Worker, count: int) -> None:
    """Waits until readers see so many notices, while the worker goes on."""
    for _ in range(400):
        worker.aggregator._gaps_at = 0.0
        await worker.settle()
        if len(await notices(worker.world)) == count:
            return
        await asyncio.sleep(0.025)
    raise AssertionError(f"readers see {await notices(worker.world)}")


def count_lost_end(world: World) -> None:
    """The database of partition 0 has counted four records that the log has lost, and reports show them."""
    topic_id = LogInspector(world.kafka).topic_id(FACTS)
    meta = Meta(LAYOUT_VERSION, 0, 2, topic_id, keys.secret_fingerprint(world.settings.secret), 1)
    base = PartitionDatabase(world.state / "p0", meta, world.settings.secret, RecipientCache(10))
    base.apply([(offset, record(offset, 0)) for offset in range(5, 9)])
    fence = Fence(base.generation, base.next_offset, topic_id)
    base.close()
    with sync_client(world.settings.redis, world.settings.installation, timeout_s=5) as client:
        client.hset(NUMBERS.positions, "0", fence.text())


def owned(world: World) -> None:
    """As the worker that had counted said of itself, each second."""
    with PartitionReader(world.state / "p0") as reader:
        meta = reader.meta()
    assert meta is not None
    base = PartitionDatabase(world.state / "p0", meta, world.settings.secret, RecipientCache(10))
    owner = Owner("w-0", "/elsewhere/p0", 0, topic=meta.topic_id, last=base.checkpoints.last)
    base.close()
    with sync_client(world.settings.redis, world.settings.installation, timeout_s=5) as client:
        client.hset(OWNERS, "0", msgspec.json.encode(owner))


GROWN = pytest.mark.parametrize(
    "grown", [pytest.param(0, marks=pytest.mark.long, id="short"), pytest.param(6, id="grown again")]
)


@GROWN
async def test_a_log_that_lost_its_end(world: World, capsys: pytest.CaptureFixture[str], grown: int) -> None:
    """It may have other records by now where those stood: they are counted, too."""
    await counted(world)
    count_lost_end(world)
    owned(world)
    world.fill(grown, begin=50)
    lack = "what was counted before the log lost its end"
    for option in ("--wait=0", "--dry-run"):
        assert await asyncio.to_thread(run, ["rebuild", "--from-log", option]) == 3
        assert f"of partition 0 ({lack})" in capsys.readouterr().err
    # Nor does a worker that hears of a request in spite of it.
    write_request(world.state, Request("again", from_log=True))
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        said = worker.conditions[SET_ASIDE].message
        assert "has counted up to offset 9" in said and "records are missing" in said
        assert world.opens() == 9
        worker.aggregator.set_aside(0, Exception("Corruption: block checksum mismatch"))
        assert f"Counted again from the log it would lack {lack}" in worker.conditions[SET_ASIDE].message
        worker.aggregator.close(0)
        await worker.open()
        await set_aside(worker)
        # What comes in while it waits is counted, too.
        world.fill(2, begin=70)
        assert await accept(worker, "0", "--yes") == 0
        assert "lost its end, at most the 4 records at offsets 5 to 8" in capsys.readouterr().out
        await worker.settle()
        assert worker.aggregator.positions == {0: 7 + grown, 1: 7 + grown}
        await published(world, 9 + grown + 2 + 5 + grown + 2)
        (notice,) = await notices(world)
        assert "lost its end: up to 4 records that were counted, and stay so" in notice
        await worker.aggregator.check_log()
        assert f"of partition 0 ({lack})" in worker.conditions[LOG_INCOMPLETE].message
        await noted_everywhere(worker, 1)
    async with world.worker(publishing=True) as worker:
        assert SET_ASIDE not in worker.conditions, "it goes back once"
        assert worker.aggregator.positions == {0: 7 + grown, 1: 7 + grown}


async def test_a_log_that_loses_its_end_under_a_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has grown again before the worker reads on, nothing tells it but the records."""
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        await published(world, 10)
    async with world.worker(publishing=True) as worker:
        # Nothing was read since it was opened.
        database = worker.aggregator.databases[0]
        worker.aggregator.publisher.mark(0, database.apply([(n, record(n, 0)) for n in range(5, 9)]))
        worker.aggregator.positions[0] = 9
        world.fill(6, begin=50)
        worker.aggregator._counted_at[0] -= PAUSED_S
        await worker.settle()
        assert worker.aggregator.positions[0] == 11, "nobody has noticed"

        def away(*_: object) -> None:
            # Another pause, while Kafka is asked: what is read last by then is in the log.
            worker.aggregator._to_check[0] = Checkpoint.of(10, record(55, 0))
            raise TryLater(1, "Kafka does not answer")

        with monkeypatch.context() as patched:
            patched.setattr("agents.aggregate.differing_records", away)
            await worker.aggregator.check_records()
        await worker.aggregator.check_records()
        await set_aside(worker)
        assert (
            "has other records there now, from offset 5 on or later" in worker.conditions[SET_ASIDE].message
        )
        assert await accept(worker, "0", "--yes") == 0
        await published(world, 9 + 6 + 5 + 6)
        worker.aggregator._counted_at[0] -= PAUSED_S
        world.fill(1, begin=60)
        await worker.settle()
        assert worker.aggregator._to_check
        await worker.aggregator.check_records()
        assert not worker.aggregator._to_check
        assert SET_ASIDE not in worker.conditions


@GROWN
async def test_a_log_that_lost_its_end_and_a_database_that_had_not_counted_it(
    world: World, capsys: pytest.CaptureFixture[str], grown: int
) -> None:
    """A removed folder, an older copy, another host's: reports don't go back in silence."""
    await counted(world)
    older = world.folder / "older"
    shutil.copytree(world.state / "p0", older)
    count_lost_end(world)
    owned(world)
    world.fill(grown, begin=50)
    shutil.move(world.state / "p0", world.folder / "whole")
    shutil.move(older, world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert "which another database had counted up to offset 9" in worker.conditions[SET_ASIDE].message
        assert await accept(worker, "0", "--yes") == 3
        said = capsys.readouterr()
        assert "lacks what stood at offsets " in said.out and "the end that the log has lost" in said.out
        # What it advises first: the database that has it.
        worker.aggregator.close(0)
        shutil.move(world.state / "p0", older)
        shutil.copytree(world.folder / "whole", world.state / "p0")
        await worker.open()
        await set_aside(worker)
        assert "has counted up to offset 9" in worker.conditions[SET_ASIDE].message
        # And where that is gone for good:
        worker.aggregator.close(0)
        shutil.rmtree(world.state / "p0")
        await worker.open()
        await set_aside(worker)
        (advice,) = re.findall(r"`reports accept-gap ([^`]*)`", said.err)
        assert await accept(worker, *advice.split(), "--yes") == 0
        await worker.settle()
        await published(world, 10 + 2 * grown)
        (notice,) = await notices(world)
        assert "that had been counted may be missing (partition 0)" in notice
        world.fill(6, begin=70)
        await worker.settle()
        await published(world, 22 + 2 * grown)
        await noted_everywhere(worker, 1)
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        assert worker.aggregator.positions == {0: 11 + grown, 1: 11 + grown}


async def test_a_second_host_after_a_lost_end_was_accepted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the first one has counted is nowhere else: reports don't lose it because another host begins."""
    await counted(world)
    count_lost_end(world)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert await accept(worker, "0", "--yes") == 0
        await published(world, 14)
    whole, world.state = world.state, world.folder / "second"
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert "another database had counted up to offset 9" in worker.conditions[SET_ASIDE].message
        await published(world, 14)
        assert await accept(worker, "0", "--yes") == 3
        assert "put a copy of that database's folder" in capsys.readouterr().err
    world.state = whole
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        await published(world, 14)


async def test_a_record_that_is_none(world: World) -> None:
    await counted(world)
    world.produce(0, b"\xc1 no record of ours")
    world.fill(begin=5)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert await accept(worker, "0", "--yes") == 0
        await published(world, 20)
    # Counted again from the log it comes upon the record again, and knows it.
    shutil.rmtree(world.state / "p0")
    async with world.worker(publishing=True) as worker:
        await worker.settle()
        assert SET_ASIDE not in worker.conditions
        assert worker.aggregator.positions == {0: 11, 1: 10}
        assert len(await notices(world)) == 1


async def test_a_hole_in_the_log(world: World) -> None:
    """As a transaction's marker makes one, or compaction."""
    producer = Producer({**client_settings(world.kafka, "test"), "transactional.id": "hole"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(FACTS, record(5, 0), partition=0)
    producer.commit_transaction(10)
    # The marker is written behind the answer.
    wait_until(lambda: LogInspector(world.kafka).ends(FACTS, [0])[0].end == 7, 10, "the transaction's marker")
    world.fill(1, begin=6)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        said = worker.conditions[SET_ASIDE].message
        assert "offset 6 is to be counted next but the log goes on with 7" in said
        assert await accept(worker, "0", "--yes") == 0
        assert worker.aggregator.positions == {0: 8, 1: 6}
        await published(world, 7 + 6)


async def test_it_asks(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted(world)
    world.produce(0, encode(FactsRecord(f.FACTS_VERSION, ORG, "spring", START_MS, [])))
    world.trim(0, 6)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        monkeypatch.setattr("click.confirm", _declined)
        assert await accept(worker, "0") == 130
        said = capsys.readouterr().out
        assert "offsets 5 to 5 (1 record) are missing" in said
        assert "Nothing is left from which it could be counted again: topic webhooks is empty" in said
        assert SET_ASIDE in worker.conditions
    assert run(["accept-gap"]) == 2


def _declined(*_: object, **__: object) -> None:
    import click

    raise click.Abort


async def test_a_campaign_that_lost_all_it_had_in_a_partition(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is in the database that crosses the gap: the other partition's says it, whoever counts on there."""
    await counted(world)
    world.produce(0, *(record(number, 0, "summer") for number in range(5)))
    world.produce(1, *(record(number, 1, "summer") for number in range(5)))
    world.trim(0, 10)
    async with world.worker(publishing=True) as worker:
        await set_aside(worker)
        assert await accept(worker, "0", "--yes") == 0
        assert "5 records" in capsys.readouterr().out
        await noted_everywhere(worker, 1)
        await published(world, 5, "summer")
        (said,) = await notices(world, "summer")
        assert "5 records of the event log (partition 0) were lost" in said
        assert await notices(world) == [said]
