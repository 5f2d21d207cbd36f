"""Pages of a mailing to millions: recipients, events, clickers, from the first page to the last, over HTTP.

The state is counted by the worker's own code, but straight from memory, without Kafka in between; pages are asked of a
real API, which asks a real query process. `BENCH_RECIPIENTS` sets the size.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from agents.publish import Publisher
from api.cursors import Cursors
from app import facts as f
from app import keys
from app.facts import CampaignKey, Detail, Entry, Fact, FactsRecord, encode
from app.filters import EventFilter, RecipientFilter
from app.sections import link_id
from app.settings import Settings
from app.user_agents import agent_id
from bench import beside
from bench.figure import Figure, percentile
from cli.traffic.client import Connection, address_of
from tables import paging
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.redis_client import redis_of
from tables.view_writer import ViewWriter
from tables.views import PARTITIONS, SECTION_PARTITIONS
from tests.support.stack import Stack

RECIPIENTS: Final = int(os.environ.get("BENCH_RECIPIENTS", "1_000_000"))
REQUESTS: Final = 200
PROCESSES: Final = 2
GOAL_MS: Final = 20.0
GOAL_SCAN_MS: Final = 70.0
"""Of pages whose rows are far between: they end after 50 ms of looking."""
SCANNED: Final = frozenset(("not opened, newest activity", "a country of 1 %"))
PER_RECORD: Final = 2_000
BESIDE_RECORDS: Final = 60
START_MS: Final = 1_790_000_000_000
DAY_MS: Final = 86_400_000
CAMPAIGN: Final = "mailing"
LINKS: Final = [f"https://example.com/{number}" for number in range(20)]
COUNTRIES: Final = ("DE", "FR", "US", "IN", "BR", "JP")


class _Kind(NamedTuple):
    """Details that many recipients share, and their numbers."""

    detail: Detail
    encoded: bytes
    numbers: dict[str, int]


def _kinds() -> list[_Kind]:
    kinds = []
    for number in range(48):
        # Every hundredth or so reads in a country of few.
        country = "LU" if number == 47 else COUNTRIES[number % len(COUNTRIES)]
        client, device = (("Gmail", None), ("Apple Mail", "phone"), ("Outlook", "desktop"))[number % 3]
        city, provider, subject = (
            f"City {number}",
            ("Gmail", "Yahoo", "other domains")[number % 3],
            "AB"[number % 2],
        )
        detail = Detail(
            "sendgrid", client=client, device=device, country=country, city=city, provider=provider,
            variant={"subject": subject}, ip="203.0.113.7", message_id=f"message-{number:032d}",
            user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        )  # fmt: skip
        numbers = {
            "agent": agent_id(client, device, None, None),
            "place": keys.text_id(f"{country}\0{city}"),
            "provider": keys.text_id(provider),
            "variant": keys.text_id(f"subject={subject}"),
            "network": 5,
        }
        kinds.append(_Kind(detail, encode(detail), numbers))
    return kinds


def address(number: int) -> str:
    return f"r{number * 7_919 % 10_000_019:08d}@example{number % 50}.com"


def _events(
    secret: bytes,
    campaign: CampaignKey,
    numbers: Iterator[int],
    own: Callable[[int], bool],
    partitions: int,
) -> Iterator[tuple[int, list[Entry]]]:
    """(partition, entries of one recipient): delivered 98 %, opened 38 %, clicked 10 %, few of the rest."""
    kinds = _kinds()
    for number in numbers:
        to = address(number)
        recipient = keys.recipient_key(secret, campaign, to)
        partition = keys.recipient_partition(recipient, partitions)
        if not own(partition):
            continue
        chance = random.Random(number)
        kind = kinds[chance.randrange(48)]
        at_ms = START_MS + chance.randrange(DAY_MS // 6)
        entries: list[Entry] = []

        def add(what: int, when_ms: int, evidence: int = 0, link: str | None = None) -> None:
            detail, more = kind.encoded, kind.numbers  # noqa: B023
            if link is not None:
                detail = encode(msgspec.structs.replace(kind.detail, link=link))  # noqa: B023
                more = {**more, "link": keys.text_id(link)}
            identity = keys.identity(recipient, what, str(when_ms))  # noqa: B023
            fact = Fact(identity, when_ms, what, evidence, when_ms, **more)
            entries.append(Entry(recipient, to, fact, detail))  # noqa: B023

        lot = chance.random()
        if lot < 0.02:
            add(f.BOUNCED, at_ms)
        else:
            add(f.DELIVERED, at_ms)
            if lot > 0.60:
                add(
                    f.OPENED, at_ms + chance.randrange(60_000, 3 * DAY_MS), f.AGENT_PROXY if lot < 0.75 else 0
                )
            if lot > 0.90:
                for _ in range(1 + chance.randrange(2)):
                    link = LINKS[int(20 * chance.random() ** 2)]
                    add(f.CLICKED, at_ms + chance.randrange(60_000, 3 * DAY_MS), link=link)
            if lot > 0.997:
                add(f.UNSUBSCRIBED, at_ms + 3 * DAY_MS)
            if lot > 0.9995:
                add(f.COMPLAINED, at_ms + 3 * DAY_MS)
        yield partition, entries


def _count(folder: Path, settings: Settings, share: int) -> None:
    """Counts one process's share of the partitions."""
    campaign = keys.campaign_key(settings.secret, "acme", CAMPAIGN)
    databases = {p: _open(folder, settings, p) for p in range(settings.partitions) if p % PROCESSES == share}
    waiting: dict[int, list[Entry]] = {partition: [] for partition in databases}

    fingerprint = keys.secret_fingerprint(settings.secret)

    def flush(partition: int) -> None:
        database = databases[partition]
        record = FactsRecord(f.FACTS_VERSION, "acme", CAMPAIGN, START_MS, waiting[partition], fingerprint)
        database.apply([(database.next_offset, encode(record))])
        waiting[partition] = []

    numbers = iter(range(RECIPIENTS))
    for partition, entries in _events(
        settings.secret, campaign, numbers, databases.__contains__, settings.partitions
    ):
        waiting[partition] += entries
        if len(waiting[partition]) >= PER_RECORD:
            flush(partition)
    for partition, database in databases.items():
        if waiting[partition]:
            flush(partition)
        database.close()


