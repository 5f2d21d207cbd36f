"""What `reports renormalize` begins with and ends with, by what several workers say of themselves in a real Redis."""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec
import pytest

from app.errors import StateError
from app.settings import Settings
from app.times import utc_text
from app.verdicts import DEFAULT_RULES
from cli import foreign_told
from tables.conditions import Accepted, Condition
from tables.foreign import CODE, REASON
from tables.presence import WORKERS, presence
from tables.redis_names import sync_client

HOUR_MS = 3_600_000


@pytest.fixture
def settings(tmp_path: Path, redis_db: str) -> Settings:
    return Settings(data=tmp_path, redis=redis_db)


def say(settings: Settings, worker: str, accepted: Accepted | None, *, silent_ms: int = 0) -> None:
    now_ms = int(time.time() * 1000)
    condition = Condition(
        code=CODE, message=f"facts of {worker}", since_ms=now_ms, reason=REASON, accepted=accepted
    )
    said = presence(DEFAULT_RULES, 0, now_ms - silent_ms, conditions=(condition,) if accepted else ())
    with sync_client(settings.redis, "", timeout_s=2) as client:
        client.hset(WORKERS, worker, msgspec.json.encode(said))


def test_it_begins_where_the_earliest_of_all_workers_does(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each worker named its own time, and who followed the later one healed a part."""
    now_ms = int(time.time() * 1000)
    with pytest.raises(
        StateError, match="no worker that runs has the condition foreign_facts: name the time"
    ):
        foreign_told.earliest(settings)
    first_ms = now_ms - 5 * HOUR_MS
    say(settings, "a", Accepted(now_ms - 3 * HOUR_MS, now_ms - 2 * HOUR_MS))
    say(settings, "b", Accepted(first_ms, now_ms - 4 * HOUR_MS))
    say(settings, "gone", Accepted(0, 1), silent_ms=HOUR_MS)
    assert foreign_told.earliest(settings) == first_ms
    foreign_told.warn(settings, first_ms)
    told = capsys.readouterr().err
    assert (utc_text(first_ms) or "?") in told
    assert "still runs" not in told and "stays set aside" not in told
    foreign_told.warn(settings, now_ms - 3 * HOUR_MS)
    assert f"what is older than {utc_text(now_ms - 3 * HOUR_MS)} stays set aside" in capsys.readouterr().err


def test_a_host_with_the_other_secret_that_may_still_run_is_warned_of(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ms = int(time.time() * 1000)
    say(settings, "a", Accepted(now_ms - HOUR_MS, now_ms - 1_000))
    foreign_told.warn(settings, now_ms - HOUR_MS)
    told = capsys.readouterr().err
    assert re.search(r"the last facts of another secret were accepted \d+ s ago, at ", told)
    assert (utc_text(now_ms - 1_000) or "?") in told
    assert "if a host with that secret still runs, stop it now" in told


def test_what_remains_is_said_at_the_end(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    now_ms = int(time.time() * 1000)
    say(settings, "a", Accepted(now_ms - HOUR_MS, now_ms - 1_000))
    say(settings, "b", None)
    foreign_told.say_what_remains(settings, 0)
    told = capsys.readouterr().err
    assert "still set aside: facts of a" in told and "facts of b" not in told
    say(settings, "a", None)
    foreign_told.say_what_remains(settings, 0)
    assert not capsys.readouterr().err


def test_without_redis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs none but to find the time by itself."""
    settings = Settings(data=tmp_path, redis="redis://127.0.0.1:9/0")
    with pytest.raises(StateError, match="what the workers say can't be read"):
        foreign_told.earliest(settings)
    foreign_told.warn(settings, 0)
    assert not capsys.readouterr().err
    foreign_told.say_what_remains(settings, 0)
    assert "GET /ops/workers says whether anything remains" in capsys.readouterr().err
