"""A summary request of a campaign with one recipient and of one with a million."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from bench.figure import Figure, percentile
from bench.traffic import fill, mailing
from cli.traffic.client import Connection, address_of
from tests.support.stack import Stack

RECIPIENTS = {"one": 1, "million": 1_000_000}
REQUESTS = 3_000
WARM_UP = 200


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        fill(settings.kafka, itertools.chain(*(mailing(settings, name, n) for name, n in RECIPIENTS.items())))
        stack.start("api")
        stack.start("aggregate")
        stack.wait_ready()
        for name, recipients in RECIPIENTS.items():
            stack.wait_for(lambda n=name, r=recipients: stack.summary(n).get("sent") == r, 240, "the facts")  # type: ignore[misc]
        figures = []
        for name, recipients in RECIPIENTS.items():
            latencies = asyncio.run(_ask(stack, name))
            figures.append(
                Figure(
                    what=f"summary request, {recipients:,} recipient{'s' * (recipients > 1)}, p99",
                    value=percentile(latencies, 0.99) * 1000,
                    unit="ms",
                    goal=5.0,
                    higher_is_better=False,
                    note=f"{REQUESTS:,} requests one after the other, p50 {percentile(latencies, 0.5) * 1000:.2f} ms",
                )
            )
    return figures


async def _ask(stack: Stack, campaign: str) -> list[float]:
    connection = Connection(address_of(stack.url))
    headers = {"authorization": f"Bearer {stack.key()}"}
    latencies = []
    for number in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        answer = await connection.request("GET", f"/api/v1/campaigns/{campaign}/summary", headers)
        assert answer.status == 200
        if number >= WARM_UP:
            latencies.append(time.perf_counter() - began)
    connection.close()
    return latencies
