"""A mailing whose every recipient has a link of their own, beside the same with 20 links: Kafka to Redis, and readers.

`BENCH_RECIPIENTS` says how large it is. Each has a delivery, a third an open, one of `BENCH_CLICKS` a click.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from app import facts as f
from app import keys
from app.facts import Detail, Entry, Fact, FactsRecord, encode
from app.settings import Settings
from app.topics import FACTS
from bench.figure import Figure, percentile
from bench.traffic import Encoded, fill
from cli.traffic.client import Address, Connection, address_of
from tables.views import PARTITIONS, SECTION_PARTITIONS, fences_of
from tests.support.stack import Stack

RECIPIENTS = int(os.environ.get("BENCH_RECIPIENTS", "1_000_000"))
CLICKS = int(os.environ.get("BENCH_CLICKS", "10"))
FEW = 20
CAMPAIGN = "rows"
PER_RECORD = 500
TIMEOUT_S = 900.0
REQUESTS = 100
WATCHERS = 5
LIVE_S = 10.0
CLICKS_PER_S = 20


class _Readers(NamedTuple):
    report_ms: list[float]
    busy_report_ms: list[float]
    health_ms: list[float]
    events: int


class _Run(NamedTuple):
    rate: float
    rows_s: float
    memory_mb: float
    readers: _Readers


def run(folder: Path) -> list[Figure]:
    few = _measure(folder / "few", FEW)
    own = _measure(folder / "own", RECIPIENTS)
    size = f"{RECIPIENTS:,} recipients, {RECIPIENTS // CLICKS:,} of them clicked"
    return [
        Figure(
            what="facts of a mailing with a link for each recipient, of the rate with 20 links",
            value=100 * own.rate / few.rate, unit="%", goal=80,
            note=f"{own.rate:,.0f} and {few.rate:,.0f} facts/s, {size}, Kafka to Redis",
        ),
        Figure(
            what="memory of its worker, of the same with 20 links", value=own.memory_mb / few.memory_mb,
            unit="times", goal=1.2, higher_is_better=False,
            note=f"{own.memory_mb:.0f} and {few.memory_mb:.0f} MB at the highest",
        ),
        Figure(
            what="rows can be seen after the last number", value=own.rows_s, unit="s",
            note=f"{few.rows_s:.2g} s with {FEW} links",
        ),
        *_figures(own.readers, f"{size}, a link for each"),
        *(
            Figure(what=figure.what, value=figure.value, unit=figure.unit, note=f"the same with {FEW} links")
            for figure in _figures(few.readers, "")
        ),
    ]  # fmt: skip


def _figures(readers: _Readers, note: str) -> list[Figure]:
    return [
        Figure(
            what="whole report, p99", value=percentile(readers.report_ms, 0.99), unit="ms", goal=100,
            higher_is_better=False, note=f"{note}; p50 {percentile(readers.report_ms, 0.5):.1f} ms",
        ),
        Figure(
            what=f"whole report while {CLICKS_PER_S} clicks a second come, p99",
            value=percentile(readers.busy_report_ms, 0.99), unit="ms", goal=100, higher_is_better=False,
            note=f"p50 {percentile(readers.busy_report_ms, 0.5):.1f} ms",
        ),
        Figure(
            what=f"/healthz meanwhile, with {WATCHERS} watchers, the slowest", value=max(readers.health_ms),
            unit="ms", goal=100, higher_is_better=False,
            note=f"p50 {percentile(readers.health_ms, 0.5):.1f} ms, {readers.events} live events",
        ),
    ]  # fmt: skip


def _measure(folder: Path, links: int) -> _Run:
    with Stack(folder) as stack:
        stack.start_servers()
        settings = stack.install()
        written = fill(settings.kafka, mailing(settings, links))
        rate, rows_s, memory_mb = _drain(stack, written)
        for role in ("query", "normalize", "api"):
            stack.start(role)
        stack.wait_ready()
        readers = asyncio.run(_read(stack, settings, links))
    return _Run(rate, rows_s, memory_mb, readers)


def mailing(settings: Settings, links: int) -> Iterator[Encoded]:
    key = keys.campaign_key(settings.secret, "acme", CAMPAIGN)
    now_ms = time.time_ns() // 1_000_000
    secret = keys.secret_fingerprint(settings.secret)
    waiting: dict[int, list[Entry]] = {}
    for number in range(RECIPIENTS):
        partition, entries = _recipient(settings, key, number, links, now_ms - 86_400_000)
        some = waiting.setdefault(partition, [])
        some += entries
        if len(some) >= PER_RECORD:
            record = FactsRecord(f.FACTS_VERSION, "acme", CAMPAIGN, now_ms, some, secret)
            yield partition, len(some), encode(record)
            waiting[partition] = []
    for partition, some in waiting.items():
        if some:
            record = FactsRecord(f.FACTS_VERSION, "acme", CAMPAIGN, now_ms, some, secret)
            yield partition, len(some), encode(record)


def _recipient(
    settings: Settings, key: f.CampaignKey, number: int, links: int, began_ms: int, again: int = 0
) -> tuple[int, list[Entry]]:
    """A recipient's facts; `again`: their so manieth click more."""
    address = f"r{number:07d}@example.com"
    recipient = keys.recipient_key(settings.secret, key, address)
    link = f"https://shop.example.com/sale?u={number % links:07d}"
    detail = Detail("generic", link=link, client="Outlook", device="desktop", country="DE", city="Berlin")
    texts = {"place": keys.text_id("DE\0Berlin"), "agent": keys.text_id("Outlook\0desktop\0\0"), "network": 7}
    entries = []
    kinds = (
        f.DELIVERED,
        *((f.OPENED,) if number % 3 == 0 else ()),
        *((f.CLICKED,) if number % CLICKS == 0 else ()),
    )
    for place, kind in enumerate((f.CLICKED,) if again else kinds):
        at_ms = began_ms + number * 40 + place * 600_000 + again * 60_000
        clicked = {"link": keys.text_id(link), "position": 1} if kind == f.CLICKED else {}
        found = texts if kind != f.DELIVERED else {}
        fact = Fact(keys.identity(recipient, kind, str(at_ms)), at_ms, kind, 0, 1, **found, **clicked)
        entries.append(Entry(recipient, address, fact, encode(detail)))
    return keys.recipient_partition(recipient, settings.partitions), entries


