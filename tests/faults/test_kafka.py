"""Kafka gone for a while: nothing is said to be stored that isn't, and all goes on by itself when it is back."""

from __future__ import annotations

import time

import pytest

from tests.faults.chaos import start_load
from tests.support.stack import Stack


@pytest.mark.parametrize(
    "down_s", [pytest.param(10.0, id="10s"), pytest.param(30.0, id="30s", marks=pytest.mark.long)]
)
def test_down(stack: Stack, down_s: float) -> None:
    campaign = f"down-{down_s:.0f}"
    ledger = stack.folder / f"{campaign}.ledger"
    loading = start_load(stack, ledger, 3, int(1000 * (down_s + 6)), 1000, "--campaign", campaign)
    time.sleep(3)
    stack.kill("kafka")
    until = time.monotonic() + down_s
    event: dict[str, object] = {"type": "opened", "campaign": "refused", "recipient": "r1@example.com"}
    statuses = []
    while time.monotonic() < until:
        began = time.monotonic()
        answer = stack.post_events([event | {"at": time.time_ns() // 1_000_000}], again_s=0)
        statuses.append(answer.status_code)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        # 2 s and what a busy machine takes on top.
        assert time.monotonic() - began < 8
        assert stack.get("/healthz").status_code == 200
        time.sleep(0.5)
    assert len(statuses) >= 2
    stack.start("kafka")
    stack.wait_ready()
    assert loading.wait(120) == 0, (stack.folder / "load.log").read_text()
    revive(stack)
    stack.assert_verified(ledger)


def revive(stack: Stack) -> None:
    """A worker whose Kafka is away may end itself: its parent, here this test, starts it again."""
    for name in ("normalize", "aggregate", "api"):
        if not stack.is_alive(name):
            stack.start(name)
    stack.wait_ready()
