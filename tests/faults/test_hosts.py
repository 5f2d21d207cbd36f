"""Several hosts on one network (`tests.support.hosts`): they join, are cut off from all or some, and come back.

Servers are on host `s`; `a` and `b` each run all roles under their parents, with data folders and addresses of their
own, and share the partitions; `c` comes later. A campaign that is at rest must read the same all the time, by whoever
answers; what is loaded meanwhile must be right in the end (`reports verify` on each host, `reports reconcile`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from agents.publish import WITHHELD
from api.query.reach import CODE as QUERY_UNREACHABLE
from app.topics import FACTS
from cli.verifier.ledger import read_ledger
from tables.presence import WORKERS, decode_presence
from tables.redis_client import redis_words
from tests.faults.chaos import start_load
from tests.faults.test_identity import ends
from tests.faults.test_redis import load
from tests.support.hosts import (
    QUERY_PORT,
    REDIS_PORT,
    Host,
    HostStack,
    Network,
    missing,
    redis_server,
    servers,
)
from tests.support.stack import Stack

pytestmark = pytest.mark.long

ROLES = ("aggregate", "query", "normalize", "api")
PARTITIONS = 2
"""One for each host: `ends` looks at as many."""
ALL = set(range(PARTITIONS))
SETTINGS = {"PARTITIONS": str(PARTITIONS), "SESSION_TIMEOUT_S": "20"}
"""A host is missed for longer than a report may be behind before it is stale (10 s), so that it has to be said."""
REFUSED_WITHIN_S = 30.0
RIGHT_WITHIN_S = 90.0


class World:
    """The network and who is on it. `rest`: a campaign that was loaded and stays as it is."""

    def __init__(self, network: Network, folder: Path, kafka: str, redis_url: str) -> None:
        self.folder = folder
        self.s = network.hosts["s"]
        self.kafka_port = int(kafka.rpartition(":")[2])
        self._address = {"kafka": kafka, "redis_url": redis_url}
        self.a, self.b = (self.host(network.hosts[name]) for name in "ab")
        self.network = network
        self.rest: dict[str, object] = {}

    def host(self, host: Host, **settings: str) -> HostStack:
        return HostStack(host, self.folder / host.name, **self._address, **(SETTINGS | settings))

    def load(self, stack: Stack, campaign: str, events: int, rate: int) -> Loading:
        return Loading(stack, campaign, events, rate)


class Loading:
    """Traffic to one host's API, in the background."""

    def __init__(self, stack: Stack, campaign: str, events: int, rate: int) -> None:
        self.ledger = stack.folder / f"{campaign}.ledger"
        self._folder = stack.folder
        self._process = start_load(stack, self.ledger, 11, events, rate, "--campaign", campaign)

    def finish(self) -> Path:
        assert self._process.wait(300) == 0, (self._folder / "load.log").read_text()
        return self.ledger


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosts")
    with (
        Network("s", "a", "b", "c") as network,
        servers(network.hosts["s"], folder / "s") as (kafka, redis_url),
    ):
        world = World(network, folder, kafka, redis_url)
        with world.a, world.b:
            begin(world.a)
            world.a.assert_verified(load(world.a, "rest", 1500))
            world.rest = world.a.summary("rest")
            yield world


@pytest.fixture
def both(world: World) -> World:
    """Both hosts at work, a partition each, with nothing wrong."""
    for host in world.network.hosts.values():
        host.heal()
    if not (world.b.data / "secret").exists():
        copy_from(world.a, world.b)
    for stack in (world.a, world.b):
        begin(stack)
    world.a.wait_for(
        lambda: all(len(held(world.a, stack)) == 1 for stack in (world.a, world.b)), 60, "a partition each"
    )
    settled(world)
    return world


def copy_from(first: Stack, other: Stack) -> None:
    """As `docs/operate.md` says of a further host."""
    other.data.mkdir(exist_ok=True)
    shutil.copy(first.data / "secret", other.data / "secret")
    shutil.copytree(first.data / "keys", other.data / "keys")


def begin(stack: Stack, *roles: str) -> None:
    """Those roles that don't run, each under a parent of its own."""
    for role in roles or ROLES:
        if not stack.is_alive(f"run.{role}"):
            stack.start(f"run.{role}", role)
    stack.wait_ready()


def workers(asked: Stack) -> Any:
    return asked.get("/ops/workers", key=asked.key()).json()


