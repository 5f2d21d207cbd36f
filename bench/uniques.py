"""Unique people of windows of 90 days in a mailing to a million, over HTTP, and how far the estimate is off.

The state is counted by the worker's own code, straight from memory. Everybody opens twice within 120 days, so that each
day of each partition has a dense sketch: the dearest case. Windows share most of their people, and so their error; the
error promised is therefore measured over populations that have nobody in common, merged from partitions and days.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import facts as f
from app import keys
from app.facts import Detail, Entry, Fact, FactsRecord, encode
from app.settings import Settings
from bench.figure import Figure, percentile
from bench.pages import PER_RECORD, PROCESSES, _open, _publish
from cli.traffic.client import Connection, address_of
from tables.sketches import Sketch, Union
from tests.support.stack import Stack

PEOPLE: Final = int(os.environ.get("BENCH_RECIPIENTS", "1_000_000"))
DAYS: Final = 120
WINDOW_DAYS: Final = 90
WINDOWS: Final = 100
POPULATIONS: Final = 100
QUARTER_MS: Final = 900_000
FIRST: Final = 1_790_000_000_000 // 86_400_000 * 96
"""The quarter hour in which it begins: the first of a day."""
QUARTERS: Final = DAYS * 96
CAMPAIGN: Final = "mailing"


def opens() -> NDArray[np.int64]:
    """The two quarters in which each person opens, in order, counted from `FIRST`."""
    return np.sort(np.random.default_rng(7).integers(0, QUARTERS, (PEOPLE, 2)), axis=1)


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        state = stack.data / "state"
        state.mkdir(parents=True)
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            pool.starmap(_count, [(state, settings, share) for share in range(PROCESSES)], chunksize=1)
        asyncio.run(_publish(state, settings))
        stack.start("api")
        stack.start("query")
        stack.wait_ready()
        path = f"/api/v1/campaigns/{CAMPAIGN}/recipients"
        stack.wait_for(lambda: stack.get(path, key=stack.key()).status_code == 200, 60, "the query process")
        latencies, errors = asyncio.run(_ask(stack))
    populations = [_error(number) for number in range(POPULATIONS)]
    return [
        Figure(
            what=f"unique people of {WINDOW_DAYS} days, {PEOPLE:,} people, p99",
            value=percentile(latencies, 0.99) * 1000, unit="ms", goal=100, higher_is_better=False,
            note=f"{WINDOWS} random windows, opened and clicked, p50 {percentile(latencies, 0.5) * 1000:.1f} ms; "
            f"off by {max(map(abs, errors)):.2f} % at most",
        ),
        Figure(
            what="the estimate's error, RMS", value=_rms(populations), unit="%", goal=0.9, higher_is_better=False,
            note=f"{POPULATIONS} populations of {PEOPLE:,}",
        ),
    ]  # fmt: skip


def _rms(errors: list[float]) -> float:
    return math.sqrt(sum(error * error for error in errors) / len(errors))


def _count(folder: Path, settings: Settings, share: int) -> None:
    """Counts one process's share of the partitions."""
    campaign = keys.campaign_key(settings.secret, "acme", CAMPAIGN)
    databases = {p: _open(folder, settings, p) for p in range(settings.partitions) if p % PROCESSES == share}
    detail = encode(Detail("generic"))
    waiting: dict[int, list[Entry]] = {partition: [] for partition in databases}

    fingerprint = keys.secret_fingerprint(settings.secret)

    def flush(partition: int) -> None:
        database = databases[partition]
        record = FactsRecord(
            f.FACTS_VERSION, "acme", CAMPAIGN, FIRST * QUARTER_MS, waiting[partition], fingerprint
        )
        database.apply([(database.next_offset, encode(record))])
        waiting[partition] = []

    # In order of time, as they come; every third one clicks at the second open.
    table = opens()
    for place in np.argsort(table, axis=None, kind="stable").tolist():
        number, again = divmod(place, 2)
        address = f"r{number:07d}@example.com"
        recipient = keys.recipient_key(settings.secret, campaign, address)
        partition = keys.recipient_partition(recipient, settings.partitions)
        if partition not in databases:
            continue
        at_ms = (FIRST + int(table[number, again])) * QUARTER_MS + number % QUARTER_MS
        for kind in (f.OPENED, f.CLICKED) if again and number % 3 == 0 else (f.OPENED,):
            fact = Fact(keys.identity(recipient, kind, str(at_ms)), at_ms, kind, 0, number)
            waiting[partition].append(Entry(recipient, address, fact, detail))
        if len(waiting[partition]) >= PER_RECORD:
            flush(partition)
    for partition, database in databases.items():
        if waiting[partition]:
            flush(partition)
        database.close()


async def _ask(stack: Stack) -> tuple[list[float], list[float]]:
    """Seconds of each window, and its errors in percent."""
    first, second = opens().T
    chance = random.Random(1)
    connection = Connection(address_of(stack.url))
    headers = {"authorization": f"Bearer {stack.key()}"}
    latencies, errors = [], []
    for number in range(WINDOWS + WINDOWS // 10):
        start = chance.randrange(QUARTERS - WINDOW_DAYS * 96)
        end = start + WINDOW_DAYS * 96
        path = (
            f"/api/v1/campaigns/{CAMPAIGN}/uniques?from={(FIRST + start) * QUARTER_MS}"
            f"&to={(FIRST + end) * QUARTER_MS}"
        )
        began = time.perf_counter()
        answer = await connection.request("GET", path, headers)
        took = time.perf_counter() - began
        assert answer.status == 200, answer.body
        if number < WINDOWS // 10:
            continue
        latencies.append(took)
        found = msgspec.json.decode(answer.body)["uniques"]
        early, late = (first >= start) & (first < end), (second >= start) & (second < end)
        for name, there in (("opened", early | late), ("clicked", late[::3])):
            truth = int(there.sum())
            errors.append(100 * (found[name] - truth) / truth)
    connection.close()
    return latencies, errors


def _error(population: int) -> float:
    """In percent, of one population spread over eight partitions."""
    hashes = np.unique(np.random.default_rng(population).integers(0, 2**64, PEOPLE, np.uint64))
    union = Union()
    for part in np.array_split(hashes, 8):
        sketch = Sketch()
        sketch.add(part.tolist())
        union.add(sketch.encode())
    return 100 * (union.count() - len(hashes)) / len(hashes)
