"""After quiet every view equals its databases, whatever happened to workers, databases, topic and Redis.

Real databases, a real Redis, and the publisher's own steps, between and within which anything may happen. Of Kafka
there are the logs' records, who has which partition, and the generations that it gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agents import publication, publish
from agents.generations import generations_at_assignment
from agents.log_checks import LogEnds
from agents.opening import Where, open_database
from agents.publish import Publisher
from agents.watchdog import STALL_S
from app import facts as f
from app import keys
from app.contribution import METRICS
from app.errors import StateError
from app.facts import CampaignRecord, FactsRecord, encode
from app.installation import Record
from app.installation import encode as encode_record
from app.sections import Rows
from app.verdicts import DEFAULT_RULES, Rules
from tables import touched
from tables.cache import RecipientCache
from tables.campaign_list import CampaignList
from tables.conditions import Conditions
from tables.installation import InstallationLog
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.rebuilds import NONE, Request
from tables.redis_client import redis_client
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.view_writer import ViewWriter
from tables.views import (
    ALL_TOPICS,
    NUMBERS,
    SECTIONS,
    TOPICS,
    Channel,
    Fence,
    ViewReader,
    counts_name,
    fence_of,
)
from tests.support.facts import ORG, SECRET, START_MS, detail_of, entry
from tests.support.interrupted import InterruptedRedis, Interruption

PARTITIONS = 2
CAMPAIGNS = ("spring", "summer", "autumn", "winter", "easter", "may", "june", "july")
"""Many: what is touched again is published again, and hides what was lost."""
DAY_MS = 86_400_000
EAGER = Rules(burst_links=2, burst_ms=60_000, click_after_ms=60_000, open_after_ms=60_000)
QUIET_ROUNDS = 8
OPENINGS = 10
"""Databases that are opened in one example: each costs as much as ten steps."""
ENDING = (asyncio.CancelledError, RuntimeError)
"""What ends a process: a cancellation, and a bug, as in what is encoded."""

channels = st.sampled_from((NUMBERS, SECTIONS))
partitions = st.integers(0, PARTITIONS - 1)
hosts = st.sampled_from((0, 1))
whens = st.sampled_from(("before", "half", "after"))
errors = st.sampled_from(
    (RedisTimeoutError, RedisConnectionError, ResponseError, OSError, TimeoutError, *ENDING)
)


class Installation(InstallationLog):
    """Topic `installation` without its Kafka."""

    def __init__(self) -> None:
        super().__init__("")
        self._stored: list[tuple[int, bytes]] = []

    def _records(self) -> list[tuple[int, bytes]]:
        return self._stored

    def append(self, record: Record) -> int:
        self._stored.append((len(self._stored), encode_record(record)))
        return len(self._stored) - 1


class Worker:
    """A process with its databases and its publisher. It ends by being forgotten."""

    def __init__(self, redis: InterruptedRedis, clock: Callable[[], float]) -> None:
        self.writer = ViewWriter(cast(Any, redis))
        self.conditions = Conditions(clock)
        self.publisher = Publisher(self.writer, "worker", DEFAULT_RULES, self.conditions, clock)
        self.databases: dict[int, PartitionDatabase] = {}
        self.cache = RecipientCache(100)

    def add(self, database: PartitionDatabase, log_end: int) -> None:
        self.databases[database.partition] = database
        self.publisher.add(database, log_end)

    def close(self, partition: int) -> None:
        database = self.databases.pop(partition, None)
        self.publisher.remove(partition)
        self.conditions.forget(partition)
        self.cache.young.clear()
        self.cache.old.clear()
        if database is not None:
            database.close()

    def count(self, partition: int, records: list[bytes]) -> None:
        database = self.databases[partition]
        if database.next_offset < len(records):
            self.publisher.mark(partition, database.apply(list(enumerate(records))))


may_open = precondition(lambda self: self.openings < OPENINGS)


class World(RuleBasedStateMachine):
    redis_url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # A disk costs a tenth of a second for each database.
        fast = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=fast if fast.is_dir() else None))
        self.raw = redis_client(self.redis_url, timeout_s=5)
        self.redis = InterruptedRedis(self.raw)
        self.now = 1_000.0
        self.installation = Installation()
        self.topic_number = 0
        self.logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.owner = [0] * PARTITIONS
        self.openings = 0
        self.workers = [self.new_worker(), self.new_worker()]
        self.requests = [NONE, NONE]
        self.saved: dict[bytes, bytes] = {}
        self.facts = 0
        self.do(self.raw.flushall())

    @initialize()
    def begin(self) -> None:
        for host in (0, 1):
            self.assign(host)

    def do(self, what: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await what

        return self.loop.run_until_complete(run())

    def new_worker(self) -> Worker:
        return Worker(self.redis, lambda: self.now)

    @property
    def topic(self) -> str:
        return f"topic-{self.topic_number}"

    def read(self, partition: int, offset: int) -> bytes | None:
        found = self.logs[partition][offset : offset + 1]
        return found[0] if found else None

    # What a worker does

    def assign(self, host: int) -> None:
        """Opens what the host's worker has been assigned and doesn't have."""
        worker = self.workers[host]
        new = [p for p in range(PARTITIONS) if self.owner[p] == host and p not in worker.databases]
        if not new:
            return
        ends = {partition: len(self.logs[partition]) for partition in new}
        try:
            ahead: set[int] = set()
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                for partition, fence in zip(new, self.do(worker.writer.partition_fences(new)), strict=True):
                    if fence is not None and fence.topic == self.topic and fence.offset > ends[partition]:
                        ahead.add(partition)
            generations = self.do(
                generations_at_assignment(self.installation, worker.writer, f"host {host}", new, ahead)
            )
        except ENDING:
            self.restart(host)
            return
        for partition in new:
            self.openings += 1
            path = self.folder / f"host{host}" / f"p{partition}"
            path.parent.mkdir(exist_ok=True)
            fingerprint = keys.secret_fingerprint(SECRET)
            request = self.requests[host]
            meta = Meta(LAYOUT_VERSION, partition, PARTITIONS, self.topic, fingerprint, 0, EAGER, request.id)
            if len(request.id) % 2 == 0:
                meta.rules = DEFAULT_RULES
            where = Where(
                self.topic,
                LogEnds(0, ends[partition]),
                self.installation.histories([partition])[partition],
                generations,
                partial(self.read, partition),
            )
            arguments = (meta, SECRET, worker.cache, where, request)
            try:
                database = open_database(path, *arguments)
            except StateError:  # of another topic, or of a log that lost its end: its folder is removed
                shutil.rmtree(path)
                database = open_database(path, *arguments)
            worker.add(database, ends[partition])

    def end(self, host: int) -> None:
        worker = self.workers[host]
        for partition in list(worker.databases):
            worker.close(partition)
        self.workers[host] = self.new_worker()

    def restart(self, host: int) -> None:
        self.end(host)
        self.assign(host)

    def is_current(self, worker: Worker, partition: int) -> bool:
        """Whether a database is of the topic that there is now: another topic's records are gone."""
        return worker.databases[partition].meta.topic_id == self.topic

    def turn(self, host: int, channel: Channel, *, check: bool = True) -> None:
        with contextlib.suppress(*ENDING):  # one that goes on all the same must be right, too
            self.do(self.workers[host].publisher.turn(channel, check=check))

    # Rules

    @rule(
        partition=partitions,
        campaign=st.sampled_from(CAMPAIGNS),
        kind=st.sampled_from((f.OPENED, f.CLICKED, f.DELIVERED)),
        day=st.integers(0, 2),
        text=st.integers(0, 2),
        count=st.booleans(),
    )
    def fact(self, partition: int, campaign: str, kind: int, day: int, text: int, count: bool) -> None:
        detail, numbers = detail_of(link=text, place=text, provider=min(text, 2))
        # A recipient is in one partition.
        self.facts += 1
        made = entry(
            kind, START_MS + day * DAY_MS + self.facts, address=f"{self.facts % 4}.{partition}@example.com",
            number=self.facts, campaign=campaign, detail=encode(detail), **numbers,
        )  # fmt: skip
        self.logs[partition].append(encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, [made])))
        if count:
            self.count(partition)

    @rule(campaign=st.sampled_from(CAMPAIGNS), name=st.sampled_from(("A", "B")))
    def label(self, campaign: str, name: str) -> None:
        home = CAMPAIGNS.index(campaign) % PARTITIONS
        self.logs[home].append(encode(CampaignRecord(1, ORG, campaign, START_MS, name=name)))

    @rule(partition=partitions)
    def count(self, partition: int) -> None:
        worker = self.workers[self.owner[partition]]
        if partition in worker.databases:
            worker.count(partition, self.logs[partition])

    @rule(partition=partitions, host=hosts)
    def count_as_a_zombie(self, partition: int, host: int) -> None:
        """It has fetched these records before its partition moved."""
        worker = self.workers[host]
        if partition in worker.databases and self.is_current(worker, partition):
            worker.count(partition, self.logs[partition])

    @may_open
    @rule(partition=partitions, skipped=st.integers(0, 5), when=whens, error=errors, channel=channels)
    def fail_amid_several(
        self, partition: int, skipped: int, when: str, error: type[BaseException], channel: Channel
    ) -> None:
        """All partitions have something to publish, one of them was assigned just now, and Redis fails."""
        owner = self.owner[partition]
        self.redis.plan.clear()
        self.publish_everything(owner)
        self.workers[owner].close(partition)
        for number in range(PARTITIONS):
            self.fact(number, CAMPAIGNS[0], f.CLICKED, 0, number, True)
        self.assign(owner)
        self.fail(skipped, when, error)
        self.turn(owner, channel)

    @rule(
        campaigns=st.lists(st.sampled_from(CAMPAIGNS), min_size=1, max_size=4, unique=True),
        day=st.integers(0, 2),
    )
    def traffic(self, campaigns: list[str], day: int) -> None:
        """Facts in all partitions, counted and published."""
        for number, campaign in enumerate(campaigns):
            for partition in range(PARTITIONS):
                self.fact(partition, campaign, f.CLICKED, day, number % 3, True)
        for host in (0, 1):
            self.publish_everything(host)

    @rule(
        campaigns=st.lists(st.sampled_from(CAMPAIGNS), min_size=1, max_size=4, unique=True),
        day=st.integers(0, 2), skipped=st.integers(0, 6), when=whens, error=errors, channel=channels,
    )  # fmt: skip
    def traffic_that_fails(
        self,
        campaigns: list[str],
        day: int,
        skipped: int,
        when: str,
        error: type[BaseException],
        channel: Channel,
    ) -> None:
        """After all was well."""
        self.redis.plan.clear()
        for host in (0, 1):
            self.publish_everything(host)
        for campaign in campaigns:
            for partition in range(PARTITIONS):
                self.fact(partition, campaign, f.OPENED, day, 1, True)
        self.fail(skipped, when, error)
        for host in (0, 1):
            self.turn(host, channel)

    @rule(host=hosts, channel=channels, check=st.booleans())
    def publish(self, host: int, channel: Channel, check: bool) -> None:
        self.turn(host, channel, check=check)

    @rule(host=hosts)
    def publish_everything(self, host: int) -> None:
        for check in (True, False):
            for channel in (NUMBERS, SECTIONS):
                self.turn(host, channel, check=check)

    @rule(seconds=st.sampled_from((0.5, 1.5, 3.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        skipped=st.integers(0, 8),
        when=whens,
        error=errors,
    )  # fmt: skip
    def fail(self, skipped: int, when: str, error: type[BaseException]) -> None:
        async def raises() -> None:
            raise error

        self.plan(skipped, when, raises)

    def plan(self, skipped: int, when: str, what: Callable[[], Awaitable[None]]) -> None:
        self.redis.plan.extend([None] * skipped)
        self.redis.plan.append(Interruption(when, what))

    @rule(
        skipped=st.integers(0, 8),
        when=whens,
        what=st.sampled_from(("count", "flushall", "lose", "save", "restore", "revoke", "zombie")),
        partition=partitions,
    )
    def happen_meanwhile(self, skipped: int, when: str, what: str, partition: int) -> None:
        """Amid a step of the publisher."""

        async def happens() -> None:
            owner = self.workers[self.owner[partition]]
            if what == "count":
                self.count(partition)
            elif what == "flushall":
                await self.raw.flushall()
            elif what == "lose":
                await self._lose_a_key(skipped, False)
            elif what == "save":
                await self._save()
            elif what == "restore":
                await self._restore()
            elif what == "revoke":
                owner.close(partition)
            else:
                zombie = self.workers[1 - self.owner[partition]]
                if partition in zombie.databases:
                    await zombie.publisher.turn(NUMBERS, check=True)

        self.plan(skipped, when, happens)

    @rule()
    def flushall(self) -> None:
        self.do(self.raw.flushall())

    @rule(which=st.integers(0, 99), field=st.booleans(), published=st.booleans())
    def lose_a_key(self, which: int, field: bool, published: bool) -> None:
        """Evicted, or deleted by somebody: a whole key, or what says that a partition's share is there."""
        if published:
            for host in (0, 1):
                self.publish_everything(host)
        self.do(self._lose_a_key(which, field))

    async def _lose_a_key(self, which: int, field: bool) -> None:
        names = sorted(cast(list[bytes], await self.raw.keys("cr:v4:*")))
        shares = [
            (name, fence)
            for name in names
            if b":report:" in name or b":sections:" in name
            for fence in sorted(cast(list[bytes], await self.raw.hkeys(name.decode())))
            if fence.startswith(b"f:")
        ]
        if field and shares:
            name, fence = shares[which % len(shares)]
            await self.raw.hdel(name.decode(), fence.decode())
        elif names:
            await self.raw.delete(names[which % len(names)].decode())

    @rule()
    def save(self) -> None:
        self.do(self._save())

    async def _save(self) -> None:
        self.saved = {
            cast(bytes, name): cast(bytes, await self.raw.dump(name)) for name in await self.raw.keys()
        }

    @precondition(lambda self: self.saved)
    @rule()
    def restore(self) -> None:
        """Redis comes back with an older file."""
        self.do(self._restore())

    async def _restore(self) -> None:
        await self.raw.flushall()
        for name, value in self.saved.items():
            await self.raw.restore(name, 0, value)

    @may_open
    @rule(host=hosts)
    def kill(self, host: int) -> None:
        self.restart(host)

    @may_open
    @rule(host=hosts, from_log=st.booleans())
    def rebuild(self, host: int, from_log: bool) -> None:
        self.requests[host] = Request(f"{self.requests[host].id}x", from_log)
        self.restart(host)

    @may_open
    @rule(partition=partitions)
    def remove_a_folder(self, partition: int) -> None:
        host = self.owner[partition]
        self.end(host)
        shutil.rmtree(self.folder / f"host{host}" / f"p{partition}", ignore_errors=True)
        self.assign(host)

    @may_open
    @rule(partition=partitions, noticed=st.booleans())
    def move(self, partition: int, noticed: bool) -> None:
        """To the other host, which has a folder of its own. Who hasn't noticed goes on as a zombie."""
        old, self.owner[partition] = self.owner[partition], 1 - self.owner[partition]
        if noticed:
            self.workers[old].close(partition)
        new = self.workers[self.owner[partition]]
        if partition in new.databases:  # it was a zombie, and hears now that it is the owner again
            new.close(partition)
        self.assign(self.owner[partition])

    @may_open
    @rule(partition=partitions, from_log=st.booleans(), moves=st.booleans())
    def rebuild_and_lose(self, partition: int, from_log: bool, moves: bool) -> None:
        """Rebuilt, published, and then the folder is removed or the partition moves to another host."""
        owner = self.owner[partition]
        self.redis.plan.clear()
        self.fact(partition, CAMPAIGNS[0], f.OPENED, 0, 0, True)
        self.rebuild(owner, from_log)
        self.count(partition)
        self.publish_everything(owner)
        if moves:
            self.move(partition, True)
        else:
            self.remove_a_folder(partition)

    @may_open
    @rule(host=hosts)
    def notice(self, host: int) -> None:
        """A zombie hears of the assignments."""
        worker = self.workers[host]
        for partition in list(worker.databases):
            if self.owner[partition] != host:
                worker.close(partition)
        self.assign(host)

    @may_open
    @rule(zombie=st.booleans())
    def recreate_the_topic(self, zombie: bool) -> None:
        self.topic_number += 1
        self.logs = [[] for _ in range(PARTITIONS)]
        for host in (0, 1) if not zombie else (0,):
            self.end(host)
        if zombie:  # its partitions are the other host's by now
            self.owner = [0] * PARTITIONS
        for host in (0, 1):
            self.assign(host)

    @may_open
    @rule(partition=partitions)
    def lose_the_end_of_the_log(self, partition: int) -> None:
        """A broker came back without its last records; who has counted them removes the folder, as the message says."""
        host = self.owner[partition]
        self.end(host)
        self.end(1 - host)
        del self.logs[partition][len(self.logs[partition]) // 2 :]
        shutil.rmtree(self.folder / "host0" / f"p{partition}", ignore_errors=True)
        shutil.rmtree(self.folder / "host1" / f"p{partition}", ignore_errors=True)
        self.assign(host)
        self.assign(1 - host)

    # What must hold

    @invariant()
    def memory_is_bounded(self) -> None:
        for worker in self.workers:
            for parts in worker.publisher._parts.values():
                assert all(part.marks <= publication.MOST_MARKS for part in parts.values())

    def teardown(self) -> None:
        try:
            self.redis.plan.clear()
            self.be_quiet()
            self.assert_right()
        finally:
            for host in (0, 1):
                self.end(host)
            self.do(self.raw.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)

    def be_quiet(self) -> None:
        """No failures any more, and a bounded number of steps; zombies live for the first half of them."""
        for number in range(QUIET_ROUNDS):
            self.now += 1.5
            for host in (0, 1):
                if number == QUIET_ROUNDS // 2:
                    self.notice(host)
                elif number == 0:
                    self.assign(host)
                worker = self.workers[host]
                for partition in worker.databases:
                    if self.is_current(worker, partition):
                        worker.count(partition, self.logs[partition])
                if number > QUIET_ROUNDS // 2 and worker.publisher.idle_s() > STALL_S:
                    self.restart(host)
                for channel in (NUMBERS, SECTIONS):
                    while self.do(worker.publisher.turn(channel, check=True)):
                        pass
            if number == QUIET_ROUNDS // 2 + 1:
                self.now += STALL_S
        for worker in self.workers:
            self.do(worker.publisher._tidy())

    def assert_right(self) -> None:
        databases = {
            partition: self.workers[host].databases[partition] for partition, host in enumerate(self.owner)
        }
        assert all(database.next_offset == len(self.logs[p]) for p, database in databases.items())
        for channel in (NUMBERS, SECTIONS):
            stored = self.do(self.raw.hgetall(channel.positions))
            assert {int(p): fence_of(text) for p, text in stored.items()} == {
                p: Fence(base.generation, base.next_offset, self.topic) for p, base in databases.items()
            }
        for worker in self.workers:
            assert worker.conditions.current() == ()
            assert worker.publisher.idle_s() == 0
        reader = ViewReader(self.raw, PARTITIONS)
        campaigns = CampaignList(self.raw, reader)
        known = set()
        for campaign in CAMPAIGNS:
            if self.assert_view(reader, campaign, list(databases.values())):
                known.add(campaign)
        page = self.do(campaigns.page(ORG, (), after=None, limit=9, epoch="e"))
        assert (set(page.names), page.matching) == (known, len(known))
        found = self.do(campaigns.page(ORG, CAMPAIGNS[:1], after=None, limit=9, epoch="e"))
        assert set(found.names) == known & {CAMPAIGNS[0]}
        assert self.do(self.raw.smembers(TOPICS)) == {self.topic.encode(), ALL_TOPICS.encode()}
        others = [
            name for name in self.do(self.raw.keys("cr:v4:topic-*")) if f":{self.topic}:".encode() not in name
        ]
        assert others == []

    def assert_view(self, reader: ViewReader, campaign: str, databases: list[PartitionDatabase]) -> bool:
        """Whether the campaign is there; the view equals the databases' sums in any case."""
        key = keys.campaign_key(SECRET, ORG, campaign)
        view = self.do(reader.load(key, epoch="e", hours=True, sections=PUBLISHED))
        rows = [row for base in databases if (row := base.aggregates.campaign_row(key)) is not None]
        if not rows:
            assert view is None
            return False
        assert view is not None and view.complete and not view.behind_ms
        patterns: dict[int, int] = {}
        totals, overflow = [0] * METRICS, [0] * METRICS
        for row in rows:
            for pattern, recipients in row.patterns.items():
                patterns[pattern] = patterns.get(pattern, 0) + recipients
            totals = [a + b for a, b in zip(totals, row.totals, strict=True)]
            overflow = [a + b for a, b in zip(overflow, row.overflow, strict=True)]
        assert (view.patterns, view.totals, view.overflow) == (patterns, totals, overflow)
        assert view.as_of_ms == max(row.as_of_ms for row in rows)
        quarters: dict[int, list[int]] = {}
        parts: list[tuple[int, int, Any]] = []
        names = [named.name for base in databases if (named := base.aggregates.labels_row(key)) is not None]
        for base in databases:
            for day in range(START_MS // DAY_MS, START_MS // DAY_MS + 4):
                for quarter, counts in base.aggregates.day_row(key, day).quarters.items():
                    known = quarters.setdefault(quarter, [0] * METRICS)
                    quarters[quarter] = [a + b for a, b in zip(known, counts, strict=True)]
            book = base.aggregates.book(key)
            for section in PUBLISHED:
                parts.append((base.partition, section, unpack_part(pack_part(section_part(book, section)))))
        assert view.quarters == quarters
        assert {s: rows for s, rows in _rows(view.sections).items() if rows} == {
            s: rows for s, rows in _rows(merge_parts(parts)).items() if rows
        }
        if names:
            assert view.labels.name == names[0]
        return True


def _rows(sections: dict[int, Rows] | None) -> dict[int, dict[tuple[int, int], int]]:
    return {section: dict(rows.tallies) for section, rows in (sections or {}).items()}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch, redis_db: str) -> type[World]:
    """A slice for each campaign and few marks, so that small worlds have large ones' seams."""
    monkeypatch.setattr(publication, "COMMANDS_PER_TRIP", 1)
    monkeypatch.setattr(publication, "MOST_MARKS", 16)
    monkeypatch.setattr(touched, "ROWS", 2)
    monkeypatch.setattr(publish, "LONG_S", 1.0)
    World.redis_url = redis_db
    return World


def run(machine: type[World], examples: int) -> None:
    run_machine(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_after_quiet_every_view_equals_its_database(small_steps: type[World]) -> None:
    run(small_steps, 100)


@pytest.mark.parametrize("which", range(12))
def test_a_share_that_lost_its_fence_and_its_rows(small_steps: type[World], which: int) -> None:
    """What Redis has of an older generation goes, also where it lost of which one it is."""
    world = small_steps()
    world.begin()
    world.label("may", "A")
    world.rebuild_and_lose(1, from_log=False, moves=False)
    world.lose_the_end_of_the_log(1)
    world.save()
    world.lose_a_key(which, field=True, published=False)
    world.teardown()


def test_a_campaign_whose_rows_are_lost_and_whose_name_is_not(small_steps: type[World]) -> None:
    """The share of a new generation has no rows: what Redis knows of the old one's rows must not stay."""
    world = small_steps()
    world.begin()
    for campaign in ("spring", "spring", "spring", "july"):
        world.fact(1, campaign, f.CLICKED, 0, 1, True)
    world.publish_everything(0)
    world.lose_the_end_of_the_log(1)
    world.label("july", "A")
    world.teardown()


def test_a_share_that_is_lost_between_its_numbers_and_its_name(small_steps: type[World]) -> None:
    """In a repair: what was counted meanwhile comes with the name, and is not all of it."""
    world = small_steps()
    world.begin()
    world.label("autumn", "B")
    world.traffic(["summer", "spring", "autumn", "may"], 1)
    world.flushall()
    world.lose_a_key(3, field=False, published=True)
    world.traffic(["july", "winter", "autumn", "june"], 2)
    world.teardown()


@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_left_of_a_topic_without_campaigns(small_steps: type[World], late: bool) -> None:
    """Also where Redis has lost which topics there were, and where a look at it ended behind its removal."""
    world = small_steps()
    world.begin()
    for host in (0, 1):
        world.publish_everything(host)
    assert world.do(world.raw.exists(counts_name("topic-0")))
    world.recreate_the_topic(False)
    if late:
        for host in (0, 1):
            world.publish_everything(host)
        world.do(world.workers[0].publisher._tidy())
        assert not world.do(world.raw.exists(counts_name("topic-0")))
        world.do(world.workers[1].publisher._writer.looked(0, "topic-0", 0, {}))
    else:
        world.do(world.raw.delete(TOPICS))
    world.teardown()


@pytest.mark.long
def test_after_quiet_every_view_equals_its_database_at_length(small_steps: type[World]) -> None:
    run(small_steps, 2_000)
