"""How many letters topic `webhooks.dead` holds: its records without the marks among them (`app.dead`).

A mark is told by its headers, so a process has to see every record once: a bounded number in a call, and then only the
new ones. Marks that it has not come to yet count as letters.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final, cast

from confluent_kafka import Consumer, KafkaException, TopicPartition

from app.dead import marked
from app.topics import DEAD

READ_S: Final = 0.1
"""Of a call, while there is something to be read."""
READ_RECORDS: Final = 1_000


class DeadCount:
    """Belongs to one thread."""

    def __init__(self, common: dict[str, str | int | float | bool]) -> None:
        self._consumer = Consumer(
            {
                **common,
                # Only named, never joined: records are read by assignment.
                "group.id": "campaign-reports-dead-count",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 4_096,
                "fetch.queue.backoff.ms": 10,
            }
        )
        self._seen: int | None = None
        """All records below it were seen; None: nothing is being read."""
        self._marks: deque[int] = deque()

    def letters(self, begin: int, end: int) -> int:
        """Of the records from `begin` to below `end`. Never raises: what can't be read is counted."""
        if self._seen is None or not begin <= self._seen <= end:
            self._begin_at(begin)
        self._read(end)
        while self._marks and self._marks[0] < begin:
            self._marks.popleft()
        return max(0, end - begin - len(self._marks))

    def _begin_at(self, begin: int) -> None:
        """At the first time, when the topic was made anew, or when its begin has moved past what was seen."""
        try:
            self._consumer.assign([TopicPartition(DEAD, 0, begin)])
        except KafkaException:
            self._seen = None
        else:
            self._seen = begin
        self._marks.clear()

    def _read(self, end: int) -> None:
        deadline = time.monotonic() + READ_S
        while self._seen is not None and self._seen < end and (left_s := deadline - time.monotonic()) > 0:
            try:
                messages = self._consumer.consume(min(READ_RECORDS, end - self._seen), left_s)
            except KafkaException:
                return
            for message in messages:
                if message.error() is not None:
                    continue
                offset = message.offset() or 0
                headers = cast("list[tuple[str, bytes]]", message.headers() or [])
                if marked(b"", headers) is not None:
                    self._marks.append(offset)
                self._seen = offset + 1

    def close(self) -> None:
        self._consumer.close()
