"""What normalize says of webhooks that are gone before it read them, and where it begins; on a real Kafka and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from agents import webhook_log
from agents.normalize import Deliveries
from agents.webhook_log import AGAIN, CODE, MISSING, WebhookLog
from api.log_positions import Key, LogPositions
from app.errors import TryLater
from app.facts import FACTS_VERSION, CampaignRecord, encode
from app.installation import LostWebhooks
from app.topics import DEAD, INSTALLATION, NORMALIZE_GROUP, SHARES, WEBHOOKS, WEBHOOKS_PARTITIONS
from cli.main import run
from cli.topics import ensure_topics
from tables.conditions import Conditions
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings
from tables.redis_client import redis_of
from tables.redis_names import sync_client
from tables.webhook_positions import WEBHOOK_POSITIONS, end_fields, ends_of, lost_ends_of, positions_of
from tests.support.counting import World
from tests.support.facts import ORG
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until

EVERY = range(WEBHOOKS_PARTITIONS)


class Site(World):
    """The topics of an installation, and webhooks in them."""

    def post(self, *partitions: int, count: int = 5) -> None:
        producer = Producer(client_settings(self.kafka, "test"))
        for partition in partitions:
            for number in range(count):
                producer.produce(WEBHOOKS, b"%d" % number, partition=partition)
        assert producer.flush(10) == 0

    def trim_webhooks(self, *partitions: int, before: int) -> None:
        asked = self.admin.delete_records([TopicPartition(WEBHOOKS, p, before) for p in partitions])
        for future in asked.values():
            future.result(10)

    def commit(self, offset: int, *partitions: int) -> None:
        consumer = Consumer({**client_settings(self.kafka, "test"), "group.id": NORMALIZE_GROUP})
        consumer.commit(offsets=[TopicPartition(WEBHOOKS, p, offset) for p in partitions], asynchronous=False)
        consumer.close()

    def recreate(self) -> None:
        delete_topics(self.kafka, (WEBHOOKS,))
        ensure_topics(self.settings)

    def note_ends(self) -> None:
        """As each API process does while it serves."""
        positions = LogPositions(self.kafka, self.settings.redis, self.partitions, self.settings.installation)
        ends: dict[Key, int] = {}

        def known() -> bool:
            with contextlib.suppress(KafkaException):  # a topic that was just made has no leader for a moment
                ends.update(positions.ends()[0])
            return bool(ends)

        wait_until(known, 60, "the log's ends")
        positions.note_ends(ends)
        positions.close()

    def lost(self) -> list[LostWebhooks]:
        installation = InstallationLog(self.kafka).read()
        assert installation is not None
        return installation.lost

    def forget(self, *kinds: str) -> None:
        """As where Redis lost it."""
        with sync_client(self.settings.redis, self.settings.installation, timeout_s=2) as client:
            for name in client.hkeys(WEBHOOK_POSITIONS):
                if name.decode()[0] in kinds:
                    client.hdel(WEBHOOK_POSITIONS, name)


class Reading:
    """A worker's part that knows where it is."""

    def __init__(self, site: Site) -> None:
        self.conditions = Conditions()
        self.positions: dict[int, int] = {}
        self.deliveries = Deliveries()
        self.redis = redis_of(site.settings, timeout_s=2.0)
        self.log = WebhookLog(
            site.settings, self.redis, self.conditions, self.positions, self.deliveries, time.time
        )

    async def read(self, partition: int, offset: int, last: bytes | None = None) -> None:
        """Everything below the offset, and its facts are stored. `last`: the last record's value, where a test looks at
        it; another one than the log has stands for a log that lost its end since."""
        self.positions[partition] = offset
        if last is not None:
            self.log.read(partition, offset - 1, last)
        self.deliveries.expect(partition, offset, 0)
        await self.log.keep()

    @property
    def said(self) -> str:
        return next((one.message for one in self.conditions.current() if one.code == CODE), "")


