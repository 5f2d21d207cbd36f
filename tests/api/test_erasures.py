"""`POST /api/v1/erasures`: which records it writes, and what it refuses without repeating it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from app.errors import TryLater
from app.facts import FACTS_VERSION, OPENED, ErasedRecord, FactsRecord, decode_record, encode
from app.keys import recipient_partition
from app.settings import Settings
from app.topics import FACTS, KafkaHeaders
from tables.every_campaign import NOT_KNOWN
from tables.kafka_clients import client_settings
from tables.origin import topic_ids
from tables.views import campaigns_name
from tests.api.reading import recipient_of
from tests.api.serving import PARTITIONS, TOPIC, Api, bearer, serving
from tests.support.facts import entry
from tests.support.kafka import delete_topics, fresh_topics

PATH = "/api/v1/erasures"


class Log:
    """A producer that keeps what it gets, or refuses the record of one campaign."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, int | None, ErasedRecord]] = []
        self.refuses = ""

    async def send(
        self, topic: str, value: bytes, headers: KafkaHeaders, partition: int | None = None
    ) -> None:
        record = decode_record(value)
        assert isinstance(record, ErasedRecord)
        if record.campaign == self.refuses:
            raise TryLater(2)
        self.kept.append((topic, partition, record))

    async def close(self) -> None:
        pass


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def api(redis_db: str, log: Log) -> AsyncIterator[Api]:
    async with serving(redis_db, producer=log) as running:
        yield running


async def erase(api: Api, body: Any, secret: str = "acme-all") -> tuple[int, dict[str, Any]]:
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await api.http.post(PATH, headers=bearer(secret), **content)
    return answer.status_code, answer.json()


async def test_a_record_for_each_campaign_of_the_organisation_and_no_other(api: Api, log: Log) -> None:
    assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 0})
    for campaign in ("spring", "autumn", "ä/ö"):
        await api.worker.publish(campaign, sent=1)
    await api.worker.publish("theirs", sent=1, org="globex")
    assert await erase(api, {"recipient": "  A@Example.COM "}) == (200, {"campaigns": 3})
    assert {record.campaign for _, _, record in log.kept} == {"spring", "autumn", "ä/ö"}
    for topic, partition, record in log.kept:
        recipient = recipient_of("a@example.com", record.campaign)
        assert (topic, record.org, record.recipients) == (FACTS, "acme", [recipient])
        assert partition == recipient_partition(recipient, PARTITIONS)
        assert abs(record.accepted_at_ms - api.context.clock() * 1000) < 60_000


async def test_a_campaign_whose_place_in_the_list_is_lost(api: Api, log: Log) -> None:
    """One evicted key: it is noticed some seconds later only."""
    for campaign in ("spring", "autumn"):
        await api.worker.publish(campaign, sent=1)
    await api.worker.publish("theirs", sent=1, org="globex")
    await api.context.redis.delete(campaigns_name(TOPIC, "acme"))
    assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 2})
    assert {record.campaign for _, _, record in log.kept} == {"spring", "autumn"}


async def test_campaigns_that_are_not_counted_yet(
    kafka: str, redis_db: str, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is behind, or Redis came back with an older file."""
    fresh_topics(Settings(kafka=kafka, data=tmp_path, partitions=PARTITIONS))
    producer = Producer({"bootstrap.servers": kafka, "log_level": 2})
    for partition, org, campaign in ((0, "acme", "winter"), (1, "acme", "may"), (1, "globex", "theirs")):
        record = FactsRecord(FACTS_VERSION, org, campaign, 1, [entry(OPENED, 1, campaign=campaign)])
        producer.produce(FACTS, encode(record), partition=partition)
    producer.produce(FACTS, b"rubbish", partition=0)
    assert producer.flush(20) == 0
    async with serving(redis_db, kafka=kafka, producer=log, ready=False) as api:
        api.worker.topic = topic_ids(kafka, (FACTS,))[FACTS]
        await api.worker.ready()
        assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 2})
        assert {record.campaign for _, _, record in log.kept} == {"winter", "may"}
        monkeypatch.setattr("api.erasures.WITHIN_S", 0.0)
        assert await refused(api)
        monkeypatch.undo()
        admin = AdminClient(client_settings(kafka, "test"))
        for future in admin.delete_records([TopicPartition(FACTS, 1, 1)]).values():
            future.result(10)
        said = await refused(api)
        assert "partition 1 is gone (the log begins at offset 1, above offset 0)" in said
        await api.worker.publish("may", sent=1, partition=1)
        await api.worker.ready()
        assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 2})
        delete_topics(kafka, (FACTS,))
        said = await refused(api)
        assert "topic facts can't be read: GET /ops/lag says what is wrong" in said
        assert kafka not in said
        assert "KafkaError" not in said


async def refused(api: Api) -> str:
    """Nothing is erased; gives why."""
    status, answer = await erase(api, {"recipient": "a@example.com"})
    assert (status, answer["error"]) == (503, "try_later")
    message: str = answer["message"]
    assert message.startswith(NOT_KNOWN)
    return message


async def test_more_campaigns_than_are_sent_together(
    api: Api, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.erasures.SENT_TOGETHER", 3)
    for number in range(7):
        await api.worker.publish(f"c{number}", sent=1)
    assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 7})
    assert {record.campaign for _, _, record in log.kept} == {f"c{number}" for number in range(7)}


async def test_what_is_not_stored_is_no_200(api: Api, log: Log) -> None:
    for campaign in ("spring", "autumn"):
        await api.worker.publish(campaign, sent=1)
    log.refuses = "autumn"
    assert (await erase(api, {"recipient": "a@example.com"}))[0] == 503
    log.refuses = ""
    assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 2})


async def test_before_all_campaigns_are_known_nothing_is_erased(redis_db: str, log: Log) -> None:
    async with serving(redis_db, producer=log, ready=False) as api:
        await api.worker.publish("spring", sent=1)
        status, document = await erase(api, {"recipient": "a@example.com"})
        assert (status, document["error"]) == (503, "try_later")
        assert log.kept == []
        await api.worker.ready()
        assert await erase(api, {"recipient": "a@example.com"}) == (200, {"campaigns": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hostile@example.com",
        b'"hostile@example.com"',
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        {"recipient": ""},
        {"recipient": " "},
        {"recipient": None},
        {"recipient": 7},
        {"recipient": ["hostile@example.com"]},
        {"recipient": "hostile@example.com\nx"},
        {"recipient": "hostile" * 100},
        {"hostile@example.com": 1, "recipient": "a@example.com"},
    ],
)
async def test_a_body_that_is_none_is_refused_and_not_repeated(api: Api, log: Log, body: Any) -> None:
    await api.worker.publish("spring", sent=1)
    status, document = await erase(api, body)
    assert (status, document["error"]) == (400, "bad_erasure")
    assert "hostile" not in document["message"]
    assert log.kept == []


async def test_who_may_and_how_much(api: Api, log: Log) -> None:
    for secret, status in (("acme-read", 403), ("nobody", 401)):
        assert (await erase(api, {"recipient": "a@example.com"}, secret))[0] == status
    assert (await api.get(PATH, "acme-all")).status_code == 405
    answer = await api.http.post(PATH, content=b"x" * 20_000, headers=bearer("acme-all"))
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert log.kept == []
