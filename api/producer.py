"""The way into Kafka: `await producer.send(…)` returns when the record is acknowledged by all in-sync replicas.

Rules:
- Idempotent, `acks=all`. One that is not acknowledged within `ANSWER_WITHIN_S` raises TryLater; it may still arrive
  later. That is harmless: its sender sends it again, and the fold counts a fact once.
- A thread serves librdkafka's callbacks. A burst of them wakes the event loop once, since a wake-up for each record
  would cost more than the record.
- Nothing piles up while the broker is away: after the first time that nothing came back, only a few probes are let
  through and everyone else is told to come later at once, until something is acknowledged again.
- A fatal error (librdkafka can't promise idempotence any more) replaces the client; what was under way fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client

from app.errors import TryLater
from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS, KafkaHeaders
from tables.background import Background, Following
from tables.kafka_clients import client_settings

ANSWER_WITHIN_S: Final = 1.8
"""An ESP is answered within two seconds whatever the broker does; the rest is for the way to it."""
RETRY_AFTER_S: Final = 2
MAX_UNDER_WAY: Final = 20_000
"""Records handed over and not yet acknowledged."""
MAX_PROBES: Final = 16
DELIVER_WITHIN_S: Final = 10.0
"""How long librdkafka tries: longer than we wait, so that a short silence of the broker costs no repetition of work."""
QUEUE_KBYTES: Final = 256 * 1024
CLOSE_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.1
_SWEEP_S: Final = 0.1
_CLOCK_S: Final = 1.0
_TURN: Final = 8
"""Records for one partition before it is the next one's turn: they share a batch."""

_Waiting = asyncio.Future[None]


class KafkaTime(NamedTuple):
    """What Kafka's clock showed (seconds since 1970) at a moment of the monotonic clock, to within a second."""

    at_s: float
    kafka_s: float


