"""A page of the list of campaigns of an organisation that has ten thousand of them, and a search in them.

The views are written as a worker writes them, with made-up numbers: summaries of 60 patterns in every partition.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from urllib.parse import quote

import msgspec

from agents.log_checks import LogInspector
from app.facts import OrgId
from app.keys import campaign_key
from app.settings import Settings
from app.topics import FACTS
from bench.figure import Figure, percentile
from bench.large import FIRST_DAY, summary_of
from cli.traffic.client import Connection, address_of
from tables.redis_client import redis_of
from tables.view_writer import Update, ViewWriter
from tables.views import Fence, Labels
from tests.support.stack import Stack

CAMPAIGNS = 10_000
RECIPIENTS = 100_000
WRITTEN_TOGETHER = 250
REQUESTS = 500
WARM_UP = 20
WORDS = (
    "spring", "summer", "autumn", "winter", "sale", "news", "shoes", "tents", "weekly", "offer", "club", "berlin",
)  # fmt: skip
ASKED = {
    "first page": "",
    "page in the middle": "cursor",
    "search, a third found": "search=spring",
    "search, a few found": f"search={quote('berlin 777')}",
    "search, nothing found": "search=nowhere",
}


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        asyncio.run(_publish(settings))
        stack.start("api")
        stack.start("normalize")
        stack.start("aggregate")
        stack.wait_ready()
        return [asyncio.run(_figure(stack, what, query)) for what, query in ASKED.items()]


async def _publish(settings: Settings) -> None:
    redis = redis_of(settings, timeout_s=10)
    writer = ViewWriter(redis)
    chance = random.Random(7)
    summary = summary_of(RECIPIENTS // settings.partitions)
    # Of the topic whose workers will say that all is there.
    fence = Fence(1, 1, LogInspector(settings.kafka).topic_id(FACTS))
    for first in range(0, CAMPAIGNS, WRITTEN_TOGETHER):
        updates = []
        for number in range(first, first + WRITTEN_TOGETHER):
            name = f"{chance.choice(WORDS)}-{number}"
            title, subject = (" ".join(chance.choices(WORDS, k=words)).capitalize() for words in (2, 4))
            at_ms = FIRST_DAY * 86_400_000 + chance.randrange(86_400_000)
            updates.append(
                Update(
                    key=campaign_key(settings.secret, OrgId("acme"), name),
                    org="acme",
                    campaign=name,
                    summary=msgspec.structs.replace(summary, as_of_ms=at_ms),
                    labels=Labels(title, subject),
                )
            )
        for partition in range(settings.partitions):
            await writer.publish(writer.encode(partition, fence, updates))
    await redis.aclose()


async def _figure(stack: Stack, what: str, query: str) -> Figure:
    connection = Connection(address_of(stack.url))

    async def page(query: str) -> dict[str, object]:
        headers = {"authorization": f"Bearer {stack.key()}"}
        answer = await connection.request("GET", f"/api/v1/campaigns?{query}", headers)
        assert answer.status == 200
        return msgspec.json.decode(answer.body, type=dict[str, object])

    if query == "cursor":
        query = ""
        for _ in range(CAMPAIGNS // 2 // 500):
            query = f"cursor={quote(str((await page(f'limit=500&{query}'))['next']))}"
    latencies = []
    for number in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        matching = (await page(query))["matching"]
        if number >= WARM_UP:
            latencies.append(time.perf_counter() - began)
    connection.close()
    p99, p50 = (percentile(latencies, share) * 1000 for share in (0.99, 0.5))
    return Figure(
        what=f"list of campaigns, {what}, p99", value=p99, unit="ms", goal=20, higher_is_better=False,
        note=f"{matching:,} of {CAMPAIGNS:,}, p50 {p50:.1f} ms",
    )  # fmt: skip
