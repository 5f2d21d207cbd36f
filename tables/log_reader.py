"""Whole stretches of a topic: every record between offsets that are fixed before.

All calls block and raise StateError where Kafka doesn't answer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from app.errors import StateError
from app.topics import NORMALIZE_GROUP
from tables.kafka_clients import client_settings, kafka_words

ASK_S: Final = 10.0
"""The longest silence of the broker."""
_POLL_S: Final = 0.2
_POLL_RECORDS: Final = 500


class Stretch(NamedTuple):
    """Offsets of one partition: from `begin` to below `end`."""

    begin: int
    end: int


class LogReader:
    """A context manager: it holds a consumer."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._consumer = Consumer(
            {
                **client_settings(kafka, "reports-cli"),
                # Never joined: records are read by assignment. Only a consumer of normalize's group can ask for its
                # commits (see `api.log_positions`).
                "group.id": NORMALIZE_GROUP,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 32_768,
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 5,
            }
        )

    def __enter__(self) -> LogReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def whole(self, topic: str, partitions: int) -> dict[int, Stretch]:
        """What of each partition is stored now."""
        with self._asking(topic):
            return {
                number: Stretch(
                    *self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ASK_S)
                )
                for number in range(partitions)
            }

    def since(self, topic: str, whole: Mapping[int, Stretch], at_ms: int) -> dict[int, Stretch]:
        """The part of each stretch that was stored at this time or later, by Kafka's clock."""
        asked = [TopicPartition(topic, number, max(0, at_ms)) for number in whole]
        with self._asking(topic):
            found = self._consumer.offsets_for_times(asked, timeout=ASK_S)
        stretches = {}
        for one in found:
            if one.error is not None:
                raise self._unreadable(topic, one.error)
            stretch = whole[one.partition]
            # Negative where no record is so young.
            begin = one.offset if one.offset >= 0 else stretch.end
            stretches[one.partition] = Stretch(min(max(begin, stretch.begin), stretch.end), stretch.end)
        return stretches

    def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """Of the record there; None where there is none."""
        for message in self.read(topic, {partition: Stretch(offset, offset + 1)}):
            if message.offset() == offset:
                return message.value() or b""
        return None

    def read(self, topic: str, stretches: Mapping[int, Stretch]) -> Iterator[Message]:
        """Every record of the stretches, in order within a partition."""
        left = {number: stretch.end for number, stretch in stretches.items() if stretch.begin < stretch.end}
        if not left:
            return
        # The client waits until it has as many, or the time is up.
        records = min(_POLL_RECORDS, sum(end - stretches[number].begin for number, end in left.items()))
        with self._asking(topic):
            self._consumer.assign([TopicPartition(topic, number, stretches[number].begin) for number in left])
            try:
                heard_at = time.monotonic()
                while left:
                    for message in self._consumer.consume(records, _POLL_S):
                        number = message.partition() or 0
                        if number not in left:
                            continue
                        error = message.error()
                        if error is not None:
                            if error.code() == KafkaError._PARTITION_EOF:
                                del left[number]
                            elif error.fatal():
                                raise KafkaException(error)
                            continue
                        heard_at = time.monotonic()
                        offset = message.offset() or 0
                        if offset < left[number]:
                            yield message
                            # What was done with the record may have taken its time.
                            heard_at = time.monotonic()
                        if offset >= left[number] - 1:
                            del left[number]
                            self._consumer.incremental_unassign([TopicPartition(topic, number)])
                    if time.monotonic() - heard_at > ASK_S:
                        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            finally:
                self._consumer.unassign()

    def first_ms(self, topic: str, whole: Mapping[int, Stretch]) -> dict[int, int]:
        """When the oldest record of each partition that has one was stored."""
        firsts = {number: Stretch(s.begin, s.begin + 1) for number, s in whole.items() if s.begin < s.end}
        return {message.partition() or 0: message.timestamp()[1] for message in self.read(topic, firsts)}

    def normalized(self, topic: str, partitions: int) -> dict[int, int]:
        """Partition → below which offset normalize is done with all; 0 where it never was there."""
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        with self._asking(topic):
            found = self._consumer.committed(asked, timeout=ASK_S)
        return {one.partition: max(0, one.offset) for one in found if one.error is None}

    @contextlib.contextmanager
    def _asking(self, topic: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._unreadable(topic, error) from None

    def _unreadable(self, topic: str, error: KafkaException | KafkaError) -> StateError:
        return StateError(f"topic {topic} can't be read: {kafka_words(error, self._kafka)}")


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return [(name, value) for name, value in pairs if value is not None]
