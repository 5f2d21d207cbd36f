"""Commands compare what workers have said with Redis's clock, whatever their own host's says (design decision 16)."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from agents.set_aside import SET_ASIDE
from app.errors import StateError
from app.settings import Settings
from app.verdicts import DEFAULT_RULES
from cli.accept_gap import waiting
from cli.rebuild import _wait
from tables.conditions import Condition, GapSeen
from tables.presence import WORKERS, presence
from tables.redis_client import redis_of
from tables.redis_clock import time_ms
from tables.redis_names import sync_client

OFF_S = pytest.mark.parametrize("off_s", [-3600.0, 0.0, 3600.0])


def say_set_aside(settings: Settings, ages_s: dict[str, tuple[int, float]], gap: GapSeen) -> None:
    """Worker → (partition that it has set aside, seconds since it said so)."""
    with sync_client(settings.redis, settings.installation, timeout_s=5) as client:
        now_ms = time_ms(client.time())
        for name, (partition, age_s) in ages_s.items():
            at_ms = now_ms - int(age_s * 1000)
            condition = Condition(
                code=SET_ASIDE, message="a gap", since_ms=at_ms, partition=partition, gap=gap
            )
            said = presence(DEFAULT_RULES, at_ms, at_ms, conditions=(condition,))
            client.hset(WORKERS, name, msgspec.json.encode(said))


def shift(monkeypatch: pytest.MonkeyPatch, off_s: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off_s)


@OFF_S
def test_workers_that_wait_at_a_gap(
    off_s: float, redis_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(redis=redis_db, installation="aa", data=tmp_path, partitions=2)
    gap = GapSeen("topic", 5, 1, None)
    say_set_aside(settings, {"alive": (0, 0), "gone": (1, 60)}, gap)
    shift(monkeypatch, off_s)
    assert waiting(settings) == {0: gap}


@OFF_S
async def test_a_rebuild_that_waits_for_nobody(
    off_s: float, redis_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(redis=redis_db, installation="aa", data=tmp_path, partitions=1)
    say_set_aside(settings, {"alive": (0, 0)}, GapSeen("topic", 5, 1, None))
    shift(monkeypatch, off_s)
    redis = redis_of(settings, timeout_s=5)
    try:
        with pytest.raises(StateError, match="by themselves: a gap"):
            await _wait(redis, [{}, {}], settings.partitions, wait_s=60)
    finally:
        await redis.aclose()
