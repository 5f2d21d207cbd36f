"""Faust app 2: topic `facts` → the partition databases → the views in Redis.

Each assigned partition has one database in the state folder. It is opened when a rebalance is complete (before the
flow resumes, so that the reading starts at its offset) and closed when the partition is revoked. A chunk of records is
counted without an await: no cancellation can cut it in two. Any error while counting ends the process; the next one
starts from what the database says.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import time
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any, Final

import msgspec
from faust.types import TP

from agents.engine import Chunk, Committer, EngineApp, create_app
from agents.log_checks import LogInspector, check_codecs, check_position
from agents.publish import Publisher
from agents.slots import Slot
from agents.watchdog import Watchdog
from agents.worker import crash_on_error, keep_running
from app import keys
from app.configuration import fingerprints
from app.errors import StateError
from app.settings import Settings
from app.topics import AGGREGATE_GROUP, FACTS
from tables.cache import RecipientCache
from tables.conditions import Conditions
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.rebuilds import read_request
from tables.redis_client import redis_of
from tables.view_writer import ViewWriter

log = logging.getLogger(__name__)

CACHED_RECIPIENTS: Final = 60_000
"""Decoded states in memory, twice this number at most: some 150 MB."""
LOCK_WAIT_S: Final = 30.0
"""How long another worker may take to close a partition's database in a shared folder."""
COMMIT_S: Final = 1.0
EXIT_REBUILD: Final = 75
_SAY_EVERY: Final = 100_000


class Aggregator:
    """What one worker process counts with."""

    def __init__(self, settings: Settings, state: Path) -> None:
        """Raises ConfigError, StateError or TryLater where counting can't start."""
        check_codecs()
        self.settings = settings
        self.state = state
        self.slot = Slot(state / "slots")
        self.databases: dict[int, PartitionDatabase] = {}
        self.positions: dict[int, int] = {}
        self._opening = asyncio.Lock()
        self._cache = RecipientCache(CACHED_RECIPIENTS)
        self._inspector = LogInspector(settings.kafka)
        self._inspector.check_session_timeout(settings)
        redis = redis_of(settings, timeout_s=2.0)
        self.conditions = Conditions()
        self.publisher = Publisher(
            ViewWriter(redis, settings.secret),
            self.slot.member,
            settings.rules,
            self.conditions,
            fingerprints(settings, None),
        )

    async def open(self, partitions: set[int]) -> None:
        """Opens the databases of assigned partitions, and closes the others."""
        # A rebalance may complete while the databases of the one before it are still being opened.
        async with self._opening:
            await self._open_all(partitions)

    async def _open_all(self, partitions: set[int]) -> None:
        for partition in self.databases.keys() - partitions:
            self.close(partition)
        new = sorted(partitions - self.databases.keys())
        if not new:
            return
        loop = asyncio.get_running_loop()
        topic_id = await loop.run_in_executor(None, self._inspector.topic_id, FACTS)
        ends = await loop.run_in_executor(None, self._inspector.ends, FACTS, new)
        for partition in new:
            database = await self._open(partition, topic_id)
            check_position(partition, str(database.path), database.next_offset, ends[partition])
            self.databases[partition] = database
            self.positions[partition] = database.next_offset
            self.publisher.add(database)
        log.info("counting partitions %s", {p: self.positions[p] for p in new})

    async def _open(self, partition: int, topic_id: str) -> PartitionDatabase:
        path = self.state / f"p{partition}"
        expected = Meta(
            LAYOUT_VERSION, partition, self.settings.partitions, topic_id,
            keys.secret_fingerprint(self.settings.secret), 1, self.settings.rules,
            # A database that is made now needs no rebuild that was asked for before.
            read_request(self.state).id,
        )  # fmt: skip
        deadline = time.monotonic() + LOCK_WAIT_S
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(None, self._open_database, path, expected)
            except StateError:
                raise
            except Exception as error:
                # rocksdict raises plain Exceptions, told apart by RocksDB's words.
                if "lock" not in str(error).lower():
                    raise StateError(
                        f"{path} can't be opened ({error}): remove it to count the partition again from the log"
                    ) from error
                if time.monotonic() > deadline:
                    raise StateError(f"{path} is open in another process for {LOCK_WAIT_S:.0f} s") from error
            await asyncio.sleep(0.1)

    def _open_database(self, path: Path, expected: Meta) -> PartitionDatabase:
        """Opens a database, and rebuilds it first where that was asked for or was not finished."""
        request = read_request(self.state)
        database = PartitionDatabase(path, expected, self.settings.secret, self._cache)
        meta = database.meta
        if request.id and meta.rebuilt != request.id and request.from_log:
            database.close()
            shutil.rmtree(path)
            anew = msgspec.structs.replace(expected, generation=meta.generation + 1, rebuilt=request.id)
            log.info("partition %d is counted again from the log", expected.partition)
            return PartitionDatabase(path, anew, self.settings.secret, self._cache)
        if meta.rebuilding or (request.id and meta.rebuilt != request.id):
            # Without a request it goes on by the rules that the unfinished one had.
            rules = self.settings.rules if request.id else meta.rules
            log.info("partition %d is rebuilt from its recipients", expected.partition)

            def say(done: int) -> None:
                if done % _SAY_EVERY == 0:
                    log.info("partition %d: %d recipients rebuilt", expected.partition, done)

            database.rebuild(rules, request.id, say)
        elif meta.rules != self.settings.rules:
            log.warning(
                "partition %d goes on with the verdict rules that it was counted by; `reports rebuild` applies the "
                "settings' to its history",
                expected.partition,
            )
        return database

    def rebuild_wanted(self) -> bool:
        """Whether a request came that a database of this worker hasn't answered."""
        request = read_request(self.state)
        return bool(request.id) and any(
            database.meta.rebuilt != request.id for database in self.databases.values()
        )

    def close(self, partition: int) -> None:
        """Gives a partition away; what Redis doesn't have yet, its next worker publishes."""
        database = self.databases.pop(partition, None)
        self.positions.pop(partition, None)
        self.publisher.remove(partition)
        self.conditions.forget(partition)
        # The next owner may change these recipients; they must be read anew if the partition comes back.
        self._cache.young.clear()
        self._cache.old.clear()
        if database is not None:
            database.close()

    def count(self, partition: int, chunk: Chunk) -> None:
        """Counts a chunk, all of it or nothing."""
        database = self.databases.get(partition)
        if database is None:
            return  # revoked since it was fetched
        applied = database.apply((record.offset, record.value or b"") for record in chunk.records)
        self.positions[partition] = database.next_offset
        self.publisher.mark(partition, applied)


