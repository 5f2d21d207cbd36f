"""Faust app 2: topic `facts` → the partition databases → the views in Redis.

Each assigned partition has one database in the state folder. It is opened when a rebalance is complete (before the
flow resumes, so that the reading starts at its offset) and closed when the partition is revoked. A chunk of records is
counted without an await: no cancellation can cut it in two. Any error while counting ends the process; the next one
starts from what the database says.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

from faust.types import TP
from redis.exceptions import RedisError

from agents.engine import Chunk, Committer, EngineApp, create_app
from agents.generations import generations_at_assignment
from agents.log_checks import LogInspector, check_codecs
from agents.opening import Where, open_database
from agents.publish import Publisher
from agents.redis_watch import RedisWatch
from agents.set_aside import SetAside
from agents.slots import Slot
from agents.topic_watch import Check, watch_topics
from agents.watchdog import Watchdog
from agents.worker import Follow, crash_on_error, keep_running
from app import keys
from app.configuration import fingerprints
from app.errors import LogGap, ReportsError, StateError, TryLater
from app.installation import History
from app.settings import Settings
from app.topics import AGGREGATE_GROUP, FACTS, INSTALLATION
from tables.background import Background
from tables.broken import is_database_error, is_disk_full, is_locked
from tables.cache import RecipientCache
from tables.checkpoints import Checkpoint
from tables.completeness import (
    Lost,
    Stood,
    differing_records,
    lacking,
    partitions_of,
    reading,
    stood_of,
)
from tables.conditions import Conditions, GapSeen
from tables.foreign import CODE, REASON, accepted_of, condition_of
from tables.installation import InstallationLog
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.presence import refused_name
from tables.rebuilds import Request, asked, read_request, write_request
from tables.redis_client import redis_of
from tables.redis_clock import RedisClock, keep_time, measured_clock
from tables.telling import take_back
from tables.view_writer import ViewWriter
from tables.views import NUMBERS, OWNERS, Fence

log = logging.getLogger(__name__)

CACHED_RECIPIENTS: Final = 60_000
"""Decoded states in memory, twice this number at most: some 150 MB."""
LOCK_WAIT_S: Final = 30.0
"""How long another worker may take to close a partition's database in a shared folder."""
COMMIT_S: Final = 1.0
LOOK_S: Final = 0.25
"""How often partitions that are set aside are looked at."""
GAPS_S: Final = 5.0
"""How often it is asked whether gaps were accepted, or webhooks found lost."""
TOPIC_S: Final = 10.0
"""How often it is asked whether topic `facts` is still the same."""
LOG_S: Final = 60.0
"""How often it is asked whether topic `facts` still has all that was counted."""
PAUSED_S: Final = 1.0
"""No broker ends and is back in less."""
RECORDS_S: Final = 5.0
"""How often records are looked at again, where that is due."""
LOG_INCOMPLETE: Final = "log_incomplete"
EXIT_REBUILD: Final = 75


