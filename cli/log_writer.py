"""Records into the log from a command: as durable as those of the API, and as many a second as Kafka takes."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from app.errors import StateError
from app.settings import Settings
from app.topics import RECORD_OVERHEAD, WEBHOOKS_PARTITIONS, KafkaHeaders
from app.words import number_of
from cli.addresses import read_address, why_no_address
from tables.kafka_clients import client_settings, kafka_words

DELIVER_WITHIN_S: Final = 30.0
QUEUE_KBYTES: Final = 64 * 1024
_TURN: Final = 8
"""Records for one partition before it is the next one's turn: they share a batch."""


def kafka_of(settings: Settings) -> str:
    """Where Kafka is; it alone is needed here. Raises StateError."""
    found = settings.kafka or read_address(settings.data, "kafka")
    if not found:
        raise StateError(why_no_address(settings.data, "kafka"))
    return found


class LogWriter:
    """Raises StateError from any call once a record was not accepted: what was sent before it may be stored."""

    def __init__(self, kafka: str, max_body: int) -> None:
        self.acknowledged = 0
        self._sent = 0
        self._problem = ""
        self._kafka = kafka
        self._producer = Producer(
            {
                **client_settings(kafka, "reports-cli"),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.max.bytes": max_body + 2 * RECORD_OVERHEAD,
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "delivery.timeout.ms": int(DELIVER_WITHIN_S * 1000),
            }
        )

    def send(self, topic: str, value: bytes, headers: KafkaHeaders, partition: int | None = None) -> None:
        """Hands one record over; waits where many are under way. `partition` None: those of `webhooks` by turns."""
        self._sent += 1
        if partition is None:
            partition = self._sent // _TURN % WEBHOOKS_PARTITIONS
        while True:
            self._check()
            try:
                self._producer.produce(
                    topic,
                    value,
                    partition=partition,
                    headers=headers,  # type: ignore[arg-type]  # the stubs want one invariant list
                    on_delivery=self._report,
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise StateError(kafka_words(error, self._kafka)) from None
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Waits until everything that was handed over is acknowledged."""
        left = self._producer.flush(DELIVER_WITHIN_S + 5)
        self._check()
        if left:
            raise StateError(
                f"Kafka at {self._kafka} did not acknowledge {number_of(left, 'record')} in time"
            )

    def _report(self, error: Any, _: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self._problem = self._problem or str(error.str())

    def _check(self) -> None:
        if self._problem:
            raise StateError(f"Kafka at {self._kafka} does not accept records: {self._problem}")
