"""Publication doesn't stop the counting: its slices take a bounded time, and what it keeps a bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from agents import publication
from agents.publication import SLICE_S, NumbersOfPartition, SectionsOfPartition, Withheld, why_withheld
from agents.publish import WITHHELD, Publisher
from app import facts as f
from app import keys
from app.facts import CampaignKey, FactsRecord, encode
from tables.cache import RecipientCache
from tables.conditions import Conditions
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import Applied, PartitionDatabase
from tables.redis_client import redis_client
from tables.view_writer import Call, ViewWriter
from tables.views import NUMBERS, SECTIONS, Channel, Fence, ViewReader, fences_of
from tests.support.facts import ORG, SECRET, START_MS, entry
from tests.support.interrupted import InterruptedRedis, Interruption

CAMPAIGNS = 300
LIMIT_S = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def record(campaign: str, number: int) -> bytes:
    made = entry(
        f.CLICKED, START_MS + number, number=number, campaign=campaign, address=f"{number}@example.com"
    )
    return encode(FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, [made]))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PartitionDatabase]:
    meta = Meta(LAYOUT_VERSION, 0, 1, "topic", keys.secret_fingerprint(SECRET), 1)
    base = PartitionDatabase(tmp_path / "p0", meta, SECRET, RecipientCache(1_000))
    base.apply([(number, record(f"campaign {number}", number)) for number in range(CAMPAIGNS)])
    yield base
    base.close()


@pytest.fixture
async def raw(redis_db: str) -> AsyncIterator[Redis]:
    redis = redis_client(redis_db, timeout_s=5)
    yield redis
    await redis.aclose()


@pytest.fixture
def slow_encoding(monkeypatch: pytest.MonkeyPatch) -> tuple[Clock, list[float]]:
    """Encoding a campaign takes 2 ms by the clock; the times at which campaigns were encoded."""
    clock, at = Clock(), []
    for kind in (NumbersOfPartition, SectionsOfPartition):
        original = kind.encode

        def encoding(
            self: Any,
            writer: ViewWriter,
            campaign: CampaignKey,
            what: Collection[int],
            original: Any = original,
        ) -> Call | None:
            at.append(clock.now)
            clock.now += 0.002
            return cast(Call | None, original(self, writer, campaign, what))

        monkeypatch.setattr(kind, "encode", encoding)
    return clock, at


@pytest.mark.parametrize("channel", [NUMBERS, SECTIONS])
async def test_a_repair_goes_in_slices_between_which_is_counted(
    raw: Redis, database: PartitionDatabase, slow_encoding: tuple[Clock, list[float]], channel: Channel
) -> None:
    clock, at = slow_encoding
    publisher = Publisher(ViewWriter(raw), "tester", clock=clock)
    publisher.add(database)
    steps = 0
    while True:
        began, before = clock.now, len(at)
        more = await publisher.turn(channel, check=False)
        steps += 1
        assert clock.now - began <= LIMIT_S
        assert len(at) - before <= SLICE_S / 0.002 + 1
        if not more:
            break
        # A batch between any two slices, of a campaign that was published, one that was not, and a new one.
        line = [f"campaign {steps}", f"campaign {CAMPAIGNS - steps}", f"new {steps}"]
        offset = database.next_offset
        publisher.mark(
            0, database.apply([(offset + n, record(name, offset + n)) for n, name in enumerate(line)])
        )
    assert steps >= CAMPAIGNS * 0.002 / LIMIT_S
    stored = fences_of(cast(dict[bytes, bytes], await raw.hgetall(channel.positions)))
    assert stored == {0: Fence(1, CAMPAIGNS, "topic")}, "as of its beginning"
    # What came meanwhile is an ordinary flush, which goes in slices too.
    began = clock.now
    await publisher.turn(channel, check=False)
    stored = fences_of(cast(dict[bytes, bytes], await raw.hgetall(channel.positions)))
    assert stored == {0: Fence(1, database.next_offset, "topic")}
    if channel is NUMBERS:
        view = await ViewReader(raw, 1).load(
            keys.campaign_key(SECRET, ORG, "campaign 1"), epoch="e", hours=False
        )
        assert view is not None and sum(view.patterns.values()) == 2


async def test_a_flush_of_many_campaigns_lets_others_run_between_its_slices(
    raw: Redis, database: PartitionDatabase, slow_encoding: tuple[Clock, list[float]]
) -> None:
    clock, at = slow_encoding
    publisher = Publisher(ViewWriter(raw), "tester", clock=clock)
    publisher.add(database)
    while await publisher.turn(SECTIONS, check=False):
        pass
    offset = database.next_offset
    publisher.mark(
        0, database.apply([(offset + n, record(f"campaign {n}", offset + n)) for n in range(CAMPAIGNS)])
    )
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        while True:
            seen = clock.now
            await asyncio.sleep(0)
            longest = max(longest, clock.now - seen)

    task = asyncio.create_task(others())
    before = len(at)
    await publisher.turn(SECTIONS, check=False)
    task.cancel()
    assert len(at) - before == CAMPAIGNS
    assert 0 < longest <= LIMIT_S


async def test_memory_is_bounded_while_redis_is_unavailable(
    raw: Redis, database: PartitionDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "MOST_MARKS", 50)
    redis = InterruptedRedis(raw)
    clock = Clock()
    conditions = Conditions()
    publisher = Publisher(ViewWriter(cast(Redis, redis)), "tester", conditions=conditions, clock=clock)
    publisher.add(database)
    while await publisher.turn(NUMBERS, check=False) or await publisher.turn(SECTIONS, check=False):
        pass

    async def refused() -> None:
        raise RedisConnectionError("refused")

    redis.plan.extend([Interruption("before", refused)] * 10_000)
    parts = [part for parts in publisher._parts.values() for part in parts.values()]
    for number in range(600):
        offset = database.next_offset
        applied = database.apply([(offset, record(f"campaign {number % CAMPAIGNS}", offset))])
        applied.accepted_at_ms *= 50
        publisher.mark(0, applied)
        clock.now += 0.1
        if number % 100 == 0:
            await publisher.turn(NUMBERS, check=True)
            assert [one.code for one in conditions.current()] == ["redis_unavailable"]
        assert all(part.marks <= 50 for part in parts)
    assert all(len(part._waiting) <= 1_000 for part in parts)
    assert len(publisher._counted) <= 61
    assert publisher.idle_s() < 60, "a Redis that doesn't answer is no standstill of this process"
    redis.plan.clear()
    for channel in (NUMBERS, SECTIONS):
        while await publisher.turn(channel, check=True):
            pass
        stored = fences_of(cast(dict[bytes, bytes], await raw.hgetall(channel.positions)))
        assert stored == {0: Fence(1, database.next_offset, "topic")}
    assert conditions.current() == ()
    view = await ViewReader(raw, 1).load(keys.campaign_key(SECRET, ORG, "campaign 7"), epoch="e", hours=False)
    row = database.aggregates.campaign_row(keys.campaign_key(SECRET, ORG, "campaign 7"))
    assert view is not None and row is not None and view.totals == row.totals


OWN = Fence(5, 60, "now")


@pytest.mark.parametrize(
    ("stands", "log_end", "withheld"),
    [
        (None, 100, None),
        (Fence(5, 60, "now"), 100, None),
        (Fence(5, 20, "now"), 100, None),
        (Fence(4, 60, "now"), 100, None),
        # Counted again: readers keep what they have until the database is as far.
        (Fence(5, 90, "now"), 100, Withheld(5, 90)),
        (Fence(4, 90, "now"), 100, Withheld(4, 90)),
        (Fence(4, 90, "now"), None, Withheld(4, 90)),
        # The log has lost its end: it never gets there.
        (Fence(4, 90, "now"), 60, None),
        (Fence(4, 90, "now"), 70, Withheld(4, 70)),
        # Another copy of the database.
        (Fence(6, 10, "now"), 100, Withheld(6, None)),
        # Offsets of another topic have nothing to do with it.
        (Fence(4, 900, "before"), 100, None),
        (Fence(6, 900, "before"), 100, Withheld(6, None)),
    ],
)
def test_why_it_is_withheld(stands: Fence | None, log_end: int | None, withheld: Withheld | None) -> None:
    assert why_withheld(stands, OWN, log_end) == withheld


async def test_what_is_withheld_is_said_and_ends_the_process_only_if_it_never_ends(
    raw: Redis, database: PartitionDatabase
) -> None:
    writer = ViewWriter(raw)
    clock = Clock()
    conditions = Conditions()

    async def publish() -> None:
        clock.now += 61
        for _ in range(20):
            for channel in (NUMBERS, SECTIONS):
                await publisher.turn(channel, check=True)

    async def stand(fence: Fence) -> None:
        for channel in (NUMBERS, SECTIONS):
            begun = await writer.begin_repair(0, fence, channel)
            assert await writer.end_repair(0, begun.token, fence, channel)

    await stand(Fence(0, CAMPAIGNS * 2, "topic"))
    publisher = Publisher(writer, "tester", conditions=conditions, clock=clock)
    publisher.add(database, CAMPAIGNS * 2)
    await publish()
    (condition,) = conditions.current()
    assert (condition.code, condition.partition, condition.progress) == (WITHHELD, 0, 0.5)
    assert condition.reason == "a part of the numbers is counted again"
    assert publisher.counters[WITHHELD] == 2, "once for each channel"
    publisher.idle_s()
    publisher.mark(0, database.apply([(CAMPAIGNS, record("campaign 0", CAMPAIGNS))]))
    await publish()
    assert publisher.idle_s() == 0, "it comes nearer"
    await publish()
    assert publisher.idle_s() > 60, "it has stopped coming nearer"
    for offset in range(CAMPAIGNS + 1, CAMPAIGNS * 2 + 10):
        publisher.mark(0, database.apply([(offset, record("campaign 0", offset))]))
    # It has got further than needed before Redis is asked again: on this channel at once, on the other one later.
    await publisher.turn(NUMBERS, check=False)
    assert conditions.current() == ()
    await publish()
    assert conditions.current() == ()
    assert publisher.idle_s() == 0
    # Another copy of the database has a higher generation: counting on doesn't help.
    await stand(Fence(2, CAMPAIGNS * 3, "topic"))
    await publish()
    assert [one.code for one in conditions.current()] == [WITHHELD]
    assert publisher.counters[WITHHELD] == 4
    publisher.idle_s()
    offset = database.next_offset
    publisher.mark(0, database.apply([(offset, record("campaign 0", offset))]))
    await publish()
    assert publisher.idle_s() > 60


def test_marks_are_a_copy_of_what_the_database_says(database: PartitionDatabase) -> None:
    """What a batch marks is what is found behind its beginning."""
    for part in (NumbersOfPartition(database), SectionsOfPartition(database)):
        part.published = part.fence()
        offset = database.next_offset
        applied = Applied()
        for number in range(5):
            applied = database.apply([(database.next_offset, record(f"campaign {number}", offset + number))])
            part.mark(applied)
        assert part._marks == dict(filter(None, part.touched(offset)))
