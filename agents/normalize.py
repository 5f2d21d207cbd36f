"""Faust app 1: topic `webhooks` → facts in topic `facts`, what can't be understood in `webhooks.dead`.

There is no store here, so Kafka's committed offset is the truth about what is done (`agents.webhook_log`: and what if
the log no longer has it). The recipe:
1. A chunk of webhooks is turned into records, those of one campaign and partition merged, and handed to the producer.
2. The chunk's next offset becomes committable when every record of it, and every chunk before it, has its delivery
   report (`Deliveries`). A delivery that failed ends the process: the next one begins at the committed offset.
So after a crash some webhooks are turned into facts again. The fold drops them by their identity.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Producer
from faust.types import TP

from agents.engine import Chunk, Committer, EngineApp, LogRecord, create_app
from agents.log_checks import LogInspector, check_codecs
from agents.presence import tell_presence
from agents.slots import Slot
from agents.unknown_sources import UnknownSources
from agents.watchdog import Watchdog
from agents.webhook_log import WebhookLog
from agents.worker import EXIT_CRASHED, Follow, crash_on_error, keep_running, keep_thread
from app import facts as f
from app.configuration import fingerprints
from app.facts import FactsRecord
from app.inflate import limit_for
from app.normalize import DeadLetter, find_source, normalize
from app.organisations import Organisations
from app.settings import Settings
from app.topics import (
    DEAD,
    FACTS,
    NORMALIZE_GROUP,
    RECORD_OVERHEAD,
    WEBHOOKS,
    KafkaHeaders,
    Origin,
    Webhook,
    dead_headers,
    webhook_of,
)
from app.user_agents import look_up_agent
from tables.background import Background
from tables.conditions import Conditions
from tables.kafka_clients import client_settings, kafka_words
from tables.places import open_places
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock, keep_time, measured_clock

log = logging.getLogger(__name__)

ENTRIES_PER_RECORD: Final = 250
"""A record costs every later reader about as much as ten entries; more entries would only make chunks uneven."""
COMMIT_S: Final = 0.05
"""Also what the reported lag may be behind the truth."""
MAX_UNDER_WAY: Final = 50_000
FLUSH_S: Final = 4.0


class Deliveries:
    """Which offset may be committed, by the delivery reports of what was produced for the records below it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, deque[list[int]]] = {}
        self._positions: dict[int, int] = {}
        self.under_way = 0

    def expect(self, partition: int, next_offset: int, records: int) -> Callable[[], None]:
        """Notes a chunk that is done with `records` reports; returns what each of them calls, from any thread."""
        chunk = [next_offset, records]
        with self._lock:
            self._open.setdefault(partition, deque()).append(chunk)
            self.under_way += records
            self._settle(partition)

        def delivered() -> None:
            with self._lock:
                chunk[1] -= 1
                self.under_way -= 1
                if not chunk[1]:
                    self._settle(partition)

        return delivered

    def _settle(self, partition: int) -> None:
        chunks = self._open.get(partition)
        while chunks and not chunks[0][1]:
            self._positions[partition] = chunks.popleft()[0]

    def positions(self) -> dict[int, int]:
        """Partition → next offset: everything below it is in Kafka."""
        with self._lock:
            return dict(self._positions)

    def skip(self, partition: int, offset: int) -> None:
        """Nothing below the offset is to be waited for, behind what is under way."""
        self.expect(partition, offset, 0)

    def forget(self, partition: int) -> None:
        """The partition was revoked: its chunks are its next owner's to commit."""
        with self._lock:
            self._open.pop(partition, None)
            self._positions.pop(partition, None)


