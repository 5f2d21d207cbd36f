"""The shares that there are, read from topic `shares` by each API process for itself.

Rules:
- The topic is the only copy: nothing of it stands in Redis or on a disk of ours, so neither an emptied Redis nor a
  restart nor a lagging worker brings a revoked link back. It is small, and read whole at the start.
- One thread with a consumer of its own follows it; a record is here some milliseconds after it was acknowledged.
- Every `CHECK_S` Kafka is asked for the topic's end. Who has not been at that end within `FRESH_S` may have missed a
  revocation, and opens nothing (`check`): 503, never a report that was taken back.
- What this process writes itself is known to it at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from app.errors import TryLater
from app.shares import Share, ShareBook, decode_share, encode_share
from app.topics import SHARES
from tables.background import Background, Following
from tables.kafka_clients import client_settings

if TYPE_CHECKING:
    from api.producer import Producer

log = logging.getLogger("reports.shares")

CHECK_S: Final = 1.0
FRESH_S: Final = 10.0
"""A revocation holds everywhere within that time, whatever is cut off from whom; a restart of Kafka takes less."""
STUCK_S: Final = 20.0
ASK_S: Final = 2.0
POLL_S: Final = 0.1
POLL_RECORDS: Final = 500
FORGET_S: Final = 3_600.0


class ShareLog:
    """Read and written on the event loop, filled by its thread."""

    def __init__(self, kafka: str, background: Background, *, clock: Callable[[], float] = time.time) -> None:
        self._kafka = kafka
        self._clock = clock
        self._lock = threading.Lock()
        self._book = ShareBook()
        self._at_end_s: float | None = None
        self._read_s = time.monotonic()
        """When the last record came, or reading began."""
        """When (by the monotonic clock) it was last known that nothing is missing."""
        self._position = 0
        self._following = Following(background, "shares", self._run)

    def start(self) -> None:
        self._following.start()

    def stop(self) -> None:
        self._following.stop()

    @property
    def fresh(self) -> bool:
        at_end_s = self._at_end_s  # once: the thread may set it anew
        return at_end_s is not None and time.monotonic() - at_end_s < FRESH_S

    def check(self) -> None:
        """Raises TryLater where a revocation may have been missed."""
        if not self.fresh:
            raise TryLater(2, "it can't be told at the moment which shared links hold")

    def get(self, share_id: bytes) -> Share | None:
        with self._lock:
            return self._book.get(share_id)

    def of_campaign(self, org: str, campaign: str) -> list[Share]:
        with self._lock:
            return list(self._book.of_campaign(org, campaign))

    async def write(self, producer: Producer, share: Share) -> None:
        """Stores a share, or that it is revoked. Raises TryLater where that is not known to be stored."""
        await producer.send(SHARES, encode_share(share), [], 0, key=share.id)
        with self._lock:
            self._book.add(share)

    def _run(self) -> None:
        try:
            while not self._following.stopping.is_set():
                self._follow()
        finally:
            # Whatever it was: nothing is opened until the topic has been read again.
            self._at_end_s = None

    def _follow(self) -> None:
        """Until it is to stop, or its client has known nothing for `STUCK_S`.

        One that knows of a later leader than there is, of a broker that was restored, waits for that for ever."""
        consumer = Consumer(
            {
                **client_settings(self._kafka, "reports-shares"),
                # Only named, never joined: records are read by assignment.
                "group.id": "campaign-reports-shares",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 4_096,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 50,
            }
        )
        try:
            self._begin(consumer)
            self._read_s = checked = forgotten = time.monotonic()
            while not self._following.stopping.is_set():
                self._read(consumer)
                now = time.monotonic()
                if now - checked >= (CHECK_S if self._at_end_s is not None else POLL_S):
                    checked = now
                    self._check_end(consumer, now)
                if now - forgotten >= FORGET_S:
                    forgotten = now
                    with self._lock:
                        self._book.forget(int(self._clock() * 1000))
                if now - max(self._read_s, self._at_end_s or 0.0) > STUCK_S:
                    return
        finally:
            consumer.close()

    def _begin(self, consumer: Consumer) -> None:
        self._position, self._at_end_s = 0, None
        with contextlib.suppress(KafkaException):
            # Who leads the topic is known then, and reading begins at once instead of after a second.
            consumer.list_topics(SHARES, timeout=ASK_S)
        consumer.assign([TopicPartition(SHARES, 0, OFFSET_BEGINNING)])

    def _read(self, consumer: Consumer) -> None:
        for message in consumer.consume(POLL_RECORDS, POLL_S):
            if message.error() is not None:
                continue
            self._position, self._read_s = (message.offset() or 0) + 1, time.monotonic()
            share = decode_share(message.value() or b"")
            if share is None:
                log.warning("a record of topic %s is none of ours or newer; it opens nothing", SHARES)
                continue
            with self._lock:
                self._book.add(share)

    def _check_end(self, consumer: Consumer, now: float) -> None:
        """Asks Kafka where the topic ends. `now`: before it is asked."""
        try:
            found = consumer.get_watermark_offsets(TopicPartition(SHARES, 0), timeout=ASK_S)
        except KafkaException:
            return
        begin, end = found
        if self._position > end:
            log.warning("topic %s was recreated: it is read from its start", SHARES)
            with self._lock:
                self._book = ShareBook()
            self._begin(consumer)
        elif max(self._position, begin) >= end:  # what retention took away is not missing
            self._at_end_s = now
