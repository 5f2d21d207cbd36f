"""The whole of Campaign Reports as processes in a folder of its own: started, killed, frozen and asked by tests.

Rules:
- Every role is the real command; Kafka and Redis are own servers on fixed free ports, so that they can come back.
- A role's output goes to `<folder>/<name>.log`; a test that fails finds it there.
- Whatever a test does, leaving the context ends every process that was started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import msgspec
import redis

from app.organisations import Organisations
from app.settings import Settings
from cli.config import load_configuration, load_settings, stored_secret
from cli.identity import identify
from cli.keys import Missing
from tables.redis_names import sync_client
from tests.support.processes import ROOT, children, wait_until

TWO_ORGS = """
[orgs.acme]
name = "Acme"
timezone = "Europe/Berlin"
exclude = ["seed-*"]
[orgs.acme.keys.loader]
secret = "file:{data}/keys/acme"
scopes = ["read", "write", "ops"]
[orgs.acme.sources.news]
esp = "sendgrid"
secrets = ["file:{data}/keys/acme-news.pub"]
campaign = ["{metadata.campaign_id}"]
[orgs.acme.sources.app]
esp = "generic"

[orgs.globex]
name = "Globex"
timezone = "Asia/Kathmandu"
[orgs.globex.keys.loader]
secret = "file:{data}/keys/globex"
scopes = ["read", "write", "ops"]
[orgs.globex.sources.mail]
esp = "sendgrid"
secrets = ["file:{data}/keys/globex-mail.pub"]
campaign = ["{metadata.campaign_id}"]
[orgs.globex.sources.own]
esp = "generic"
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Stack:
    """A context manager; nothing runs until it is started."""

    def __init__(self, folder: Path, *, config: str = TWO_ORGS, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.data = folder / "data"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        toml = folder / "reports.toml"
        if not toml.exists():
            toml.write_text(config)
        self.kafka_port, self.redis_port = free_port(), free_port()
        self.kafka = f"127.0.0.1:{self.kafka_port}"
        self.redis_url = f"redis://127.0.0.1:{self.redis_port}/0"
        self.http = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.http}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("REPORTS_")}
        chosen = {"DATA": str(self.data), "CONFIG": str(toml), "HTTP": self.http}
        self._server_environ = (
            clean
            | {f"REPORTS_{name}": value for name, value in (chosen | settings).items()}
            | {"REPORTS_KAFKA_PORT": str(self.kafka_port), "REPORTS_REDIS_PORT": str(self.redis_port)}
        )
        self.environ = self._server_environ | {
            "REPORTS_KAFKA": self.kafka,
            "REPORTS_REDIS": self.redis_url,
            "PYTHONUNBUFFERED": "1",
        }

    def beside(self, name: str, *, config: str = TWO_ORGS, **settings: str) -> Stack:
        """Another host, with a data folder and a reports.toml of its own, on this one's servers."""
        other = Stack(self.folder / name, config=config, **(self.settings | settings))
        other.kafka, other.redis_url = self.kafka, self.redis_url
        other.environ |= {"REPORTS_KAFKA": self.kafka, "REPORTS_REDIS": self.redis_url}
        return other

    # Starting and ending

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A role under a name of its own; the command is the name's first word (`aggregate.2` is `aggregate`)."""
        assert name not in self.processes or self.processes[name].poll() is not None, f"{name} runs already"
        role = name.partition(".")[0]
        environ = self._server_environ if role in ("kafka", "redis") else self.environ
        with (self.folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                self._command(role, arguments),
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def _command(self, role: str, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "cli.main", role, *arguments]

    def start_servers(self) -> None:
        self.start("kafka")
        self.start("redis")
        self.wait_for_port(self.redis_port)
        self.wait_for_port(self.kafka_port, timeout_s=180)  # a slow machine is no failure

    def start_all(self, *, aggregate: Sequence[str] = ("aggregate",)) -> None:
        """Everything, and waits until webhooks can be taken."""
        self.start_servers()
        self.start("api")
        self.start("normalize")
        for name in aggregate:
            self.start(name)
        self.start("query")
        self.wait_ready()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the role's process and, for the own servers, to the server that it started."""
        process = self.processes[name]
        if name in ("kafka", "redis"):
            for child in children(process.pid):
                os.kill(child, number)
            if number in (signal.SIGSTOP, signal.SIGCONT):
                return
        process.send_signal(number)

    def kill(self, name: str) -> None:
        """SIGKILL, and waits for the end."""
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait(10)

    def stop(self, name: str, timeout_s: float = 15.0) -> float:
        """SIGTERM to the role only; gives the seconds that its end took."""
        began = time.monotonic()
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(timeout_s)
        return time.monotonic() - began

    def is_alive(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        servers = [name for name in ("redis", "kafka") if name in self.processes]
        for name in [*(name for name in self.processes if name not in servers), *servers]:
            with contextlib.suppress(ProcessLookupError):
                # The session, so that what a role started goes with it.
                os.killpg(self.processes[name].pid, signal.SIGKILL)
            self.processes[name].wait(10)
        for name in servers:
            for pid in _listeners_of(self.data, name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # Waiting

    def wait_for_port(self, port: int, timeout_s: float = 20.0) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                return True
            return False

        wait_until(answers, timeout_s, f"port {port}")

    def wait_ready(self, timeout_s: float = 180.0) -> None:
        """Webhooks can be taken, and the API has read which shared links there are."""
        self.wait_for(lambda: self.get("/readyz").status_code == 200, timeout_s, "ready")
        known = "\nshares_fresh 1.0\n"
        self.wait_for(lambda: known in self.get("/metrics").text, timeout_s, "the shared links are known")

    def wait_for(self, found: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Like `wait_until`, where an API that isn't there is only a reason to ask again."""

        def asked() -> bool:
            with contextlib.suppress(httpx.HTTPError, redis.RedisError):
                return found()
            return False

        try:
            wait_until(asked, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; logs in {self.folder}{self._ends()}") from None

    def _ends(self) -> str:
        """Which processes have ended, how, and their last words: what a test that waited in vain wants to know."""
        return "".join(
            f"\n{name} has ended with {process.returncode}: {(self.folder / f'{name}.log').read_text()[-800:]}"
            for name, process in self.processes.items()
            if process.poll() is not None
        )

    # Asking

    def configuration(self) -> tuple[Settings, Organisations]:
        """What the roles have or will have: key files that aren't there yet are made, as they would."""
        settings, organisations = load_configuration(self.environ, missing=Missing.MAKE)
        return (
            msgspec.structs.replace(
                settings, secret=stored_secret(settings), installation=self.installation()
            ),
            organisations,
        )

    def installation(self) -> str:
        """Its id; empty before it is made."""
        with contextlib.suppress(FileNotFoundError):
            return (self.data / "installation").read_text().strip()
        return ""

    def install(self) -> Settings:
        """What the first role does: the topics, the installation and its secret are there, and nothing else yet."""
        return identify(load_settings(self.environ)).settings

    def key(self, org: str = "acme") -> str:
        return (self.data / "keys" / org).read_text().strip()

    def get(self, path: str, *, key: str = "", **parameters: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.get(
            self.url + path, headers=headers, params=parameters, timeout=5.0, trust_env=False, verify=False
        )

    def post_events(
        self,
        events: list[dict[str, object]],
        org: str = "acme",
        *,
        timeout_s: float = 10.0,
        again_s: float = 30.0,
    ) -> httpx.Response:
        """Asks again while the answer is 503, as a sender does: a busy machine's Kafka may take too long for once."""
        until = time.monotonic() + again_s
        while True:
            answer = httpx.post(
                f"{self.url}/api/v1/events",
                json={"events": events},
                headers={"authorization": f"Bearer {self.key(org)}"},
                timeout=timeout_s,
                trust_env=False,
                verify=False,
            )
            left_s = until - time.monotonic()
            if answer.status_code != 503 or left_s <= 0:
                return answer
            time.sleep(min(left_s, float(answer.headers["retry-after"])))

    def summary(self, campaign: str, org: str = "acme", **parameters: str) -> dict[str, object]:
        """The object `summary`; empty where the campaign isn't there yet."""
        answer = self.get(f"/api/v1/campaigns/{campaign}/summary", key=self.key(org), **parameters)
        found: dict[str, object] = answer.json()["summary"] if answer.status_code == 200 else {}
        return found

    def redis_client(self) -> redis.Redis:
        """As the roles see it: what stands there under the installation's id."""
        return sync_client(self.redis_url, self.installation(), timeout_s=5)

    def run(self, *arguments: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """A `reports` command, waited for; its output as text."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT,
            env=self.environ | {"COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def assert_verified(self, ledger: Path, timeout_s: float = 120.0) -> None:
        """No difference anywhere, neither against the ledger nor of the sums against their recipients."""
        for arguments in (("verify", str(ledger), "--timeout", str(timeout_s)), ("reconcile",)):
            done = self.run(*arguments, timeout_s=timeout_s + 120)
            assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\nlogs in {self.folder}"


def _listeners_of(data: Path, server: str) -> list[int]:
    """Server processes that still work in the data folder (their parent was killed)."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = command.read_bytes()
            if os.fsencode(data / server) in text:
                found.append(int(command.parent.name))
    return found
