"""Reading topic `webhooks.dead`: pages of letters, newest first, single letters, and many with their bodies.

Rules:
- Nothing holds the topic in memory: it is read in windows of a bounded number of records, and a listing keeps no body.
- Which letters were replayed is told by marks that stand behind them (`app.dead`), so a page needs the marks of all
  that is newer than it. They are kept as one bit for each id (`Marks`), which a process reads once: the next page goes
  on where this one ended, and of the new records only those since are read.
- With `within_s` a page ends when the time is up, with what it has, and says where the next one goes on.
- All calls block; one `DeadLetters` belongs to one thread, and one `Marks` to one `DeadLetters` at a time.
They raise `confluent_kafka.KafkaException`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, cast

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from app.dead import IdSet, Letter, Selection, letter_of, marked
from app.topics import DEAD
from tables.kafka_clients import client_settings

ASK_S: Final = 5.0
"""The longest silence of the broker; every wait ends with it."""
POLL_S: Final = 0.2
POLL_RECORDS: Final = 100
FIRST_WINDOW: Final = 32
MAX_WINDOW: Final = 4_000
WINDOW_BYTES: Final = 8 * 1024 * 1024
MAX_CATCH_UP: Final = 20_000
"""New records beyond which the marks are read anew, from the end, where a page's time bounds it."""
MAX_SKIPPED: Final = 1_000
"""Unwanted records between two wanted ones that are rather read than jumped over."""
CLOCK_SLACK_MS: Final = 60_000
"""What the clocks of brokers that led the topic one after the other may differ by."""


class Marks:
    """The ids that are known to be replayed: all that is said in the records from `low` to below `high`."""

    def __init__(self) -> None:
        self.ids = IdSet()
        self.low = 0
        self.high = -1
        """-1: nothing is known yet."""


class Found(msgspec.Struct, frozen=True):
    letter: Letter
    replayed: bool | None
    """None: there was no time to find out."""


class Page(msgspec.Struct, frozen=True):
    found: list[Found]
    next: int | None
    """`before` of the next page; None: there is none."""


