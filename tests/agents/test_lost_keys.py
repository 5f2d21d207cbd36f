"""Redis loses single keys, evicted or deleted: it is noticed, said, and repaired by every partition."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from agents import publish
from agents.publish import CHECK_S, LOOK_EVERY_S, LOOK_S, LOST, Publisher
from agents.redis_watch import CODE, RECENT_S, RedisWatch
from agents.watchdog import STALL_S
from app import breakdown as b
from app import facts as f
from app import keys
from app.errors import TryLater
from app.facts import CampaignKey, CampaignRecord, FactsRecord, encode
from app.sections import clicks_of
from app.verdicts import DEFAULT_RULES
from tables import every_campaign, redis_names, touched
from tables.cache import RecipientCache
from tables.campaign_list import CampaignList
from tables.conditions import Conditions
from tables.every_campaign import counted_campaigns
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.redis_client import redis_client
from tables.section_parts import PUBLISHED
from tables.view_writer import Looked, ViewWriter
from tables.views import (
    NUMBERS,
    SECTIONS,
    Channel,
    View,
    ViewReader,
    campaigns_name,
    counts_name,
    names_name,
    report_name,
    sections_name,
)
from tests.support.facts import ORG, SECRET, START_MS, entry
from tests.support.interrupted import InterruptedRedis, Interruption

PARTITIONS = 2
CAMPAIGNS = 20
RECIPIENTS = 5
"""Of each campaign in each partition."""
DAY_MS = 86_400_000


class World:
    """A worker with all partitions, its Redis, and a clock."""

    def __init__(self, raw: Redis, folder: Path) -> None:
        self.raw = raw
        self.redis = InterruptedRedis(raw)
        self.now = 1_000.0
        self.writer = ViewWriter(cast(Any, self.redis))
        self.reader = ViewReader(raw, PARTITIONS)
        self.conditions = Conditions(lambda: self.now)
        self.publisher = self.new_publisher()
        fingerprint = keys.secret_fingerprint(SECRET)
        metas = [Meta(LAYOUT_VERSION, p, PARTITIONS, "topic", fingerprint, 1) for p in range(PARTITIONS)]
        cache = RecipientCache(1_000)
        self.databases = [
            PartitionDatabase(folder / f"p{meta.partition}", meta, SECRET, cache) for meta in metas
        ]
        for database in self.databases:
            self.publisher.add(database)
        self.facts = 0

    def new_publisher(self) -> Publisher:
        return Publisher(self.writer, "tester", DEFAULT_RULES, self.conditions, lambda: self.now)

    def restart(self) -> None:
        self.publisher = self.new_publisher()
        for database in self.databases:
            self.publisher.add(database)

    def facts_of(self, campaign: str, recipients: int, day: int = 0) -> bytes:
        made = []
        for _ in range(recipients):
            self.facts += 1
            at_ms = START_MS + day * DAY_MS + self.facts
            address = f"{self.facts}@example.com"
            made.append(entry(f.CLICKED, at_ms, number=self.facts, campaign=campaign, address=address))
        return encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, made))

    def count(self, partition: int, campaign: str, recipients: int, day: int = 0) -> None:
        self.record(partition, self.facts_of(campaign, recipients, day))

    def record(self, partition: int, *values: bytes) -> None:
        database = self.databases[partition]
        self.publisher.mark(partition, database.apply(list(enumerate(values, database.next_offset))))

    async def turns(self, *, check: bool) -> None:
        for channel in (NUMBERS, SECTIONS):
            while await self.publisher.turn(channel, check=check):
                pass

    async def later(self, seconds: float = LOOK_EVERY_S, rounds: int = 3) -> None:
        """The rounds of some seconds."""
        self.now += seconds
        for _ in range(rounds):
            self.now += CHECK_S
            await self.turns(check=True)

    async def view(self, campaign: str) -> View | None:
        key = keys.campaign_key(SECRET, ORG, campaign)
        return await self.reader.load(key, epoch="e", hours=True, sections=PUBLISHED)

    async def views(self) -> list[View | None]:
        found = [await self.view(name_of(number)) for number in range(CAMPAIGNS)]
        for view in found:
            if view is not None:
                view.version = 0
        return found


def name_of(number: int) -> str:
    return f"campaign {number}"


def key_of(number: int) -> str:
    return report_name("topic", keys.campaign_key(SECRET, ORG, name_of(number)))


def recipients_of(view: View | None) -> int:
    assert view is not None
    return sum(view.patterns.values())


@pytest.fixture
async def raw(redis_db: str) -> AsyncIterator[Redis]:
    redis = redis_client(redis_db, timeout_s=5)
    yield redis
    await redis.config_set("maxmemory", 0)
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.aclose()


@pytest.fixture
def opened(raw: Redis) -> Iterator[World]:
    fast = Path("/dev/shm")  # a disk costs a tenth of a second for each database
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        world = World(raw, Path(folder))
        yield world
        for database in world.databases:
            database.close()


@pytest.fixture
async def world(opened: World) -> World:
    """Everything is published."""
    for partition in range(PARTITIONS):
        opened.record(partition, *(opened.facts_of(name_of(n), RECIPIENTS) for n in range(CAMPAIGNS)))
    opened.record(1, encode(CampaignRecord(1, ORG, name_of(0), 0, name="Spring")))
    await opened.later()
    assert opened.conditions.current() == ()
    return opened


async def test_what_redis_evicts_is_published_again(world: World) -> None:
    before = await world.views()
    assert all(recipients_of(view) == RECIPIENTS * PARTITIONS for view in before)
    watch = RedisWatch(world.raw, world.conditions, world.publisher.look_now, lambda: world.now)
    await watch.look()
    assert world.conditions.current() == ()
    positions = {
        channel.positions: await world.raw.dump(channel.positions) for channel in (NUMBERS, SECTIONS)
    }
    used = (await world.raw.info("memory"))["used_memory"]
    await world.raw.config_set("maxmemory-policy", "allkeys-lru")
    await world.raw.config_set("maxmemory", used - 50_000)
    assert (await world.raw.info("stats"))["evicted_keys"] > 0
    await watch.look()
    (condition,) = world.conditions.current()
    assert (condition.code, condition.reason is not None) == (CODE, True)
    assert "set `maxmemory-policy noeviction`" in condition.message
    assert await world.views() != before
    # What the condition advises.
    await world.raw.config_set("maxmemory-policy", "noeviction")
    await world.raw.config_set("maxmemory", 0)
    await watch.look()
    for name, value in positions.items():
        # Without them everything is published again, whatever is missing.
        await world.raw.restore(name, 0, cast(Any, value), replace=True)
    world.now += CHECK_S
    for channel in (NUMBERS, SECTIONS):
        await world.publisher.turn(channel, check=True)
    assert {one.code for one in world.conditions.current()} == {LOST}, (
        "at once, since Redis said that it evicted"
    )
    await world.later(CHECK_S)
    assert world.conditions.current() == ()
    assert await world.views() == before
    assert world.publisher.counters[LOST] > 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_deleted_report_that_goes_on_is_never_shown_in_part(world: World, restarted: bool) -> None:
    await world.raw.delete(key_of(7))
    assert await world.view(name_of(7)) is None
    world.count(0, name_of(7), 3, day=1)
    if restarted:
        world.restart()
    for _ in range(3):  # the first turns of a worker that was started again read the position
        await world.turns(check=False)
        view = await world.view(name_of(7))
        # A worker that is started again can't tell a first part from the rest, until it has looked.
        assert view is None or not view.complete or restarted or recipients_of(view) == RECIPIENTS * 2 + 3
    await world.later()
    view = await world.view(name_of(7))
    assert view is not None and view.complete
    assert recipients_of(view) == RECIPIENTS * PARTITIONS + 3
    assert view.quarters is not None and sum(map(sum, view.quarters.values())) == sum(view.totals)
    assert world.conditions.current() == ()


async def test_until_all_partitions_have_looked_nothing_is_called_complete(world: World) -> None:
    """The other partition is another worker's."""
    other = world.new_publisher()
    other.add(world.databases[1])
    world.publisher.remove(1)
    for _ in range(2):
        await other.turn(NUMBERS, check=True)
    await world.raw.delete(key_of(7))
    world.count(0, name_of(7), 3)
    await world.later()
    view = await world.view(name_of(7))
    assert view is not None and recipients_of(view) == RECIPIENTS + 3 and not view.complete
    assert not await world.reader.complete(), "what isn't there may exist"
    for _ in range(3):
        world.now += CHECK_S
        await other.turn(NUMBERS, check=True)
        await world.turns(check=True)
    view = await world.view(name_of(7))
    assert view is not None and recipients_of(view) == RECIPIENTS * 2 + 3 and view.complete
    assert await world.reader.complete()


