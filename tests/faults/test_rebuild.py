"""`reports rebuild` on a running stack: the same numbers again, or those of other rules; readers never see less."""

from __future__ import annotations

from pathlib import Path

import pytest

from tables.views import PARTITIONS, fences_of
from tests.faults.test_redis import load
from tests.support.stack import Stack


def generations(stack: Stack) -> dict[int, int]:
    with stack.redis_client() as client:
        return {
            partition: fence.generation for partition, fence in fences_of(client.hgetall(PARTITIONS)).items()
        }


def test_from_recipients_from_the_log_and_by_other_rules(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Stack(Path(tmp_path_factory.mktemp("stack"))) as stack:
        stack.start_servers()
        stack.start("api")
        stack.start("normalize")
        stack.start("run", "aggregate")
        stack.wait_ready()
        ledger = load(stack, "rebuilt", 3000)
        stack.assert_verified(ledger)
        before = stack.summary("rebuilt")
        for arguments in ((), ("--from-log",)):
            known = generations(stack)
            done = stack.run("rebuild", *arguments)
            assert done.returncode == 0, done.stdout
            now = generations(stack)
            assert all(now[partition] > generation for partition, generation in known.items())
            stack.assert_verified(ledger)
            assert stack.summary("rebuilt") == before
            assert stack.run("reconcile").returncode == 0
        # A click three seconds after the delivery: a person's, until the settings say otherwise.
        soon: list[dict[str, object]] = [
            {"type": kind, "campaign": "soon", "recipient": "a@example.com", "at": at}
            for kind, at in (
                ("delivered", "2026-11-01T10:00:00.500Z"),
                ("clicked", "2026-11-01T10:00:03.500Z"),
            )
        ]
        assert stack.post_events(soon).status_code == 200
        stack.wait_for(lambda: stack.summary("soon").get("total_clicks") == 1, 10, "the click")
        assert stack.summary("soon", count="people")["total_clicks"] == 1
        # Other thresholds in the settings change nothing by themselves.
        stack.stop("run")
        stack.environ["REPORTS_CLICK_AFTER_MS"] = "60000"
        stack.start("run", "aggregate")
        del stack.environ["REPORTS_CLICK_AFTER_MS"]  # `reports verify` expects by its own thresholds
        more = load(stack, "other", 500)
        stack.assert_verified(more)
        assert stack.summary("rebuilt") == before
        assert stack.summary("soon", count="people")["total_clicks"] == 1
        assert stack.run("rebuild").returncode == 0
        assert stack.summary("soon")["total_clicks"] == 1
        assert stack.summary("soon", count="people")["total_clicks"] == 0
        done = stack.run("reconcile")
        assert done.returncode == 0, done.stdout