class Producer:
    """Made and closed inside a running event loop, used from that loop only."""

    def __init__(
        self,
        bootstrap: str,
        *,
        max_message_bytes: int,
        answer_within_s: float = ANSWER_WITHIN_S,
        client_id: str = "campaign-reports-api",
        background: Background | None = None,
        why_not: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`max_message_bytes`: `settings.max_body + topics.RECORD_OVERHEAD`; `background`: the process's; `why_not`:
        why records are not accepted at the moment, where that is known."""
        self._why_not = why_not
        self._settings: dict[str, str | int | float | bool] = {
            **client_settings(bootstrap, client_id),
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",  # a webhook's bytes are stored for days, but a core's time is dearer here
            "linger.ms": 1,
            "message.max.bytes": max_message_bytes,
            "queue.buffering.max.messages": 2 * MAX_UNDER_WAY,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            "delivery.timeout.ms": int(DELIVER_WITHIN_S * 1000),
            "request.timeout.ms": 5_000,
            "socket.timeout.ms": 10_000,
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            # A topic that was recreated, or got partitions that it lacked, is found within seconds.
            "topic.metadata.refresh.interval.ms": 5_000,
        }
        self._loop = asyncio.get_running_loop()
        self._answer_within_s = answer_within_s
        self._client = Client(self._settings)
        self._waiting: deque[tuple[float, _Waiting]] = deque()
        self._done: deque[tuple[_Waiting, KafkaError | None]] = deque()
        self._wake_asked = False
        self._under_way = 0
        self._silent = False
        self._sent = 0
        self._closing = False
        self._sweeper: asyncio.TimerHandle | None = None
        self.kafka_time: KafkaTime | None = None
        self.acknowledged: dict[int, int] = {}
        """Partition of topic `webhooks` → the offset behind the last record that was acknowledged. It never falls while
        nobody empties it (`api.log_positions`)."""
        self._stored: Message | None = None
        self._serving = Following(background or Background(), "producer", self._serve)
        self._serving.start()

    @property
    def healthy(self) -> bool:
        """False from the first record that was not acknowledged in time until one is again."""
        return not self._silent and not self._closing

    def next_webhooks_partition(self) -> int:
        """The partition of topic `webhooks` whose turn it is."""
        self._sent += 1
        return self._sent // _TURN % WEBHOOKS_PARTITIONS

    async def send(
        self,
        topic: str,
        value: bytes,
        headers: KafkaHeaders,
        partition: int | None = None,
        key: bytes | None = None,
    ) -> None:
        """Stores one record; `partition` None: the next one of topic `webhooks`.

        Raises TryLater when it isn't stored, or not known to be.
        """
        if self._closing or self._under_way >= (MAX_PROBES if self._silent else MAX_UNDER_WAY):
            raise self._later()
        future: _Waiting = self._loop.create_future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._done.append((future, error))
            self._stored = message
            if error is None and topic == WEBHOOKS:
                number, end = message.partition() or 0, (message.offset() or 0) + 1
                self.acknowledged[number] = max(end, self.acknowledged.get(number, 0))

        try:
            self._client.produce(
                topic,
                value,
                key,
                self.next_webhooks_partition() if partition is None else partition,
                on_delivery=delivered,
                headers=headers,  # type: ignore[arg-type]  # the stubs want str or bytes in one invariant list
            )
        except BufferError:
            raise self._later() from None
        except KafkaException as error:
            self._fail(error.args[0])
            raise self._later() from None
        self._under_way += 1
        self._waiting.append((time.monotonic() + self._answer_within_s, future))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        await future

    def _later(self) -> TryLater:
        why = self._why_not()
        because = f": {why}" if why else ""
        return TryLater(RETRY_AFTER_S, f"the event log doesn't accept records at the moment{because}")

    def _serve(self) -> None:
        """The thread: librdkafka's callbacks of one poll, then one wake-up for all of them."""
        while not self._closing:
            self._client.poll(_POLL_S)
            self._look_at_clock()
            if self._done and not self._wake_asked:
                self._wake_asked = True
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._settle)

    def _look_at_clock(self) -> None:
        """What Kafka's clock showed when the last record was stored; once a second, and where that was just now."""
        message, self._stored = self._stored, None
        now = time.monotonic()
        if message is None or (self.kafka_time is not None and now - self.kafka_time.at_s < _CLOCK_S):
            return
        kind, stored_ms = message.timestamp()
        took_s = message.latency()
        if kind == TIMESTAMP_LOG_APPEND_TIME and took_s is not None and took_s < _CLOCK_S:
            self.kafka_time = KafkaTime(now, stored_ms / 1000)

    def _settle(self) -> None:
        self._wake_asked = False
        while self._done:
            future, error = self._done.popleft()
            self._under_way -= 1
            if error is None:
                self._silent = False
                if not future.done():
                    future.set_result(None)
            else:
                self._fail(error)
                if not future.done():
                    future.set_exception(self._later())

    def _fail(self, error: object) -> None:
        if not isinstance(error, KafkaError):
            return
        if error.code() in (KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            self._silent = True
        if error.fatal() or error.code() == KafkaError._FATAL:
            # The old client's callbacks still come: they belong to records that are counted as under way.
            old, self._client = self._client, Client(self._settings)
            old.purge()
            old.poll(0)

    def _sweep(self) -> None:
        """Gives up on what has waited long enough. All wait equally long, so the oldest stand in front."""
        now = time.monotonic()
        waiting = self._waiting
        while waiting and (waiting[0][0] <= now or waiting[0][1].done()):
            _, future = waiting.popleft()
            if not future.done():
                self._silent = True
                future.set_exception(self._later())
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if waiting else None

    async def close(self) -> None:
        """Waits until everyone has an answer, which takes as long as an answer may; nothing is left behind."""
        deadline = time.monotonic() + CLOSE_WITHIN_S
        while time.monotonic() < deadline and not all(future.done() for _, future in self._waiting):
            self._client.flush(0)
            self._settle()
            await asyncio.sleep(0.01)
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.to_thread(self._end)
        self._settle()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(self._later())
        self._waiting.clear()

    def _end(self) -> None:
        self._serving.stop(2 * _POLL_S + 1)
        self._client.purge()
        self._client.flush(0.5)
        self._client.close()  # else its threads live until Python finds it
