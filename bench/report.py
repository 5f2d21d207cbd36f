"""The whole report of a large campaign: ten million recipients, 1,000 links, 1,000 cities, 90 days, from Redis.

The views are written as a worker writes them, with made-up numbers: what a request costs depends on the rows and hours,
not on how they were counted. Interest fades by a power law, links and cities share by another.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Final, cast

from redis.asyncio import Redis

from app import breakdown as b
from app import contribution as c
from app.breakdown import row_key
from app.facts import OrgId
from app.keys import campaign_key, text_id
from app.settings import Settings
from app.summary import GROUP_EVENTS, group_tally
from app.tally import pack
from bench.figure import Figure, percentile
from cli.topics import ensure_topics
from cli.traffic.client import Connection, address_of
from tables.book import Book
from tables.link_ends import Ends
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.view_writer import Share, Update, ViewWriter
from tables.views import NUMBERS, SECTIONS, Fence, SummaryPart, report_name, sections_name
from tests.support.stack import Stack

RECIPIENTS = {"small": 10_000, "large": 10_000_000}
LINKS: Final = 1_000
CITIES: Final = 1_000
DAYS: Final = 90
REQUESTS = 200
SUMMARIES = 3_000
FIRST_DAY: Final = 1_790_000_000_000 // 86_400_000


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings, _ = stack.configuration()
        ensure_topics(settings)
        sizes = asyncio.run(_publish(stack.redis_url, settings))
        stack.start("api")
        stack.start("normalize")
        stack.start("aggregate")
        stack.wait_ready()
        report = asyncio.run(_ask(stack, "large", "report", REQUESTS))
        summaries = {name: asyncio.run(_ask(stack, name, "summary", SUMMARIES)) for name in RECIPIENTS}
    small, large = (percentile(summaries[name], 0.99) * 1000 for name in ("small", "large"))
    p99, p50 = (percentile(report, share) * 1000 for share in (0.99, 0.5))
    return [
        Figure(
            what="whole report, p99", value=p99, unit="ms", goal=100, higher_is_better=False,
            note=f"{LINKS:,} links, {CITIES:,} cities, {DAYS} days, p50 {p50:.1f} ms",
        ),
        Figure(
            what="summary request, 10 M recipients, p99", value=large, unit="ms", goal=5, higher_is_better=False,
            note=f"10 k: {small:.2f} ms",
        ),
        Figure(
            what="summary, 10 M against 10 k recipients", value=large / small, unit="times", goal=1.2,
            higher_is_better=False,
        ),
        Figure(
            what="Redis for that campaign", value=sizes["large"] / 1e6, unit="MB", goal=1.0, higher_is_better=False,
            note=f"small campaign: {sizes['small'] / 1e6:.2f} MB",
        ),
    ]  # fmt: skip


async def _publish(url: str, settings: Settings) -> dict[str, int]:
    """Writes both campaigns' views; their bytes in Redis."""
    redis = Redis.from_url(url)
    writer = ViewWriter(redis)
    chance = random.Random(7)
    sizes = {}
    for name, recipients in RECIPIENTS.items():
        key = campaign_key(settings.secret, OrgId("acme"), name)
        for partition in range(settings.partitions):
            fence = Fence(1, 1)
            share = recipients // settings.partitions
            events = _Events(share, chance)
            update = Update(
                key=key,
                org="acme",
                campaign=name,
                summary=_summary(share),
                days={FIRST_DAY + day: part for day in range(DAYS) if (part := events.day(FIRST_DAY + day))},
            )
            book = _book(events, chance, share)
            parts = {section: pack_part(section_part(book, section)) for section in PUBLISHED}
            await writer.publish(
                [
                    Share(
                        partition=partition, channel=NUMBERS, before=None, after=fence,
                        calls=writer.encode(partition, fence, [update]),
                    ),
                    Share(
                        partition=partition, channel=SECTIONS, before=None, after=fence,
                        calls=writer.encode_sections(partition, fence, [(key, "acme", name, parts)]),
                    ),
                ]
            )  # fmt: skip
        used = [await redis.memory_usage(k, samples=0) for k in (report_name(key), sections_name(key))]
        sizes[name] = sum(cast(int, number) for number in used)
    await redis.aclose()
    return sizes