def held(asked: Stack, stack: HostStack) -> set[int]:
    """The partitions of `facts` that a host's living workers count, as another one's API tells it."""
    return {
        one["partition"]
        for row in workers(asked)["workers"]
        if row["alive"] and row["host"] == stack.host.name
        for one in row["partitions"]
        if one["topic"] == FACTS
    }


def wrong(asked: Stack) -> list[str]:
    """All that a host's API says is wrong with anything or anybody."""
    told, answer = workers(asked), report(asked)
    found = [f"{row['worker']}: {one['code']}" for row in told["workers"] for one in row["conditions"]]
    found += [f"partition {number} is away" for number in told["away"]]
    if answer["stale"]:
        found.append(f"stale: {answer['reason']}")
    return found


def report(asked: Stack, campaign: str = "rest") -> dict[str, Any]:
    answer = asked.get(f"/api/v1/campaigns/{campaign}/summary", key=asked.key())
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def people(asked: Stack, campaign: str) -> list[str]:
    """Whom the pages of a list hold, sorted as they are compared. Raises httpx.HTTPStatusError."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        path = f"/api/v1/campaigns/{campaign}/recipients"
        answer = asked.get(path, key=asked.key(), limit="500", **cursor)
        if answer.is_error:
            print(f"{asked.folder.name}: {answer.text}")
        page = answer.raise_for_status().json()
        found += [item["recipient"].strip().lower() for item in page["items"]]
        if page["next"] is None:
            return sorted(found)
        cursor = {"cursor": page["next"]}


def people_of(ledger: Path) -> list[str]:
    return sorted(read_ledger(ledger).counted(("acme", ledger.stem)))


def settled(world: World, *ledgers: Path) -> None:
    """Nothing is wrong any more, by any API; then every number on both hosts is that of the ledgers, and lists too."""
    stacks = [stack for stack in (world.a, world.b) if stack.is_alive("run.api")]
    for stack in stacks:
        words: list[str] = []

        def is_right(stack: Stack = stack, words: list[str] = words) -> bool:
            words[:] = wrong(stack)
            return not words

        try:
            stack.wait_for(is_right, RIGHT_WITHIN_S, f"nothing wrong on {stack.folder.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {words}") from None
        assert report(stack)["summary"] == world.rest
    for ledger in ledgers:
        stacks[0].assert_verified(ledger)
        for stack in stacks[1:]:
            done = stack.run("verify", str(ledger))
            assert done.returncode == 0, done.stdout
        for stack in stacks:
            listed(stack, ledger)


def listed(asked: Stack, ledger: Path) -> None:
    """All recipients are listed; a page may be refused for a moment, and is never short."""

    def is_complete() -> bool:
        assert people(asked, ledger.stem) == people_of(ledger)
        return True

    asked.wait_for(is_complete, 15, f"the list of {ledger.stem}")


def seen(world: World, asked: Stack, until: Callable[[], bool], timeout_s: float, what: str) -> set[str]:
    """Why reports were stale, each time somebody looked until then; the campaign at rest read the same all the time."""
    reasons = set()

    def looked() -> bool:
        answer = report(asked)
        assert answer["summary"] == world.rest, what
        if answer["stale"]:
            assert answer["reason"]
            reasons.add(answer["reason"])
        return until()

    asked.wait_for(looked, timeout_s, what)
    return reasons


def answered(asked: Stack, path: str) -> httpx.Response:
    """Within the time that `Stack.get` waits, five seconds; whoever waits for something is told of a hang too."""
    try:
        return asked.get(path, key=asked.key())
    except httpx.TimeoutException:
        raise AssertionError(f"{path} hangs on {asked.folder.name}") from None


def stored(world: World) -> Any:
    """What a host that is refused must not touch: all topics' ends, names in Redis, numbers, and who is there, but for
    itself, that it was refused."""
    with world.a.redis_client() as client:
        names = sorted(client.keys("cr:*"))
        views = {name: client.dump(name) for name in names if name.startswith(b"cr:v4:")}
        others = sorted(
            name for name, said in client.hgetall(WORKERS).items() if not decode_presence(said).refused
        )
        return ends(world.a), names, views, others, report(world.a)["summary"]


def refused(stack: Stack, complaint: str) -> str:
    """Starts all roles; each ends by itself in time, and says why in its last line. Gives the last one's."""
    began = time.monotonic()
    for role in ROLES:
        stack.start(f"{role}.refused")
    for role in ROLES:
        process = stack.processes[f"{role}.refused"]
        assert process.wait(max(0.1, REFUSED_WITHIN_S - (time.monotonic() - began))) == 3
        line = (stack.folder / f"{role}.refused.log").read_text().splitlines()[-1]
        assert line.startswith("reports: ") and complaint in line, line
    return line


