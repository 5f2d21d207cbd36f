"""Webhook sent → first message of the event stream whose total includes it, at 1,000 events a second; → page.

Every request is one signed event of one campaign. The k-th event counts as shown when a total of k or more is: over
many events that gives each its time, whichever partition it went through.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from bench.figure import Figure, percentile
from cli.traffic.client import Connection, address_of
from cli.traffic.esps.sendgrid import Signer
from tests.api.browser import browsing
from tests.support.stack import Stack

RATE = 1_000
SECONDS = 15
WARM_UP_S = 3
CONNECTIONS = 16
PAGE_EVENTS = 50
_TILES = "document.querySelector('.tiles').innerText"


class _Summary(msgspec.Struct):
    total_opens: int = 0


class _Message(msgspec.Struct):
    summary: _Summary | None = None


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_all()
        signer = Signer((stack.data / "keys" / "acme-news.key").read_bytes())
        requests = [_request(signer, number) for number in range(RATE * SECONDS)]
        latencies = asyncio.run(_measure(stack, requests))
        seen = asyncio.run(_on_the_page(stack, folder, signer))
    note = f"{len(latencies):,} events, the first {WARM_UP_S} s left out"
    page = Figure(
        what="webhook sent → number on the page, slowest",
        value=max(seen) * 1000,
        unit="ms",
        goal=1000,
        higher_is_better=False,
        note=f"{len(seen)} events one after the other, Chromium; p50 {percentile(seen, 0.5) * 1000:.0f} ms",
    )
    streams = [
        Figure(
            what=f"webhook sent → stream, {RATE:,}/s, {name}",
            value=percentile(latencies, share) * 1000,
            unit="ms",
            goal=goal,
            higher_is_better=False,
            note=note,
        )
        for name, share, goal in (("p50", 0.5, 75.0), ("p99", 0.99, 250.0))
    ]
    return [*streams, page]


def _request(signer: Signer, number: int) -> tuple[dict[str, str], bytes]:
    event = {
        "email": f"r{number % 5000:06d}@example.com",
        "timestamp": 1_790_000_000 + number,
        "event": "open",
        "sg_event_id": f"b{number}",
        "campaign_id": "latency",
        "ip": "192.0.2.1",
        "useragent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    }
    body = msgspec.json.encode([event])
    return {"content-type": "application/json", **signer.headers(body, int(time.time()))}, body


async def _measure(stack: Stack, requests: list[tuple[dict[str, str], bytes]]) -> list[float]:
    sent: list[float] = []
    shown: list[tuple[float, int]] = []
    address = address_of(stack.url)
    # The first event makes the campaign, so that there is a stream to open.
    first = Connection(address)
    await first.request("POST", "/webhooks/acme/news", requests[0][0], requests[0][1])
    sent.append(time.perf_counter())
    await asyncio.to_thread(
        stack.wait_for, lambda: stack.summary("latency").get("total_opens") == 1, 20, "the first event"
    )
    watching = asyncio.create_task(_watch(stack, shown, len(requests)))
    await asyncio.sleep(0.5)
    queue: asyncio.Queue[int | None] = asyncio.Queue()

    async def post() -> None:
        connection = Connection(address)
        while (number := await queue.get()) is not None:
            sent.append(time.perf_counter())
            answer = await connection.request("POST", "/webhooks/acme/news", *requests[number])
            assert answer.status == 200
        connection.close()

    posting = [asyncio.create_task(post()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(1, len(requests)):
        wait_s = began + number / RATE - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        queue.put_nowait(number)
    for _ in posting:
        queue.put_nowait(None)
    await asyncio.gather(*posting)
    async with asyncio.timeout(30):
        await watching
    latencies: list[float] = []
    reached = 0
    for at, total in shown:
        latencies += [at - sent[k] for k in range(reached, min(total, len(sent)))]
        reached = max(reached, total)
    return latencies[WARM_UP_S * RATE :]


async def _on_the_page(stack: Stack, folder: Path, signer: Signer) -> list[float]:
    """Seconds from sending an event to the report page's number of opens that includes it."""
    seconds = []
    connection = Connection(address_of(stack.url))
    async with browsing(folder) as tab:
        await tab.open(f"{stack.url}/campaigns/latency#key={stack.key()}")
        await tab.until("document.querySelector('.light.live') && document.querySelector('.tile')")
        for number in range(PAGE_EVENTS):
            before = await tab.run(_TILES)
            # Made anew: an event that is sent twice counts once.
            headers, body = _request(signer, RATE * SECONDS + number)
            began = time.perf_counter()
            answer = await connection.request("POST", "/webhooks/acme/news", headers, body)
            assert answer.status == 200
            await tab.until(f"{_TILES} !== {msgspec.json.encode(before).decode()}")
            seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds


async def _watch(stack: Stack, shown: list[tuple[float, int]], until: int) -> None:
    """(time, total) of every message that carries the summary."""
    host, _, port = stack.http.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    writer.write(
        f"GET /api/v1/campaigns/latency/live?sections=summary HTTP/1.1\r\nhost: {stack.http}\r\n"
        f"authorization: Bearer {stack.key()}\r\n\r\n".encode()
    )
    decode = msgspec.json.Decoder(_Message).decode
    try:
        while True:
            line = await reader.readline()
            if not line:
                raise EOFError("the stream ended")
            if line.startswith(b"data: {"):
                summary = decode(line[6:]).summary
                if summary is not None:
                    shown.append((time.perf_counter(), summary.total_opens))
                    if summary.total_opens >= until:
                        return
    finally:
        writer.close()