def _summary(recipients: int) -> SummaryPart:
    patterns = {
        (c.SENT | c.QUEUED | c.DELIVERED | bits) & ~(number << 20): recipients // 60
        for number, bits in enumerate(range(0, 60 << 5, 1 << 5))
    }
    totals = [
        recipients,
        recipients // 3,
        recipients // 4,
        recipients // 10,
        recipients // 12,
        *([recipients // 9] * 6),
    ]
    return SummaryPart((FIRST_DAY + DAYS) * 86_400_000 - 1, patterns, totals, [0] * c.METRICS)


def _weights(number: int, exponent: float) -> list[float]:
    """Shares of a whole by a power law, the largest first: so links are clicked, and so interest fades."""
    raw = [(place + 1) ** -exponent for place in range(number)]
    return [weight / sum(raw) for weight in raw]


FADING: Final = _weights(DAYS * 96, 1.2)
LINK_SHARES: Final = _weights(LINKS, 1.0)
CITY_SHARES: Final = _weights(CITIES, 1.0)
CLIENT_SHARES: Final = _weights(60, 1.5)


class _Events:
    """What one partition's recipients did in all, and how that falls on parts of it, with chance."""

    def __init__(self, recipients: int, chance: random.Random) -> None:
        self._chance = chance
        self.opens = (recipients * 3 // 10, recipients * 3 // 10, recipients // 50)
        self.clicks = (recipients * 8 // 100, 0, recipients * 3 // 100)
        self.opened = (recipients // 2, recipients // 4)
        self.clicked = (recipients // 12, recipients // 16)

    def of(self, whole: int, share: float) -> int:
        mean = whole * share
        return max(0, round(self._chance.gauss(mean, mean**0.5)))

    def row(self, share: float, *, opens: bool) -> int:
        """An engagement row; links and positions have clicks alone."""
        wholes = (*(self.opens if opens else (0, 0, 0)), *self.clicks)
        people = (*(self.opened if opens else (0, 0)), *self.clicked)
        return pack(self.of(whole, share) for whole in (*wholes, *people))

    def day(self, day: int) -> dict[int, list[int]]:
        first = (day - FIRST_DAY) * 96
        found = {}
        for place in range(first, first + 96):
            share = FADING[place]
            wholes = (0, *self.opened, *self.clicked, *self.opens, *self.clicks)
            counts = [self.of(whole, share) for whole in wholes]
            if any(counts):
                found[FIRST_DAY * 96 + place] = counts
        return found


def _book(events: _Events, chance: random.Random, recipients: int) -> Book:
    names: list[tuple[int, int, str]] = []
    rows: dict[bytes, int] = {}
    ends: dict[int, Ends] = {}

    def named(section: int, text: str) -> int:
        number = text_id(text)
        names.append((section, number, text))
        return number

    for n, share in enumerate(LINK_SHARES):
        link = named(
            b.LINK, f"https://shop.example.com/catalogue/spring-sale/product-{n:04d}?utm_campaign=spring"
        )
        rows[row_key(b.LINK, link)] = events.row(share, opens=False)
        rows[row_key(b.POSITION, link, n + 1)] = events.row(share, opens=False)
        ends[link] = Ends(*sorted(FIRST_DAY * 86_400_000 + chance.randrange(10**9) for _ in range(4)))
    for n, share in enumerate(CITY_SHARES):
        country = f"{'ABCDEFGH'[n % 8]}{'ABCDEFGH'[n // 8 % 8]}"
        rows[row_key(b.CITY, named(b.CITY, f"{country}\0City {n}"))] = events.row(share, opens=True)
    book = Book(names)
    for place in [number for section, number, _ in names if section == b.CITY]:
        rows[book.place_rows(place).country] = events.row(1 / 64, opens=True)
    for n, share in enumerate(CLIENT_SHARES):
        for section in (b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER):
            rows[row_key(section, text_id(f"{section} {n}"))] = events.row(share, opens=True)
    group = group_tally(c.SENT | c.DELIVERED | c.OPENED) * recipients + (pack([9] * 6) << 40 * GROUP_EVENTS)
    for n in range(40):
        provider = named(b.PROVIDER, f"Provider {n}")
        rows[row_key(b.PROVIDER, provider)] = group
        for m in range(5):
            reason = named(b.REASON, f"550 5.1.{m} reason {n}")
            rows[row_key(b.REASON, provider, reason)] = chance.randint(1, 999)
    for n in range(18):
        rows[row_key(b.VARIANT, named(b.VARIANT, f'{{"content":"{n % 3}","subject":"{n // 3}"}}'))] = group
    return Book(names, rows.items(), ends.items())


async def _ask(stack: Stack, campaign: str, section: str, requests: int) -> list[float]:
    connection = Connection(address_of(stack.url))
    headers = {"authorization": f"Bearer {stack.key()}"}
    latencies = []
    for number in range(requests + 20):
        began = time.perf_counter()
        answer = await connection.request("GET", f"/api/v1/campaigns/{campaign}/{section}", headers)
        assert answer.status == 200
        if number >= 20:
            latencies.append(time.perf_counter() - began)
    connection.close()
    return latencies