class DeadLetters:
    """A context manager: it holds a consumer."""

    def __init__(self, kafka: str, marks: Marks | None = None) -> None:
        self._marks = marks or Marks()
        self._consumer = Consumer(
            {
                **client_settings(kafka, "reports-dead"),
                # Only named, never joined: records are read by assignment.
                "group.id": "campaign-reports-dead",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 16_384,
                # The next window waits for the fetch at the end of the last one.
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 5,
                "fetch.error.backoff.ms": 50,
            }
        )

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def bounds(self) -> tuple[int, int]:
        """The oldest id that is still there, and the one that the next record will get."""
        deadline = time.monotonic() + ASK_S
        while True:
            try:
                found = self._consumer.get_watermark_offsets(TopicPartition(DEAD, 0), timeout=ASK_S)
            except KafkaException:
                # A partition without a leader for the moment is asked again.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            if found is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return found

    def get(self, number: int) -> Letter | None:
        """One letter with its body; None where there is none of this id (any more)."""
        begin, end = self.bounds()
        if not begin <= number < end:
            return None
        for message in self._read(number, number + 1):
            if message.offset() == number:
                return _letter(message, body=True)
        return None

    def is_replayed(self, number: int, within_s: float | None = None) -> bool | None:
        """Whether the letter was replayed; None where the time was too short to find out."""
        page = self.page(Selection(), 1, before=number + 1, within_s=within_s)
        found = [one for one in page.found if one.letter.id == number]
        return found[0].replayed if found else None

    def page(
        self, selection: Selection, limit: int, *, before: int | None = None, within_s: float | None = None
    ) -> Page:
        """At most `limit` letters with ids below `before` (None: the newest), newest first."""
        deadline = None if within_s is None else time.monotonic() + within_s
        begin, end = self.bounds()
        below = end if before is None else min(before, end)
        if below <= begin:
            return Page([], None)
        marks = self._marks
        self._catch_up(begin, end, bounded=within_s is not None)
        found: list[Found] = []
        top, size = max(below, marks.low), FIRST_WINDOW
        while top > begin:
            low = max(begin, top - size)
            letters, read_bytes = self._window(low, top)
            marks.low = min(marks.low, low)
            for letter in reversed(letters):
                if letter.id >= below or not selection.takes(letter):
                    continue
                if len(found) == limit:
                    return Page(found, found[-1].letter.id)
                found.append(Found(letter, letter.id in marks.ids))
            oldest_ms = letters[0].at_ms if letters else None
            if oldest_ms and selection.since_ms and oldest_ms < selection.since_ms - CLOCK_SLACK_MS:
                return Page(found, None)
            size = max(1, min(MAX_WINDOW, WINDOW_BYTES // max(1, read_bytes // (top - low))))
            top = low
            if deadline is not None and time.monotonic() >= deadline and top > begin:
                return Page(found, min(top, below))
        return Page(found, None)

    def choose(self, selection: Selection, *, again: bool) -> tuple[IdSet, int]:
        """The ids of all letters that are meant, and how many more were left out since they were replayed before."""
        chosen, left_out, before = IdSet(), 0, None
        while True:
            page = self.page(selection, MAX_WINDOW, before=before)
            for one in page.found:
                if one.replayed and not again:
                    left_out += 1
                else:
                    chosen.add(one.letter.id)
            if page.next is None:
                return chosen, left_out
            before = page.next

    def letters(self, ids: Iterable[int]) -> Iterator[Letter]:
        """The letters of ascending ids with their bodies, oldest first; those that are gone are left out."""
        begin, end = self.bounds()
        wanted = (number for number in ids if begin <= number < end)
        for run in _runs(wanted):
            members = IdSet(run)
            for message in self._read(run[0], run[-1] + 1):
                if (message.offset() or 0) in members:
                    letter = _letter(message, body=True)
                    if letter is not None:
                        yield letter

    def _catch_up(self, begin: int, end: int, *, bounded: bool) -> None:
        """Reads the marks among the records that are new since the last time."""
        marks = self._marks
        if not marks.low <= marks.high <= end or (bounded and end - marks.high > MAX_CATCH_UP):
            marks.ids, marks.low, marks.high = IdSet(), end, end
            return
        for message in self._read(max(begin, marks.high), end):
            self._note(message)
        marks.low, marks.high = max(marks.low, begin), end
        marks.ids.forget_below(begin)

    def _window(self, low: int, high: int) -> tuple[list[Letter], int]:
        """The letters from `low` to below `high` without their bodies, and how many bytes were read for that."""
        letters, read_bytes = [], 0
        for message in self._read(low, high):
            read_bytes += len(message.value() or b"")
            if not self._note(message):
                letter = _letter(message, body=False)
                if letter is not None:
                    letters.append(letter)
        return letters, read_bytes

    def _note(self, message: Message) -> bool:
        """Notes what a mark says; False where the record is none."""
        ids = marked(_value(message), _headers(message))
        for number in ids or ():
            self._marks.ids.add(number)
        return ids is not None

    def _read(self, low: int, high: int) -> Iterator[Message]:
        """The records from `low` to below `high`, in order."""
        if low >= high:
            return
        heard = time.monotonic()
        self._consumer.assign([TopicPartition(DEAD, 0, low)])
        try:
            while True:
                messages = self._consumer.consume(min(POLL_RECORDS, high - low), POLL_S)
                for message in messages:
                    error = message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return
                        if error.fatal():
                            raise KafkaException(error)
                        continue
                    heard = time.monotonic()
                    offset = message.offset() or 0
                    if offset < high:
                        yield message
                    if offset >= high - 1:
                        return
                if time.monotonic() - heard > ASK_S:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        finally:
            self._consumer.unassign()


def _runs(ids: Iterable[int]) -> Iterator[list[int]]:
    """Ascending ids in groups that are worth reading in one go."""
    run: list[int] = []
    for number in ids:
        if run and (number - run[-1] > MAX_SKIPPED or len(run) >= MAX_WINDOW):
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _letter(message: Message, *, body: bool) -> Letter | None:
    value, headers = _value(message), _headers(message)
    if marked(value, headers) is not None:
        return None
    return letter_of(message.offset() or 0, message.timestamp()[1], value, headers, body=body)


def _value(message: Message) -> bytes | None:
    return message.value()


def _headers(message: Message) -> list[tuple[str, bytes]]:
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return [(name, value) for name, value in pairs if value is not None]
