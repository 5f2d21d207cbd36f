"""Redis emptied, restored from an old file, full, frozen and gone: nothing is lost, the views are right again soon."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from tables.reading import PartitionReader
from tables.views import SummaryPart
from tests.faults.chaos import start_load
from tests.support.processes import wait_until
from tests.support.stack import Stack

REPAIR_S = 10.0


def load(stack: Stack, campaign: str, events: int = 3000, rate: int = 0) -> Path:
    """Loads a campaign of its own; the ledger."""
    ledger = stack.folder / f"{campaign}.ledger"
    arguments = [
        "--campaign",
        campaign,
        "--ledger",
        str(ledger),
        "--events",
        str(events),
        "--rate",
        str(rate),
    ]
    done = stack.run("load", *arguments, "--seed", "5")
    assert done.returncode == 0, done.stdout
    return ledger


def assert_right_again(stack: Stack, campaign: str, expected: dict[str, object]) -> None:
    began = time.monotonic()
    stack.wait_for(lambda: stack.summary(campaign) == expected, REPAIR_S, f"the view of {campaign}")
    print(f"right again after {time.monotonic() - began:.1f} s")


def test_verify_sees_what_is_tampered_with(stack: Stack) -> None:
    ledger = load(stack, "tampered", 2000)
    stack.assert_verified(ledger)
    with stack.redis_client() as client:
        views = [
            name for name in client.keys("cr:v4:*:report:*") if client.hget(name, "campaign") == b"tampered"
        ]
        field = next(name for name in client.hkeys(views[0]) if name.startswith(b"s:"))
        # Not deleted: a worker that looks for what it published would put it back.
        client.hset(views[0], field, msgspec.msgpack.encode(SummaryPart(-1, {}, [], [])))
    done = stack.run("verify", str(ledger))
    assert done.returncode == 1, done.stdout
    assert "Redis view" in done.stdout
    assert "API JSON, summary" in done.stdout
    assert "RocksDB sums, " not in done.stdout
    with stack.redis_client() as client:
        client.flushall()
    stack.wait_for(lambda: stack.run("verify", str(ledger)).returncode == 0, 30, "the repair")


def test_flushall(stack: Stack) -> None:
    ledger = load(stack, "flushed")
    stack.assert_verified(ledger)
    expected = stack.summary("flushed")
    old_id = first_event(stack, "flushed")["id"]
    with stack.redis_client() as client:
        client.flushall()
    assert_right_again(stack, "flushed", expected)
    # The epoch is looked at once a second.
    stack.wait_for(lambda: first_event(stack, "flushed", old_id)["event"] == "reset", 5, "a new epoch")
    assert first_event(stack, "flushed")["id"].partition("-")[0] != old_id.partition("-")[0]
    stack.assert_verified(ledger)


def first_event(stack: Stack, campaign: str, last_id: str = "") -> dict[str, str]:
    """The first event of a campaign's stream that has a name."""
    headers = {"authorization": f"Bearer {stack.key()}"} | ({"last-event-id": last_id} if last_id else {})
    found: dict[str, str] = {"id": ""}
    with httpx.stream(
        "GET",
        f"{stack.url}/api/v1/campaigns/{campaign}/live",
        headers=headers,
        timeout=10,
        trust_env=False,
        verify=False,
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            field, _, value = line.partition(":")
            if line:
                found[field] = value.strip()
            elif "event" in found:
                return found
    raise AssertionError("the stream ended")


def test_a_worker_killed_between_its_write_and_its_publication_and_silence_afterwards(stack: Stack) -> None:
    ledger = load(stack, "unpublished", 2000)
    stack.assert_verified(ledger)
    owned = owners(stack)
    counted = offsets(owned)
    before = int(str(stack.summary("unpublished")["total_opens"]))
    event = {"type": "opened", "campaign": "unpublished", "at": time.time_ns() // 1_000_000}
    events: list[dict[str, object]] = [{**event, "recipient": f"late{n}@example.com"} for n in range(200)]
    stack.signal("redis", signal.SIGSTOP)
    try:
        assert stack.post_events(events).status_code == 200
        wait_until(lambda: sum(offsets(owned).values()) > sum(counted.values()), 20, "the write")
        stack.kill("aggregate")
    finally:
        stack.signal("redis", signal.SIGCONT)
    stack.start("aggregate")
    stack.wait_for(
        lambda: stack.summary("unpublished").get("total_opens") == before + 200,
        REPAIR_S + 10,
        "the publication",
    )
    done = stack.run("reconcile", "unpublished")
    assert done.returncode == 0, done.stdout


def owners(stack: Stack) -> dict[int, str]:
    """Partition → folder of its database."""
    with stack.redis_client() as client:
        return {int(p): json.loads(text)["state"] for p, text in client.hgetall("cr:owners").items()}


def offsets(owned: dict[int, str]) -> dict[int, int]:
    found = {}
    for partition, folder in owned.items():
        with PartitionReader(Path(folder)) as reader:
            found[partition] = reader.fence().offset
    return found


def test_restored_from_an_old_file(stack: Stack) -> None:
    ledger = load(stack, "restored", 3000)
    stack.stop("redis")
    old = stack.folder / "old-redis"
    shutil.copytree(stack.data / "redis", old)
    stack.start("redis")
    stack.wait_for_port(stack.redis_port)
    second = load(stack, "restored-too", 3000)
    stack.assert_verified(second)  # waits until the first is counted, too
    both = {name: stack.summary(name) for name in ("restored", "restored-too")}
    stack.stop("redis")
    shutil.rmtree(stack.data / "redis")
    shutil.copytree(old, stack.data / "redis")
    stack.start("redis")
    stack.wait_for_port(stack.redis_port)
    for name, expected in both.items():
        assert_right_again(stack, name, expected)
    stack.assert_verified(ledger)
    stack.assert_verified(second)


@pytest.mark.parametrize(
    "down_s", [pytest.param(8.0, id="8s"), pytest.param(60.0, id="60s", marks=pytest.mark.long)]
)
def test_gone(stack: Stack, down_s: float) -> None:
    campaign = f"gone-{down_s:.0f}"
    ledger = load(stack, f"{campaign}-before", 500)
    stack.assert_verified(ledger)
    stack.kill("redis")
    ledger = load(stack, campaign, int(400 * down_s), rate=400)
    answer = stack.get(f"/api/v1/campaigns/{campaign}-before/summary", key=stack.key())
    assert answer.status_code == 503 or answer.json()["stale"] is True
    stack.start("redis")
    stack.wait_for_port(stack.redis_port)
    stack.assert_verified(ledger)


def test_out_of_memory(stack: Stack) -> None:
    with stack.redis_client() as client:
        client.config_set("maxmemory", "1")
        try:
            ledger = load(stack, "full", 2000)
            assert not stack.summary("full").get("sent")
        finally:
            client.config_set("maxmemory", "0")
    stack.assert_verified(ledger)


def test_frozen_while_facts_come_in(stack: Stack) -> None:
    """A script that was run and whose answer was not waited for is the same as one that is repeated."""
    ledger = stack.folder / "frozen.ledger"
    loading = start_load(stack, ledger, 6, 6000, 1000, "--campaign", "frozen")
    for _ in range(3):
        time.sleep(1.5)
        stack.signal("redis", signal.SIGSTOP)
        time.sleep(1.0)
        stack.signal("redis", signal.SIGCONT)
    assert loading.wait(60) == 0
    stack.assert_verified(ledger)