@asynccontextmanager
async def reading(site: Site, partitions: Collection[int] = EVERY) -> AsyncIterator[Reading]:
    made = Reading(site)
    try:
        await made.log.begin(partitions)
        await made.log.look({})
        yield made
    finally:
        await made.redis.aclose()


@pytest.fixture
def site(tmp_path: Path, kafka: str, redis_db: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path, kafka, redis_db)
    made.export(monkeypatch)
    monkeypatch.setattr(webhook_log, "END_PAUSE_S", 0.01)
    return made


async def test_where_it_begins_and_what_is_lost(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    async with reading(site) as new:
        assert set(new.positions.values()) == {0}
        assert not new.said, "nothing is wrong with a new installation"
        await new.read(4, 4)
        await new.read(5, 2)
    site.post(*EVERY)
    site.commit(5, 0, 1)
    site.commit(2, 2, 3)
    site.commit(9, 7)
    site.trim_webhooks(1, 3, 4, 5, 6, before=4)
    with sync_client(site.settings.redis, site.settings.installation, timeout_s=2) as client:
        client.hdel(WEBHOOK_POSITIONS, "p:6")  # as Kafka, Redis knows nothing of it
    site.forget("c")  # as a version before them has it
    async with reading(site) as worker:
        # 0: all was read. 1: and trimmed since. 2: the rest is there. 3: a part of it is gone.
        # 4, 5: Kafka has forgotten the position, Redis has it; nothing or two are gone. 6: nobody knows the position.
        # 7: the log lost its end.
        assert worker.positions == {0: 5, 1: 5, 2: 2, 3: 4, 4: 4, 5: 4, 6: 4, 7: 0}
        assert worker.deliveries.positions() == worker.positions, "so it is committed"
        found = {one.partition: (one.position, one.to, one.lost) for one in site.lost()}
        assert found == {3: (2, 4, 2), 5: (2, 4, 2), 6: (None, 4, None), 7: (9, 0, None)}
        assert len({one.at_ms for one in site.lost()}) == 1
        assert "partition 3: offsets 2 to 3, 2 records" in worker.said
        assert "reports accept-gap --webhooks" in worker.said
    async with reading(site) as again:  # it ended before anything was committed
        assert again.positions == worker.positions
        assert len(site.lost()) == 4, "nothing is said twice"
        assert again.said == worker.said
        assert run(["accept-gap", "--webhooks", "--yes"]) == 0
        assert "partition 3: offsets 2 to 3, 2 records" in capsys.readouterr().out
        await again.log.look({})
        assert not again.said
    assert run(["accept-gap", "--webhooks", "--yes"]) == 3
    assert "nothing to accept" in capsys.readouterr().err
    async with reading(site) as later:
        assert not later.said, "it stays acknowledged"


async def test_more_is_lost_before_anything_is_committed(site: Site) -> None:
    """It was taken for what was said already."""
    site.post(0, count=20)
    site.commit(3, 0)
    said = 0
    for before in (5, 9, 16):
        site.trim_webhooks(0, before=before)
        for _ in range(2):
            async with reading(site) as worker:
                assert worker.positions[0] == before
                said = next(one.count or 0 for one in worker.conditions.current() if one.code == CODE)
                assert said == before - 3
    assert [(one.position, one.to, one.lost) for one in site.lost()] == [(3, 5, 2), (5, 9, 4), (9, 16, 7)]


async def test_a_log_that_lost_its_end_and_grew_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands there now was taken for what had been read."""
    monkeypatch.setattr(webhook_log, "COMPARE_S", 0)
    site.post(0, 1, 2, 3, count=10)
    async with reading(site) as worker:
        for partition in (0, 2):
            await worker.read(partition, 3, b"2")
        await worker.read(0, 7, b"gone")
        await worker.read(
            1, 8, b"7"
        )  # what was read and committed in the seconds before it died, Redis doesn't know
        await worker.read(2, 12, b"gone")
        await worker.read(3, 4, b"gone")
    site.commit(7, 0)
    site.commit(10, 1)
    site.commit(12, 2)
    site.commit(4, 3)
    begins = {0: 3, 1: 8, 2: 3, 3: 0} | dict.fromkeys(range(4, 8), 0)
    for _ in range(2):  # the first one ends before anything is committed
        async with reading(site, []) as worker:
            await worker.log.begin(EVERY)
            assert worker.positions == begins
            assert worker.deliveries.positions() == begins, "so it is committed, below what is"
            found = {one.partition: (one.position, one.to, one.lost) for one in site.lost()}
            assert found == {0: (7, 3, None), 2: (12, 3, None), 3: (4, 0, None)}
            assert len(site.lost()) == 3, "nothing is said twice"
            await worker.log._tell()
            assert "partition 0: the log lost its end, from before offset 7 on, up to which" in worker.said
            for partition in (0, 2, 3):
                await worker.read(partition, 5, b"4")
    async with reading(site) as worker:
        for partition in (0, 2, 3):
            await worker.read(partition, 5, b"4")
        await worker.log.look(await worker.log.look({}))  # compared, and Redis has it
    site.commit(5, 0, 2, 3)
    async with reading(site) as worker:
        assert worker.positions == begins | {0: 5, 2: 5, 3: 5}
        assert len(site.lost()) == 3


@pytest.mark.parametrize("has_redis", [True, False], ids=["", "while Redis is away"])
async def test_a_log_that_loses_its_end_under_a_running_normalize(
    site: Site, has_redis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, and its next start goes back; without Redis that would find nothing."""
    monkeypatch.setattr(webhook_log, "COMPARE_S", 0)
    monkeypatch.setattr(webhook_log, "WATCH_S", 0.05)
    site.post(0, count=10)
    async with reading(site) as worker:
        await worker.read(0, 3, b"2")
        await worker.log.look(await worker.log.look({}))
        assert not worker.log._over
        redis = worker.redis
        if not has_redis:
            away = msgspec.structs.replace(site.settings, redis="redis://127.0.0.1:9/0")
            worker.log._redis = redis_of(away, timeout_s=2)
        await worker.read(0, 7, b"gone")
        await worker.read(0, 7)  # nothing for a while
        await worker.read(0, 9, b"8")
        watching = asyncio.create_task(worker.log.watch())
        if not has_redis:
            await asyncio.wait([watching], timeout=1)
            assert not watching.done()
            worker.log._redis = redis
        with pytest.raises(TryLater, match="other records than were read"):
            await asyncio.wait_for(watching, 30)
    site.commit(9, 0)
    async with reading(site) as again:
        assert again.positions[0] == 3
        assert [(one.partition, one.position, one.to) for one in site.lost()] == [(0, 9, 3)]


async def test_webhooks_that_were_not_read_are_gone_with_the_end(site: Site) -> None:
    """By where Redis knows that the log had ended."""
    site.post(0, 1, 2, count=5)
    async with reading(site) as worker:
        await worker.read(0, 3, b"2")
        await worker.read(2, 5, b"4")
    with sync_client(site.settings.redis, site.settings.installation, timeout_s=2) as client:
        client.hset(WEBHOOK_POSITIONS, mapping=end_fields(worker.log._topic, {0: 9, 1: 6, 2: 5, 3: 0}))
    for begin in (3, 4):
        async with reading(site) as worker:
            assert {p: worker.positions[p] for p in (0, 1, 2)} == {0: begin, 1: 0, 2: 5}
            found = [(one.partition, one.position, one.to, one.lost) for one in site.lost()]
            assert found == [(0, 3, 3, None), (1, 0, 0, None)]
            assert "records from offset 3 on, which were not read, may be among it" in worker.said
            await worker.read(0, 4)
            ends = ends_of(await worker.log._kept() or {}, worker.log._topic)
            assert ends == {0: 5, 1: 5, 2: 5, 3: 0}, "what is recorded isn't found again"


@pytest.mark.parametrize("runs", [True, False], ids=["under a running normalize", ""])
async def test_webhooks_that_were_not_read_and_a_log_that_grew_again(
    site: Site, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API has seen it."""
    monkeypatch.setattr(webhook_log, "COMPARE_S", 0)
    site.post(0, 1, count=5)
    async with reading(site) as worker:
        await worker.read(0, 3)
        await worker.read(1, 5)
        topic = worker.log._topic
        with sync_client(site.settings.redis, site.settings.installation, timeout_s=2) as client:
            client.hset(WEBHOOK_POSITIONS, mapping=end_fields(topic, {0: 9, 1: 5}))
            site.note_ends()
            site.post(0, 1, count=10)
            site.note_ends()
            assert lost_ends_of(client.hgetall(WEBHOOK_POSITIONS), topic) == {0: 9}
        if runs:
            await worker.log.look(await worker.log.look({}))
            assert worker.positions[0] == 3
    async with reading(site) as worker:
        assert [(one.partition, one.position, one.to, one.lost) for one in site.lost()] == [(0, 3, 3, None)]
        assert not lost_ends_of(await worker.log._kept() or {}, topic)


async def test_a_recreated_topic(site: Site) -> None:
    site.post(*EVERY)
    site.note_ends()
    async with reading(site) as worker:
        for partition in EVERY:
            await worker.read(partition, 5)
        site.recreate()
        site.post(*EVERY, count=7)
        site.commit(5, *EVERY)  # one that ran on has committed what is of the old topic
        watching = asyncio.create_task(worker.log.watch())
        with pytest.raises(TryLater, match="recreated"):
            await asyncio.wait_for(watching, 30)
    site.note_ends()
    async with reading(site, [0, 1]) as first, reading(site, [2]) as second:
        assert first.positions | second.positions == {0: 0, 1: 0, 2: 0}, "no record of the new one is skipped"
        assert not (first.said or second.said or site.lost()), "all of the old one was read"
        await first.read(1, 3)
        site.note_ends()
        site.recreate()
    async with reading(site, [0]) as third:
        # Nobody has had 3 to 7 since the topic before.
        assert {one.partition: (one.position, one.lost) for one in site.lost()} == {
            p: (3, 4) if p == 1 else (0, 7) for p in EVERY
        }  # fmt: skip
        assert (
            "partition 1: the topic was recreated, and of the old one 4 records from offset 3 on"
            in third.said
        )
    async with reading(site) as everything:
        assert set(everything.positions.values()) == {0}
        assert len(site.lost()) == 8
        site.forget("e", "p")
        site.recreate()
    async with reading(site, [0]):
        assert [one.lost for one in site.lost()[8:]] == [None] * 8, "nobody knows: it is said all the same"


@pytest.mark.parametrize(
    ("forgotten", "found"),
    [
        ("", [(True, 2, 3)] * 7 + [(True, 5, 0)]),
        ("e", [(True, 2, None)] * 7 + [(True, 5, None)]),
        ("p", [(True, None, None)] * 8),
        ("pe", [(False, None, None)] * 8),
    ],
    ids=["Redis knows all", "no ends", "no positions", "Redis knows nothing"],
)
async def test_webhooks_and_installation_recreated_together(
    site: Site, forgotten: str, found: list[tuple[bool, int | None, int | None]]
) -> None:
    """The new topic `installation` named the new `webhooks` as the one that was read: nothing was said, for good."""
    site.fill(1)
    site.post(*EVERY)
    site.note_ends()
    async with reading(site) as worker:
        for partition in EVERY:
            await worker.read(partition, 5 if partition == 7 else 2)
        before = worker.log._topic
    site.forget(*forgotten)
    id_ = site.settings.installation
    site.remake_installation(WEBHOOKS)
    assert site.settings.installation == id_
    site.post(*EVERY, count=7)
    site.note_ends()
    async with reading(site, [0, 1]) as first, reading(site, [2]) as second:
        assert first.positions | second.positions == {0: 0, 1: 0, 2: 0}, "no record of the new one is skipped"
        lost = [(one.topic_before == before, one.position, one.lost) for one in site.lost()]
        assert lost == [one for one in found if one[2] != 0]
        words = "whether all that was accepted before was read is not known"
        assert f"partition 0: {words if forgotten == 'pe' else 'the topic was recreated'}" in first.said
        assert await asyncio.to_thread(run, ["accept-gap", "--webhooks", "--yes"]) == 0
        await first.log.look({})
        assert not first.said
    async with reading(site) as later:
        assert len(site.lost()) == len(lost), "it is said once"
        assert not later.said


@pytest.mark.parametrize("older", [True, False], ids=["older Redis", "Redis of today"])
async def test_a_recreated_topic_and_an_older_redis(site: Site, older: bool) -> None:
    """The older one says that everything was read."""
    site.post(*EVERY)
    site.note_ends()
    async with reading(site) as worker:
        for partition in EVERY:
            await worker.read(partition, 5)
        with sync_client(site.settings.redis, site.settings.installation, timeout_s=2) as client:
            before = client.hgetall(WEBHOOK_POSITIONS)
        site.post(0)
        site.fill(2)
        await worker.read(0, 10)
    # What stands in topic `facts` besides comes from others, at any time.
    site.produce(0, encode(CampaignRecord(FACTS_VERSION, ORG, "spring", 1, "Spring")))
    site.note_ends()
    site.post(0)  # accepted, and not read any more
    site.note_ends()
    if older:
        with sync_client(site.settings.redis, site.settings.installation, timeout_s=2) as client:
            client.delete(WEBHOOK_POSITIONS)
            client.hset(WEBHOOK_POSITIONS, mapping=before)
    site.recreate()
    async with reading(site) as worker:
        lost = [(one.partition, one.position, one.lost) for one in site.lost()]
        assert lost == ([(p, None, None) for p in EVERY] if older else [(0, 10, 5)])
        assert "nobody can say how many records" in worker.said or not older


async def test_losses_have_the_installation_s_time_not_the_host_s(site: Site) -> None:
    site.post(0)
    async with reading(site) as worker:
        await worker.read(0, 2)
        worker.log._wall = lambda: 5.0
        site.trim_webhooks(0, before=5)
        await worker.log.look(await worker.log.look({}))
    (lost,) = site.lost()
    assert lost.at_ms == 5_000


@pytest.mark.parametrize("forgotten", ["", "pe"], ids=["", "and Redis emptied"])
@pytest.mark.parametrize("id_is_known", [True, False], ids=["same id", "by a host that knows no id"])
async def test_installation_recreated_alone_is_no_false_alarm(
    site: Site, forgotten: str, id_is_known: bool
) -> None:
    site.fill(1)
    site.post(*EVERY)
    async with reading(site) as worker:
        for partition in EVERY:
            await worker.read(partition, 3)
    site.commit(
        3, 0, 1, 2
    )  # normalize commits a moment later than it reads; in some partitions nothing ever came
    site.forget(*forgotten)
    if not id_is_known:
        (site.settings.data / "installation").unlink()
    site.remake_installation()
    async with reading(site, [0, 5]) as worker:
        assert worker.positions == {0: 3, 5: 3 if not forgotten and id_is_known else 0}
        assert not (worker.said or site.lost())
    site.forget(*"pe")
    site.recreate()  # it is known again which one was read
    async with reading(site, [0]):
        assert [(one.partition, one.lost) for one in site.lost()] == [(p, None) for p in EVERY]


async def test_an_emptied_redis_alone_is_no_false_alarm(site: Site) -> None:
    site.fill(1)
    site.post(*EVERY)
    site.note_ends()
    async with reading(site) as worker:
        await worker.read(0, 3)
    for committed in (0, 3):
        if committed:
            site.commit(committed, 0)
        site.forget(*"pe")
        async with reading(site) as worker:
            assert worker.positions == dict.fromkeys(EVERY, 0) | {0: committed}
            assert not (worker.said or site.lost())


async def test_what_is_found_together_is_written_in_one_batch(site: Site) -> None:
    """Each record has every database of `facts` opened once more, which costs readers a generation: who looks between
    two of them did it again for the next one."""
    site.post(*EVERY)
    site.commit(1, *EVERY)
    site.trim_webhooks(*EVERY, before=4)
    async with reading(site):
        assert len(site.lost()) == 8
    consumer = Consumer({**client_settings(site.kafka, "test"), "group.id": "test"})
    consumer.assign([TopicPartition(INSTALLATION, 0, 0)])
    stored: dict[bytes, int] = {}

    def all_there() -> bool:
        stored.update(messages_of(consumer))
        return sum(b"lost_webhooks" in value for value in stored) == 8

    wait_until(all_there, 20, "the records")
    consumer.close()
    assert len({at_ms for value, at_ms in stored.items() if b"lost_webhooks" in value}) == 1


def messages_of(consumer: Consumer) -> dict[bytes, int]:
    """Value → when it was appended: the same for all records of a batch."""
    found = consumer.consume(100, 0.2)
    return {one.value() or b"": one.timestamp()[1] for one in found if one.error() is None}


async def test_retention_overtakes_a_worker(site: Site) -> None:
    async with reading(site) as worker:
        site.post(0, 1, 2, count=10)
        for partition in (0, 1, 2):
            await worker.read(partition, 3)
        stored_ms = int(time.time() * 1000)
        await worker.log.jumped(0, 6, stored_ms)
        assert (worker.positions[0], site.lost()) == (3, []), "all of it is there: chunks out of order"
        site.trim_webhooks(0, before=6)
        await worker.log.jumped(0, 6, stored_ms)
        assert worker.positions[0] == 6
        # Nothing is left to read: no chunk will ever say it.
        site.trim_webhooks(1, before=10)
        before = await worker.log.look({})
        assert len(site.lost()) == 1, "what was fetched before may be under way"
        delivered = worker.deliveries.expect(2, 4, 1)
        before = await worker.log.look(before)
        assert len(site.lost()) == 1
        delivered()
        before = await worker.log.look(before)
        assert worker.positions == {0: 6, 1: 10, 2: 3} | dict.fromkeys(range(3, 8), 0)
        assert worker.deliveries.positions()[1] == 10
        found = [(one.partition, one.position, one.to, one.lost, one.before_ms) for one in site.lost()]
        assert found == [(0, 3, 6, 3, stored_ms), (1, 3, 10, 7, None)]
        assert "partition 1: offsets 3 to 9, 7 records" in worker.said
        await worker.log.look(before)
        assert len(site.lost()) == 2


async def test_without_redis(site: Site) -> None:
    """Parsing goes on without it; only where Kafka has no position either it is waited for."""
    site.post(0, 1)
    site.commit(2, 0)
    site.trim_webhooks(0, before=3)
    site.settings = msgspec.structs.replace(site.settings, redis="redis://127.0.0.1:9/0")
    worker = Reading(site)
    await worker.log.begin([0, 1])
    assert worker.positions == {0: 3, 1: 0}
    assert [one.lost for one in site.lost()] == [1]
    site.trim_webhooks(1, before=3)
    with pytest.raises(TryLater, match="Redis may have it"):
        await Reading(site).log.begin([1])


@pytest.mark.parametrize("topic", [WEBHOOKS, DEAD, SHARES, INSTALLATION])
@pytest.mark.parametrize("has", [True, False], ids=["with partitions", "with none"])
async def test_a_topic_that_is_gone_ends_the_process_whose_start_makes_it(
    site: Site, topic: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody made it again. Once the topic was gone the group gave nobody anything, and nobody looked any more."""
    monkeypatch.setattr(webhook_log, "WATCH_S", 0.05)
    async with reading(site) as worker:
        site.post(0)
        await worker.read(0, 3)
        delivered = worker.deliveries.expect(0, 5, 1)
        if not has:
            for partition in EVERY:
                worker.log.forget(partition)
        delete_topics(site.kafka, (topic,))
        watching = asyncio.create_task(worker.log.watch())
        await asyncio.to_thread(wait_until, lambda: worker.conditions.has(MISSING), 30, "it is said")
        delivered()
        with pytest.raises(TryLater, match=f"topic {topic} is not there"):
            await asyncio.wait_for(watching, 30)
        (said,) = [one.message for one in worker.conditions.current() if one.code == MISSING]
        assert f"topic {topic} is not there" in said
        kept = positions_of(await worker.log._kept() or {})
        assert kept[0].offset == (5 if has else 3), "what was stored until the end is not lost"
    ensure_topics(site.settings)
    async with reading(site, [0]) as again:
        assert not again.conditions.has(MISSING)


async def test_an_installation_topic_that_was_made_again_is_said_until_it_is_acknowledged(site: Site) -> None:
    async with reading(site) as worker:
        assert not worker.conditions.has(AGAIN)
        id_, log = site.settings.installation, InstallationLog(site.kafka)
        before = log.read()
        assert before is not None
        delete_topics(site.kafka, (INSTALLATION,))
        ensure_topics(site.settings)
        log.append(msgspec.structs.replace(before.identity, again_ms=5))
        await worker.log.look({})
        (said,) = [one.message for one in worker.conditions.current() if one.code == AGAIN]
        assert "made again at 1970-01-01" in said
        assert "`reports accept-gap --webhooks`" in said
        assert await asyncio.to_thread(run, ["accept-gap", "--webhooks", "--yes"]) == 0
        await worker.log.look({})
        assert not worker.conditions.has(AGAIN)
        assert not worker.log._over, f"it is still {id_}"


async def test_an_installation_topic_of_another_installation_ends_the_process(site: Site) -> None:
    async with reading(site) as worker:
        log = InstallationLog(site.kafka)
        before = log.read()
        assert before is not None
        delete_topics(site.kafka, (INSTALLATION,))
        ensure_topics(site.settings)
        log.append(msgspec.structs.replace(before.identity, id="another"))
        watching = asyncio.create_task(worker.log.watch())
        with pytest.raises(TryLater, match="recreated for installation another"):
            await asyncio.wait_for(watching, 30)


async def test_a_broker_that_does_not_know_a_topic_for_a_moment_ends_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(site) as worker:
        answers = iter(["topic webhooks is not there", "", "topic webhooks is not there", ""])
        monkeypatch.setattr(worker.log._inspector, "missing", lambda: next(answers))
        for _ in range(4):
            await worker.log.look({})
        assert not worker.log._over
        assert not worker.conditions.has(MISSING)


async def test_a_topic_that_somebody_made_again_with_other_partitions(site: Site) -> None:
    site.post(0)
    site.note_ends()
    async with reading(site) as worker:
        await worker.read(0, 2)
        delete_topics(site.kafka, (WEBHOOKS,))
        for made in site.admin.create_topics([NewTopic(WEBHOOKS, 3, 1)]).values():
            made.result(10)
        watching = asyncio.create_task(worker.log.watch())
        with pytest.raises(TryLater, match=f"topic {WEBHOOKS} has 3 of 8 partitions"):
            await asyncio.wait_for(watching, 30)
    ensure_topics(site.settings)
    async with reading(site) as again:
        assert again.positions == dict.fromkeys(EVERY, 0)
        assert [(one.partition, one.position, one.lost) for one in site.lost()] == [(0, 2, 3)]


async def test_kafka_without_topics_ends_nobody_who_reads(site: Site) -> None:
    async with reading(site) as worker:
        delete_topics(site.kafka, (WEBHOOKS, INSTALLATION))
        with pytest.raises(TryLater):
            await worker.log.jumped(0, 5, 0)
