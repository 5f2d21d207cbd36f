from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from app.errors import TryLater
from app.facts import CampaignRecord, decode_record
from app.keys import campaign_key, campaign_partition
from app.organisations import Source
from app.settings import Settings
from app.topics import FACTS, MAX_EVENTS, WEBHOOKS, WEBHOOKS_PARTITIONS, KafkaHeaders, webhook_of
from tests.support.intake import SECRET, context, intake_app, organisations, producer, serving, stored
from tests.support.kafka import fresh_topics

SETTINGS = Settings(max_body=1024 * 1024)
WRITER = {"Authorization": "Bearer acme-writer"}
GOOD = {"type": "opened", "campaign": "spring", "recipient": "a@example.com", "at": 1790000000123}
EVENTS = "/api/v1/events"

Kept = tuple[str, bytes, KafkaHeaders, int | None]


class Remembering:
    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.busy = False

    async def send(
        self, topic: str, value: bytes, headers: KafkaHeaders, partition: int | None = None
    ) -> None:
        if self.busy:
            raise TryLater(2)
        self.kept.append((topic, value, headers, partition))


@pytest.fixture
def remembering() -> Remembering:
    return Remembering()


@pytest.fixture
async def client(remembering: Remembering) -> AsyncIterator[httpx.AsyncClient]:
    own = Source(org="acme", name="own", esp="generic")
    parts = context(SETTINGS, organisations(own), remembering)  # type: ignore[arg-type]
    async with (
        serving(intake_app(parts)) as base,
        httpx.AsyncClient(base_url=base, headers=WRITER, timeout=20, verify=False) as made,
    ):
        yield made


async def test_events_are_in_kafka_before_their_answer(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    async with (
        serving(intake_app(context(settings, organisations(), sender))) as base,
        httpx.AsyncClient(base_url=base, headers=WRITER, verify=False) as client,
    ):
        answer = await client.post(EVENTS, json={"events": [GOOD, GOOD]})
        assert answer.status_code == 200
        assert answer.json() == {"accepted": 2, "refused": []}
        ((_, value, headers),) = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    await sender.close()
    webhook = webhook_of(value, headers)
    assert (webhook.org, webhook.source, webhook.esp) == ("acme", "api", "generic")
    assert msgspec.json.decode(webhook.body) == {"events": [GOOD, GOOD]}
    assert "authorization" not in dict(webhook.headers)


async def test_refused_events_are_named_and_only_the_others_stored(
    client: httpx.AsyncClient, remembering: Remembering
) -> None:
    answer = await client.post(
        EVENTS, json={"events": [GOOD, {"type": "opened"}, 7, {**GOOD, "at": "soon"}, GOOD]}
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "refused": [
            {"index": 1, "error": "campaign: is missing"},
            {"index": 2, "error": "not an object"},
            {"index": 3, "error": "at: must be RFC 3339 or milliseconds since 1970"},
        ],
    }
    ((topic, value, headers, _),) = remembering.kept
    assert topic == WEBHOOKS
    assert webhook_of(value, headers).source == "own"
    assert msgspec.json.decode(value) == {"events": [GOOD, GOOD]}


async def test_nothing_is_stored_where_everything_is_refused(
    client: httpx.AsyncClient, remembering: Remembering
) -> None:
    answer = await client.post(EVENTS, json={"events": [{}]})
    assert answer.json() == {"accepted": 0, "refused": [{"index": 0, "error": "type: is missing"}]}
    assert (await client.post(EVENTS, json={"events": []})).json() == {"accepted": 0, "refused": []}
    assert remembering.kept == []


async def test_compressed_events(client: httpx.AsyncClient, remembering: Remembering) -> None:
    good = gzip.compress(msgspec.json.encode({"events": [GOOD]}))
    answer = await client.post(EVENTS, content=good, headers={"Content-Encoding": "gzip"})
    assert answer.json()["accepted"] == 1
    mixed = gzip.compress(msgspec.json.encode({"events": [GOOD, {}]}))
    answer = await client.post(EVENTS, content=mixed, headers={"Content-Encoding": "gzip"})
    assert answer.json()["accepted"] == 1
    first, second = (webhook_of(value, headers) for _, value, headers, _ in remembering.kept)
    assert (first.body, dict(first.headers)["content-encoding"]) == (good, "gzip")
    assert msgspec.json.decode(second.body) == {"events": [GOOD]}
    assert "content-encoding" not in dict(second.headers)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"events":7}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_list_of_events_is_refused(
    client: httpx.AsyncClient, remembering: Remembering, body: bytes
) -> None:
    answer = await client.post(EVENTS, content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "no_events")
    assert remembering.kept == []