async def test_versions_go_on_rising(world: World) -> None:
    """Else who watches would wait for the old one to be reached again."""
    before = await world.view(name_of(7))
    await world.raw.delete(key_of(7))
    await world.later()
    after = await world.view(name_of(7))
    assert before is not None and after is not None and after.version > before.version


async def test_lists_and_names_come_back(world: World) -> None:
    campaigns = CampaignList(world.raw, world.reader)
    words = ("spring",)
    found = await campaigns.page(ORG, words, after=None, limit=9, epoch="e")
    assert found.names == [name_of(0)]
    await world.raw.delete(campaigns_name("topic", ORG), names_name("topic", ORG))
    await world.later()
    assert await campaigns.page(ORG, words, after=None, limit=9, epoch="e") == found
    assert (await campaigns.page(ORG, (), after=None, limit=9, epoch="e")).matching == CAMPAIGNS


async def test_that_a_campaign_is_gone_is_known_before_the_next_look(world: World) -> None:
    """An erasure passed it over, and answered 200."""
    everything = {name_of(number) for number in range(CAMPAIGNS)}
    assert (await counted_campaigns(world.raw, world.reader, ORG)).campaigns == everything
    world.count(0, "new", 1)
    await world.turns(check=False)
    assert (await counted_campaigns(world.raw, world.reader, ORG)).campaigns == everything | {"new"}
    assert (await counted_campaigns(world.raw, world.reader, "another")).campaigns == set()
    key = keys.campaign_key(SECRET, ORG, name_of(7))
    await world.raw.delete(
        report_name("topic", key), sections_name("topic", key), campaigns_name("topic", ORG)
    )
    with pytest.raises(TryLater, match="not all campaigns are known yet, Redis has lost some"):
        await counted_campaigns(world.raw, world.reader, ORG)
    await world.later()
    assert (await counted_campaigns(world.raw, world.reader, ORG)).campaigns == everything | {"new"}