def _drain(stack: Stack, written: dict[int, list[int]]) -> tuple[float, float, float]:
    """Facts a second until all numbers can be seen, seconds from then until all rows can, and the worker's highest
    memory in MB."""
    ends = {partition: len(records) for partition, records in written.items()}
    cumulated = {p: [0, *itertools.accumulate(records)] for p, records in written.items()}
    began, rate, counted_at, at_first = 0.0, 0.0, 0.0, 0
    with stack.redis_client() as redis:
        process = stack.start("aggregate")
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            numbers, rows = (
                {p: fence.offset for p, fence in fences_of(redis.hgetall(name)).items()}
                for name in (PARTITIONS, SECTION_PARTITIONS)
            )
            now = time.monotonic()
            counted = sum(cumulated[p][min(offset, ends[p])] for p, offset in numbers.items() if p in ends)
            if not began and counted:
                began, at_first = now, counted
            if not rate and all(numbers.get(p, 0) >= end for p, end in ends.items()):
                counted_at, rate = now, (sum(map(sum, written.values())) - at_first) / (now - began)
            if rate and all(rows.get(p, 0) >= end for p, end in ends.items()):
                return rate, now - counted_at, _highest_memory_mb(process.pid)
            time.sleep(0.01)
    raise TimeoutError(f"the worker did not come to the end of the topic: see {stack.folder}")


def _highest_memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise ValueError("no VmHWM")


async def _read(stack: Stack, settings: Settings, links: int) -> _Readers:
    headers = {"authorization": f"Bearer {stack.key()}"}
    address = address_of(stack.url)
    base = f"/api/v1/campaigns/{CAMPAIGN}"
    report_ms = await _ask(address, base + "/report", headers, number=REQUESTS)
    stop = asyncio.Event()
    events: list[int] = []
    clicking = asyncio.create_task(_click(settings, links, stop))
    watching = [asyncio.create_task(_watch(stack, base + "/live", events, stop)) for _ in range(WATCHERS)]
    until = time.monotonic() + LIVE_S
    health_ms, busy_ms = await asyncio.gather(
        _ask(address, "/healthz", {}, until=until), _ask(address, base + "/report", headers, until=until)
    )
    stop.set()
    await asyncio.gather(clicking, *watching)
    return _Readers(report_ms, busy_ms, health_ms, len(events))


async def _ask(
    address: Address, path: str, headers: dict[str, str], *, number: int = 1 << 30, until: float = 0.0
) -> list[float]:
    """Milliseconds of each request, one after the other."""
    connection = Connection(address)
    found = []
    while len(found) < number and (not until or time.monotonic() < until):
        began = time.perf_counter()
        answer = await connection.request("GET", path, headers)
        assert answer.status == 200, answer.body
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.01)
    connection.close()
    return found[5:]


async def _watch(stack: Stack, path: str, events: list[int], stop: asyncio.Event) -> None:
    address = address_of(stack.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        f"GET {path} HTTP/1.1\r\nhost: {address.host}\r\nauthorization: Bearer {stack.key()}\r\n\r\n".encode()
    )
    while not stop.is_set():
        try:
            async with asyncio.timeout(0.5):
                part = await reader.read(1 << 20)
        except TimeoutError:
            continue
        assert part, "the stream ended"
        events += [1] * part.count(b"\nevent: change")
    writer.close()


async def _click(settings: Settings, links: int, stop: asyncio.Event) -> None:
    """Recipients click again, each their own link."""
    key = keys.campaign_key(settings.secret, "acme", CAMPAIGN)
    producer = Producer({"bootstrap.servers": settings.kafka, "linger.ms": 1, "log_level": 3})
    number = 0
    while not stop.is_set():
        now_ms = time.time_ns() // 1_000_000
        partition, entries = _recipient(settings, key, number, links, now_ms - 86_400_000, again=1)
        record = FactsRecord(
            f.FACTS_VERSION, "acme", CAMPAIGN, now_ms, entries, keys.secret_fingerprint(settings.secret)
        )
        producer.produce(FACTS, encode(record), partition=partition)
        producer.poll(0)
        number += CLICKS
        await asyncio.sleep(1 / CLICKS_PER_S)
    producer.flush(10)
