"""Clocks that are wrong: totals stay exact, a future is cut to the present and flagged, and the log says so."""

from __future__ import annotations

import time
from pathlib import Path

from app.facts import CLAMPED
from app.keys import campaign_key
from tables.reading import PartitionReader
from tests.faults.test_redis import owners
from tests.support.stack import Stack

DAY_MS = 24 * 3600 * 1000


def test_a_month_behind_a_day_ahead_and_seconds_for_milliseconds(stack: Stack) -> None:
    now_ms = time.time_ns() // 1_000_000
    times = [now_ms - 30 * DAY_MS, now_ms + DAY_MS, now_ms // 1000, now_ms + 30 * 60_000]
    events: list[dict[str, object]] = [
        {"type": "opened", "campaign": "clocks", "recipient": f"r{n}@example.com", "at": at_ms}
        for n, at_ms in enumerate(times)
    ]
    assert stack.post_events(events).status_code == 200
    stack.wait_for(lambda: stack.summary("clocks").get("total_opens") == 4, 20, "the events")
    assert stack.summary("clocks")["opened"] == 4
    section = stack.get("/api/v1/campaigns/clocks/timeline", key=stack.key(), unit="day").json()["timeline"]
    assert sum(row["opened"] for row in section["rows"]) == 4
    settings, _ = stack.configuration()
    key = campaign_key(settings.secret, "acme", "clocks")
    logged = []
    for folder in owners(stack).values():
        with PartitionReader(Path(folder)) as reader:
            logged += list(reader.log(key))
    clamped = [entry for entry in logged if entry.fact.evidence & CLAMPED]
    assert [entry.address for entry in clamped] == ["r1@example.com"]
    assert abs(clamped[0].fact.at_ms - now_ms) < 60_000
    assert {entry.address: entry.fact.at_ms for entry in logged}["r2@example.com"] == now_ms // 1000 * 1000
