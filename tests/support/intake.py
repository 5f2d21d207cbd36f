"""A small API of the taking routes alone, served by a real uvicorn on loopback, and what signs webhooks for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import cast

import uvicorn
from confluent_kafka import Consumer, TopicPartition
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from api import events, webhooks
from api.arrivals import Arrivals
from api.body import BODY_WITHIN_S
from api.certificates import Certificates
from api.confirmations import Confirmations
from api.context import Context
from api.errors import HANDLERS
from api.metrics import Metrics
from api.paths import SegmentPaths
from api.producer import Producer
from api.rates import Rates
from app.organisations import ApiKey, Organisation, Organisations, Source
from app.settings import Settings
from app.topics import RECORD_OVERHEAD, KafkaHeaders

SECRET = b"an installation's secret of 32 b"


class SendgridKey:
    """A signing key as SendGrid has one for each webhook."""

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())
        der = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public = b64encode(der)

    def headers(self, body: bytes, timestamp: str = "1790000000") -> dict[str, str]:
        signature = self._private.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return {
            "X-Twilio-Email-Event-Webhook-Signature": b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
            "Content-Type": "application/json",
        }


def organisations(*sources: Source) -> Organisations:
    """`acme` with these sources and the keys `writer` and `reader`; `other` with nothing but a key."""
    acme = Organisation(
        id="acme",
        name="Acme",
        timezone="UTC",
        keys=(
            ApiKey(name="writer", org="acme", secret=b"acme-writer", scopes=frozenset({"write"})),
            ApiKey(name="reader", org="acme", secret=b"acme-reader", scopes=frozenset({"read"})),
        ),
        sources={source.name: source for source in sources},
    )
    other = Organisation(
        id="other",
        name="Other",
        timezone="UTC",
        keys=(ApiKey(name="writer", org="other", secret=b"other-writer", scopes=frozenset({"write"})),),
    )
    return Organisations({"acme": acme, "other": other})


class RefusingProducer:
    """Stands where nothing must be stored: a test that stores all the same fails."""

    async def send(
        self, topic: str, value: bytes, headers: KafkaHeaders, partition: int | None = None
    ) -> None:
        raise AssertionError(f"something was stored in {topic}")


def context(settings: Settings, found: Organisations, producer: Producer | RefusingProducer) -> Context:
    """What these routes need of a Context."""
    parts = SimpleNamespace(
        settings=settings,
        organisations=found,
        secret=SECRET,
        producer=producer,
        metrics=Metrics(),
        certificates=Certificates(),
        confirmations=Confirmations(),
        rates=Rates(),
        arrivals=Arrivals(),
        clock=time.time,
    )
    return cast(Context, parts)


def intake_app(parts: Context, body_within_s: float = BODY_WITHIN_S) -> Starlette:
    app = Starlette(
        routes=[*webhooks.routes(body_within_s), *events.routes()],
        middleware=[Middleware(SegmentPaths)],
        exception_handlers=HANDLERS,
    )
    app.state.context = parts
    return app


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The app behind a real server in this event loop; gives its base address."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", http="httptools"
    )
    server = uvicorn.Server(config)
    with _no_signals(server):
        task = asyncio.create_task(server.serve())
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            server.force_exit = True
            await asyncio.wait_for(task, 10)


@contextlib.contextmanager
def _no_signals(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn must not take over the signals of the process that runs the tests."""
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    yield


def producer(kafka: str, settings: Settings, **more: object) -> Producer:
    return Producer(kafka, max_message_bytes=settings.max_body + RECORD_OVERHEAD, **more)  # type: ignore[arg-type]


def stored(kafka: str, topic: str, partitions: int) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    """All records of a topic: (partition, value, headers)."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "a-test-reads",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "log_level": 2,
        }
    )
    try:
        found: list[tuple[int, bytes, list[tuple[str, bytes]]]] = []
        expected = 0
        assignment = []
        for partition in range(partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            expected += high - low
            assignment.append(TopicPartition(topic, partition, low))
        consumer.assign(assignment)
        deadline = time.monotonic() + 20
        while len(found) < expected and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.2):
                assert message.error() is None, message.error()
                headers = cast("list[tuple[str, bytes]]", message.headers() or [])
                found.append((message.partition() or 0, message.value() or b"", headers))
        assert len(found) == expected
        return found
    finally:
        consumer.close()