def _open(folder: Path, settings: Settings, partition: int) -> PartitionDatabase:
    fingerprint = keys.secret_fingerprint(settings.secret)
    meta = Meta(LAYOUT_VERSION, partition, settings.partitions, "bench", fingerprint, 1)
    return PartitionDatabase(folder / f"p{partition}", meta, settings.secret, RecipientCache(20_000))


async def _publish(folder: Path, settings: Settings) -> None:
    redis = redis_of(settings, timeout_s=5)
    publisher = Publisher(ViewWriter(redis), "bench-0")
    databases = [_open(folder, settings, partition) for partition in range(settings.partitions)]
    for database in databases:
        publisher.add(database)
    task = asyncio.create_task(publisher.run())
    for name in (PARTITIONS, SECTION_PARTITIONS):
        while await redis.hlen(name) < settings.partitions:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for database in databases:
        database.close()
    (folder / "slots").mkdir(exist_ok=True)
    (folder / "slots" / "id").write_text("bench")
    await redis.aclose()


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        state = stack.data / "state"
        state.mkdir(parents=True)
        began = time.monotonic()
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            pool.starmap(_count, [(state, settings, share) for share in range(PROCESSES)], chunksize=1)
        filled_s = time.monotonic() - began
        asyncio.run(_publish(state, settings))
        stack.start("api")
        stack.start("query")
        stack.wait_ready()
        path = f"/api/v1/campaigns/{CAMPAIGN}/recipients"
        stack.wait_for(lambda: stack.get(path, key=stack.key()).status_code == 200, 60, "pages")
        measured = {
            name: asyncio.run(_ask(stack, requests)) for name, requests in _requests(settings).items()
        }
        counting = _counting(stack, settings, state)
    figures = [
        Figure(
            what=f"page of {name}, {RECIPIENTS:,} recipients, p99",
            value=percentile(latencies, 0.99) * 1000,
            unit="ms",
            goal=_goal(name),
            higher_is_better=False,
            note=f"p50 {percentile(latencies, 0.5) * 1000:.2f} ms, {items / len(latencies):.0f} rows",
        )
        for name, (latencies, items) in measured.items()
    ]
    figures[0] = msgspec.structs.replace(figures[0], note=figures[0].note + f"; made in {filled_s:.0f} s")
    return [*figures, counting]


def _counting(stack: Stack, settings: Settings, state: Path) -> Figure:
    """Partition 0, which the pages are read of, goes on counting: new recipients of the same campaign."""
    database = _open(state, settings, 0)
    campaign = keys.campaign_key(settings.secret, "acme", CAMPAIGN)
    numbers = iter(range(RECIPIENTS, 100 * RECIPIENTS))

    def batches() -> Iterator[list[Entry]]:
        waiting: list[Entry] = []
        several = 0
        for _, entries in _events(settings.secret, campaign, numbers, lambda p: p == 0, settings.partitions):
            waiting += entries
            if len(waiting) >= PER_RECORD:
                yield waiting
                waiting, several = [], several + 1
                if several == BESIDE_RECORDS:
                    return

    fingerprint = keys.secret_fingerprint(settings.secret)

    def apply(entries: list[Entry]) -> None:
        record = FactsRecord(f.FACTS_VERSION, "acme", CAMPAIGN, START_MS, entries, fingerprint)
        database.apply([(database.next_offset, encode(record))])

    paths = beside.example_paths(CAMPAIGN, [address(n) for n in range(20)], [link_id(keys.text_id(LINKS[3]))])
    figure = beside.counting_beside_pages(
        stack.url, stack.key(), paths, lambda: beside.fold_rate(batches(), apply)
    )
    database.close()
    return figure


