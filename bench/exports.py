"""CSV exports of a large campaign: rows a second of one export process, its memory, and what counting loses meanwhile.

The state is counted by the worker's own code, straight from memory; the export's process is the one that the query
process starts. `BENCH_RECIPIENTS` sets the size.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from api.query import export_wire
from api.query.export_wire import LENGTH_BYTES, ExportJob, ExportRequest
from app import facts as f
from app import keys
from app.facts import Detail, Entry, Fact, FactsRecord, encode
from app.filters import EventFilter, RecipientFilter
from app.user_agents import agent_id
from bench.figure import Figure
from tables.cache import RecipientCache
from tables.exports import Asked
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase

RECIPIENTS: Final = int(os.environ.get("BENCH_RECIPIENTS", "600_000"))
PARTITIONS: Final = 8
PROCESSES: Final = 2
PER_RECORD: Final = 1_000
FOLD_S: Final = 6.0
SECRET: Final = b"secret of the benchmark"
CAMPAIGN: Final = "mailing"
KEY: Final = keys.campaign_key(SECRET, "acme", CAMPAIGN)
START_MS: Final = 1_790_000_000_000
HOUR_MS: Final = 3_600_000
COMMAND: Final = (sys.executable, "-m", "api.query.export_process")

_AGENTS: Final = (
    ("Gmail", None, None, None), ("Apple Mail", "mobile", "iOS", "Mobile Safari"),
    ("Outlook", "desktop", "Windows", "Edge"), (None, "mobile", "Android", "Chrome Mobile"),
)  # fmt: skip
_PLACES: Final = (("DE", "Berlin"), ("FR", "Paris"), ("US", "Boston"), ("US", None), ("GB", "London"))
_DOMAINS: Final = ("gmail.com", "outlook.com", "example.com", "yahoo.com", "mail.example.org")
_LINKS: Final = tuple(f"https://example.com/{number}" for number in range(20))


def _entries(number: int) -> tuple[int, list[Entry]]:
    """A recipient's partition and events: queued, sent, delivered or bounced, and what 43 % of them did then."""
    rng = random.Random(number)
    address = f"{rng.choice('abcdefgh')}.{rng.randrange(10**7):07d}.{number}@{rng.choice(_DOMAINS)}"
    recipient = keys.recipient_key(SECRET, KEY, address)
    agent, place = rng.choice(_AGENTS), rng.choice(_PLACES)
    subject = "AB"[number % 2]
    made: list[Entry] = []

    def add(kind: int, at_ms: int, evidence: int = 0) -> None:
        engaged = kind in (f.OPENED, f.CLICKED)
        link = rng.choice(_LINKS) if kind == f.CLICKED else None
        detail = Detail(
            "sendgrid", link=link, provider="Gmail", variant={"subject": subject}, message_id=f"<{at_ms:x}@mail>",
            esp_event_id=f"{at_ms * 7:x}", metadata={"campaign_id": CAMPAIGN, "ab_subject": subject},
            client=agent[0] if engaged else None, device=agent[1] if engaged else None,
            country=place[0] if engaged else None, city=place[1] if engaged else None,
            ip="192.0.2.1" if engaged else None,
            user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36" if engaged else None,
            reason="mailbox full" if kind == f.BOUNCED else None,
        )  # fmt: skip
        numbers = {"provider": keys.text_id("Gmail"), "variant": keys.text_id(f"subject={subject}")}
        if engaged:
            numbers |= {
                "agent": agent_id(*agent),
                "place": keys.text_id(f"{place[0]}\0{place[1] or ''}"),
                "network": 5,
            }
        if link is not None:
            numbers["link"] = keys.text_id(link)
        if kind == f.BOUNCED:
            numbers["reason"] = keys.text_id("mailbox full")
        identity = keys.identity(recipient, kind, str(at_ms))
        fact = Fact(identity, at_ms, kind, evidence, keys.content_id(encode(detail)), **numbers)
        made.append(Entry(recipient, address, fact, encode(detail)))

    at_ms = START_MS + number * 20
    add(f.QUEUED, at_ms)
    add(f.SENT, at_ms + 500)
    lot = rng.random()
    if lot < 0.02:
        add(f.BOUNCED, at_ms + 2_000)
    else:
        add(f.DELIVERED, at_ms + 2_000)
    if 0.02 < lot < 0.45:
        for _ in range(1 + (lot < 0.2)):
            add(f.OPENED, at_ms + rng.randrange(60_000, 72 * HOUR_MS), f.AGENT_PROXY if lot < 0.1 else 0)
    if 0.02 < lot < 0.12:
        add(f.CLICKED, at_ms + rng.randrange(60_000, 72 * HOUR_MS))
    if 0.02 < lot < 0.03:  # a scanner's burst
        for step in range(3):
            add(f.CLICKED, at_ms + 4_000 + step)
    return keys.recipient_partition(recipient, PARTITIONS), made


def _open(folder: Path, partition: int) -> PartitionDatabase:
    meta = Meta(LAYOUT_VERSION, partition, PARTITIONS, "bench", keys.secret_fingerprint(SECRET), 1)
    return PartitionDatabase(folder / f"p{partition}", meta, SECRET, RecipientCache(20_000))


def _apply(database: PartitionDatabase, entries: list[Entry]) -> None:
    record = FactsRecord(
        f.FACTS_VERSION, "acme", CAMPAIGN, START_MS, entries, keys.secret_fingerprint(SECRET)
    )
    database.apply([(database.next_offset, encode(record))])