class Aggregator:
    """What one worker process counts with."""

    def __init__(self, settings: Settings, state: Path, clock: RedisClock) -> None:
        """Raises ConfigError, StateError or TryLater where counting can't start."""
        check_codecs()
        self.settings = settings
        self.state = state
        self.slot = Slot(state / "slots")
        self.databases: dict[int, PartitionDatabase] = {}
        self.positions: dict[int, int] = {}
        self._opening = asyncio.Lock()
        self._foreign: str | None = None
        self._cache = RecipientCache(CACHED_RECIPIENTS)
        self._inspector = LogInspector(settings.kafka)
        self._inspector.check_session_timeout(settings)
        self._installation = InstallationLog(settings.kafka)
        self.redis = redis_of(settings, timeout_s=2.0)
        self._writer = ViewWriter(self.redis, settings.secret)
        self.conditions = Conditions(clock.seconds)
        self.aside = SetAside(
            state, self.conditions, counted=lambda: self.databases.keys(), partitions=settings.partitions
        )
        self.publisher = Publisher(
            self._writer, self.slot.member, settings.rules, self.conditions,
            redis_clock=clock, set_aside=self.set_aside, configuration=fingerprints(settings, None),
        )  # fmt: skip
        self._lacks: dict[int, str] = {}
        """Partition → what the log no longer has of what was counted, as it was asked last."""
        self._counted_at: dict[int, float] = {}
        """When each partition's last chunk was counted, or its database was opened."""
        self._to_check: dict[int, Checkpoint] = {}
        """Records of which it is to be looked whether the log still has them."""
        self._suspected: dict[int, int] = {}
        self._accepted: dict[int, set[int]] = {}
        self._gaps_at = 0.0
        self._installation_seen = ("", -1)
        """Kafka's id of the topic, and its end."""
        self._topic_id = ""
        self.hold: Callable[[int], None] = lambda partition: None
        """Set by the app: no records of the partition are wanted any more."""

    async def open(self, partitions: set[int]) -> set[int]:
        """Opens the databases of assigned partitions, those that were set aside included, and closes the others; gives
        the partitions that are not to be read."""
        # A rebalance may complete while the databases of the one before it are still being opened.
        async with self._opening:
            for partition in (self.databases.keys() | self.aside.partitions) - partitions:
                self.close(partition)
            # A topic may have more partitions than the installation: what is in these was not put there by it.
            ours = {partition for partition in partitions if partition < self.settings.partitions}
            await self._open_all(ours - self.databases.keys())
            self._tell_lacking()
            return (partitions - ours) | self.aside.partitions

    async def retry(self, partition: int) -> int | None:
        """Tries a partition that is set aside once more; gives the offset to go on at, None where it stays aside."""
        async with self._opening:
            if partition not in self.aside:
                return None  # given away, or taken in by a rebalance
            try:
                await self._open_all({partition})
            except TryLater:
                self.aside.put_off(partition)
            return self.positions.get(partition)

    async def _open_all(self, new: set[int]) -> None:
        """Raises TryLater where Kafka doesn't answer."""
        if not new:
            return
        loop = asyncio.get_running_loop()
        # Before the log's ends: another worker that counts on is not above those then.
        stood = await self._stood()
        topic_id = await loop.run_in_executor(None, self._inspector.topic_id, FACTS)
        ends = await loop.run_in_executor(None, self._inspector.ends, FACTS, new)
        histories = await loop.run_in_executor(None, self._installation.histories, new)
        request = await self._request()
        with reading(self.settings.kafka) as value:

            def lost_of(partition: int) -> Lost | None:
                one = (stood or {}).get(partition)
                return (
                    None if one is None else one.lost(topic_id, *ends[partition], partial(value, partition))
                )

            lost = {p: await loop.run_in_executor(None, lost_of, p) for p in sorted(new)}
            generations = await generations_at_assignment(
                self._installation, self._writer, self.slot.member, sorted(new), {p for p in new if lost[p]}
            )
            failed: dict[int, Exception] = {}
            for partition in sorted(new):
                history = histories[partition]
                self._accepted[partition] = accepted(history)
                read = partial(value, partition)
                where = Where(topic_id, ends[partition], history, generations, read, lost[partition])
                self._lacks.pop(partition, None)
                if stood is not None:
                    self._lacks[partition] = where.lacks
                try:
                    database = await self._open(partition, where, request)
                except TryLater:
                    raise
                except Exception as error:  # noqa: BLE001  it is this partition's, and the others go on
                    failed[partition] = error
                    continue
                self.databases[partition] = database
                self.positions[partition] = database.next_offset
                self._counted_at[partition] = time.monotonic()
                self.publisher.add(database, ends[partition].end)
                self.aside.remove(partition)
        for partition, reason in failed.items():
            self.set_aside(partition, reason)
        self.aside.tell()
        self._tell_lacking()
        if opened := {p: self.positions[p] for p in sorted(new) if p in self.positions}:
            log.info("counting partitions %s", opened)

    async def _stood(self) -> dict[int, Stood] | None:
        """How far reports show the partitions' numbers; None where Redis can't be asked."""
        try:
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(NUMBERS.positions)
                pipe.hgetall(OWNERS)
                return stood_of(*await pipe.execute())
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis can't be asked how far reports go: %s", type(error).__name__)
            return None

    def set_aside(self, partition: int, error: Exception) -> None:
        """Stops counting a partition; on a full disk, all."""
        database = self.databases.get(partition)
        if isinstance(error, LogGap) and database is not None:
            error.topic_id, error.generation = database.meta.topic_id, database.generation
        if not isinstance(error, ReportsError) and not is_database_error(error):
            log.error("partition %d", partition, exc_info=error)
        concerned = {partition, *(self.databases if is_disk_full(error) else ())}
        for number in concerned:
            self._put_down(number)
            self.aside.add(number, error, seen=_seen(error), lacks=self._lacks.get(number))
        self._tell_lacking()

    def _put_down(self, partition: int) -> None:
        """Closes a partition's database. What is in memory may be ahead of the disk: none of it is used again."""
        self.hold(partition)
        database = self.databases.pop(partition, None)
        self.positions.pop(partition, None)
        self._to_check.pop(partition, None)  # all is looked at when it is opened again
        self.publisher.remove(partition)
        # Other workers, or a repair, may change these recipients; they must be read anew if the partition comes back.
        self._cache.young.clear()
        self._cache.old.clear()
        if database is not None:
            database.close()

    async def _open(self, partition: int, where: Where, request: Request) -> PartitionDatabase:
        path = self.state / f"p{partition}"
        expected = Meta(
            LAYOUT_VERSION, partition, self.settings.partitions, where.topic_id,
            keys.secret_fingerprint(self.settings.secret), 1, self.settings.rules,
            # A database that is made now needs no rebuild that was asked for before.
            request.id,
        )  # fmt: skip
        deadline = time.monotonic() + LOCK_WAIT_S
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(
                    None, open_database, path, expected, self.settings.secret, self._cache, where, request,
                    self._say_rebuilt(partition, loop),
                )  # fmt: skip
            except Exception as error:
                if not is_locked(error):
                    raise
                if time.monotonic() > deadline:
                    raise StateError(
                        f"{path} is open in another process for {LOCK_WAIT_S:.0f} s: end that worker, or give it the "
                        "partition (workers that share a folder pass it on by themselves)"
                    ) from error
            await asyncio.sleep(0.1)

    def _say_rebuilt(self, partition: int, loop: asyncio.AbstractEventLoop) -> Callable[[float], object]:
        """For the thread that rebuilds a partition: takes how much of it is done, 0 to 1."""

        def say(done: float) -> None:
            if done < 1:
                self.conditions.set(
                    "rebuild",
                    f"partition {partition} is rebuilt from its recipients: readers keep the numbers from before, and "
                    "what comes in is counted afterwards; no action is needed",
                    partition=partition,
                    reason="a part of the numbers is rebuilt",
                    progress=round(done, 2),
                )
            else:
                self.conditions.clear("rebuild", partition)

        return lambda done: loop.call_soon_threadsafe(say, done)

    async def rebuild_wanted(self) -> bool:
        """Whether a request came that a database of this worker hasn't answered."""
        request = await self._request()
        return bool(request.id) and any(
            database.meta.rebuilt != request.id for database in self.databases.values()
        )

    async def _request(self) -> Request:
        """The last request for a rebuild; one that stands in Redis is kept in the state folder from now on."""
        request = read_request(self.state)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            new = await asked(self.redis)
            if new.id and new != request:
                request = new
                write_request(self.state, request)
        return request

    def tell_foreign(self) -> None:
        """Says what was left out, since another secret has keyed it: at once, and then when it stays the same."""
        databases = self.databases.items()
        rows = [row for _, database in databases for row in database.foreign.rows()]
        counted = [partition for partition, database in databases if not database.foreign.is_checked]
        message = condition_of(rows, counted)
        settled, self._foreign = message == self._foreign, message
        if message is None:
            self.conditions.clear(CODE)
        elif settled or not self.conditions.has(CODE):
            self.conditions.set(CODE, message, reason=REASON, accepted=accepted_of(rows))

    async def check_log(self) -> None:
        """Asks what topic `facts` still has of what this worker's databases have counted."""
        stood = {
            partition: Stood(
                Fence(database.generation, database.next_offset, database.meta.topic_id),
                database.checkpoints.last,
            )
            for partition, database in self.databases.items()
        }
        with contextlib.suppress(TryLater):
            self._lacks |= await asyncio.to_thread(lacking, self.settings.kafka, list(stood), stood)
        self._tell_lacking()

    def _tell_lacking(self) -> None:
        """Says of which partitions the databases are the only copy: of those that are counted. Of one that is set aside
        that is said with the ways out."""
        lacks = partitions_of({partition: self._lacks.get(partition, "") for partition in self.databases})
        if not lacks:
            self.conditions.clear(LOG_INCOMPLETE)
            return
        self.conditions.set(
            LOG_INCOMPLETE,
            f"topic {FACTS} no longer has all that was counted of partition {lacks}: their folders in {self.state} are "
            "the only copy of it. Don't remove them, and back them up (copy them while the worker is stopped)",
        )

    def close(self, partition: int) -> None:
        """Gives a partition away; what Redis doesn't have yet, its next worker publishes."""
        self._put_down(partition)
        self.conditions.forget(partition)
        self.aside.remove(partition)
        self._suspected.pop(partition, None)

    def count(self, partition: int, chunk: Chunk) -> None:
        """Counts a chunk, all of it or nothing."""
        database = self.databases.get(partition)
        if database is None:
            return  # revoked or set aside since it was fetched
        records = chunk.records
        if records[-1].offset < database.next_offset:
            # Counted already: fetched twice around a rebalance, or the log began anew under its reader.
            self._look_again(partition)
            return
        try:
            applied = database.apply(
                ((record.offset, record.value or b"") for record in records),
                keep=self._may_be_another_log(partition, database.checkpoints.last),
            )
        except LogGap as gap:
            # Chunks may come out of order around a rebalance: believed when it is seen again after a fresh start.
            if gap.position is not None and self._suspected.get(partition) != gap.position:
                self._suspected[partition] = gap.position
                self._look_again(partition)
            else:
                self.set_aside(partition, gap)
        except MemoryError:
            raise  # the process's fault
        except Exception as error:  # noqa: BLE001  whatever it is, it is this partition's, and the others go on
            self.set_aside(partition, error)
        else:
            self.positions[partition] = database.next_offset
            self.publisher.mark(partition, applied)

    def _may_be_another_log(self, partition: int, last: Checkpoint | None) -> bool:
        """Whether a look at the partition's last record is due, and begins with this chunk.

        A log that lost its end and has grown again beyond the reader's position looks like any other. But while that
        happened its broker was away, and nothing was read: after a pause it is looked whether the last record is still
        there as it was counted. What is counted meanwhile does no harm: it is counted once more from where it goes on.
        """
        now = time.monotonic()
        paused = now - self._counted_at[partition] >= PAUSED_S
        self._counted_at[partition] = now
        if not paused or last is None or partition in self._to_check:
            return False
        self._to_check[partition] = last
        return True

    async def check_records(self) -> None:
        """Looks whether the log still has the records that were counted last before a pause."""
        due, self._to_check = self._to_check, {}
        if not due:
            return
        try:
            differing = await asyncio.to_thread(differing_records, self.settings.kafka, due)
        except TryLater:
            self._to_check |= due  # the older ones: newer ones agree with whatever log there is now
            return
        for partition in sorted(differing & self.databases.keys()):
            log.error("partition %d: the log has other records than those counted: reopening", partition)
            self._look_again(partition)

    def _look_again(self, partition: int) -> None:
        """Opens the partition once more, with all checks, and reads on from where it stands."""
        self._put_down(partition)
        self.aside.again(partition)

    async def due(self) -> list[int]:
        """Partitions that are set aside and to be tried now."""
        for partition, database in list(self.databases.items()):
            if is_gone(database.path / "CURRENT"):
                # RocksDB goes on with files that are removed while it has them open, and readers find none.
                log.error("partition %d: its folder was removed or damaged: reopening", partition)
                self._look_again(partition)
        found: set[int] = set()
        if time.monotonic() > self._gaps_at:
            self._gaps_at = time.monotonic() + GAPS_S
            with contextlib.suppress(TryLater):
                found = await self._of_new_gaps()
        return sorted(found | set(self.aside.due()))

    async def _of_new_gaps(self) -> set[int]:
        """Partitions to open again: a gap is known that they wait for, or that they are to note."""
        topic = await asyncio.to_thread(self._inspector.topic_id, INSTALLATION)
        end = (await asyncio.to_thread(self._inspector.ends, INSTALLATION, [0]))[0].end
        if (topic, end) == self._installation_seen:
            return set()
        known = await asyncio.to_thread(self._accepted_now, list(self._accepted))
        concerned = {p for p, numbers in known.items() if numbers - self._accepted.get(p, set())}
        noting = sorted(concerned & self.databases.keys())
        # One after the other: the others are counted meanwhile.
        for partition in noting[:1]:
            self._look_again(partition)
        if len(noting) > 1:
            self._gaps_at = 0.0
        else:
            self._installation_seen = (topic, end)
        return concerned & self.aside.gaps

    def _accepted_now(self, partitions: Collection[int]) -> dict[int, set[int]]:
        """Beside the loop: it blocks, and there may be a thousand gaps for each partition."""
        histories = self._installation.histories(partitions)
        return {partition: accepted(history) for partition, history in histories.items()}

    async def check_topic(self) -> None:
        """Raises StateError where topic `facts` is gone or another one than when this worker began.

        Its consumer would wait for the old one, or read on in the new one where it left the old.
        """
        try:
            topic_id = await asyncio.to_thread(self._inspector.topic_id, FACTS)
        except TryLater:
            return
        if self._topic_id and topic_id != self._topic_id:
            raise StateError(
                f"topic {FACTS} was recreated while this worker ran: it starts again, and says what is lost"
            )
        self._topic_id = topic_id