async def test_names_that_scan_gives_twice_count_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost one was made up for by another one's second time."""
    everything = {name_of(number) for number in range(CAMPAIGNS)}
    runs = redis_names.runs_of_names

    async def twice(redis: Redis, pattern: str) -> AsyncIterator[list[str]]:
        async for names in runs(redis, pattern):
            yield [*names, names[0]]
            yield names

    monkeypatch.setattr(every_campaign, "runs_of_names", twice)
    monkeypatch.setattr(every_campaign, "FENCES_AT_ONCE", 3 * PARTITIONS)
    assert (await counted_campaigns(world.raw, world.reader, ORG)).campaigns == everything
    await world.raw.delete(key_of(7))
    with pytest.raises(TryLater, match="Redis has lost some"):
        await counted_campaigns(world.raw, world.reader, ORG)
    await world.later()
    await world.raw.hset(counts_name("topic"), "0", '{"\xff')
    with pytest.raises(TryLater, match="Redis has lost some"):
        await counted_campaigns(world.raw, world.reader, ORG)


@pytest.mark.parametrize("field", ["v", "org", "campaign", "s:0"])
async def test_a_report_that_lacks_a_field_of_its_own_is_repaired(world: World, field: str) -> None:
    """Nobody could read it until the campaign's next event."""
    assert await world.raw.hdel(key_of(7), field) == 1
    await world.later()
    view = await world.view(name_of(7))
    assert view is not None and view.complete
    assert recipients_of(view) == RECIPIENTS * PARTITIONS


async def test_new_campaigns_are_not_taken_for_lost_ones(world: World) -> None:
    for partition in (0, 1, 0):
        world.count(partition, "new", 2, day=partition)
        await world.turns(check=False)
        view = await world.view("new")
        assert view is not None and view.complete
    assert world.publisher.counters[LOST] == 0


@pytest.mark.parametrize(
    ("channel", "name"),
    [(NUMBERS, report_name), (SECTIONS, sections_name)],
    ids=["numbers", "sections"],
)
async def test_a_campaign_that_appears_before_the_first_repair(
    world: World, channel: Channel, name: Callable[[str, CampaignKey], str]
) -> None:
    """A worker that has just started doesn't know of it as new: its position stands only once its share does."""
    world.restart()
    world.count(0, "new", 3)
    offset = world.databases[0].next_offset
    key = keys.campaign_key(SECRET, ORG, "new")
    for _ in range(20):
        await world.publisher.step(channel)
        (fence,) = await world.writer.partition_fences([0], channel)
        if fence is not None and fence.offset == offset:
            break
    assert fence is not None and fence.offset == offset
    assert await world.raw.hexists(name("topic", key), "f:0"), "what a reader needs of it is there"


