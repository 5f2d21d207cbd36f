"""A broker that comes back from an older copy of its folder: topics keep their ids, and their logs grow again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.set_aside import SET_ASIDE
from tests.faults.test_lost_webhooks import post, report, sent
from tests.support.stack import Stack

PARTITIONS = 2
ROLES = ("api", "normalize", "aggregate", "query")

pytestmark = pytest.mark.long


def conditions(stack: Stack, code: str) -> list[dict[str, Any]]:
    answer = stack.get("/ops/workers", key=stack.key())
    workers = answer.json()["workers"] if answer.status_code == 200 else []
    return [one for worker in workers for one in worker["conditions"] if one["code"] == code]


def start_kafka(stack: Stack) -> None:
    stack.start("kafka")
    stack.wait_for_port(stack.kafka_port, timeout_s=180)


def restore(stack: Stack, copy: Path) -> None:
    stack.stop("kafka", 60)
    shutil.rmtree(stack.data / "kafka")
    shutil.copytree(copy, stack.data / "kafka")
    start_kafka(stack)


def up(stack: Stack, roles: Sequence[str] = ROLES) -> None:
    """Each with a parent, which starts it again where it ends for what it sees."""
    for role in roles:
        stack.start(f"run.{role}", role)
    stack.wait_ready()


def down(stack: Stack) -> None:
    for role in ROLES:
        stack.stop(f"run.{role}", 30)


def counted(stack: Stack, count: int) -> None:
    stack.wait_for(lambda: stack.summary("spring").get("sent") == count, 90, f"{count} are counted")


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("more", [20, 150])
def test_a_broker_that_is_restored_from_an_older_copy(tmp_path: Path, running: bool, more: int) -> None:
    """What was counted stays, what is accepted from then on is counted, and that something may be lost is said."""
    with Stack(tmp_path, PARTITIONS=str(PARTITIONS)) as stack:
        stack.start_servers()
        up(stack)
        post(stack, 0, 40, 5)
        counted(stack, 40)
        down(stack)
        stack.stop("kafka", 60)
        copy = stack.folder / "kafka.copy"
        shutil.copytree(stack.data / "kafka", copy)
        start_kafka(stack)
        up(stack)
        post(stack, 100, 40, 5)
        counted(stack, 80)
        if not running:
            down(stack)
        restore(stack, copy)
        # At once, so that the log may grow beyond where its readers stood before they look at it.
        begin, deadline = 1_000, time.monotonic() + 120
        if not running:
            up(stack, ["api"])
        while begin < 1_000 + more:
            try:
                begin += 5 if stack.post_events(sent(begin, 5)).status_code == 200 else 0
            except httpx.HTTPError:
                assert time.monotonic() < deadline
        if not running:
            up(stack, ROLES[1:])
        stack.wait_for(lambda: len(conditions(stack, SET_ASIDE)) == PARTITIONS, 90, "both are set aside")
        assert report(stack)["stale"]
        done = stack.run("accept-gap", "--all", "--yes")
        assert done.returncode == 0, done.stdout
        counted(stack, 80 + more)
        stack.wait_for(lambda: not report(stack)["stale"], 30, "not stale")
        assert "lost its end" in str(report(stack)["notices"])
        post(stack, 10_000, 10, 5)
        counted(stack, 90 + more)
        down(stack)
        up(stack)
        post(stack, 20_000, 10, 5)
        counted(stack, 100 + more)
        assert conditions(stack, SET_ASIDE) == []