class Normalizer:
    """What one worker process turns webhooks into facts with."""

    def __init__(self, settings: Settings, organisations: Organisations, clock: RedisClock) -> None:
        """Raises ConfigError, StateError or TryLater where it can't start."""
        check_codecs()
        self.settings = settings
        self.slot = Slot(settings.data / "normalize")
        self.deliveries = Deliveries()
        self.conditions = Conditions(clock.seconds)
        self.unknown_sources = UnknownSources(self.conditions)
        self.take(organisations)
        self.consumed: dict[int, int] = {}
        """Partition → next offset to read."""
        self.redis = redis_of(settings, timeout_s=2.0)
        self.log = WebhookLog(
            settings, self.redis, self.conditions, self.consumed, self.deliveries, clock.seconds
        )  # fmt: skip
        self._kafka = settings.kafka
        LogInspector(settings.kafka).check_session_timeout(settings)
        self._places, trouble = open_places(settings.geoip, settings.data)
        if trouble:
            log.warning("%s", trouble)
        self._producer = Producer(
            {
                **client_settings(settings.kafka, "campaign-reports-normalize"),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "zstd",
                "linger.ms": 2,
                "message.max.bytes": settings.max_body + 2 * RECORD_OVERHEAD,
                "queue.buffering.max.messages": 2 * MAX_UNDER_WAY,
                "delivery.timeout.ms": 120_000,
            }
        )
        keep_thread("producer", self._serve)

    def take(self, organisations: Organisations) -> None:
        """The configuration, now or anew."""
        self.organisations = organisations
        self.configuration = fingerprints(self.settings, organisations)
        self.unknown_sources.reloaded(organisations)

    def _serve(self) -> None:
        while True:
            self._producer.poll(0.1)

    async def turn(self, partition: int, chunk: Chunk) -> None:
        """Turns a chunk's webhooks into records and hands them to the producer."""
        first = chunk.records[0]
        if first.offset > self.consumed.get(partition, first.offset):
            await self.log.jumped(partition, first.offset, first.timestamp)
        merged: dict[tuple[int, str, str], list[FactsRecord]] = {}
        dead: list[tuple[Origin, DeadLetter]] = []
        for record in chunk.records:
            self._turn_one(partition, record, merged, dead)
        records = [(target, one) for (target, _, _), line in merged.items() for one in merge(line)]
        delivered = self.deliveries.expect(partition, chunk.records[-1].offset + 1, len(records) + len(dead))

        def report(error: Any, _: Any) -> None:
            if error is not None:
                _end(f"a record was not stored: {kafka_words(error, self._kafka)}")
            delivered()

        for target, one in records:
            await self._produce(FACTS, f.encode(one), target, [], report)
        for origin, letter in dead:
            await self._produce(DEAD, letter.webhook.body, 0, dead_headers(letter.webhook, origin), report)
        self.consumed[partition] = chunk.records[-1].offset + 1
        self.log.read(partition, chunk.records[-1].offset, chunk.records[-1].value)
        # Reports come from librdkafka's thread, one by one; asking now and then is cheaper than being woken by each.
        while self.deliveries.under_way > MAX_UNDER_WAY:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _turn_one(
        self,
        partition: int,
        record: LogRecord,
        merged: dict[tuple[int, str, str], list[FactsRecord]],
        dead: list[tuple[Origin, DeadLetter]],
    ) -> None:
        def bury(letter: DeadLetter) -> None:
            origin = Origin(
                reason=letter.reason, stage=letter.stage, topic=WEBHOOKS, partition=partition,
                offset=record.offset, index=letter.index,
            )  # fmt: skip
            dead.append((origin, letter))

        try:
            webhook = webhook_of(record.value, record.headers)
        except ValueError as error:
            lost = Webhook(
                org="",
                source="",
                esp="",
                received_at_ms=record.timestamp,
                headers=(),
                body=record.value or b"",
            )
            bury(DeadLetter(webhook=lost, reason=str(error), stage="record"))
            return
        found = find_source(self.organisations, webhook.org, webhook.source)
        if found is None:
            bury(DeadLetter(webhook=webhook, reason="unknown source", stage="parse"))
            self.unknown_sources.note(webhook.org, webhook.source)
            return
        organisation, source = found
        normalized = normalize(
            webhook, source, organisation, self.settings.secret, self.settings.partitions,
            look_up_agent, self._places.look_up, inflate_limit=limit_for(self.settings.max_body),
        )  # fmt: skip
        for target, one in normalized.records:
            merged.setdefault((target, one.org, one.campaign), []).append(one)
        for letter in normalized.dead:
            bury(letter)

    async def _produce(
        self, topic: str, value: bytes, partition: int, headers: KafkaHeaders, report: Any
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    partition=partition,
                    headers=headers,  # type: ignore[arg-type]  # the stubs want one invariant list
                    on_delivery=report,
                )
                return
            except BufferError:
                await asyncio.sleep(0.01)

    def flush(self) -> None:
        """Waits for what is under way, as long as a stop may take."""
        self._producer.flush(FLUSH_S)