def _count(folder: Path, share: int) -> int:
    """Counts one process's share of the partitions; gives the number of events."""
    databases = {p: _open(folder, p) for p in range(PARTITIONS) if p % PROCESSES == share}
    waiting: dict[int, list[Entry]] = {partition: [] for partition in databases}
    events = 0
    for number in range(RECIPIENTS):
        partition, entries = _entries(number)
        if partition in waiting:
            waiting[partition] += entries
            events += len(entries)
            if len(waiting[partition]) >= PER_RECORD:
                _apply(databases[partition], waiting[partition])
                waiting[partition] = []
    for partition, database in databases.items():
        _apply(database, waiting[partition])
        database.close()
    return events


class _Measured(NamedTuple):
    rows: int
    size: int
    seconds: float
    """From the start of the reading to the end."""
    opened_bytes: int
    """Its memory once the databases are open."""
    peak_bytes: int


def _memory(process: int, name: str) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else 0  # a process that has ended has none


def _job(state: Path, asked: Asked, *, gzip: bool) -> ExportJob:
    request = ExportRequest(asked=asked, partitions=tuple(range(PARTITIONS)), gzip=gzip)
    return ExportJob(request=request, state=str(state), token="")


def _export(state: Path, asked: Asked, *, gzip: bool = False) -> _Measured:
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(export_wire.encode(_job(state, asked, gzip=gzip)))
    process.stdin.close()
    process.stdout.read(int.from_bytes(process.stdout.read(LENGTH_BYTES), "big"))
    began = time.monotonic()
    opened, peak, size = _memory(process.pid, "VmRSS"), 0, 0
    while chunk := process.stdout.read(1 << 18):
        size += len(chunk)
        peak = max(peak, _memory(process.pid, "VmHWM"))
    seconds = time.monotonic() - began
    said = process.stderr.read().decode()
    assert process.wait() == 0, said
    return _Measured(int(said.split()[0]), size, seconds, opened, peak)


def _fold_rate(folder: Path, started: Callable[[], object]) -> float:
    """Facts a second of the fold and its database alone; `started` is called when it runs."""
    made: list[list[Entry]] = []
    waiting: list[Entry] = []
    for number in range(RECIPIENTS, RECIPIENTS + 30_000):
        waiting += _entries(number)[1]
        if len(waiting) >= PER_RECORD:
            made.append(waiting)
            waiting = []
    database = _open(folder, 0)
    records: Iterator[list[Entry]] = iter(made)
    started()
    began = time.monotonic()
    facts = 0
    while (now := time.monotonic()) - began < FOLD_S and (record := next(records, None)) is not None:
        _apply(database, record)
        facts += len(record)
    database.close()
    return facts / (now - began)


def run(folder: Path) -> list[Figure]:
    state = folder / "state"
    state.mkdir()
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        events = sum(pool.starmap(_count, [(state, share) for share in range(PROCESSES)], chunksize=1))
    filled = f"made in {time.monotonic() - began:.0f} s"
    people = Asked(campaign=KEY, recipients=RecipientFilter())
    plain, packed = _export(state, people), _export(state, people, gzip=True)
    opened = _export(state, Asked(campaign=KEY, recipients=RecipientFilter(status="opened"), count="people"))
    log = _export(state, Asked(campaign=KEY, events=EventFilter()))
    assert (plain.rows, packed.rows, log.rows) == (RECIPIENTS, RECIPIENTS, events)
    alone, beside = _fold_beside(folder, state, people)
    mb = 1 << 20
    return [
        Figure(
            what=f"export of recipients, {RECIPIENTS:,}",
            value=plain.rows / plain.seconds,
            unit="rows/s",
            goal=200_000,
            note=f"{plain.size / mb:.0f} MiB in {plain.seconds:.1f} s; {events / RECIPIENTS:.1f} events each, {filled}",
        ),
        Figure(
            what="the same, compressed",
            value=packed.rows / packed.seconds,
            unit="rows/s",
            note=f"{packed.size / mb:.0f} MiB",
        ),
        Figure(
            what="those that people opened",
            value=RECIPIENTS / opened.seconds,
            unit="looked at/s",
            note=f"{opened.rows:,} rows",
        ),
        Figure(
            what=f"export of events, {events:,}",
            value=log.rows / log.seconds,
            unit="rows/s",
            goal=200_000,
            note=f"{log.size / mb:.0f} MiB in {log.seconds:.1f} s",
        ),
        Figure(
            what="memory of an export beyond the opened databases",
            value=max(one.peak_bytes - one.opened_bytes for one in (plain, packed, log)) / mb,
            unit="MiB",
            goal=64,
            higher_is_better=False,
            note=f"opened: {plain.opened_bytes / mb:.0f} MiB",
        ),
        Figure(
            what="counting while an export runs, of its speed alone",
            value=100 * beside / alone,
            unit="%",
            goal=80,
            note=f"{alone:,.0f} and {beside:,.0f} facts/s in one process",
        ),
    ]


def _fold_beside(folder: Path, state: Path, asked: Asked) -> tuple[float, float]:
    alone = _fold_rate(folder / "alone", lambda: None)
    over = threading.Event()
    job = export_wire.encode(_job(state, asked, gzip=False))

    def export_again_and_again() -> None:
        while not over.is_set():
            # To nowhere: whoever reads would take this process's time.
            subprocess.run(
                COMMAND, input=job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
            )

    exporting = threading.Thread(target=export_again_and_again)
    beside = _fold_rate(folder / "beside", exporting.start)
    over.set()
    exporting.join()
    return alone, beside
