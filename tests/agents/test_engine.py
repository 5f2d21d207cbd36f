"""The private parts of Faust and aiokafka that the engine overrides or calls, and how it cuts chunks."""

from __future__ import annotations

import inspect
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import PartitionMetadata
from faust.tables.manager import TableManager
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from hypothesis import given
from hypothesis import strategies as st

from agents import engine
from app.errors import of_file
from app.settings import Settings


def test_a_file_in_the_place_of_the_data_folder_is_named(tmp_path: Path) -> None:
    """Faust showed a traceback."""
    path = tmp_path / "faust"
    path.write_text("x")
    with pytest.raises(FileExistsError) as told:
        engine.create_app("any", Settings(), topic="facts", instance_id="any-0", datadir=str(path))
    assert str(of_file(told.value)).startswith(f"{path} can't be used: File exists")


@pytest.mark.parametrize(
    ("package", "pinned"),
    [("faust-streaming", "0.15.3"), ("mode-streaming", "0.7.1"), ("aiokafka", "0.14.0")],
)
def test_versions_are_those_that_were_traced(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (faust_consumer.Consumer.getmany, ["self", "timeout"]),
        (faust_consumer.Consumer._wait_next_records, ["self", "timeout"]),
        (faust_consumer.Consumer.perform_seek, ["self"]),
        (faust_consumer.ThreadDelegateConsumer._getmany, ["self", "active_partitions", "timeout"]),
        (MetadataRequest.__init__, ["self", "topics", "allow_auto_topic_creation"]),
        (engine._ask_metadata, ["self", "cluster_metadata", "topics"]),
        (faust_consumer.Consumer.highwater, ["self", "tp"]),
        (driver.Consumer.seek_wait, ["self", "partitions"]),
        (driver.Consumer.seek_to_committed, ["self"]),
        (driver.Consumer._commit, ["self", "offsets"]),
        (faust.App._new_transport, ["self"]),
        (TableManager.on_start, ["self"]),
        (TableManager._update_channels, ["self"]),
    ],
)
def test_signatures_are_those_that_were_traced(function: object, parameters: list[str]) -> None:
    assert callable(function)
    assert list(inspect.signature(function).parameters) == parameters


def test_the_consumer_still_asks_for_these() -> None:
    source = inspect.getsource(faust_consumer.Consumer.getmany)
    for name in (
        "_wait_next_records",
        "consumer_generation_id",
        "flow_active",
        "_buffered_partitions",
        "perform_seek",
    ):
        assert name in source


def test_the_tables_start_is_what_is_replaced() -> None:
    source = inspect.getsource(TableManager.on_start)
    for part in ("self.sleep(1.0)", "self._update_channels()", "self.recovery.start()"):
        assert part in source


@given(st.lists(st.integers(0, 400_000), max_size=60))
def test_chunks_are_the_records_in_their_order(sizes: list[int]) -> None:
    records = [SimpleNamespace(value=b"x" * size) for size in sizes]
    runs = engine.chunks(records)
    assert [record for run in runs for record in run] == records
    for run in runs:
        assert run
        assert len(run) <= engine.CHUNK_RECORDS
        assert len(run) == 1 or sum(len(record.value) for record in run) <= engine.CHUNK_BYTES


def test_many_small_records_are_cut_by_number() -> None:
    records = [SimpleNamespace(value=None)] * (2 * engine.CHUNK_RECORDS + 1)
    assert [len(run) for run in engine.chunks(records)] == [engine.CHUNK_RECORDS, engine.CHUNK_RECORDS, 1]


class _App:
    """Stands for the app: what is committed, and whether the group takes it."""

    rebalancing = False

    def __init__(self) -> None:
        self.takes = True
        self.commits: list[dict[int, int]] = []

    async def commit_positions(self, topic: str, positions: dict[int, int]) -> bool:
        self.commits.append(dict(positions))
        return self.takes


async def test_a_position_is_committed_once_it_moves_and_again_if_it_was_refused() -> None:
    app = _App()
    positions = {0: 5}
    committer = engine.Committer(cast(engine.EngineApp, app), "facts", lambda: positions, 1)
    app.takes = False
    await committer.step()
    app.takes = True
    await committer.step()
    await committer.step()
    assert app.commits == [{0: 5}, {0: 5}]
    positions[1] = 7
    await committer.step()
    assert app.commits[2:] == [{1: 7}]


async def test_after_a_revocation_the_same_position_is_committed_again() -> None:
    """The group may have gone back to an older one while another worker had the partition."""
    app = _App()
    committer = engine.Committer(cast(engine.EngineApp, app), "facts", lambda: {0: 5}, 1)
    await committer.step()
    committer.forget()
    await committer.step()
    assert app.commits == [{0: 5}, {0: 5}]


async def test_a_topic_that_is_gone_is_not_asked_for_without_a_pause(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka asked some hundred times a second for the leaders of a topic that was deleted."""
    monkeypatch.setattr(engine, "LEADERLESS_S", 0.2)
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    try:
        client.set_topics(["nowhere"])
        began = time.monotonic()
        for _ in range(4):
            await client.force_metadata_update()
        assert time.monotonic() - began >= 3 * 0.2
    finally:
        await client.close()


def test_what_has_no_leader() -> None:
    cluster = ClusterMetadata()
    cluster._partitions = {
        "led": {0: partition_metadata(0, leader=1), 1: partition_metadata(1, leader=1)},
        "half": {0: partition_metadata(0, leader=1), 1: partition_metadata(1, leader=-1)},
    }
    assert [engine.is_leaderless(cluster, topic) for topic in ("led", "half", "none")] == [False, True, True]


def partition_metadata(partition: int, leader: int) -> PartitionMetadata:
    return PartitionMetadata("t", partition, leader, [1], [1], 0)
