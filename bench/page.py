"""The report page of a large campaign in Chromium, while its numbers move five times a second.

The browser's main thread is what clicks and scrolling wait for, so its share of busy time (on the processor, whatever
else the machine does) is the figure. The page has to show at least four of the five changes, or the rest would be worth
nothing. All of it once as the page is opened, and once with all links shown.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.facts import OrgId
from app.keys import campaign_key
from app.settings import Settings
from bench.figure import Figure
from bench.large import CITIES, DAYS, LINKS, Campaign, Numbers
from tables.redis_client import redis_of
from tables.view_writer import ViewWriter
from tables.views import NUMBERS, SECTIONS, Fence
from tests.api.browser import Tab, browsing
from tests.support.stack import Stack

RECIPIENTS: Final = 10_000_000
UPDATES_PER_S: Final = 5
SECONDS: Final = int(os.environ.get("BENCH_PAGE_S", "60"))
SETTLE_S: Final = 10
MB: Final = 1_000_000
HEAPS: Final = 10
HEAP_PAUSE_S: Final = 0.07

_COUNT_CHANGES: Final = """
window.changes = 0;
window.observer?.disconnect();
window.observer = new MutationObserver(() => { window.changes += 1; });
window.observer.observe(
  document.querySelector('.tiles'), {subtree: true, characterData: true, childList: true});
"""
_FIRST_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_SHOWN: Final = (
    "document.querySelector('.chart canvas') && document.querySelectorAll('.links > li').length > 9"
)


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        settings = stack.install()
        campaign = Campaign(campaign_key(settings.secret, OrgId("acme"), "large"), "acme", "large")
        stack.start("api")
        stack.wait_ready()
        return asyncio.run(_measure(stack, settings, campaign, folder))


async def _measure(stack: Stack, settings: Settings, campaign: Campaign, folder: Path) -> list[Figure]:
    chance = random.Random(7)
    shares = [Numbers(RECIPIENTS // settings.partitions, chance) for _ in range(settings.partitions)]
    redis = redis_of(settings)
    writer = ViewWriter(redis)

    async def publish(partition: int, offset: int) -> None:
        share = shares[partition].share(writer, campaign, partition, Fence(1, offset, "bench"))
        await writer.publish(share)

    async def move() -> None:
        began = time.monotonic()
        for number in range(1, 1_000_000_000):
            partition = number % len(shares)
            shares[partition].grow()
            await publish(partition, number + 1)
            await asyncio.sleep(max(0.0, began + number / UPDATES_PER_S - time.monotonic()))

    for partition in range(len(shares)):
        await publish(partition, 1)
        for channel in (NUMBERS, SECTIONS):  # no worker says how far the numbers are
            fence = Fence(1, 1, "bench")
            begun = await writer.begin_repair(partition, fence, channel)
            await writer.end_repair(partition, begun.token, fence, channel)
    async with browsing(folder) as tab:
        await tab.call("Performance.enable", timeDomain="threadTicks")
        await tab.open(f"{stack.url}/campaigns/large#key={stack.key()}")
        await tab.until(_SHOWN, 30)
        paints = [float(await tab.run(_FIRST_PAINT))]
        # What is measured is a server that has been asked before, and a browser that has nothing of ours.
        await tab.call("Network.clearBrowserCache")
        await tab.open(f"{stack.url}/campaigns/large")
        await tab.until(_SHOWN, 30)
        paints.append(float(await tab.run(_FIRST_PAINT)))
        moving = asyncio.create_task(move())
        try:
            opened = await _watch(tab, SECONDS)
            await tab.run("document.querySelector('[aria-label=Links] .more').click()")
            await tab.until(f"document.querySelectorAll('.links > li').length === {LINKS}")
            whole = await _watch(tab, min(60, SECONDS))
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
    await redis.aclose()
    return [
        *opened.figures("report page"),
        *whole.figures("with all links shown"),
        Figure(
            what="report page: first paint", value=paints[1], unit="ms", goal=1000, higher_is_better=False,
            note=f"empty browser cache; the very first page {paints[0]:.0f} ms",
        ),
    ]  # fmt: skip


class Watched(NamedTuple):
    seconds: float
    busy: dict[str, float]
    """Shares of the time, by what was done."""
    changes: int
    heaps: tuple[float, float, float]
    """Bytes in the beginning, half-way and in the end."""

    def figures(self, where: str) -> list[Figure]:
        what = f"{LINKS:,} links, {CITIES:,} cities, {DAYS} days, {UPDATES_PER_S} changes/s, {self.seconds:.0f} s"
        return [
            Figure(
                what=f"{where}: main thread busy", value=self.busy["Task"] * 100, unit="%", goal=20,
                higher_is_better=False,
                note=f"{what}; script {self.busy['Script']:.1%}, layout {self.busy['Layout']:.1%}, "
                f"style {self.busy['RecalcStyle']:.1%}",
            ),
            Figure(
                what=f"{where}: changes shown", value=self.changes / self.seconds, unit="/s", goal=4,
                note="of the summary's tiles",
            ),
            Figure(
                what=f"{where}: growth of the heap", value=(self.heaps[2] - self.heaps[1]) / MB, unit="MB", goal=1,
                higher_is_better=False,
                note=f"in the second half: {' → '.join(f'{heap / MB:.1f}' for heap in self.heaps)} MB",
            ),
        ]  # fmt: skip


async def _watch(tab: Tab, seconds: float) -> Watched:
    await asyncio.sleep(SETTLE_S)
    await tab.run(_COUNT_CHANGES)
    heap, before, began = await _heap(tab), await _metrics(tab), time.monotonic()
    await asyncio.sleep(seconds / 2)
    half = await _heap(tab)
    await asyncio.sleep(began + seconds - time.monotonic())
    after, passed = await _metrics(tab), time.monotonic() - began
    changes = int(await tab.run("window.changes"))
    grown = await _heap(tab)
    busy = {
        name.removesuffix("Duration"): (after[name] - before[name]) / passed
        for name in after
        if name.endswith("Duration")
    }
    return Watched(passed, busy, changes, (heap, half, grown))


async def _metrics(tab: Tab) -> dict[str, float]:
    """Seconds that the main thread has spent, by what it did."""
    answer: dict[str, Any] = await tab.call("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}


async def _heap(tab: Tab) -> float:
    """Bytes after a collection, between two events: one that is just being read is large."""
    found = []
    for _ in range(HEAPS):
        await tab.call("HeapProfiler.collectGarbage")
        found.append((await _metrics(tab))["JSHeapUsedSize"])
        await asyncio.sleep(HEAP_PAUSE_S)
    return min(found)
