"""`deploy/nginx.conf` in a real nginx, before two real API processes that are stopped and killed under traffic."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tables.redis_client import redis_of
from tests.api import serving
from tests.support import locks, samples
from tests.support.processes import ROOT
from tests.support.sns import Signer
from tests.support.stack import Stack, free_port

CONFIG = ROOT / "deploy" / "nginx.conf"
ESPS = ("brevo", "sendgrid")


class Proxy:
    """A running nginx with our configuration on free ports, in front of the two instances of `stack`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.folder / "nginx"
        self.folder.mkdir()
        self.public, self.plain, self.inner = free_port(), free_port(), free_port()
        self.instances = {"api.1": free_port(), "api.2": free_port()}
        signer = Signer("reports.example.com")
        (self.folder / "fullchain.pem").write_bytes(signer.pem)
        (self.folder / "privkey.pem").write_bytes(signer.private_pem())
        self._config = self.folder / "nginx.conf"
        self._config.write_text(self._adapted(CONFIG.read_text()))
        self._certificate = signer.pem.decode()

    def _adapted(self, text: str) -> str:
        """Ours with this machine's ports and folders in the place of a server's; each must be there to be replaced."""
        first, second = self.instances.values()
        for old, new in {
            "worker_processes auto;": "worker_processes 1; daemon off;"
            + (" user root;" if os.getuid() == 0 else ""),
            "worker_rlimit_nofile 200000;": "",
            "worker_connections 50000;": "worker_connections 512;",
            "pid /run/nginx.pid;": f"pid {self.folder}/pid;",
            "/var/log/nginx/": f"{self.folder}/",
            "/etc/ssl/reports/": f"{self.folder}/",
            "server 127.0.0.1:8001 ": f"server 127.0.0.1:{first} ",
            "server 127.0.0.1:8002 ": f"server 127.0.0.1:{second} ",
            "listen 80;": f"listen 127.0.0.1:{self.plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.public} ssl http2;",
            "listen 127.0.0.1:8081;": f"listen 127.0.0.1:{self.inner};",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        folders = "".join(
            f"{kind}_temp_path {self.folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return text.replace("http {", "http {" + folders, 1)

    def start_instance(self, name: str) -> None:
        self.stack.environ["REPORTS_HTTP"] = f"127.0.0.1:{self.instances[name]}"
        self.stack.start(name)

    def wait_instance(self, name: str) -> None:
        url = f"http://127.0.0.1:{self.instances[name]}/readyz"
        self.stack.wait_for(
            lambda: httpx.get(url, trust_env=False, verify=False).status_code == 200, 60, f"{name} ready"
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        assert binary, "no nginx on PATH: the proxy's tests need it (on Debian: apt-get install nginx-light)"
        command = [
            binary,
            "-p",
            str(self.folder),
            "-c",
            str(self._config),
            "-e",
            str(self.folder / "start.log"),
        ]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        process = subprocess.Popen(command, start_new_session=True)
        try:
            self.stack.wait_for_port(self.public)
            yield self
        finally:
            process.terminate()
            process.wait(10)

    @property
    def trusted(self) -> ssl.SSLContext:
        """A new one for each client: httpcore sets the protocols of a context at each connection, and one thread's
        handshake could read them while another's are being replaced."""
        return ssl.create_default_context(cadata=self._certificate)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.public}", verify=self.trusted, trust_env=False, timeout=20
        )


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    config = locks.configuration(folder, ESPS)
    with Stack(
        folder, config=config, SECRET=serving.SECRET.decode(), PARTITIONS=str(serving.PARTITIONS)
    ) as stack:
        stack.start_servers()
        proxy = Proxy(stack)
        for name in proxy.instances:
            proxy.start_instance(name)
        for name in proxy.instances:
            proxy.wait_instance(name)
        with proxy.running():
            yield proxy


class Traffic:
    """Webhooks of both ESPs through the proxy, one after the other, from a thread for each, until told to stop."""

    def __init__(self, proxy: Proxy) -> None:
        self.answers: dict[str, Counter[int]] = {esp: Counter() for esp in ESPS}
        self.broken: list[str] = []
        self.slowest_s = 0.0
        self._proxy = proxy
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(esp,)) for esp in ESPS for _ in "12"]

    def _send(self, esp: str) -> None:
        found = locks.request(esp, samples.all_samples(esp)[0])
        with self._proxy.client() as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    answer = client.post(f"/webhooks/acme/{esp}", content=found.body, headers=found.headers)
                except httpx.HTTPError as error:
                    self.broken.append(repr(error))
                    continue
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.answers[esp][answer.status_code] += 1
                if answer.status_code != 200 and "retry-after" not in answer.headers:
                    self.broken.append(f"{answer.status_code} without Retry-After")
                time.sleep(0.01)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_one_instance_after_the_other_restarts_and_nobody_notices(proxy: Proxy) -> None:
    with Traffic(proxy) as traffic:
        for name in proxy.instances:
            proxy.stack.stop(name)
            time.sleep(0.3)
            proxy.start_instance(name)
            proxy.wait_instance(name)
            time.sleep(2.1)  # until the proxy trusts it again
    assert traffic.broken == []
    assert all(answers.keys() == {200} for answers in traffic.answers.values()), traffic.answers


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_while_both_are_gone_brevo_never_sees_a_5xx(proxy: Proxy, how: signal.Signals) -> None:
    with Traffic(proxy) as traffic:
        for name in proxy.instances:
            proxy.stack.signal(name, how)
        for name in proxy.instances:
            proxy.stack.processes[name].wait(15)
        time.sleep(1.0)
        before = {esp: counts.copy() for esp, counts in traffic.answers.items()}
        for name in proxy.instances:
            proxy.start_instance(name)
        for name in proxy.instances:
            proxy.wait_instance(name)
        time.sleep(2.5)
        after = {esp: counts[200] - before[esp][200] for esp, counts in traffic.answers.items()}
    assert traffic.broken == []
    assert traffic.answers["brevo"].keys() == {200, 429}, traffic.answers
    assert traffic.answers["sendgrid"].keys() == {200, 503}, traffic.answers
    assert min(after.values()) > 0, "and then they are taken again"


def test_a_frozen_instance_costs_seconds_and_no_event(proxy: Proxy) -> None:
    proxy.stack.signal("api.1", signal.SIGSTOP)
    try:
        with Traffic(proxy) as traffic:
            time.sleep(5)
    finally:
        proxy.stack.signal("api.1", signal.SIGCONT)
    assert traffic.broken == []
    assert all(answers.keys() == {200} for answers in traffic.answers.values()), traffic.answers
    assert traffic.slowest_s < 5


def test_what_is_not_for_the_public(proxy: Proxy) -> None:
    key = {"authorization": f"Bearer {proxy.stack.key()}"}
    inner = f"http://127.0.0.1:{proxy.inner}"
    with proxy.client() as client:
        hidden = (
            "/metrics",
            "/healthz",
            "/readyz",
            "/ops/lag",
            "/ops/live",
            "/ops/workers",
            "//metrics",
            "/%6detrics",
        )
        for path in hidden:
            # Whole addresses: the client would take "//metrics" for a host.
            assert client.get(f"{client.base_url}".rstrip("/") + path, headers=key).status_code == 404, path
        assert client.get("/").status_code == 200
        assert client.get("/api/v1/campaigns", headers=key).status_code == 200
        assert client.get("/api/v1/campaigns").status_code == 401
        assert "strict-transport-security" in client.get("/").headers
    for path in ("/metrics", "/healthz", "/readyz", "/ops/lag"):
        assert httpx.get(inner + path, headers=key, trust_env=False, verify=False).status_code == 200, path
    answer = httpx.get(f"http://127.0.0.1:{proxy.plain}/x?y", trust_env=False, verify=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "https://127.0.0.1/x?y")


def test_limits_and_refusals(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.post("/webhooks/acme/brevo", content=b"x" * (5 * 1024 * 1024 + 1)).status_code == 413
        assert client.post("/webhooks/acme/brevo", content=b"[]").status_code == 401
        assert client.post("/webhooks/acme/sendgrid", content=b"[]").headers["www-authenticate"] == "Webhook"
        assert client.post("/webhooks/acme/nothing", content=b"[]").status_code == 404
        assert client.get("/webhooks/acme/brevo").status_code == 405
        found = locks.request("sendgrid", b" " * (5 * 1024 * 1024))
        assert (
            client.post("/webhooks/acme/sendgrid", content=found.body, headers=found.headers).status_code
            == 200
        )


def test_http_2_is_spoken(proxy: Proxy) -> None:
    context = ssl.create_default_context(cadata=(proxy.folder / "fullchain.pem").read_text())
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", proxy.public), 5) as plain,
        context.wrap_socket(plain, server_hostname="reports.example.com") as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == "h2"


async def test_an_event_stream_comes_at_once_and_as_it_is(proxy: Proxy) -> None:
    redis = redis_of(proxy.stack.configuration()[0])
    worker = serving.Worker(redis)
    await worker.ready()
    await worker.publish("spring", sent=10, opened=1)
    headers = {"authorization": f"Bearer {proxy.stack.key()}", "accept-encoding": "gzip"}
    url = f"https://127.0.0.1:{proxy.public}/api/v1/campaigns/spring/"
    async with httpx.AsyncClient(verify=proxy.trusted, trust_env=False, timeout=20) as client:
        assert (await client.get(url + "report", headers=headers)).headers["content-encoding"] == "gzip"
        async with client.stream("GET", url + "live", headers=headers) as response:
            assert response.status_code == 200
            assert "content-encoding" not in response.headers
            events = serving.Events(response)
            await events.until("snapshot", 20)
            for opened in range(2, 6):
                began = time.monotonic()
                await worker.publish("spring", sent=10, opened=opened)
                await events.until_opened(opened, 20)
                assert time.monotonic() - began < 3
            await asyncio.sleep(0)
    await redis.aclose()


def test_no_secret_of_an_address_is_logged(proxy: Proxy) -> None:
    for name in proxy.instances:
        proxy.stack.kill(name)
    with proxy.client() as client:
        for path in ("/webhooks/acme/brevo?key=looked-for", "/?key=looked-for%0a"):
            client.post(path, content=b"[]", headers={"Referer": "looked-for"})
    for name in proxy.instances:
        proxy.start_instance(name)
    for name in proxy.instances:
        proxy.wait_instance(name)
    requests = (proxy.folder / "access.log").read_text()
    assert "/webhooks/acme/brevo" in requests
    assert "looked-for" not in requests
    errors = (proxy.folder / "error.log").read_text().splitlines()
    assert not [line for line in errors if "webhooks" in line]


def test_the_docs_name_what_has_to_be_filled_in() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    for word in ("is_brevo", "client_max_body_size", "REPORTS_PUBLIC_URL", "8001"):
        assert word in page
        assert word == "REPORTS_PUBLIC_URL" or re.search(rf"\b{word}\b", CONFIG.read_text())
