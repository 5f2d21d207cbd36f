from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.producer import Producer
from app.errors import TryLater
from app.organisations import Source
from app.settings import Settings
from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS, KafkaHeaders, Webhook, webhook_of
from tests.support.intake import (
    RefusingProducer,
    SendgridKey,
    context,
    intake_app,
    organisations,
    producer,
    serving,
    stored,
)
from tests.support.kafka import fresh_topics

KEY = SendgridKey()
OLD_KEY = SendgridKey()
NEWS = Source(org="acme", name="news", esp="sendgrid", secrets=(OLD_KEY.public, KEY.public))
HOUSE = Source(org="acme", name="house", esp="generic", basic=(b"user:word",))
BODY = b'[{"email":"a@example.com","event":"open","timestamp":1790000000}]'
SETTINGS = Settings(max_body=64 * 1024)
ADDRESS = "/webhooks/acme/news"


class Answering:
    """A producer that remembers, for tests that look at the answers alone."""

    def __init__(self) -> None:
        self.stored: list[Webhook] = []
        self.busy = False

    async def send(
        self, topic: str, value: bytes, headers: KafkaHeaders, partition: int | None = None
    ) -> None:
        if self.busy:
            raise TryLater(2)
        self.stored.append(webhook_of(value, headers))


@pytest.fixture
async def refusing() -> AsyncIterator[httpx.AsyncClient]:
    """Against an API in which nothing may be stored."""
    parts = context(SETTINGS, organisations(NEWS, HOUSE), RefusingProducer())
    async with (
        serving(intake_app(parts)) as base,
        httpx.AsyncClient(base_url=base, timeout=20, verify=False) as client,
    ):
        yield client


@pytest.fixture
def remembering() -> Answering:
    return Answering()


@pytest.fixture
async def taking(remembering: Answering) -> AsyncIterator[httpx.AsyncClient]:
    parts = context(SETTINGS, organisations(NEWS, HOUSE), remembering)  # type: ignore[arg-type]
    async with (
        serving(intake_app(parts)) as base,
        httpx.AsyncClient(base_url=base, timeout=20, verify=False) as client,
    ):
        yield client


async def test_a_signed_webhook_is_in_kafka_before_its_answer(kafka: str) -> None:
    settings = Settings(kafka=kafka)
    fresh_topics(settings)
    sender = producer(kafka, settings)
    parts = context(settings, organisations(NEWS), sender)
    headers = {**KEY.headers(BODY), "Authorization": "Bearer never kept", "Cookie": "never=kept"}
    before_ms = time.time_ns() // 1_000_000
    async with serving(intake_app(parts)) as base, httpx.AsyncClient(base_url=base, verify=False) as client:
        for _ in range(3):
            answer = await client.post(ADDRESS, content=BODY, headers=headers)
            assert (answer.status_code, answer.content) == (200, b"")
        found = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    await sender.close()
    assert len(found) == 3, "a replay is stored again: the fold drops what it has seen"
    webhook = webhook_of(found[0][1], found[0][2])
    assert (webhook.org, webhook.source, webhook.esp, webhook.body) == ("acme", "news", "sendgrid", BODY)
    assert before_ms <= webhook.received_at_ms <= time.time_ns() // 1_000_000
    assert dict(webhook.headers).keys() == {"content-type", "user-agent"}


async def test_the_body_is_kept_as_it_came_over_the_wire(
    taking: httpx.AsyncClient, remembering: Answering
) -> None:
    wire = gzip.compress(BODY)
    headers = {**KEY.headers(wire), "Content-Encoding": "gzip"}
    assert (await taking.post(ADDRESS, content=wire, headers=headers)).status_code == 200
    (webhook,) = remembering.stored
    assert webhook.body == wire
    assert dict(webhook.headers)["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[" * 30_000,
        b'[{"x":NaN}]',
        b'[{"x":' + b"9" * 5_000 + b"}]",
        b"\xff\xfe",
        b'["\\ud800"]',
        b'[{"a":1,"a":2}]',
        b'[{"event":"read_aloud","email":"a@example.com"}]',
    ],
)
async def test_a_signed_body_that_cannot_be_read_is_stored_all_the_same(
    taking: httpx.AsyncClient, remembering: Answering, body: bytes
) -> None:
    answer = await taking.post(ADDRESS, content=body, headers=KEY.headers(body))
    assert (answer.status_code, answer.content) == (200, b"")
    assert [webhook.body for webhook in remembering.stored] == [body]


