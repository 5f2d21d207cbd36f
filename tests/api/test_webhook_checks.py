"""What an ESP asks of the taking address beside storing: probes, secrets in it, one-time tokens, Amazon's envelope."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from api.certificates import Certificates
from api.confirmations import Confirmations
from api.context import Context
from api.outgoing import Outgoing
from api.webhooks import WebhookEndpoint
from app.errors import TryLater
from app.esps import ESPS
from app.esps.esp import CERTIFICATE, QUERY_KEY
from app.organisations import Source
from app.settings import Settings
from app.topics import KafkaHeaders, Webhook, webhook_of
from tables.redis_client import redis_client
from tests.support import samples
from tests.support.intake import context, intake_app, organisations, serving
from tests.support.sns import (
    CERTIFICATE_URL,
    NOW,
    OTHER_TOPIC,
    TOPIC,
    Amazon,
    Signer,
    body,
    confirmation,
    envelope,
    headers,
)
from tests.support.sockets import loopback_only

MAILGUN_KEY = b"key of mailgun"
SOURCES = (
    Source(org="acme", name="news", esp="sendgrid", bearer=(b"token",)),
    Source(org="acme", name="chimp", esp="mandrill", secrets=(b"key",), public_url="https://a.example/"),
    Source(org="acme", name="go", esp="unisender_go", secrets=(b"key",)),
    Source(org="acme", name="mark", esp="postmark", bearer=(b"old", "geheim=&ü".encode())),
    Source(org="acme", name="gun", esp="mailgun", secrets=(MAILGUN_KEY,)),
    Source(org="acme", name="gun2", esp="mailgun", secrets=(MAILGUN_KEY,)),
    Source(org="acme", name="away", esp="mailgun", secrets=(MAILGUN_KEY,), absent=("basic",)),
    Source(org="acme", name="away2", esp="brevo", absent=("basic",)),
    Source(org="acme", name="ses", esp="amazon_ses", topics=(TOPIC,)),
    Source(org="acme", name="open", esp="amazon_ses", insecure=True),
)


class Storing:
    def __init__(self) -> None:
        self.stored: list[Webhook] = []
        self.busy = False

    async def send(self, topic: str, value: bytes, found: KafkaHeaders, partition: int | None = None) -> None:
        if self.busy:
            raise TryLater(2)
        self.stored.append(webhook_of(value, found))


class Api:
    def __init__(self, parts: Context, storing: Storing, http: httpx.AsyncClient) -> None:
        self.parts = parts
        self.storing = storing
        self.http = http

    async def post(
        self, source: str, raw: bytes, given: dict[str, str] | None = None, query: str = ""
    ) -> int:
        answer = await self.http.post(f"/webhooks/acme/{source}{query}", content=raw, headers=given or {})
        if answer.status_code == 200:
            assert answer.content == b""
        return answer.status_code


@contextlib.asynccontextmanager
async def running(**parts: Any) -> AsyncIterator[Api]:
    storing = Storing()
    made = context(Settings(max_body=64 * 1024), organisations(*SOURCES), storing)  # type: ignore[arg-type]
    for name, part in parts.items():
        setattr(made, name, part)
    async with (
        serving(intake_app(made)) as base,
        httpx.AsyncClient(base_url=base, timeout=20, verify=False) as http,
    ):
        yield Api(made, storing, http)
    await made.certificates.close()
    await made.confirmations.close()


# Probes and the secret in the address


@pytest.mark.parametrize(
    ("method", "source", "status"),
    [
        ("HEAD", "chimp", 200),
        ("GET", "chimp", 405),
        ("GET", "go", 200),
        ("HEAD", "go", 405),
        ("HEAD", "news", 405),
        ("GET", "news", 405),
        ("PUT", "chimp", 405),
        ("OPTIONS", "go", 405),
        ("HEAD", "nobody", 405),
        ("HEAD", "chimp/more", 405),
    ],
)
async def test_only_an_esp_s_own_way_to_try_an_address_is_answered(
    method: str, source: str, status: int
) -> None:
    async with running() as api:
        answer = await api.http.request(method, f"/webhooks/acme/{source}")
        assert answer.status_code == status
        assert status != 200 or (answer.content == b"" and answer.headers["content-length"] == "0")
        assert api.storing.stored == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?key=old", 200),
        ("?key=geheim%3D%26%C3%BC", 200),
        ("?a=1&key=old", 200),
        ("?key=wrong", 401),
        ("?key=", 401),
        ("?key", 401),
        ("", 401),
        ("?KEY=old", 401),
        ("?key=wrong&key=old", 401),
        ("?key=%FF%00", 401),
        ("?key=%", 401),
        ("?" + "key=" * 2_000, 401),
    ],
)
async def test_a_secret_in_the_address_is_a_bearer_token(query: str, status: int) -> None:
    async with running() as api:
        assert await api.post("mark", b"{}", query=query) == status
        assert len(api.storing.stored) == (status == 200)


async def test_a_secret_in_the_address_is_written_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running() as api:
            assert await api.post("mark", b"{}", query="?key=old") == 200
            assert await api.post("mark", b"{}", query="?key=SECRET-GUESS") == 401
            text = api.parts.metrics.text().decode()
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not [record for record in ours if "key=" in record.getMessage()]
    assert "SECRET-GUESS" not in text
    assert "old" not in str(api.storing.stored[0].headers)


@pytest.mark.parametrize("name", [QUERY_KEY, CERTIFICATE])
async def test_a_header_cannot_stand_for_what_is_ours(name: bytes) -> None:
    """No HTTP server lets such a name through; were there one, it would not help."""
    source = "mark" if name == QUERY_KEY else "ses"
    found = Signer().sign(envelope("{}"))
    answers: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body(found)}

    async def send(message: Any) -> None:
        if "status" in message:
            answers.append(message["status"])

    async with running() as api:
        api.parts.certificates = Certificates(
            Outgoing(httpx.MockTransport(lambda request: httpx.Response(404)))
        )
        ours = [(key.encode(), value.encode()) for key, value in headers(found).items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/webhooks/acme/{source}",
            "query_string": b"",
            "headers": [*ours, (name, b"old")],
            "app": intake_app(api.parts),
        }
        await WebhookEndpoint(8.0)(scope, receive, send)
        assert answers == [401 if source == "mark" else 503]
        assert api.storing.stored == []


# One-time tokens


def mailgun(token: str, **event: object) -> bytes:
    timestamp = str(int(time.time()))
    signature = hmac.digest(MAILGUN_KEY, f"{timestamp}{token}".encode(), sha256).hex()
    triple = {"timestamp": timestamp, "token": token, "signature": signature}
    return json.dumps({"signature": triple, "event-data": {"event": "opened", **event}}).encode()


async def test_a_token_vouches_for_one_body(redis_db: str) -> None:
    redis = redis_client(redis_db)
    async with running(redis=redis) as api:
        first = mailgun("a" * 50, recipient="a@example.com")
        assert [await api.post("gun", first) for _ in range(3)] == [200, 200, 200]
        other = first.replace(b"a@example.com", b"b@example.com")
        assert [await api.post("gun", other) for _ in range(2)] == [406, 406]
        assert await api.post("gun", first) == 200
        assert await api.post("gun2", other) == 200, "another source is another matter"
        assert await api.post("gun", mailgun("b" * 50)) == 200
        assert len(api.storing.stored) == 6
        text = api.parts.metrics.text().decode()
        assert 'webhooks_total{org="acme",outcome="token_reused",source="gun"} 2.0' in text
    keys = [key async for key in redis.scan_iter("cr:once:acme:gun:*")]
    assert len(keys) == 2
    assert all([await redis.ttl(key) >= 86_400 for key in keys])
    assert not [key for key in keys if b"aaaa" in key], "the token itself is kept nowhere"
    await redis.aclose()


async def test_a_resend_of_what_could_not_be_stored_is_taken(redis_db: str) -> None:
    redis = redis_client(redis_db)
    async with running(redis=redis) as api:
        api.storing.busy = True
        assert await api.post("gun", first := mailgun("c" * 50)) == 503
        api.storing.busy = False
        assert await api.post("gun", first) == 200
    await redis.aclose()


@pytest.mark.parametrize("away", ["nobody listens", "nobody answers"])
async def test_taking_webhooks_never_needs_redis(away: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if away == "nobody listens":
        server.close()
        await server.wait_closed()
    redis = redis_client(f"redis://127.0.0.1:{port}/0")
    async with running(redis=redis) as api:
        started = time.monotonic()
        for number in range(60):
            raw = mailgun("d" * 50, number=number)
            assert await api.post("gun", raw) == 200
        assert time.monotonic() - started < 4.0, "only the first one waits, a tenth of a second"
        assert "webhook_once_skipped_total 60.0" in api.parts.metrics.text().decode()
    await redis.aclose()
    server.close()


async def test_after_a_pause_redis_is_asked_again(redis_db: str) -> None:
    gone: Redis = redis_client("redis://127.0.0.1:9/0")
    async with running(redis=gone) as api:
        first = mailgun("e" * 50)
        other = first.replace(b"opened", b"clicked")
        assert await api.post("gun", first) == 200
        api.parts.redis = redis_client(redis_db)
        await asyncio.sleep(1.1)
        assert [await api.post("gun", raw) for raw in (first, other)] == [200, 406]
        await api.parts.redis.aclose()
    await gone.aclose()


# Amazon


@pytest.fixture
async def amazon(tmp_path: Path) -> AsyncIterator[Amazon]:
    found = Amazon(tmp_path)
    found.answer = found.signer.pem
    async with found.running():
        yield found


@pytest.fixture
async def ses(amazon: Amazon) -> AsyncIterator[Api]:
    certificates = Certificates(Outgoing(amazon.transport()), NOW.timestamp)
    confirmations = Confirmations(Outgoing(amazon.transport()))
    async with running(certificates=certificates, confirmations=confirmations) as api:
        yield api


async def send(api: Api, found: dict[str, Any], source: str = "ses") -> int:
    return await api.post(source, body(found), headers(found))


async def test_a_signed_message_is_stored_and_its_certificate_fetched_once(amazon: Amazon, ses: Api) -> None:
    found = amazon.signer.sign(envelope(samples.sample("amazon_ses", "open").decode()))
    assert [await send(ses, found) for _ in range(3)] == [200, 200, 200]
    assert amazon.requests == [CERTIFICATE_URL.removeprefix("https://")]
    assert [webhook.body for webhook in ses.storing.stored] == [body(found)] * 3
    forged = {**found, "Message": "{}"}
    assert await send(ses, forged) == 401
    assert await ses.post("ses", body(found)) == 401, "without SNS' headers"
    assert len(ses.storing.stored) == 3


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation"])
async def test_a_topic_of_somebody_else_is_forbidden_and_nobody_is_asked(
    amazon: Amazon, ses: Api, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = loopback_only(monkeypatch)
    made = (
        envelope("{}", TopicArn=OTHER_TOPIC) if kind == "Notification" else confirmation(TopicArn=OTHER_TOPIC)
    )
    assert await send(ses, amazon.signer.sign(made)) == 403
    assert amazon.requests == []
    assert connections.refused == []
    assert ses.storing.stored == []


async def test_a_certificate_of_somebody_else_is_not_fetched(
    amazon: Amazon, ses: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = loopback_only(monkeypatch)
    for host in ("sns.s3-us-west-2.amazonaws.com", "attacker.example", "127.0.0.1"):
        url = CERTIFICATE_URL.replace("sns.eu-west-1.amazonaws.com", host)
        assert await send(ses, amazon.signer.sign(envelope("{}", SigningCertURL=url))) == 401
    assert amazon.requests == []
    assert connections.refused == []


async def test_a_subscription_is_confirmed_by_its_topic_and_not_stored(amazon: Amazon, ses: Api) -> None:
    assert await send(ses, amazon.signer.sign(confirmation())) == 200
    asked = amazon.requests[1:]
    assert len(asked) == 1
    assert asked[0].startswith("sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&")
    assert ses.storing.stored == []


async def test_an_unsigned_confirmation_confirms_nothing(amazon: Amazon, ses: Api) -> None:
    forged = {**amazon.signer.sign(confirmation()), "Token": "x" * 64}
    assert await send(ses, forged) == 401
    assert amazon.requests == [CERTIFICATE_URL.removeprefix("https://")], "the certificate's alone"
    assert await send(ses, confirmation(), "open") == 403, "an insecure source names no topic"


async def test_while_amazon_is_away_sns_is_asked_to_come_again(amazon: Amazon, ses: Api) -> None:
    amazon.status = 500
    found = amazon.signer.sign(envelope("{}"))
    answer = await ses.http.post("/webhooks/acme/ses", content=body(found), headers=headers(found))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert ses.storing.stored == []


async def test_an_insecure_source_fetches_nothing(amazon: Amazon, ses: Api) -> None:
    assert await ses.post("open", samples.sample("amazon_ses", "open")) == 200
    assert await send(ses, envelope("{}"), "open") == 200
    assert amazon.requests == []


# Everything else stays at home


async def test_no_webhook_of_any_esp_makes_us_connect_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = loopback_only(monkeypatch)
    everything = [
        Source(org="acme", name=f"{esp}-{kind}", esp=esp, **how)  # type: ignore[arg-type]
        for esp in ESPS
        for kind, how in {
            "closed": {"secrets": (b"key",), "topics": (TOPIC,), "public_url": "https://a.example/"},
            "open": {"insecure": True, "topics": (TOPIC,)},
        }.items()
    ]
    redis = redis_client("redis://127.0.0.1:9/0")
    async with running(redis=redis, organisations=organisations(*everything)) as api:
        for source in everything:
            names = sorted(samples.names_of(source.esp))
            for raw in (samples.sample(source.esp, names[0]), b"https://attacker.example/", b""):
                assert await api.post(source.name, raw) in (200, 401, 403)
    await redis.aclose()
    assert connections.refused == []


# Keys that are not on this host


async def test_a_source_whose_keys_are_not_all_here_is_told_to_come_again() -> None:
    """Rightly signed or not: nothing is stored, and no ESP takes it for an end."""
    async with running() as api:
        for name, raw, status in (
            ("away", mailgun("f" * 50), 503),
            ("away", b"{}", 503),
            ("away2", b"{}", 429),  # Brevo throws away what is answered 5xx
        ):
            answer = await api.http.post(f"/webhooks/acme/{name}", content=raw)
            assert (answer.status_code, answer.json()["error"]) == (status, "try_later")
            assert int(answer.headers["retry-after"]) > 0
        assert api.storing.stored == []
        assert await api.post("mark", b"{}", {"Authorization": "Bearer old"}) == 200, "the others go on"
