"""The sender of the webhook benchmark, in a process of its own.

`python -m bench.client ADDRESS FILE CONNECTIONS SECONDS`: FILE holds requests as bytes, ready for the wire, so that no
time goes into making or signing them.
Prints `requests seconds p50_ms p99_ms`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

import msgspec

from bench.figure import percentile


async def send(
    address: str, requests: list[bytes], connections: int, seconds: float
) -> tuple[int, float, list[float]]:
    host, _, port = address.partition(":")
    feed = itertools.cycle(requests)
    until = time.perf_counter() + seconds
    latencies: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for request in feed:
            began = time.perf_counter()
            if began > until:
                break
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not accepted: {head[:60]!r}")
            length = head.lower().partition(b"content-length: ")[2]
            if length and (size := int(length.split(b"\r\n")[0])):
                await reader.readexactly(size)
            latencies.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(one() for _ in range(connections)))
    return len(latencies), time.perf_counter() - began, latencies


def main() -> None:
    address, path, connections, seconds = sys.argv[1:]
    requests = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[bytes])
    count, took, latencies = asyncio.run(send(address, requests, int(connections), float(seconds)))
    p50, p99 = (percentile(latencies, share) * 1000 for share in (0.5, 0.99))
    sys.stdout.write(f"{count} {took} {p50} {p99}\n")


if __name__ == "__main__":
    main()