def merge(records: list[FactsRecord]) -> list[FactsRecord]:
    """Records of one campaign and partition → fewer and larger ones, entries in the same order."""
    if len(records) == 1:
        return records
    merged: list[FactsRecord] = []
    for record in records:
        last = merged[-1] if merged else None
        if last is not None and len(last.entries) + len(record.entries) <= ENTRIES_PER_RECORD:
            merged[-1] = msgspec.structs.replace(
                last,
                accepted_at_ms=min(last.accepted_at_ms, record.accepted_at_ms),
                entries=last.entries + record.entries,
            )
        else:
            merged.append(record)
    return merged


def _end(line: str) -> None:
    """From the producer's thread: the process can't go on, since the offset behind it must not be committed."""
    print(f"reports: {line}", file=sys.stderr, flush=True)  # noqa: T201  # the line is for the operator
    os._exit(EXIT_CRASHED)


def normalize_app(settings: Settings, organisations: Organisations, follow: Follow) -> EngineApp:
    """Builds the app. Raises ConfigError, StateError or TryLater where it can't start."""
    clock = measured_clock(settings.redis)
    normalizer = Normalizer(settings, organisations, clock)
    background = Background(normalizer.conditions, wall=clock.seconds)
    redis = normalizer.redis
    app = create_app(
        NORMALIZE_GROUP, settings, topic=WEBHOOKS, instance_id=f"normalize-{normalizer.slot.member}",
        datadir=str(Path(settings.data) / "normalize" / "faust"),
    )  # fmt: skip
    app.positions = normalizer.consumed
    watchdog = Watchdog(app, WEBHOOKS, lambda: normalizer.consumed)
    committer = Committer(app, WEBHOOKS, normalizer.deliveries.positions, COMMIT_S)
    topic = app.topic(WEBHOOKS, acks=False, key_serializer="raw", value_serializer="raw", value_type=bytes)

    @app.on_rebalance_complete.connect
    async def _joined(*_: Any, **__: Any) -> None:
        with crash_on_error():
            await normalizer.log.begin(app.assigned(WEBHOOKS))
            watchdog.joined = True

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]  # sent as (app, revoked)
    async def _forget(_: Any, revoked: set[TP], *__: Any, **___: Any) -> None:
        with crash_on_error():
            committer.forget()
            await normalizer.log.settle()
            for tp in revoked:
                normalizer.deliveries.forget(tp.partition)
                normalizer.log.forget(tp.partition)

    @app.on_before_shutdown.connect
    async def _flush(*_: Any, **__: Any) -> None:
        with crash_on_error():
            await asyncio.get_running_loop().run_in_executor(None, normalizer.flush)
            await normalizer.log.keep()

    @app.agent(topic)
    async def normalize_webhooks(stream: Any) -> None:
        events: AsyncIterable[Any] = stream.noack().events()
        async for event in events:
            with crash_on_error():
                await normalizer.turn(event.message.partition, event.message)

    @app.task  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await keep_running(watchdog.run())

    @app.task  # type: ignore[untyped-decorator]
    async def watch_log() -> None:
        await keep_running(normalizer.log.watch())

    @app.task  # type: ignore[untyped-decorator]
    async def tell() -> None:
        await background.run(
            "presence",
            lambda: tell_presence(
                redis,
                normalizer.slot.member,
                settings.rules,
                lambda: app.assigned(WEBHOOKS),
                normalizer.conditions,
                clock,
                lambda: normalizer.configuration,
            ),
        )

    @app.task  # type: ignore[untyped-decorator]
    async def keep_clock() -> None:
        await background.run("clock", lambda: keep_time(redis, clock, normalizer.conditions))

    @app.task  # type: ignore[untyped-decorator]
    async def reload() -> None:
        await background.run("reload", lambda: follow(normalizer.conditions, normalizer.take))

    @app.task  # type: ignore[untyped-decorator]
    async def commit() -> None:
        await keep_running(committer.run())

    return app
