"""What the benchmarks send: webhook bodies of the generator, and records of `facts` made of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from confluent_kafka import Producer

from app.facts import CLICKED, DELIVERED, FACTS_VERSION, OPENED, Detail, Entry, Fact, FactsRecord, encode
from app.keys import campaign_key, identity, recipient_key, recipient_partition, secret_fingerprint
from app.normalize import normalize
from app.organisations import Organisation, Source
from app.settings import Settings
from app.topics import FACTS, Webhook
from app.user_agents import look_up_agent
from cli.traffic import plans
from cli.traffic.requests import Mixture, RequestMaker, Senders, Target
from cli.traffic.schedule import Rhythm

SOURCE = Source(
    org="acme", name="news", esp="sendgrid", secrets=(b"x",), campaign=("{metadata.campaign_id}",)
)
ORGANISATION = Organisation(id="acme", name="Acme", timezone="UTC", sources={"news": SOURCE})
TARGET = Target(org="acme", esp="sendgrid", path="/webhooks/acme/news", is_excluded=lambda address: False)

Encoded = tuple[int, int, bytes]
"""(partition, facts in it, record)."""


def bodies_of(target: Target, events: int, batch: int, *, live: bool = False) -> Iterator[tuple[bytes, int]]:
    """(body, not yet signed, and the events in it) of a mailing's traffic."""
    now_ms = time.time_ns() // 1_000_000
    rng = random.Random(1)
    names = plans.DEFAULT_CAMPAIGNS
    senders = Senders([(target,)])
    campaigns = plans.past(names, max(len(names), int(events / 3.0)), now_ms)
    rhythm = Rhythm(until_ms=None if live else now_ms, tells=senders.tells)
    maker = RequestMaker(senders, Mixture(batch=batch, poison_share=0, duplicate_share=0), rng)
    for _, happening in plans.finite(campaigns, rhythm, rng, events):
        for request in maker.add(happening):
            yield request.body, request.events
    for request in maker.flush():
        yield request.body, request.events


def sendgrid_bodies(events: int, batch: int, *, live: bool = False) -> Iterator[tuple[bytes, int]]:
    return bodies_of(TARGET, events, batch, live=live)


def normalised(
    settings: Settings, events: int, batch: int = 1000, target: Target = TARGET
) -> Iterator[Encoded]:
    """Records of `facts` as normalize makes them of SendGrid's batches."""
    for body, _ in bodies_of(target, events, batch):
        webhook = Webhook(
            org="acme", source="news", esp="sendgrid", received_at_ms=time.time_ns() // 1_000_000, headers=(),
            body=body,
        )  # fmt: skip
        made = normalize(
            webhook,
            SOURCE,
            ORGANISATION,
            settings.secret,
            settings.partitions,
            look_up_agent,
            lambda ip: None,
        )
        assert not made.dead
        for partition, record in made.records:
            yield partition, len(record.entries), encode(record)


def mailing(settings: Settings, campaign: str, recipients: int, per_record: int = 500) -> Iterator[Encoded]:
    """A delivery for every recipient, an open for a third and a click for a tenth, straight as records."""
    key = campaign_key(settings.secret, "acme", campaign)
    fingerprint = secret_fingerprint(settings.secret)
    now_ms = time.time_ns() // 1_000_000
    detail = encode(Detail("generic"))
    waiting: dict[int, list[Entry]] = {}
    for number in range(recipients):
        address = f"r{number:07d}@example.com"
        recipient = recipient_key(settings.secret, key, address)
        partition = recipient_partition(recipient, settings.partitions)
        entries = waiting.setdefault(partition, [])
        at_ms = now_ms - 86_400_000 + number * 80
        kinds = (
            DELIVERED,
            *((OPENED,) if number % 3 == 0 else ()),
            *((CLICKED,) if number % 10 == 0 else ()),
        )
        for kind in kinds:
            fact = Fact(identity(recipient, kind, str(at_ms)), at_ms + kind, kind, 0, number)
            entries.append(Entry(recipient, address, fact, detail))
        if len(entries) >= per_record:
            yield (
                partition,
                len(entries),
                encode(FactsRecord(FACTS_VERSION, "acme", campaign, now_ms, entries, fingerprint)),
            )
            waiting[partition] = []
    for partition, entries in waiting.items():
        if entries:
            yield (
                partition,
                len(entries),
                encode(FactsRecord(FACTS_VERSION, "acme", campaign, now_ms, entries, fingerprint)),
            )


def fill(kafka: str, records: Iterator[Encoded]) -> dict[int, list[int]]:
    """Writes the records to the topic; partition → facts of each record, in the order of offsets."""
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 20,
            "log_level": 3,
            "queue.buffering.max.messages": 100_000,
        }
    )
    written: dict[int, list[int]] = {}
    for partition, facts, value in records:
        while True:
            try:
                producer.produce(FACTS, value, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        written.setdefault(partition, []).append(facts)
    producer.flush(60)
    return written