async def test_a_new_database_where_redis_has_shares_and_no_position(world: World, tmp_path: Path) -> None:
    """Redis was emptied, what an older database published since then is not all of it, and that one is gone: what the
    new one doesn't have is in nobody's numbers."""
    older = world.databases[0]
    new = PartitionDatabase(
        tmp_path / "new", msgspec.structs.replace(older.meta, generation=older.generation + 1), SECRET,
        RecipientCache(100),
    )  # fmt: skip
    for channel in (NUMBERS, SECTIONS):
        for hash_name in (channel.positions, channel.repairs):
            await world.raw.hdel(hash_name, "0")
    world.databases[0] = new
    world.restart()
    await world.later()
    for number in range(CAMPAIGNS):
        view = await world.view(name_of(number))
        assert view is not None and view.sections is not None
        assert recipients_of(view) == RECIPIENTS
        assert sum(map(clicks_of, view.sections[b.CITY].tallies.values())) == RECIPIENTS
    older.close()


async def test_a_look_goes_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 20 ms by the clock; a turn no more than it may, and the next one goes on."""
    monkeypatch.setattr(touched, "ROWS", 2)
    original, looks = world.writer.look, 0

    async def looking(*arguments: Any) -> Looked | None:
        nonlocal looks
        looks += 1
        world.now += 0.02
        return await original(*arguments)

    monkeypatch.setattr(world.writer, "look", looking)
    world.now += LOOK_EVERY_S
    steps = CAMPAIGNS // 2 * PARTITIONS
    turns = 0
    while looks < steps:
        before = looks
        await world.publisher.turn(NUMBERS, check=True)
        assert 0 < looks - before <= LOOK_S / 0.02 + PARTITIONS
        turns += 1
    assert turns >= steps // 5


async def test_a_partition_that_is_put_down_during_a_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database is closed: the look ends, and nobody says that it can't be read."""
    monkeypatch.setattr(touched, "ROWS", 2)
    faults: list[tuple[int, Exception]] = []
    monkeypatch.setattr(world.publisher, "_set_aside", lambda *fault: faults.append(fault))
    original = world.writer.look

    async def looking(*arguments: Any) -> Looked | None:
        found = await original(*arguments)
        while world.databases:
            database = world.databases.pop()
            world.publisher.remove(database.partition)
            database.close()
        return found

    monkeypatch.setattr(world.writer, "look", looking)
    await world.later()
    assert faults == []


@pytest.mark.parametrize(
    ("error", "patient"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots, but it can't"), True),
        (ResponseError("ERR value is not an integer"), False),
    ],
)
async def test_a_redis_that_refuses_writes_is_no_standstill_of_the_worker(
    world: World, error: ResponseError, patient: bool
) -> None:
    async def refuses() -> None:
        raise error

    world.count(0, name_of(1), 1)
    for _ in range(int(STALL_S) + 2):
        world.redis.plan.extend([Interruption("before", refuses)] * 10)
        await world.publisher.turn(NUMBERS, check=False)
        idle_s = world.publisher._parts[NUMBERS][0].idle_s()
        world.now += 1
        world.redis.plan.clear()
    assert (idle_s < STALL_S) == patient
    assert [one.code for one in world.conditions.current()] == [publish.UNAVAILABLE]
    await world.later()
    assert recipients_of(await world.view(name_of(1))) == RECIPIENTS * PARTITIONS + 1


async def test_an_evicting_policy_is_said_while_it_stands(raw: Redis) -> None:
    now = 1_000.0
    conditions = Conditions()
    evicted: list[bool] = []
    watch = RedisWatch(raw, conditions, lambda: evicted.append(True), lambda: now)
    await raw.config_set("maxmemory-policy", "allkeys-lfu")
    await watch.look()
    assert conditions.current() == (), "without a maxmemory nothing is evicted"
    await raw.config_set("maxmemory", 1 << 30)
    await watch.look()
    (condition,) = conditions.current()
    assert (condition.code, condition.reason) == (CODE, None)
    assert "will delete keys once it is full (`maxmemory-policy allkeys-lfu`" in condition.message
    await raw.set("cr:filler", "x" * 100_000)
    await raw.config_set("maxmemory", 1 << 10)
    await raw.config_set("maxmemory", 1 << 30)
    await watch.look()
    (condition,) = conditions.current()
    assert condition.reason is not None and "Redis deletes keys" in condition.message
    assert evicted == [True]
    now += RECENT_S
    await watch.look()
    (condition,) = conditions.current()
    assert condition.reason is None and evicted == [True]
    for policy in ("noeviction", "volatile-lru"):  # which spares what has no expiry, as the numbers
        await raw.config_set("maxmemory-policy", policy)
        await watch.look()
        assert conditions.current() == ()
        await raw.config_set("maxmemory-policy", "allkeys-lru")
        await watch.look()
        assert conditions.current() != ()
