"""A partition's database is rebuilt, removed, moved to another host and back, and topic `facts` is created again:
the numbers are right soon after each, and readers don't go back in time meanwhile."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tables.views import ALL_TOPICS, TOPICS
from tests.faults.chaos import start_load
from tests.faults.test_redis import load
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until
from tests.support.stack import Stack

WITHIN_S = 90.0


class Hosts:
    """Aggregate workers with folders of their own, one at a time."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.seconds: dict[str, float] = {}

    def folder(self, host: str) -> Path:
        return self.stack.data / "states" / host

    def start(self, host: str) -> None:
        self.stack.start(f"run.{host}", "aggregate", "--state", str(self.folder(host)))

    def stop(self, host: str) -> None:
        self.stack.stop(f"run.{host}")

    def right_again(self, what: str, campaign: str, expected: dict[str, object]) -> None:
        """Waits until nothing is stale any more; the numbers of a campaign that is at rest are right all the time."""
        began, now_ms = time.monotonic(), time.time() * 1000

        def is_fresh() -> bool:
            answer = self.stack.get(f"/api/v1/campaigns/{campaign}/summary", key=self.stack.key()).json()
            assert answer["summary"] == expected, f"readers went back in time: {what}"
            with self.stack.redis_client() as client:
                owned = [json.loads(text) for text in client.hvals("cr:owners")]
            if any(owner["at_ms"] < now_ms for owner in owned):
                return False  # the last words of the worker before
            workers = self.stack.get("/ops/workers", key=self.stack.key()).json()
            conditions = [one for worker in workers["workers"] for one in worker["conditions"]]
            return not answer["stale"] and not conditions and not workers["away"]

        self.stack.wait_for(is_fresh, WITHIN_S, f"right again after {what}")
        # Lists, exports and details come from the databases.
        self.stack.wait_for(
            lambda: self.stack.run("reconcile", campaign).returncode == 0,
            WITHIN_S,
            f"all is there after {what}",
        )
        self.seconds[what] = round(time.monotonic() - began, 1)


def rebuilt_removed_moved_and_back(folder: Path, events: int, rate: int) -> dict[str, float]:
    """Seconds after each until everything is right, with `rate` events a second of another campaign all the time."""
    with Stack(folder) as stack:
        stack.start_servers()
        stack.start("api")
        stack.start("normalize")
        hosts = Hosts(stack)
        hosts.start("a")
        stack.wait_ready()
        ledger = load(stack, "rest", events)
        stack.assert_verified(ledger, timeout_s=900)
        expected = stack.summary("rest")
        moving = folder / "moving.ledger"
        loading = start_load(stack, moving, 7, 10_000_000, rate, "--campaign", "moving")

        def rebuild() -> None:
            done = stack.run("rebuild")
            assert done.returncode == 0, done.stdout

        def remove() -> None:
            hosts.stop("a")
            shutil.rmtree(hosts.folder("a") / "p0")
            hosts.start("a")

        def move() -> None:
            hosts.stop("a")
            hosts.start("b")

        def back() -> None:
            hosts.stop("b")
            hosts.start("a")

        steps = {
            "rebuilt": rebuild,
            "a folder removed": remove,
            "moved to another host": move,
            "moved back": back,
        }
        for what, step in steps.items():
            step()
            hosts.right_again(what, "rest", expected)
            stack.assert_verified(ledger, timeout_s=900)
        loading.terminate()
        loading.wait(30)
        stack.assert_verified(moving)
        return hosts.seconds


@pytest.mark.long
def test_rebuilt_then_a_folder_removed_then_moved_to_another_host_and_back(tmp_path: Path) -> None:
    print(rebuilt_removed_moved_and_back(tmp_path / "stack", 50_000, 200))


@pytest.mark.long
def test_a_topic_that_was_created_again_shows_its_own_campaigns_and_no_others(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack") as stack:
        stack.start_all()
        old = load(stack, "before", 3000)
        stack.assert_verified(old)
        for name in ("aggregate", "normalize", "query"):
            stack.stop(name)
        delete_topics(stack.kafka, ("facts",))
        shutil.rmtree(stack.data / "state")
        began = time.monotonic()
        for name in ("normalize", "aggregate", "query"):
            stack.start(name)
        give_up = ("accept-gap", "--all", "--yes", "--lose-counted")
        wait_until(lambda: stack.run(*give_up).returncode == 0, 90, "what was counted before is given up")
        new = load(stack, "after", 500)
        stack.wait_for(lambda: bool(stack.summary("after").get("sent")), 30, "the new topic's campaign")
        stack.assert_verified(new)
        print(f"{time.monotonic() - began:.1f} s after the folder was removed")
        answer = stack.get("/api/v1/campaigns/before/summary", key=stack.key())
        assert answer.status_code == 404, answer.text
        for query in ({}, {"search": "before"}):
            page = stack.get("/api/v1/campaigns", key=stack.key(), **query).json()
            names = [item["campaign"] for item in page["items"]]
            assert "before" not in names and page["matching"] == len(names), page
        with stack.redis_client() as client:
            wait_until(
                lambda: len(client.smembers(TOPICS) - {ALL_TOPICS.encode()}) == 1,
                10,
                "the old topic's keys are deleted",
            )
            (topic,) = client.smembers(TOPICS) - {ALL_TOPICS.encode()}
            reports = client.keys("cr:v4:*:report:*")
            assert reports and all(b":v4:" + topic + b":" in name for name in reports)
