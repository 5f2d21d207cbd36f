"""Dead letters for tests, put into the topic as normalize does it."""

from __future__ import annotations

from confluent_kafka import Producer

from app.topics import DEAD, WEBHOOKS, Origin, Webhook, dead_headers

RECEIVED_MS = 1_790_000_000_000


def webhook(
    body: bytes, org: str = "acme", source: str = "news", esp: str = "sendgrid", encoding: str = ""
) -> Webhook:
    headers = (("content-type", "application/json"), *((("content-encoding", encoding),) if encoding else ()))
    return Webhook(org=org, source=source, esp=esp, received_at_ms=RECEIVED_MS, headers=headers, body=body)


def bury(kafka: str, *letters: tuple[Webhook, str]) -> None:
    """(webhook, reason) of each."""
    producer = Producer(
        {"bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True, "log_level": 2,
         "message.max.bytes": 8_000_000}
    )  # fmt: skip
    for number, (dead, reason) in enumerate(letters):
        origin = Origin(reason=reason, stage="event", topic=WEBHOOKS, partition=3, offset=number, index=1)
        producer.produce(
            DEAD,
            dead.body,
            partition=0,
            headers=dead_headers(dead, origin),  # type: ignore[arg-type]  # the stubs want one invariant list
        )
        producer.poll(0)
    assert producer.flush(20) == 0
