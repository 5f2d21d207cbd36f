"""Facts a second through one aggregate process, from a filled topic: Kafka to Redis, and the fold alone."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from app.settings import Settings
from bench.figure import Figure
from bench.traffic import Encoded, fill, normalised
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.views import PARTITIONS, fences_of
from tests.support.stack import Stack

FACTS = 600_000
FOLD_FACTS = 200_000
CHUNK = 50
"""Records that the fold gets at a time when it runs alone."""
TIMEOUT_S = 180.0


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        written = fill(settings.kafka, normalised(settings, FACTS))
        rate, seconds = _drain(stack, written)
    alone = fold_alone(settings, folder / "fold", list(normalised(settings, FOLD_FACTS)))
    total = sum(map(sum, written.values()))
    note = f"{total:,} facts in {sum(map(len, written.values())):,} records, {seconds:.1f} s; 100,000 is wished for"
    return [
        Figure(what="facts through one aggregate process", value=rate, unit="/s", goal=60_000, note=note),
        Figure(what="the fold and its database alone", value=alone, unit="/s", note=f"{FOLD_FACTS:,} facts"),
    ]


def _drain(stack: Stack, written: dict[int, list[int]]) -> tuple[float, float]:
    """Facts a second between the first view and the last one, and how long that took."""
    ends = {partition: len(records) for partition, records in written.items()}
    cumulated = {p: [0, *itertools.accumulate(records)] for p, records in written.items()}
    with stack.redis_client() as redis:
        stack.start("aggregate")
        began, at_first = 0.0, 0
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            stored = {p: fence.offset for p, fence in fences_of(redis.hgetall(PARTITIONS)).items()}
            now = time.monotonic()
            counted = sum(cumulated[p][min(offset, ends[p])] for p, offset in stored.items() if p in ends)
            if not began and counted:
                began, at_first = now, counted
            if all(stored.get(p, 0) >= end for p, end in ends.items()):
                total = sum(map(sum, written.values()))
                return (total - at_first) / (now - began), now - began
            time.sleep(0.01)
    raise TimeoutError(f"the worker did not come to the end of the topic: see {stack.folder}")


def fold_alone(settings: Settings, folder: Path, records: list[Encoded]) -> float:
    """Facts a second of the fold and its databases, in one thread, without Kafka and Redis."""
    cache = RecipientCache(100_000)
    databases = {
        partition: PartitionDatabase(
            folder / str(partition),
            Meta(LAYOUT_VERSION, partition, settings.partitions, "bench", "bench", 0),
            settings.secret,
            cache,
        )
        for partition in range(settings.partitions)
    }
    by_partition: dict[int, list[bytes]] = {}
    for partition, _, value in records:
        by_partition.setdefault(partition, []).append(value)
    began = time.monotonic()
    for partition, values in by_partition.items():
        for start in range(0, len(values), CHUNK):
            databases[partition].apply(enumerate(values[start : start + CHUNK], start))
    seconds = time.monotonic() - began
    for database in databases.values():
        database.close()
    return sum(facts for _, facts, _ in records) / seconds