async def _watch_requests(aggregator: Aggregator) -> None:
    """Ends the process when a rebuild is asked for: the next one does it before it counts on."""
    # Another process writes it: there is no event to wait for.
    while not aggregator.rebuild_wanted():  # noqa: ASYNC110
        await asyncio.sleep(COMMIT_S)
    log.info("a rebuild was asked for: the worker starts again")
    os._exit(EXIT_REBUILD)


def aggregate_app(settings: Settings, state: Path) -> EngineApp:
    """Builds the app. Raises ConfigError, StateError or TryLater where it can't start."""
    aggregator = Aggregator(settings, state)
    app = create_app(
        AGGREGATE_GROUP,
        settings,
        instance_id=f"aggregate-{aggregator.slot.member}",
        datadir=str(state / "faust"),
    )
    app.positions = aggregator.positions
    watchdog = Watchdog(app, FACTS, lambda: aggregator.positions)
    # For those who watch the lag with Kafka's own tools; reading never starts from it.
    committer = Committer(app, FACTS, lambda: aggregator.positions, COMMIT_S)
    topic = app.topic(FACTS, acks=False, key_serializer="raw", value_serializer="raw", value_type=bytes)

    @app.on_rebalance_complete.connect
    async def _open(*_: Any, **__: Any) -> None:
        watchdog.patient = True  # a rebuild takes as long as it takes
        with crash_on_error():
            await aggregator.open(app.assigned(FACTS))
        watchdog.patient = False
        watchdog.joined = True

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]  # sent as (app, revoked)
    async def _close(_: Any, revoked: set[TP], *__: Any, **___: Any) -> None:
        committer.forget()
        for tp in revoked:
            aggregator.close(tp.partition)

    @app.on_before_shutdown.connect
    async def _close_all(*_: Any, **__: Any) -> None:
        for partition in list(aggregator.databases):
            aggregator.close(partition)

    @app.agent(topic)
    async def aggregate(stream: Any) -> None:
        events: AsyncIterable[Any] = stream.noack().events()
        async for event in events:
            with crash_on_error():
                aggregator.count(event.message.partition, event.message)

    @app.task  # type: ignore[untyped-decorator]
    async def publish() -> None:
        await keep_running(aggregator.publisher.run())

    @app.task  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await keep_running(watchdog.run())

    @app.task  # type: ignore[untyped-decorator]
    async def rebuild() -> None:
        await keep_running(_watch_requests(aggregator))

    @app.task  # type: ignore[untyped-decorator]
    async def commit() -> None:
        await keep_running(committer.run())

    # Most objects of a chunk live until its end; collecting young ones every 700 allocations only costs time.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    return app
