"""Commands compare what workers have said with Redis's clock, whatever their own host's says (design decision 16)."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from agents.set_aside import SET_ASIDE
from app.settings import Settings
from app.verdicts import DEFAULT_RULES
from cli.accept_gap import waiting
from tables.conditions import Condition, GapSeen
from tables.presence import WORKERS, presence
from tables.redis_clock import time_ms
from tables.redis_names import sync_client


@pytest.mark.parametrize("off_s", [-3600.0, 0.0, 3600.0])
def test_workers_that_wait_at_a_gap(
    off_s: float, redis_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(redis=redis_db, installation="aa", data=tmp_path, partitions=2)
    gap = GapSeen("topic", 5, 1, None)
    with sync_client(redis_db, "aa", timeout_s=5) as client:
        now_ms = time_ms(client.time())
        for name, partition, at_ms in (("alive", 0, now_ms), ("gone", 1, now_ms - 60_000)):
            condition = Condition(
                code=SET_ASIDE, message="a gap", since_ms=at_ms, partition=partition, gap=gap
            )
            said = presence(DEFAULT_RULES, at_ms, at_ms, conditions=(condition,))
            client.hset(WORKERS, name, msgspec.json.encode(said))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off_s)
    assert waiting(settings) == {0: gap}
