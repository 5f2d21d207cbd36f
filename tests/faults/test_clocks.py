"""Clocks that are wrong: totals stay exact, a future is cut to the present and flagged, and the log says so."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.facts import CLAMPED
from app.keys import campaign_key
from app.times import utc_text
from tables.reading import PartitionReader
from tests.faults.chaos import start_load
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


# A host's clock that is an hour wrong. Hosts' ages are compared by Redis's clock (`tables.redis_clock`), so that
# nobody is taken for dead and no list is refused.

HOUR_S = 3600
ROLES = ("api", "normalize", "aggregate", "query")
SHIFTED = Path(__file__).parents[1] / "support" / "shifted"


def start_shifted(stack: Stack, shifts: dict[str, int]) -> None:
    """All roles anew; those that are named with another clock."""
    for role in ROLES:
        if stack.is_alive(role):
            stack.kill(role)
    before = stack.environ
    for role in ROLES:
        if shift_s := shifts.get(role):
            stack.environ = before | {"PYTHONPATH": str(SHIFTED), "TEST_CLOCK_SHIFT_S": str(shift_s)}
        stack.start(role)
        stack.environ = before
    stack.wait_ready()


def assert_ages_are_right(stack: Stack, shifts: dict[str, int], campaign: str) -> None:
    key = stack.key()
    now_ms = time.time_ns() // 1_000_000
    events: list[dict[str, object]] = [
        {"type": "sent", "campaign": campaign, "recipient": f"r{n}@example.com", "at": now_ms + n * 120_000}
        for n in range(20)  # the last one 38 minutes ahead: nothing that is cut
    ]
    assert stack.post_events(events).status_code == 200
    stack.wait_for(lambda: stack.summary(campaign).get("sent") == 20, 30, "the events")
    page = f"/api/v1/campaigns/{campaign}/recipients"
    stack.wait_for(lambda: stack.get(page, key=key).status_code == 200, 30, "a list")
    assert len(stack.get(page, key=key, limit="50").json()["items"]) == 20
    times = [row["at"] for row in stack.get(f"/api/v1/campaigns/{campaign}/events", key=key).json()["items"]]
    assert set(times) == {utc_text(now_ms + n * 120_000) for n in range(20)}

    def lag() -> Any:
        return stack.get("/ops/lag", key=key).json()

    stack.wait_for(lambda: lag()["stale"] is False and not lag()["away"], 30, "a lag that is known")
    stack.wait_for(lambda: told(lag()) == shifts, 30, "what is wrong with the clocks")
    found = lag()
    assert 0 <= found["lag_ms"] < 10_000
    assert found["delay"]["p99_ms"] is None or 0 <= found["delay"]["p99_ms"] < 60_000
    alive = {row["role"] for row in found["workers"] if row["alive"]}
    assert {"normalize", "aggregate"} <= alive
    assert abs(datetime.fromisoformat(found["at"]).timestamp() - time.time()) < 10

    def heard() -> str | None:
        sources: Any = stack.get("/api/v1/sources", key=key).json()["sources"]
        at: str | None = next(row["last_event_at"] for row in sources if row["source"] == "app")
        return at

    stack.wait_for(lambda: heard() is not None, 10, "the arrival, which is told each second")
    assert abs(datetime.fromisoformat(heard() or "").timestamp() - time.time()) < 60


def told(lag: Any) -> dict[str, int]:
    """Role → by how many seconds it says that its clock is wrong."""
    found = {}
    for row in lag["workers"]:
        for condition in row["conditions"] if row["alive"] else ():
            if condition["code"] == "clock_differs":
                match = re.search(r"is (\d+) s (ahead of|behind) Redis's", condition["message"])
                assert match is not None, condition
                found[row["role"]] = int(match[1]) * (1 if match[2] == "ahead of" else -1)
    return found


def test_each_role_has_another_hour(stack: Stack) -> None:
    shifts = {"api": HOUR_S, "normalize": -HOUR_S, "aggregate": HOUR_S, "query": -HOUR_S}
    start_shifted(stack, shifts)
    assert_ages_are_right(stack, shifts, "another-hour")


@pytest.mark.long
@pytest.mark.parametrize("shift_s", [-HOUR_S, HOUR_S])
@pytest.mark.parametrize("role", ROLES)
def test_one_role_has_another_hour(stack: Stack, role: str, shift_s: int) -> None:
    start_shifted(stack, {role: shift_s})
    assert_ages_are_right(stack, {role: shift_s}, f"{role}-{shift_s + HOUR_S}")
    ledger = stack.folder / f"{role}{shift_s}.ledger"
    loading = start_load(stack, ledger, 37, 3_000, 1_000, "--campaign", f"load-{role}-{shift_s + HOUR_S}")
    assert loading.wait(120) == 0
    stack.assert_verified(ledger)
