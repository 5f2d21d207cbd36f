"""What counting loses to readers: a hundred pages a second are asked for while one partition counts on."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from app.facts import Entry
from bench.figure import Figure
from cli.traffic.client import Connection, address_of

PAGES_PER_S = 100
FOLD_S = 6.0


def fold_rate(batches: Iterator[list[Entry]], apply: Callable[[list[Entry]], None]) -> float:
    """Facts a second within `FOLD_S`; the batches are made before."""
    made = list(batches)
    began, facts = time.monotonic(), 0
    for batch in made:
        apply(batch)
        facts += len(batch)
        if time.monotonic() - began > FOLD_S:
            break
    return facts / (time.monotonic() - began)


def ask_steadily(base_url: str, key: str, paths: list[str], asked: multiprocessing.Queue[int]) -> None:
    """In a process of its own, until it is ended: pages at a fixed rate, one after the other if they take longer."""

    async def ask() -> None:
        connection = Connection(address_of(base_url))
        headers = {"authorization": f"Bearer {key}"}
        chance = random.Random(1)
        began, number = time.monotonic(), 0
        while True:
            answer = await connection.request("GET", chance.choice(paths), headers)
            assert answer.status == 200, answer.body
            number += 1
            asked.put(1)
            await asyncio.sleep(max(0.0, began + number / PAGES_PER_S - time.monotonic()))

    asyncio.run(ask())


def counting_beside_pages(base_url: str, key: str, paths: list[str], rate: Callable[[], float]) -> Figure:
    """`rate`: facts a second, measured anew at each call; three times alone and three times beside readers."""
    context = multiprocessing.get_context("spawn")
    asked: multiprocessing.Queue[int] = context.Queue()
    alone, beside, pages, seconds = [], [], 0, 0.0
    for _ in range(3):
        alone.append(rate())
        reader = context.Process(target=ask_steadily, args=(base_url, key, paths, asked))
        reader.start()
        asked.get(timeout=30)
        began = time.monotonic()
        while not asked.empty():
            asked.get()
        beside.append(rate())
        seconds += time.monotonic() - began
        while not asked.empty():
            asked.get()
            pages += 1
        reader.kill()
        reader.join()
    usual, slowed = sorted(alone)[1], sorted(beside)[1]
    return Figure(
        what=f"counting while {PAGES_PER_S} pages a second are read, of its speed alone",
        value=100 * slowed / usual,
        unit="%",
        goal=80,
        note=f"{usual:,.0f} and {slowed:,.0f} facts/s in one process; {pages / seconds:.0f} pages/s",
    )


def example_paths(campaign: str, addresses: list[str], links: list[str]) -> list[str]:
    base = f"/api/v1/campaigns/{campaign}"
    return [
        f"{base}/recipients",
        f"{base}/recipients?sort=-last_event_at",
        f"{base}/recipients?status=clicked",
        f"{base}/events",
        *(f"{base}/recipients/{quote(address, safe='')}" for address in addresses),
        *(f"{base}/links/{link}/clickers" for link in links),
    ]
