"""Topic `installation`: read whole, from its start, and appended to.

All calls block, each with a bound, and raise TryLater where Kafka doesn't answer or the topic isn't there. The topic
has some records for each database that was ever made new: reading it takes milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from app.errors import TryLater
from app.installation import (
    Generation,
    History,
    Installation,
    Record,
    encode,
    generation_at,
    generations_of,
    histories_of,
    installation_of,
)
from app.topics import INSTALLATION
from tables.kafka_clients import client_settings, kafka_words

ASK_S: Final = 10.0
"""The longest silence of the broker."""
_TOGETHER_MS: Final = 100
_POLL_S: Final = 0.1
_POLL_RECORDS: Final = 500


class InstallationLog:
    """Reads and appends. Clients live only as long as a call."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka

    def read(self) -> Installation | None:
        """What the topic says as of now; None where nobody has written an identity."""
        return installation_of(self._records())

    def histories(self, partitions: Iterable[int]) -> dict[int, History]:
        """Of these partitions of `facts`: their accepted gaps, and what became of them."""
        return histories_of(self._records(), partitions)

    def _records(self) -> list[tuple[int, bytes]]:
        consumer = reading_consumer(self._kafka)
        try:
            begin, end = log_ends(consumer, TopicPartition(INSTALLATION, 0))
            consumer.assign([TopicPartition(INSTALLATION, 0, begin)])
            records: list[tuple[int, bytes]] = []
            position, heard_at = begin, time.monotonic()
            while position < end:
                for message in _without_errors(consumer.consume(_POLL_RECORDS, _POLL_S)):
                    position, heard_at = (message.offset() or 0) + 1, time.monotonic()
                    records.append((position - 1, message.value() or b""))
                if time.monotonic() - heard_at > ASK_S:
                    raise TryLater(
                        1, f"Kafka at {self._kafka} doesn't give the records of topic {INSTALLATION}"
                    )
            return records
        except KafkaException as error:
            raise _later(self._kafka, error) from error
        finally:
            consumer.close()

    def append(self, record: Record) -> int:
        """Returns the record's offset, once it is stored (acks=all)."""
        return self.append_together([record])[0]

    def append_together(self, records: Sequence[Record]) -> list[int]:
        """Several in one batch, so that who reads meanwhile finds all of them or none: each is reason enough for all
        databases to take another generation."""
        producer = Producer(
            {
                **client_settings(self._kafka, "reports-installation"),
                # A record that is stored twice changes nothing; an idempotent producer takes half a second to begin.
                "enable.idempotence": False,
                "acks": "all",
                "linger.ms": _TOGETHER_MS if len(records) > 1 else 0,
                "delivery.timeout.ms": int(ASK_S * 1000),
            }
        )
        offsets: list[int] = []
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                errors.append(error)
            else:
                offsets.append(message.offset() or 0)

        try:
            for record in records:
                producer.produce(INSTALLATION, encode(record), partition=0, on_delivery=delivered)
            producer.flush(ASK_S * 1.5)
        except KafkaException as error:
            raise _later(self._kafka, error) from error
        if len(offsets) < len(records):
            why = kafka_words(errors[0] if errors else TimeoutError(), self._kafka)
            raise TryLater(1, f"a record of topic {INSTALLATION} was not stored: {why}")
        return offsets

    def generations(self) -> dict[int, int]:
        """Partition → the highest generation that was given to one of its databases."""
        return generations_of(self._records())

    def next_generation(self, partition: int, worker: str, *, known: int = 0, now_ms: int) -> int:
        """A generation above all that were ever given to the partition, and above `known`."""
        above = max(known, self.generations().get(partition, 0))
        return self.give_generation(partition, worker, above=above, now_ms=now_ms)

    def give_generation(
        self,
        partition: int,
        worker: str,
        *,
        above: int,
        now_ms: int,
        crossed: tuple[int, ...] = (),
        held: tuple[int, ...] = (),
        answers: str = "",
    ) -> int:
        """The same for one who has read `generations` and knows what the next one has to be above."""
        record = Generation(
            partition=partition,
            above=above,
            worker=worker,
            at_ms=now_ms,
            crossed=crossed,
            held=held,
            answers=answers,
        )
        return generation_at(self.append(record), above)


def reading_consumer(kafka: str) -> Consumer:
    """For a look into a topic: it joins no group, and records are read by assignment."""
    return Consumer(
        {
            **client_settings(kafka, "reports-installation"),
            "group.id": "campaign-reports-installation",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )


def log_ends(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """A partition's first offset, and the one behind its last record. Raises KafkaException."""
    deadline = time.monotonic() + ASK_S
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=ASK_S)
        except KafkaException:
            # A topic that was just created has no leader for a moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _without_errors(messages: Iterable[Message]) -> list[Message]:
    return [message for message in messages if message.error() is None]


def _later(kafka: str, error: KafkaException) -> TryLater:
    return TryLater(1, f"topic {INSTALLATION}: {kafka_words(error, kafka)}")
