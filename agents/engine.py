"""The engine that joins Faust to this project: bulk delivery, and reading positions that are ours.

Faust owns the app, the agents, group membership, assignment, flow control and lifecycle. A few things are replaced,
by overriding private methods whose signatures `tests/agents/test_engine.py` holds (versions are pinned):
- `Consumer.getmany` hands an agent one message per chunk of records instead of one per record. A record costs Faust
  about 90 microseconds on its way to an agent; so does a chunk of a thousand.
- `Consumer.perform_seek` seeks to where the partition's database says that it is, instead of Kafka's committed offset.
- `Consumer._getmany` asks for no records of partitions that are held (`EngineApp.hold`): they stay in the log.
- `AIOKafkaClient._metadata_update` pauses while a partition has no leader: aiokafka asks again at once, without end.
- `App._new_transport` makes Faust use that consumer; `TableManager.on_start` doesn't wait for tables to be declared.
Topics are declared with `acks=False`: Faust then tracks and commits nothing, and its commit bookkeeping (which loses
messages, faust-streaming issue 606) plays no part. Positions are committed by `commit_positions`, once they are true.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

import aiokafka.client
import faust
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from agents.log_checks import LogInspector
from app.settings import Settings

log = logging.getLogger(__name__)

# aiokafka has no setting for it: asking for the metadata of a topic that isn't there would make it, with the broker's
# defaults (`tables.kafka_clients`).
aiokafka.client.MetadataRequest = partial(aiokafka.client.MetadataRequest, allow_auto_topic_creation=False)

LEADERLESS_S: Final = 0.1
"""Between two questions for the leaders of partitions that have none."""
_ask_metadata: Final = AIOKafkaClient._metadata_update


async def _ask_metadata_calmly(self: AIOKafkaClient, cluster: ClusterMetadata, topics: set[str]) -> bool:
    answered = bool(await _ask_metadata(self, cluster, topics))
    if any(is_leaderless(cluster, topic) for topic in topics or ()):
        await asyncio.sleep(LEADERLESS_S)
    return answered


def is_leaderless(cluster: ClusterMetadata, topic: str) -> bool:
    """Whether a topic is not there, or a partition of it has no leader at the moment."""
    partitions = cluster.partitions_for_topic(topic)
    return not partitions or partitions != cluster.available_partitions_for_topic(topic)


AIOKafkaClient._metadata_update = _ask_metadata_calmly

CHUNK_RECORDS: Final = 1_000
CHUNK_BYTES: Final = 512 << 10
"""A chunk is folded without a pause, so it bounds how long the event loop stands still (some 50 ms)."""

FETCH_BYTES: Final = 8 << 20


class LogRecord(Protocol):
    """A consumer's record, as far as agents look at it."""

    offset: int
    value: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes]]


class Chunk(ConsumerMessage):
    """A run of records of one partition, in the order of their offsets."""

    records: Sequence[LogRecord] = ()
    epoch: int = 0
    """The partition's in `EngineApp.epochs` before it was fetched: another one by now, and it is fetched again."""


class BulkConsumer(driver.Consumer):
    """Delivers chunks, and asks the app where to start reading."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        epochs = dict(cast(EngineApp, self.app).epochs)
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None:
            return
        if self.should_stop:
            return
        if not self._is_current(generation):
            # Between a revocation and the next assignment. Positions are sought again before the flow resumes, so a
            # failure here (the assignment changed under it) costs nothing.
            try:
                await self.perform_seek()
            except Exception as error:  # noqa: BLE001
                log.warning("seek between two assignments: %r", error)
            return
        for tp, fetched in records.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            for part in chunks(fetched):
                # A rebalance meanwhile: what was fetched may be another worker's by now. It is fetched again.
                if not self._is_current(generation):
                    return
                yield tp, self._chunk(tp, part, generation, epochs.get(tp.partition, 0))

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        held = cast(EngineApp, self.app).held
        if not held or active_partitions is None:
            return await super()._getmany(active_partitions, timeout)
        wanted = {tp for tp in active_partitions if tp.partition not in held}
        if wanted:
            return await super()._getmany(wanted, timeout)
        await self.sleep(timeout)  # asked for none, aiokafka gives records of all
        return {}

    def _is_current(self, generation: int) -> bool:
        return bool(self.flow_active) and self.app.consumer_generation_id == generation

    def _chunk(self, tp: TP, records: Sequence[Any], generation: int, epoch: int) -> Chunk:
        last = records[-1]
        chunk = Chunk(
            last.topic, last.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
            [], None, b"", None, 0, 0, tp, generation_id=generation,
        )  # fmt: skip
        chunk.records = records
        chunk.epoch = epoch
        return chunk

    async def perform_seek(self) -> None:
        positions = cast(EngineApp, self.app).positions
        if positions is None:
            await self.seek_to_committed()
            return
        # Also called between a revocation and the next assignment, when no database is open: then there is nothing
        # to seek to, and it is called again before the flow resumes.
        ready = {tp: positions[tp.partition] for tp in self.assignment() if tp.partition in positions}
        if ready:
            await self.seek_wait(ready)


def chunks(records: Sequence[Any]) -> list[Sequence[Any]]:
    """Cuts records into runs of bounded number and size; a record of any size fits into a run of its own."""
    runs: list[Sequence[Any]] = []
    start = size = 0
    for index, record in enumerate(records):
        length = len(record.value or b"")
        if index > start and (size + length > CHUNK_BYTES or index - start >= CHUNK_RECORDS):
            runs.append(records[start:index])
            start, size = index, 0
        size += length
    if start < len(records):
        runs.append(records[start:])
    return runs


class NoTables(TableManager):
    """There are no tables here, so nothing waits a second for some to be declared: a worker is back sooner."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class BulkTransport(driver.Transport):
    Consumer = BulkConsumer


