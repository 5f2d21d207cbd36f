"""Signed webhooks a second through one API process: single events, and batches. 200 only after Kafka's acks=all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.figure import Figure
from bench.traffic import sendgrid_bodies
from cli.traffic.esps.sendgrid import Signer
from tests.support.processes import ROOT
from tests.support.stack import Stack

SECONDS = 8.0
SINGLE = 40_000
BATCH = 500
BATCHES = 400
CONNECTIONS = 64


def run(folder: Path) -> list[Figure]:
    with Stack(folder / "stack") as stack:
        stack.start_servers()
        stack.start("api")
        stack.wait_ready()
        signer = Signer((stack.data / "keys" / "acme-news.key").read_bytes())
        single = [body for body, _ in sendgrid_bodies(SINGLE, 1)]
        wires = [_wire(stack, signer, body) for body in single]
        send(stack, wires[:2000], CONNECTIONS, 2.0)  # warms up the process and the broker
        rate, p50, p99 = send(stack, wires[2000:], CONNECTIONS, SECONDS)
        batches = list(sendgrid_bodies(BATCH * BATCHES, BATCH))
        events = sum(count for _, count in batches) / len(batches)
        batch_rate, _, batch_p99 = send(
            stack, [_wire(stack, signer, body) for body, _ in batches], 8, SECONDS
        )
    return [
        Figure(
            what="signed single-event webhooks, one API process",
            value=rate,
            unit="/s",
            goal=3_000,
            note=f"{CONNECTIONS} connections, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        ),
        Figure(
            what="events in signed batches, one API process",
            value=batch_rate * events,
            unit="/s",
            goal=30_000,
            note=f"batches of {events:.0f}, 8 connections, p99 {batch_p99:.1f} ms",
        ),
    ]


def send(stack: Stack, wires: list[bytes], connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests as they go over the wire, over and over: (requests a second, p50 ms, p99 ms)."""
    path = stack.folder / "requests"
    path.write_bytes(msgspec.msgpack.encode(wires))
    done = subprocess.run(
        [sys.executable, "-m", "bench.client", stack.http, str(path), str(connections), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    count, took, p50, p99 = map(float, done.stdout.split())
    return count / took, p50, p99


def _wire(stack: Stack, signer: Signer, body: bytes) -> bytes:
    headers = {
        "host": stack.http,
        "content-type": "application/json",
        "content-length": str(len(body)),
        **signer.headers(body, int(time.time())),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /webhooks/acme/news HTTP/1.1\r\n{head}\r\n".encode() + body