def test_a_host_without_the_secret_is_refused_until_it_has_it(world: World) -> None:
    assert not world.b.processes, "this test is the first one"
    before = stored(world)
    third = world.network.hosts["c"]
    with world.host(third, SECRET="another secret of 30 characters") as stack:
        refused(stack, "REPORTS_SECRET is not the secret of installation")
    assert stored(world) == before
    shutil.rmtree(world.folder / "c")
    with world.host(third) as stack:
        advice = refused(stack, "no secret")
        assert str(stack.data / "secret") in advice
        assert stored(world) == before
        assert held(world.a, world.a) == ALL
        taken = load(world.a, "went-on", 300)
        # As it was told.
        copy_from(world.a, stack)
        address = stack.environ.pop("REPORTS_QUERY")
        begin(stack)
        world.a.wait_for(lambda: len(held(world.a, stack)) == 1, 60, "its half")
        # So far its lists can be asked from nowhere else; that is said, with the way out.
        world.a.wait_for(lambda: any(QUERY_UNREACHABLE in one for one in wrong(world.a)), 30, "a condition")
        rows = "/api/v1/campaigns/rest/recipients"
        world.a.wait_for(lambda: world.a.get(rows, key=world.a.key()).status_code == 503, 30, "no list")
        (advice,) = (
            one["message"] for row in workers(world.a)["workers"] for one in row["conditions"]
            if one["code"] == QUERY_UNREACHABLE and row["host"] == "c"
        )  # fmt: skip
        assert "set REPORTS_QUERY on c " in advice
        stack.environ["REPORTS_QUERY"] = address
        stack.stop("run.query")
        begin(stack, "query")
        together = world.load(stack, "together", 1500, 300).finish()
        settled(world, taken, together)
        assert people(stack, "together") == people_of(together)
        for role in ROLES:
            stack.stop(f"run.{role}")
    world.a.wait_for(lambda: held(world.a, world.a) == ALL, 60, "all partitions are back")
    settled(world, together)


def test_a_host_that_is_cut_off_is_replaced_and_comes_back_without_harm(both: World) -> None:
    a, b = both.a, both.b
    lost = held(a, b)
    loading = both.load(a, "cut-off", 9000, 200)
    a.wait_for(lambda: report(a, "cut-off")["summary"]["sent"] > 500, 60, "what both count")
    b.host.cut()

    def is_taken_over() -> bool:
        answer = answered(a, "/api/v1/campaigns/rest/recipients")
        assert answer.status_code in (200, 503), answer.text
        return held(a, a) == ALL and not wrong(a) and answer.status_code == 200

    reasons = seen(both, a, is_taken_over, RIGHT_WITHIN_S, "the other host has all")
    assert reasons, f"partition {lost} stood still, and nobody said so"
    at_cut = report(a, "cut-off")["summary"]["sent"]
    b.host.heal()
    most = at_cut

    def is_back() -> bool:
        nonlocal most
        now = report(a, "cut-off")["summary"]["sent"]
        assert now >= most, "readers went back in time"
        most = now
        return len(held(a, b)) == 1 and not wrong(a)

    seen(both, a, is_back, RIGHT_WITHIN_S, "it counts again")
    settled(both, loading.finish())


def test_a_host_without_redis_says_so_and_is_right_again(both: World) -> None:
    a, b = both.a, both.b
    loading = both.load(a, "without-redis", 6000, 200)
    b.host.cut_from(both.s, REDIS_PORT)

    def is_said() -> bool:
        told = workers(a)
        silent = {row["role"] for row in told["workers"] if row["host"] == "b" and not row["alive"]}
        return {"aggregate", "normalize"} <= silent and bool(told["away"])

    seen(both, a, is_said, 60, "that the workers are silent")
    a.wait_for(lambda: report(a)["stale"] and bool(report(a)["reason"]), 30, "that numbers are old")
    answer = answered(b, "/api/v1/campaigns/rest/summary")
    assert answer.status_code == 503 and "can't be read at the moment; nothing is lost" in answer.text
    said = answered(b, "/ops/lag")
    assert said.json()["stale"] and said.json()["trouble"].startswith(f"Redis at {both.s.address}:"), (
        said.text
    )
    b.host.heal()
    settled(both, loading.finish())


def counting(asked: Stack, stack: HostStack) -> Any:
    """What is told of a host's aggregate workers."""
    rows = workers(asked)["workers"]
    return [row for row in rows if (row["host"], row["role"]) == (stack.host.name, "aggregate")]