def _goal(name: str) -> float | None:
    if "500 rows" in name:
        return None  # promised is a page of 50
    return GOAL_SCAN_MS if name in SCANNED else GOAL_MS


def _requests(settings: Settings) -> dict[str, Iterator[str]]:
    """What is asked, by its name: addresses without an end."""
    secret = settings.secret
    campaign = keys.campaign_key(secret, "acme", CAMPAIGN)
    nobody = RecipientFilter()
    by_address = Cursors(secret, "recipients", campaign, nobody, "recipient", "all")
    by_activity = Cursors(secret, "recipients", campaign, nobody, "-last_event_at", "all")
    log = Cursors(secret, "events", campaign, EventFilter(), "desc")
    link = link_id(keys.text_id(LINKS[3]))
    chance = random.Random(1)
    highest = max(address(number) for number in range(RECIPIENTS))[:8]

    def same(path: str) -> Iterator[str]:
        while True:
            yield path

    def anywhere() -> Iterator[str]:
        while True:
            yield "/recipients?cursor=" + by_address.write(address(chance.randrange(RECIPIENTS)).encode())

    def at(cursors: Cursors, path: str, within_ms: int) -> Iterator[str]:
        while True:
            at_ms = START_MS + chance.randrange(within_ms)
            after = paging.flipped(at_ms.to_bytes(8, "big") + chance.randbytes(16))
            yield f"{path}cursor={cursors.write(after)}"

    def people() -> Iterator[str]:
        while True:
            yield "/recipients/" + quote(address(chance.randrange(RECIPIENTS)), safe="")

    def starts() -> Iterator[str]:
        while True:
            yield "/recipients?search=" + address(chance.randrange(RECIPIENTS))[:5]

    newest = "sort=-last_event_at"
    return {
        "recipients, first": same("/recipients?limit=50"),
        "recipients, anywhere": anywhere(),
        "recipients, last": same("/recipients?cursor=" + by_address.write(f"{highest[:6]}".encode())),
        "recipients, 500 rows": same("/recipients?limit=500"),
        "newest activity, first": same(f"/recipients?{newest}"),
        "newest activity, anywhere": at(by_activity, f"/recipients?{newest}&", 3 * DAY_MS),
        "newest activity, last": at(by_activity, f"/recipients?{newest}&", 200),
        "opened": same("/recipients?status=opened"),
        "not opened, newest activity": same(f"/recipients?status=not_opened&{newest}"),
        "clicked": same("/recipients?status=clicked"),
        "clicked, newest activity": same(f"/recipients?status=clicked&{newest}"),
        "complained": same("/recipients?status=complained"),
        "complained, newest activity": same(f"/recipients?status=complained&{newest}"),
        "those who clicked a link": same(f"/recipients?link={link}"),
        "a variant": same("/recipients?variant.subject=B"),
        "a country of 1 %": same("/recipients?country=LU"),
        "search by the start": starts(),
        "search by domain": same("/recipients?search=@example7.com"),
        "one recipient": people(),
        "events, first": same("/events"),
        "events, anywhere": at(log, "/events?", 3 * DAY_MS),
        "events, last": at(log, "/events?", 200),
        "events of a rare type": same("/events?type=complained"),
        "clicks of people": same("/events?type=clicked&verdict=human"),
        "clickers of a link": same(f"/links/{link}/clickers"),
    }


async def _ask(stack: Stack, requests: Iterator[str]) -> tuple[list[float], int]:
    """Latencies, one request after the other, and how many rows came."""
    connection = Connection(address_of(stack.url))
    headers = {"authorization": f"Bearer {stack.key()}"}
    latencies, items = [], 0
    for number in range(REQUESTS + REQUESTS // 10):
        path = next(requests)
        began = time.perf_counter()
        answer = await connection.request("GET", f"/api/v1/campaigns/{CAMPAIGN}{path}", headers)
        took = time.perf_counter() - began
        assert answer.status == 200, (path, answer.body)
        if number >= REQUESTS // 10:
            latencies.append(took)
            document = msgspec.json.decode(answer.body)
            items += len(document.get("items", document.get("events", ())))
    connection.close()
    return latencies, items