async def test_signed_but_broken_gzip_is_stored_all_the_same(
    taking: httpx.AsyncClient, remembering: Answering
) -> None:
    headers = {**KEY.headers(b"no gzip"), "Content-Encoding": "gzip"}
    assert (await taking.post(ADDRESS, content=b"no gzip", headers=headers)).status_code == 200
    assert len(remembering.stored) == 1


GOOD = KEY.headers(BODY)
NAME = "X-Twilio-Email-Event-Webhook-Signature"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**GOOD, NAME: ""},
        {**GOOD, NAME: GOOD[NAME][:-6]},
        {**GOOD, NAME: "no base64!"},
        {**GOOD, NAME: "x" * 50_000},
        {**GOOD, "X-Twilio-Email-Event-Webhook-Timestamp": "1"},
        SendgridKey().headers(BODY),
        {"Authorization": "Basic dXNlcjp3b3Jk"},
    ],
)
async def test_without_a_good_signature_nothing_is_stored(
    refusing: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await refusing.post(ADDRESS, content=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {
        "error": "unauthorized",
        "message": "the webhook's signature or credentials are missing or wrong",
    }
    assert "www-authenticate" in answer.headers


async def test_a_signature_that_is_not_ascii_is_refused(refusing: httpx.AsyncClient) -> None:
    headers = [(name.encode(), value.encode()) for name, value in GOOD.items() if name != NAME]
    answer = await refusing.post(ADDRESS, content=BODY, headers=[*headers, (NAME.encode(), "é".encode())])
    assert answer.status_code == 401


async def test_a_password_is_asked_for_where_the_source_has_one(
    refusing: httpx.AsyncClient, taking: httpx.AsyncClient
) -> None:
    answer = await refusing.post("/webhooks/acme/house", content=b"{}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    answer = await taking.post("/webhooks/acme/house", content=b"{}", auth=("user", "word"))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "/webhooks/acme/gone",
        "/webhooks/gone/news",
        "/webhooks/other/news",
        "/webhooks/acme",
        "/webhooks/acme/",
        "/webhooks/",
        "/webhooks/acme/news/",
        "/webhooks/acme/news/more",
        "/webhooks/acme/..%2fnews",
        "/webhooks/acme/news%00",
        "/webhooks/acme/" + "x" * 10_000,
        "/webhooks/%C3%A4/news",
    ],
)
async def test_an_address_that_is_nobody_s_is_not_found_in_one_text(
    refusing: httpx.AsyncClient, address: str
) -> None:
    answer = await refusing.post(address, content=BODY, headers=GOOD)
    assert answer.status_code == 404
    assert answer.json() == {"error": "not_found", "message": "there is no such webhook address"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(refusing: httpx.AsyncClient, method: str) -> None:
    for address in (ADDRESS, "/webhooks/gone/gone"):
        answer = await refusing.request(method, address)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


async def test_bombs_and_unknown_encodings_are_refused(refusing: httpx.AsyncClient) -> None:
    bomb = gzip.compress(bytes(30 * 1024 * 1024))
    assert len(bomb) < SETTINGS.max_body
    for wire, encoding, status in (
        (bomb, "gzip", 413),
        (BODY, "br", 415),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip", 415),
    ):
        cpu_s = time.process_time()
        headers = {**KEY.headers(wire), "Content-Encoding": encoding}
        answer = await refusing.post(ADDRESS, content=wire, headers=headers)
        assert answer.status_code == status
        assert time.process_time() - cpu_s < 0.5  # 50 ms of it are ours on an idle machine; the rest is slack
    unsigned = await refusing.post(ADDRESS, content=bomb, headers={"Content-Encoding": "gzip"})
    assert unsigned.status_code == 401, "nothing is inflated before the signature is checked"


async def test_while_kafka_takes_nothing_the_esp_is_told_to_come_again(
    taking: httpx.AsyncClient, remembering: Answering
) -> None:
    remembering.busy = True
    answer = await taking.post(ADDRESS, content=BODY, headers=GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"] == "try_later"


async def test_without_kafka_the_answer_comes_within_two_seconds() -> None:
    sender = Producer("127.0.0.1:1", max_message_bytes=1_000_000)
    parts = context(SETTINGS, organisations(NEWS), sender)
    async with serving(intake_app(parts)) as base, httpx.AsyncClient(base_url=base, verify=False) as client:
        started = time.monotonic()
        answer = await client.post(ADDRESS, content=BODY, headers=GOOD)
        assert answer.status_code == 503
        assert time.monotonic() - started < 6.0, "two seconds, and a busy machine's slack"
    await sender.close()


# Sizes and slowness: over plain sockets, since an HTTP client would not misbehave.


def request(length: str, headers: dict[str, str] | None = None) -> bytes:
    lines = [
        f"POST {ADDRESS} HTTP/1.1",
        "Host: x",
        *(f"{k}: {v}" for k, v in (headers or {}).items()),
        length,
    ]
    return "\r\n".join([line for line in lines if line]).encode() + b"\r\n\r\n"


async def connect(base: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = base.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def status_of(reader: asyncio.StreamReader, within_s: float = 10) -> int:
    """The status, once the server has closed the connection behind its answer."""
    answer = await asyncio.wait_for(reader.read(), within_s)
    return int(answer.split(b" ", 2)[1])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_body_of_a_gibibyte_is_refused_by_its_length_alone(refusing: httpx.AsyncClient) -> None:
    reader, writer = await connect(str(refusing.base_url).rstrip("/"))
    writer.write(request("Content-Length: 1073741824"))
    assert await status_of(reader) == 413
    writer.close()


async def test_an_endless_chunked_body_is_cut_at_the_limit(refusing: httpx.AsyncClient) -> None:
    before = resident_bytes()
    _, writer = await connect(str(refusing.base_url).rstrip("/"))
    writer.write(request("Transfer-Encoding: chunked"))
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    sent = 0
    try:
        while sent < 1 << 30:
            writer.write(chunk)
            await asyncio.wait_for(writer.drain(), 10)
            sent += len(chunk)
    except ConnectionError:
        pass
    assert sent < 32 << 20, "the connection is closed, the rest is not read"
    assert resident_bytes() - before < 64 << 20
    writer.close()


async def test_a_length_that_lies_does_not_help(refusing: httpx.AsyncClient) -> None:
    reader, writer = await connect(str(refusing.base_url).rstrip("/"))
    writer.write(request("Content-Length: 10") + b"x" * 200_000)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    # Ten bytes are the body, and it isn't signed; what follows is a request that is none.
    assert answer.split(b" ")[1] in (b"401", b"400")
    writer.close()


async def test_slow_senders_are_refused_and_nobody_else_notices(remembering: Answering) -> None:
    parts = context(SETTINGS, organisations(NEWS), remembering)  # type: ignore[arg-type]
    async with (
        serving(intake_app(parts, body_within_s=2.0)) as base,
        httpx.AsyncClient(base_url=base, verify=False) as client,
    ):
        before = resident_bytes()
        slow = [await connect(base) for _ in range(500)]
        for _, writer in slow:
            writer.write(request("Content-Length: 60000") + b"[")
        delays = []
        for _ in range(100):
            started = time.monotonic()
            assert (await client.post(ADDRESS, content=BODY, headers=GOOD)).status_code == 200
            delays.append(time.monotonic() - started)
        assert sorted(delays)[98] < 0.5
        statuses = await asyncio.gather(*(status_of(reader) for reader, _ in slow))
        assert set(statuses) == {408}
        assert resident_bytes() - before < 64 << 20
        for _, writer in slow:
            writer.close()
    assert len(remembering.stored) == 100


async def test_what_was_taken_and_refused_is_counted(remembering: Answering) -> None:
    parts = context(SETTINGS, organisations(NEWS), remembering)  # type: ignore[arg-type]
    async with serving(intake_app(parts)) as base, httpx.AsyncClient(base_url=base, verify=False) as client:
        await client.post(ADDRESS, content=BODY, headers=GOOD)
        await client.post(ADDRESS, content=BODY)
        await client.post("/webhooks/acme/gone", content=BODY)
    text = parts.metrics.text().decode()
    assert 'webhooks_total{org="acme",outcome="accepted",source="news"} 1.0' in text
    assert 'webhooks_total{org="acme",outcome="unauthorized",source="news"} 1.0' in text
    assert "gone" not in text
    assert json.dumps(len(BODY)) in text
