"""`reports api` as a process: how it starts, reads its configuration anew and ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tables.redis_client import redis_client
from tests.api import serving
from tests.api.serving import bearer
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
CONFIG = """
[orgs.acme]
timezone = "Europe/Berlin"
[orgs.acme.keys.dashboard]
secret = "env:ACME_KEY"
scopes = ["read", "write", "ops"]
[orgs.acme.sources.api]
esp = "generic"
"""


class Process:
    def __init__(self, folder: Path, kafka: str, redis_url: str, http: str = "127.0.0.1:0") -> None:
        self.config = folder / "reports.toml"
        self.config.write_text(CONFIG)
        self.log = folder / "log"
        self.data = folder / "data"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("REPORTS_")}
        environ = clean | {
            "REPORTS_KAFKA": kafka,
            "REPORTS_REDIS": redis_url,
            "REPORTS_HTTP": http,
            "REPORTS_DATA": str(folder / "data"),
            "REPORTS_CONFIG": str(self.config),
            "REPORTS_PARTITIONS": str(serving.PARTITIONS),
            "REPORTS_SECRET": serving.SECRET.decode(),
            "ACME_KEY": "acme-read",
            "OTHER_KEY": "another-key",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "api"],
                cwd=ROOT,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def address(self) -> str:
        """Where it listens, once webhooks can be taken."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.search(r"http://\S+", line)
        assert found is not None, self.log.read_text()
        ready = found[0] + "/readyz"
        wait_until(
            lambda: httpx.get(ready, timeout=20, trust_env=False, verify=False).status_code == 200,
            60,
            "ready",
        )
        return found[0]

    def wait_for_log(self, words: str) -> None:
        deadline = time.monotonic() + 10
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> float:
        """Asks it to end; how long that took, in seconds."""
        started = time.monotonic()
        self.process.terminate()
        assert self.process.wait(15) == 0
        return time.monotonic() - started

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def topics(kafka: str) -> str:
    from app.settings import Settings
    from tests.support.kafka import fresh_topics

    fresh_topics(Settings(kafka=kafka, partitions=serving.PARTITIONS))
    return kafka


@pytest.fixture
def process(topics: str, redis_db: str, tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, topics, redis_db)
    yield process
    process.close()


def test_a_port_in_use_is_one_line(topics: str, redis_db: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        process = Process(tmp_path, topics, redis_db, http)
        assert process.process.wait(20) == 2
        assert process.log.read_text() == f"reports: REPORTS_HTTP: {http} is in use\n"
        process.close()


def test_webhooks_are_taken_without_redis(topics: str, tmp_path: Path) -> None:
    process = Process(tmp_path, topics, "redis://127.0.0.1:9/0")
    try:
        with httpx.Client(
            base_url=process.address(), headers=bearer(), timeout=5, trust_env=False, verify=False
        ) as http:
            event = {
                "type": "sent",
                "campaign": "spring",
                "recipient": "a@example.com",
                "at": 1_790_000_000_000,
            }
            answer = http.post("/api/v1/events", json={"events": [event]})
            assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "refused": []})
            assert http.get("/api/v1/campaigns/spring/summary").status_code == 503
        assert process.end() < 10
    finally:
        process.close()


def test_configuration_is_read_anew_and_a_bad_one_refused(process: Process) -> None:
    with httpx.Client(base_url=process.address(), timeout=5, trust_env=False, verify=False) as http:

        def status(key: str) -> int:
            return http.get("/ops/lag", headers=bearer(key)).status_code

        assert status("acme-read") == 200
        process.config.write_text("[orgs.acme]\ncolour = 'red'\n")
        process.process.send_signal(signal.SIGHUP)
        process.wait_for_log("configuration_refused")
        assert status("acme-read") == 200
        process.config.write_text(CONFIG.replace("ACME_KEY", "OTHER_KEY"))
        process.process.send_signal(signal.SIGHUP)
        process.wait_for_log("configuration read again")
        assert (status("acme-read"), status("another-key")) == (401, 200)


async def test_it_ends_in_time_with_streams_and_half_a_body(process: Process, redis_db: str) -> None:
    address = await asyncio.to_thread(process.address)
    installation = (process.data / "installation").read_text().strip()
    redis = redis_client(redis_db, installation=installation)
    worker = serving.Worker(redis)
    await worker.ready()
    await worker.publish("spring", sent=10)
    await redis.aclose()
    host, _, port = address.removeprefix("http://").rpartition(":")

    def head(what: str) -> bytes:
        lines = (f"{what} HTTP/1.1", "Host: x", f"Authorization: {bearer()['Authorization']}", "")
        return "\r\n".join(lines).encode()

    streams = []
    for _ in range(200):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head("GET /api/v1/campaigns/spring/live") + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b"snapshot"), 5)
        streams.append((reader, writer))
    _, half = await asyncio.open_connection(host, int(port))
    half.write(head("POST /api/v1/events") + b"Content-Length: 1000\r\n\r\n{")
    await half.drain()
    assert await asyncio.to_thread(process.end) < 10
    for _, writer in [*streams, (None, half)]:
        writer.close()