def is_gone(path: Path) -> bool:
    """Whether a file is not there; what can't be told is no reason to do anything."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def accepted(history: History) -> set[int]:
    """Numbers of the gaps that a database notes."""
    return {gap.number for gap in (*history.gaps, *history.elsewhere)}


def _seen(error: Exception) -> GapSeen | None:
    if not isinstance(error, LogGap) or error.topic_id is None or error.position is None:
        return None
    return GapSeen(error.topic_id, error.position, error.generation or 0, error.to, error.counted)


async def _tend(aggregator: Aggregator, app: EngineApp) -> None:
    """Tries again what is set aside, and looks whether the topic is still the same."""
    topic_at = time.monotonic()
    log_at, records_at = topic_at + LOG_S, topic_at
    while True:
        if time.monotonic() >= topic_at:
            topic_at = time.monotonic() + TOPIC_S
            await aggregator.check_topic()
        if time.monotonic() >= log_at:
            log_at = time.monotonic() + LOG_S
            await aggregator.check_log()
        if time.monotonic() >= records_at:
            records_at = time.monotonic() + RECORDS_S
            await aggregator.check_records()
        await asyncio.sleep(LOOK_S)
        if app.rebalancing:
            continue
        for partition in await aggregator.due():
            position = await aggregator.retry(partition)
            if position is not None and _is_settled(app, partition):
                await app.release(FACTS, partition, position)


def _is_settled(app: EngineApp, partition: int) -> bool:
    """Whether the partition is this worker's; a rebalance under way seeks by itself."""
    return not app.rebalancing and partition in app.assigned(FACTS)


