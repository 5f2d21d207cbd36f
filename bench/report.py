"""The whole report of a large campaign: ten million recipients, 1,000 links, 1,000 cities, 90 days, from Redis.

The numbers are made up (`bench.large`).
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import cast

from agents.log_checks import LogInspector
from app.facts import OrgId
from app.keys import campaign_key
from app.settings import Settings
from app.topics import FACTS
from bench.figure import Figure, percentile
from bench.large import CITIES, DAYS, LINKS, Campaign, Numbers
from cli.traffic.client import Connection, address_of
from tables.redis_client import redis_of
from tables.view_writer import ViewWriter
from tables.views import Fence, report_name, sections_name
from tests.support.stack import Stack

RECIPIENTS = {"small": 10_000, "large": 10_000_000}
REQUESTS = 200
SUMMARIES = 3_000


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        sizes = asyncio.run(_publish(settings))
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


async def _publish(settings: Settings) -> dict[str, int]:
    """Writes both campaigns' views; their bytes in Redis."""
    redis = redis_of(settings)
    writer = ViewWriter(redis)
    chance = random.Random(7)
    sizes = {}
    # Of the topic whose workers will say that all is there.
    fence = Fence(1, 1, LogInspector(settings.kafka).topic_id(FACTS))
    for name, recipients in RECIPIENTS.items():
        campaign = Campaign(campaign_key(settings.secret, OrgId("acme"), name), "acme", name)
        for partition in range(settings.partitions):
            numbers = Numbers(recipients // settings.partitions, chance)
            await writer.publish(numbers.share(writer, campaign, partition, fence))
        keys = (report_name(fence.topic, campaign.key), sections_name(fence.topic, campaign.key))
        used = [await redis.memory_usage(key, samples=0) for key in keys]
        sizes[name] = sum(cast(int, number) for number in used)
    await redis.aclose()
    return sizes


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