async def test_limits(client: httpx.AsyncClient, remembering: Remembering) -> None:
    answer = await client.post(EVENTS, json={"events": [{}] * (MAX_EVENTS + 1)})
    assert (answer.status_code, answer.json()["error"]) == (413, "too_many_events")
    answer = await client.post(EVENTS, content=b"x" * (SETTINGS.max_body + 1))
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    bomb = gzip.compress(bytes(30 << 20))
    assert (await client.post(EVENTS, content=bomb, headers={"Content-Encoding": "gzip"})).status_code == 413
    assert (await client.post(EVENTS, content=b"x", headers={"Content-Encoding": "br"})).status_code == 415
    assert (await client.post(EVENTS, content=b"x", headers={"Content-Encoding": "gzip"})).status_code == 400
    assert remembering.kept == []


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer nobody", 401), ("Bearer acme-reader", 403), ("Basic acme-writer", 401)],
)
async def test_a_key_with_the_scope_write_is_needed(
    client: httpx.AsyncClient, remembering: Remembering, authorization: str, status: int
) -> None:
    headers = {"Authorization": authorization}
    assert (await client.post(EVENTS, json={"events": [GOOD]}, headers=headers)).status_code == status
    assert (await client.put("/api/v1/campaigns/spring", json={}, headers=headers)).status_code == status
    assert remembering.kept == []


async def test_while_kafka_takes_nothing_the_sender_is_told_to_come_again(
    client: httpx.AsyncClient, remembering: Remembering
) -> None:
    remembering.busy = True
    answer = await client.post(EVENTS, json={"events": [GOOD]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    answer = await client.put("/api/v1/campaigns/spring", json={"name": "Spring"})
    assert answer.status_code == 503


async def test_a_campaign_s_names_are_a_record_of_facts_in_its_partition(
    client: httpx.AsyncClient, remembering: Remembering
) -> None:
    document = {"name": "Spring", "subject": "Hello", "fields": {"subject": {"A": "Hello", "B": "Hi"}}}
    for address, name in (("spring", "spring"), ("a%2Fb%20%C3%A4", "a/b ä")):
        answer = await client.put(f"/api/v1/campaigns/{address}", json=document)
        assert answer.status_code == 200
        assert answer.json() == {"campaign": name, **document}
        topic, value, _, partition = remembering.kept[-1]
        record = decode_record(value)
        assert isinstance(record, CampaignRecord)
        assert (topic, record.org, record.campaign) == (FACTS, "acme", name)
        assert (record.name, record.subject, record.fields) == tuple(document.values())
        assert partition == campaign_partition(campaign_key(SECRET, "acme", name), SETTINGS.partitions)


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("spring", b""),
        ("spring", b"[]"),
        ("spring", b'{"name": 7}'),
        ("spring", b'{"titel": "x"}'),
        ("spring", b'{"fields": {"subject": ["A"]}}'),
        ("spring", b'{"name": "%b"}' % (b"x" * 1_001)),
        ("spring", b'{"name": NaN}'),
        ("spring", b"[" * 100_000),
        ("x" * 201, b"{}"),
        ("a%0Ab", b"{}"),
        ("a%00", b"{}"),
        ("%20", b"{}"),
    ],
)
async def test_names_that_cannot_be_kept_are_refused(
    client: httpx.AsyncClient, remembering: Remembering, address: str, body: bytes
) -> None:
    answer = await client.put(f"/api/v1/campaigns/{address}", content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_campaign")
    assert remembering.kept == []