async def _tell_foreign(aggregator: Aggregator) -> None:
    while True:
        aggregator.tell_foreign()
        await asyncio.sleep(COMMIT_S)


async def _watch_requests(aggregator: Aggregator) -> None:
    """Ends the process when a rebuild is asked for: the next one does it before it counts on."""
    # Another process asks for it: there is no event to wait for.
    while not await aggregator.rebuild_wanted():  # noqa: ASYNC110
        await asyncio.sleep(COMMIT_S)
    log.info("a rebuild was asked for: the worker starts again")
    os._exit(EXIT_REBUILD)


def aggregate_app(settings: Settings, state: Path, follow: Follow, check_topics: Check) -> EngineApp:
    """Builds the app. Raises ConfigError, StateError or TryLater where it can't start."""
    clock = measured_clock(settings.redis)
    aggregator = Aggregator(settings, state, clock)
    background = Background(aggregator.conditions, wall=clock.seconds)
    app = create_app(
        AGGREGATE_GROUP,
        settings,
        topic=FACTS,
        instance_id=f"aggregate-{aggregator.slot.member}",
        datadir=str(state / "faust"),
    )
    app.positions = aggregator.positions
    aggregator.hold = app.hold
    watchdog = Watchdog(app, FACTS, lambda: aggregator.positions, aggregator.publisher.idle_s)
    # For those who watch the lag with Kafka's own tools; reading never starts from it.
    committer = Committer(app, FACTS, lambda: aggregator.positions, COMMIT_S)
    topic = app.topic(FACTS, acks=False, key_serializer="raw", value_serializer="raw", value_type=bytes)

    @app.on_rebalance_complete.connect
    async def _open(*_: Any, **__: Any) -> None:
        watchdog.patient = True  # a rebuild takes as long as it takes
        with crash_on_error():
            await take_back(aggregator.redis, refused_name("aggregate"))  # it runs
            # Faust begins its tasks after this only, and with a rebuild it takes minutes.
            telling = asyncio.create_task(aggregator.publisher.tell())
            try:
                app.held = await aggregator.open(app.assigned(FACTS))
            finally:
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await telling
        watchdog.patient = False
        watchdog.joined = True

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]  # sent as (app, revoked)
    async def _close(_: Any, revoked: set[TP], *__: Any, **___: Any) -> None:
        with crash_on_error():
            committer.forget()
            for tp in revoked:
                aggregator.close(tp.partition)

    @app.on_before_shutdown.connect
    async def _close_all(*_: Any, **__: Any) -> None:
        with crash_on_error():
            for partition in aggregator.databases.keys() | aggregator.aside.partitions:
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
    async def tell() -> None:
        await keep_running(_tell_foreign(aggregator))

    @app.task  # type: ignore[untyped-decorator]
    async def rebuild() -> None:
        await keep_running(_watch_requests(aggregator))

    @app.task  # type: ignore[untyped-decorator]
    async def tend() -> None:
        await keep_running(_tend(aggregator, app))

    @app.task  # type: ignore[untyped-decorator]
    async def topics() -> None:
        await keep_running(watch_topics(check_topics, aggregator.conditions))

    @app.task  # type: ignore[untyped-decorator]
    async def commit() -> None:
        await keep_running(committer.run())

    @app.task  # type: ignore[untyped-decorator]
    async def keep_clock() -> None:
        await background.run("clock", lambda: keep_time(aggregator.redis, clock, aggregator.conditions))

    @app.task  # type: ignore[untyped-decorator]
    async def watch_redis() -> None:
        watch = RedisWatch(aggregator.redis, aggregator.conditions, aggregator.publisher.look_now)
        await background.run("redis", watch.run)

    @app.task  # type: ignore[untyped-decorator]
    async def reload() -> None:
        # Counting knows the settings only: they take effect with the next start.
        await background.run("reload", lambda: follow(aggregator.conditions, lambda _: None))

    # Most objects of a chunk live until its end; collecting young ones every 700 allocations only costs time.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    return app