def assert_steady(a: HostStack, b: HostStack) -> None:
    """The host that took over keeps all, whatever the other one says as long as it lives: five times, or less."""
    signs: set[str] = set()

    def is_enough() -> bool:
        found = [
            row for row in workers(a)["workers"] if row["host"] == b.host.name and row["role"] == "aggregate"
        ]
        signs.update(row["at"] for row in found)
        assert held(a, a) == ALL and not held(a, b), "it claims what it has lost"
        assert a.get("/api/v1/campaigns/rest/recipients", key=a.key()).status_code == 200
        return len(signs) >= 5 or not any(row["alive"] for row in found)

    a.wait_for(is_enough, 60, "signs of life, or none")


def test_a_host_without_kafka_says_so_and_is_right_again(both: World) -> None:
    a, b = both.a, both.b
    loading = both.load(a, "without-kafka", 6000, 200)
    b.host.cut_from(both.s, both.kafka_port)
    b.wait_for(lambda: b.get("/readyz").status_code == 503, 30, "it takes no webhooks")

    def is_taken_over() -> bool:
        noticed = any(one["code"] == WITHHELD for row in counting(a, b) for one in row["conditions"])
        gone = not any(row["alive"] for row in counting(a, b))
        lists = a.get("/api/v1/campaigns/rest/recipients", key=a.key())
        return held(a, a) == ALL and lists.status_code == 200 and (noticed or gone)

    reasons = seen(both, a, is_taken_over, RIGHT_WITHIN_S, "the other host has all")
    assert reasons
    assert_steady(a, b)
    # Its API has Redis, and so the right numbers; that it can't tell how old they are it says.
    answer = report(b)
    assert answer["stale"] and "Kafka" in answer["reason"] and answer["summary"] == both.rest
    event = {"type": "sent", "campaign": "x", "recipient": "a@example.com", "at": 1_790_000_000_000}
    assert b.post_events([event]).status_code == 503
    b.host.heal()
    settled(both, loading.finish())


def test_lists_are_complete_over_two_hosts_or_refused(both: World) -> None:
    a, b = both.a, both.b
    ledger = load(a, "lists", 1500)
    settled(both, ledger)
    path = "/api/v1/campaigns/lists/recipients"
    (number,) = held(a, b)
    a.host.cut_from(b.host, QUERY_PORT)

    a.wait_for(lambda: answered(a, path).status_code == 503, 10, "a refusal")
    for _ in range(5):
        answer = answered(a, path)
        assert answer.status_code == 503 and f"can read partition {number} " in answer.text, answer.text
    assert report(a)["summary"] == both.rest
    listed(b, ledger)
    a.host.heal()
    listed(a, ledger)
    settled(both)


def test_a_bad_wire_loses_nothing(both: World) -> None:
    with both.b.host.bad_wire(loss=0.05, delay_s=0.1):
        ledger = both.load(both.b, "bad-wire", 5000, 250).finish()
        both.a.assert_verified(ledger, timeout_s=180)
    settled(both, ledger)


def test_a_partition_goes_to_the_other_host_and_back(both: World) -> None:
    a, b = both.a, both.b
    loading = both.load(a, "moving", 12_000, 150)

    def stopped(one: HostStack, other: HostStack) -> None:
        one.stop("run.aggregate")
        seen(both, a, lambda: held(a, other) == ALL and not wrong(a), RIGHT_WITHIN_S, "all are there")
        done = a.run("reconcile", "rest")
        assert done.returncode == 0, done.stdout

    stopped(b, a)
    begin(b, "aggregate")
    stopped(a, b)
    begin(a, "aggregate")
    stopped(b, a)
    begin(b, "aggregate")
    settled(both, loading.finish())


def test_a_redis_that_refuses_other_hosts_says_what_to_do(world: World) -> None:
    folder, port = world.folder / "refusing", REDIS_PORT + 1
    with redis_server(world.s, folder, port) as url:
        for _ in range(5):  # which of its words the client hears is a matter of moments
            with (
                redis.Redis.from_url(url, socket_timeout=5) as client,
                pytest.raises(redis.RedisError) as refusal,
            ):
                client.hgetall("cr:x")
            assert "give it a password (`requirepass`) and put it into REPORTS_REDIS" in redis_words(
                refusal.value
            )
    with (
        redis_server(world.s, folder, port, requirepass="right") as url,
        redis.Redis.from_url(url.replace("//", "//:right@"), socket_timeout=5) as client,
    ):
        assert client.ping()