class EngineApp(faust.App):
    """A Faust app whose consumer starts at `positions` (partition → next offset) where that is not None."""

    positions: Mapping[int, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.held: set[int] = set()
        """Partitions of which no records are asked for."""
        self.epochs: dict[int, int] = {}
        """Partition → how often it was held."""

    def hold(self, partition: int) -> None:
        """From now on no records of the partition are asked for; those that are on their way are of an old epoch."""
        self.held.add(partition)
        self.epochs[partition] = self.epochs.get(partition, 0) + 1

    async def release(self, topic: str, partition: int, offset: int) -> None:
        """Goes on at an offset with a partition that was held."""
        await self.consumer.seek_wait({TP(topic, partition): offset})
        self.held.discard(partition)

    def _new_transport(self) -> BulkTransport:
        return BulkTransport(self.conf.broker_consumer, self)

    def assigned(self, topic: str) -> set[int]:
        """Partitions of a topic that this worker has now."""
        return {tp.partition for tp in self.consumer.assignment() if tp.topic == topic}

    async def commit_positions(self, topic: str, positions: Mapping[int, int]) -> bool:
        """Commits next offsets; partitions that are not this worker's any more are left out.

        False where the group has moved on meanwhile: nothing was committed.
        """
        wanted = {TP(topic, partition): offset for partition, offset in positions.items()}
        return bool(await cast(Any, self.consumer)._commit(wanted))


class Committer:
    """Commits the positions of a topic as they move."""

    def __init__(
        self, app: EngineApp, topic: str, positions: Callable[[], Mapping[int, int]], every_s: float
    ) -> None:
        self._app = app
        self._topic = topic
        self._positions = positions
        self._every_s = every_s
        self._committed: dict[int, int] = {}

    def forget(self) -> None:
        """After a revocation: who had the partitions meanwhile may have committed something else."""
        self._committed.clear()

    async def run(self) -> None:
        """Commits until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.step()

    async def step(self) -> None:
        moved = {p: offset for p, offset in self._positions().items() if self._committed.get(p) != offset}
        if moved and not self._app.rebalancing and await self._app.commit_positions(self._topic, moved):
            self._committed.update(moved)


def create_app(name: str, settings: Settings, *, topic: str, instance_id: str, datadir: str) -> EngineApp:
    """A Faust app with the settings that `docs/engine.md` explains.

    Raises TryLater where Kafka doesn't answer, and OSError where the folder can't be made.

    `topic` is what it reads. Its id is part of the member's: while a topic is gone the group's members are given
    nothing, and a static member that comes back is given again what it had.
    """
    session_s = settings.session_timeout_s
    Path(datadir).mkdir(parents=True, exist_ok=True)  # Faust would show a traceback where it can't be made
    topic_id = LogInspector(settings.kafka).topic_id(topic)
    return EngineApp(
        name,
        broker=[f"kafka://{address}" for address in settings.kafka.split(",")],
        datadir=datadir,
        store="memory://",
        TableManager=NoTables,
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        # With no standby replicas Faust would change to an assignor that isn't sticky.
        table_standby_replicas=1,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{instance_id}-{topic_id}",
        consumer_max_fetch_size=FETCH_BYTES,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=min(3.0, session_s / 3),
        broker_rebalance_timeout=max(60.0, session_s),
        broker_request_timeout=max(90.0, session_s),
        broker_max_poll_records=None,
        stream_wait_empty=False,
        stream_buffer_maxsize=16,
    )
