"""Starts with another secret, hosts that come second, and an API that begins before Kafka: on a running stack."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from api.ops import NO_KEYS
from app.topics import DEAD, FACTS, INSTALLATION, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.redis_names import sync_client
from tables.views import FORMAT
from tests.support.processes import ROOT
from tests.support.stack import TWO_ORGS, Stack

ROLES = ("api", "normalize", "aggregate", "query")
REFUSED_WITHIN_S = 30.0
BREVO = """
[orgs.acme.sources.offers]
esp = "brevo"
basic = ["file:{data}/keys/offers.basic"]
"""
EXTRA = """
[orgs.acme.sources.extra]
esp = "postmark"
insecure = true
"""
BOUNCE = {
    "RecordType": "Delivery",
    "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
    "Recipient": "john@example.com",
    "DeliveredAt": "2026-11-05T16:33:54Z",
    "Metadata": {"campaign_id": "extra"},
    "ServerID": 23,
}
EVENTS = "/api/v1/events"
pytestmark = pytest.mark.long

EVENT: dict[str, object] = {"type": "sent", "campaign": "spring", "at": 1_790_000_000_000}


class World(Stack):
    """What the API answered before Kafka was there, and the stack that came of it."""

    early: dict[str, httpx.Response]
    stop_s: float


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("identity"), config=TWO_ORGS + BREVO, PARTITIONS="2") as world:
        world.start("redis")
        world.wait_for_port(world.redis_port)
        world.start("api")
        world.wait_for_port(int(world.http.rpartition(":")[2]))
        world.early = {
            path: httpx.request(method, world.url + path, timeout=2.0, trust_env=False, verify=False)
            for method, path in (
                ("POST", "/webhooks/acme/news"),
                ("POST", "/webhooks/acme/offers"),
                ("POST", "/webhooks/acme/unknown"),
                ("POST", "/api/v1/events"),
                ("GET", "/api/v1/campaigns"),
                ("GET", "/healthz"),
                ("GET", "/readyz"),
            )
        }
        world.wait_for(
            lambda: "waiting until" in (world.folder / "api.log").read_text(), 20, "a line about it"
        )
        world.stop_s = world.stop("api")
        assert world.processes["api"].returncode == 0
        world.start("api")
        api = world.processes["api"]
        world.start("kafka")
        for role in ("normalize", "aggregate", "query"):
            world.start(role)
        world.wait_ready()
        assert world.processes["api"] is api
        assert api.poll() is None
        send(world, "spring", 40)
        yield world


def send(stack: Stack, campaign: str, count: int) -> None:
    events = [EVENT | {"campaign": campaign, "recipient": f"p{n}@example.com"} for n in range(count)]
    assert stack.post_events(events).status_code == 200
    stack.wait_for(lambda: stack.summary(campaign).get("sent") == count, 30, "the counted ones")


def ends(stack: Stack) -> dict[tuple[str, int], int]:
    """The ends of all topics' partitions."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "a-test-looks", "log_level": 2})
    topics = {WEBHOOKS: WEBHOOKS_PARTITIONS, FACTS: 2, DEAD: 1, INSTALLATION: 1}
    try:
        return {
            (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for topic, count in topics.items()
            for number in range(count)
        }
    finally:
        consumer.close()


def start(host: Stack, *roles: str) -> None:
    host.environ["REPORTS_HTTP"] = "127.0.0.1:0"
    for role in roles:
        host.start(f"{role}.refused")


def refused(host: Stack, role: str, status: int, began: float) -> str:
    """Waits for the role's end by itself, and gives its complaint."""
    process = host.processes[f"{role}.refused"]
    assert process.wait(max(0.1, REFUSED_WITHIN_S - (time.monotonic() - began))) == status
    log = (host.folder / f"{role}.refused.log").read_text()
    assert "Traceback" not in log
    line = log.splitlines()[-1]
    assert line.startswith("reports: "), log
    return line


def test_before_kafka_is_there_the_api_tells_each_to_come_again(stack: World) -> None:
    answers = {path: (one.status_code, "retry-after" in one.headers) for path, one in stack.early.items()}
    assert answers == {
        "/webhooks/acme/news": (503, True),
        "/webhooks/acme/offers": (429, True),  # Brevo throws away what is answered 5xx
        "/webhooks/acme/unknown": (503, True),
        "/api/v1/events": (503, True),
        "/api/v1/campaigns": (503, True),
        "/healthz": (200, False),
        "/readyz": (503, True),
    }
    log = (stack.folder / "api.log").read_text()
    assert stack.kafka in next(line for line in log.splitlines() if "waiting until" in line)


def test_a_signal_ends_an_api_that_waits_at_once(stack: World) -> None:
    assert stack.stop_s < 5


def test_a_start_with_another_secret_is_refused_and_writes_nothing(stack: World) -> None:
    before: Any = (ends(stack), stack.summary("spring"))
    wrong = stack.beside("wrong", DATA=str(stack.data), SECRET="another secret of 30 characters")
    with wrong:
        began = time.monotonic()
        start(wrong, *ROLES)
        for role in ROLES:
            assert "REPORTS_SECRET is not the secret of installation" in refused(wrong, role, 3, began)
    assert (ends(stack), stack.summary("spring")) == before
    send(stack, "after", 10)


def test_a_second_host_is_refused_until_it_has_what_it_needs(stack: World) -> None:
    before: Any = (ends(stack), stack.summary("spring"))
    with stack.beside("second", config=TWO_ORGS + BREVO) as second:
        began = time.monotonic()
        start(second, *ROLES)
        for role in ROLES:
            line = refused(second, role, 3, began)
            assert "no secret" in line
            assert str(second.data / "secret") in line and f"{second.data}/keys" in line
        assert all("role_refused" in codes(stack)[role] for role in ROLES)
        assert not [path for path in second.data.glob("*") if path.name in ("secret", "keys", "installation")]
        assert (ends(stack), stack.summary("spring")) == before
        # As it was told, but for one of the two: what needs them waits, and nothing else.
        shutil.copy(stack.data / "secret", second.data / "secret")
        second.environ["REPORTS_HTTP"] = second.http
        second.start("api")
        second.start("normalize")
        not_ready(second)
        for path, status in (("/webhooks/acme/news", 503), ("/webhooks/acme/offers", 429), (EVENTS, 503)):
            answer = httpx.post(
                second.url + path, headers={"authorization": f"Bearer {stack.key()}"}, json={},
                timeout=10.0, trust_env=False, verify=False,
            )  # fmt: skip
            assert (answer.status_code, "retry-after" in answer.headers) == (status, True), path
        assert not (second.data / "keys").exists()
        assert (ends(stack), stack.summary("spring")) == before
        stack.wait_for(lambda: "keys_missing" in codes(stack)["api"], 30, "the condition")
        (line,) = (
            line for line in (second.folder / "api.log").read_text().splitlines() if "keys_missing" in line
        )
        for name in ("acme", "acme-news.pub", "offers.basic", "globex", "globex-mail.pub"):
            assert f"{second.data}/keys/{name}" in line
        # As it was told, again: it takes webhooks and parses them with the others.
        shutil.copytree(stack.data / "keys", second.data / "keys")
        for role in ("api", "normalize"):
            second.signal(role, signal.SIGHUP)
        stack.wait_for(lambda: codes(stack)["api"] == set(), 30, "its end")
        send(second, "together", 30)
        assert stack.summary("together") == second.summary("together")


def not_ready(stack: Stack) -> None:
    """A load balancer sends it no webhooks: none of its sources could take one."""
    stack.wait_for(lambda: NO_KEYS in stack.get("/readyz").text, 180, "what it lacks")
    assert stack.get("/readyz").status_code == 503
    assert stack.get("/healthz").status_code == 200


def test_at_home_too_a_lost_key_is_not_made_again(stack: World) -> None:
    """What is lost is told; what reports.toml names for the first time is made."""
    aside = stack.folder / "keys of before"
    (stack.data / "keys").rename(aside)
    key = (aside / "acme").read_text().strip()
    for role in ("api", "normalize"):
        stack.stop(role)
        stack.start(role)
    not_ready(stack)
    for path, status in (("/webhooks/acme/news", 503), ("/webhooks/acme/offers", 429), (EVENTS, 503)):
        answer = httpx.post(
            stack.url + path, headers={"authorization": f"Bearer {key}"}, json={},
            timeout=10.0, trust_env=False, verify=False,
        )  # fmt: skip
        assert (answer.status_code, "retry-after" in answer.headers) == (status, True), path
    assert not (stack.data / "keys").exists()
    line = 'conditions{code="keys_missing"} 1.0'
    stack.wait_for(lambda: line in stack.get("/metrics").text, 30, line)
    file = stack.folder / "reports.toml"
    before = file.read_text()
    file.write_text(before + BREVO.replace("offers", "added"))
    stack.signal("api", signal.SIGHUP)
    stack.wait_for((stack.data / "keys" / "added.basic").exists, 30, "the new one")
    stack.wait_for(lambda: stack.get("/readyz").status_code == 200, 30, "one that can take webhooks")
    assert {path.name for path in (stack.data / "keys").iterdir()} == {"added.basic"}
    # As it was told.
    file.write_text(before)
    shutil.copytree(aside, stack.data / "keys", dirs_exist_ok=True)
    for role in ("api", "normalize"):
        stack.signal(role, signal.SIGHUP)
    stack.wait_for(lambda: line not in stack.get("/metrics").text, 30, "its end")
    send(stack, "restored", 10)


def erase(stack: Stack, who: str) -> None:
    done = stack.run("erase", who, "--org", "acme")
    assert done.returncode == 0, done.stdout


def unnamed(stack: Stack) -> int:
    """Recipients that were erased; -1: it isn't known yet."""
    answer = stack.get("/api/v1/campaigns/spring/recipients", key=stack.key(), limit="500")
    if answer.status_code != 200 or len(answer.json()["items"]) != 40:
        return -1
    return [item["recipient"] for item in answer.json()["items"]].count(None)


@pytest.mark.long
def test_a_lost_secret(tmp_path: Path) -> None:
    """As docs/operate.md says it: what webhooks are stored is counted under a new secret."""
    with Stack(tmp_path / "stack", PARTITIONS="2") as stack:
        stack.start_all()
        send(stack, "spring", 40)
        erase(stack, "p0@example.com")
        stack.wait_for(lambda: unnamed(stack) == 1, 60, "the erasure")
        at: str = stack.installation()
        for role in ROLES:
            stack.stop(role)
        (stack.data / "secret").unlink()
        began = time.monotonic()
        stack.environ["REPORTS_HTTP"], http = "127.0.0.1:0", stack.http
        start(stack, *ROLES)
        for role in ROLES:
            assert "`A lost secret`" in refused(stack, role, 3, began)
        told = (ROOT / "docs/operate.md").read_text().partition("## A lost secret")[2]
        (command,) = re.findall(r"^ *python (-c '.*') ADDRESS$", told, re.MULTILINE)
        subprocess.run([sys.executable, *shlex.split(command), stack.kafka], check=True, timeout=30)
        shutil.rmtree(stack.data / "state")
        stack.environ["REPORTS_HTTP"] = http
        for role in ROLES:
            stack.start(role)
        stack.wait_ready()
        assert stack.installation() != at
        done = stack.run("renormalize", "--from", "30d")
        assert done.returncode == 0, done.stdout
        stack.wait_for(lambda: stack.summary("spring").get("sent") == 40, 60, "what was stored")
        stack.wait_for(lambda: unnamed(stack) == 0, 60, "the erasure is gone")
        erase(stack, "p0@example.com")
        stack.wait_for(lambda: unnamed(stack) == 1, 60, "it was asked for again")
        send(stack, "summer", 10)
        assert codes(stack) == {role: set() for role in ROLES}


def codes(stack: Stack) -> dict[str, set[str]]:
    """Role → what is wrong with its living processes."""
    answer = stack.get("/ops/workers", key=stack.key())
    found: dict[str, set[str]] = {}
    for row in answer.json()["workers"]:
        found.setdefault(row["role"], set()).update(one["code"] for one in row["conditions"])
    return found


def test_hosts_with_different_files_are_told_and_the_advice_helps(stack: World) -> None:
    nothing: dict[str, set[str]] = {"api": set(), "normalize": set(), "aggregate": set(), "query": set()}
    # Once the hosts of the tests before, that were killed or refused, are tried no more.
    stack.wait_for(lambda: codes(stack) == nothing, 90, "agreement")
    file = TWO_ORGS + BREVO + EXTRA
    with stack.beside("third", config=file, SECRET=(stack.data / "secret").read_text().strip()) as third:
        shutil.copytree(stack.data / "keys", third.data / "keys")
        third.start("api")
        third.wait_ready()
        answer = httpx.post(
            f"{third.url}/webhooks/acme/extra", json=BOUNCE, timeout=10.0, trust_env=False, verify=False
        )
        assert answer.status_code == 200
        expected = {"api": {"configuration_differs"}, "normalize": {"unknown_source"}}
        stack.wait_for(lambda: expected.items() <= codes(stack).items(), 30, "both conditions")
        for code in ("configuration_differs", "unknown_source"):
            line = f'conditions{{code="{code}"}} 1.0'
            stack.wait_for(lambda line=line: line in stack.get("/metrics").text, 30, line)  # type: ignore[misc]
        # As it was told.
        (stack.folder / "reports.toml").write_text(file)
        for role in ("api", "normalize"):
            stack.signal(role, signal.SIGHUP)
        stack.wait_for(lambda: codes(stack) == nothing, 30, "the end of both")
        done = stack.run("dead", "replay", "--reason", "unknown source")
        assert done.returncode == 0, done.stdout
        stack.wait_for(lambda: stack.summary("extra").get("delivered") == 1, 30, "the replayed one")


def test_all_that_stands_in_redis_is_under_the_installations_id(stack: World) -> None:
    """Whatever the roles did so far; `tests.tables.test_redis_names` has two installations on one Redis."""
    mine = f"cr:{stack.installation()}:"
    wanted = {
        "epoch",
        "workers",
        "owners",
        "delays",
        "queries",
        "source",
        "sources",
        "rhythm",
        FORMAT.split(":")[1],
    }
    answer = httpx.post(f"{stack.url}/webhooks/acme/news", timeout=10.0, trust_env=False, verify=False)
    assert answer.status_code == 401
    send(stack, "names", 4)
    with sync_client(stack.redis_url, "", timeout_s=5) as everyone:

        def names() -> set[str]:
            return {name.decode() for name in everyone.scan_iter()}

        def missing() -> set[str]:
            return wanted - {name.removeprefix(mine).split(":")[0] for name in names()}

        stack.wait_for(lambda: not missing(), 30, f"all kinds of names ({missing()} is not there)")
        assert {name for name in names() if not name.startswith(mine)} == set()
