"""One clock for all hosts, whatever their own show."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from tables.conditions import Conditions
from tables.redis_clock import DRIFT, ClockTeller, RedisClock, measured_clock, time_ms

REDIS_AHEAD_S = 1_790_000_000.0
"""Of the monotonic clock of the host below."""


class Host:
    """A host's clocks, and a Redis that answers after some way there and some way back."""

    def __init__(self, wall_off_s: float) -> None:
        self.now_s = 1_000.0
        self.wall_off_s = wall_off_s
        self.redis_ahead_s = REDIS_AHEAD_S
        self.clock = RedisClock(lambda: self.redis_s() + self.wall_off_s, lambda: self.now_s)

    def redis_s(self) -> float:
        return self.redis_ahead_s + self.now_s

    def ask(self, there_s: float, back_s: float) -> None:
        asked_s = self.now_s
        self.now_s += there_s
        answer_s = self.redis_s()
        self.now_s += back_s
        self.clock.note(asked_s, self.now_s, answer_s)

    def error_s(self) -> float:
        return abs(self.clock.seconds() - self.redis_s())


WAYS = st.floats(0, 2)
OFF = st.floats(-90_000, 90_000)


@given(OFF, st.lists(st.tuples(WAYS, WAYS, st.floats(0, 600)), min_size=1, max_size=30))
def test_it_is_as_right_as_its_best_answer(
    wall_off_s: float, rounds: list[tuple[float, float, float]]
) -> None:
    """However uneven the ways are; and the host's own clock plays no part."""
    host = Host(wall_off_s)
    doubts: list[tuple[float, float]] = []
    for there_s, back_s, pause_s in rounds:
        host.ask(there_s, back_s)
        doubts.append(((there_s + back_s) / 2, host.now_s))
        host.now_s += pause_s
        host.wall_off_s += pause_s  # somebody sets the host's clock
        best = min(doubt + (host.now_s - at) * DRIFT for doubt, at in doubts)
        assert host.error_s() <= best + 1e-3


@given(OFF, st.lists(st.tuples(WAYS, WAYS), max_size=5), OFF, WAYS, WAYS)
def test_a_redis_with_another_time_is_followed_at_once(
    wall_off_s: float, before: list[tuple[float, float]], moved_s: float, there_s: float, back_s: float
) -> None:
    host = Host(wall_off_s)
    for ways in before:
        host.ask(*ways)
    kept = host.error_s() if before else 0.0
    host.redis_ahead_s += moved_s
    host.ask(there_s, back_s)
    # It was moved by more than could be an error of measurement, or it may be one.
    slack = (there_s + back_s) / 2
    assert host.error_s() <= slack + 1e-3 or abs(moved_s) <= 2 * slack + kept + 4.1


@given(OFF, st.floats(0, 3_600))
def test_while_redis_is_away_it_goes_on(wall_off_s: float, away_s: float) -> None:
    host = Host(wall_off_s)
    assert host.clock.off_s() is None
    assert host.clock.seconds() == host.redis_s() + wall_off_s, "its own, as long as it knows no other"
    host.ask(0.001, 0.001)
    host.now_s += away_s
    assert host.error_s() < 1e-3
    off_s = host.clock.off_s()
    assert off_s is not None
    assert abs(off_s - wall_off_s) < 1e-3
    assert host.clock.now_ms() == int(host.clock.seconds() * 1000)
    assert abs(host.clock.at(host.now_s - 5) - host.clock.seconds() + 5) < 1e-3


async def test_a_real_redis_is_asked(redis_db: str) -> None:
    clock = measured_clock(redis_db)
    redis = Redis.from_url(redis_db)
    await clock.measure(redis)
    told_ms = time_ms(await redis.time())
    assert abs(clock.now_ms() - told_ms) < 1_000
    assert abs(clock.seconds() - time.time()) < 1
    await redis.aclose()


def test_without_redis_it_begins_soon() -> None:
    began = time.monotonic()
    clock = measured_clock("redis://127.0.0.1:9/0")
    assert time.monotonic() - began < 5
    assert clock.off_s() is None


@pytest.mark.parametrize(
    ("host_s", "kafka_s", "words"),
    [
        (None, None, ()),
        (29.0, -4.0, ()),
        (3_600.0, None, ("host here is 3600 s ahead of Redis's",)),
        (-31.0, 0.0, ("host here is 31 s behind Redis's",)),
        (0.0, 7.0, ("Kafka's clock is 7 s ahead of",)),
        (-3_600.0, -60.0, ("3600 s behind", "Kafka's clock is 60 s behind")),
    ],
)
def test_a_clock_that_is_wrong_is_said(
    host_s: float | None, kafka_s: float | None, words: tuple[str, ...]
) -> None:
    conditions = Conditions()
    teller = ClockTeller(conditions, "here")
    teller.tell(host_s, kafka_s)
    current = conditions.current()
    assert len(current) == bool(words)
    assert all(word in current[0].message for word in words)
    if current:
        said = current[0].message
        teller.tell(host_s and host_s + 0.9, kafka_s and kafka_s - 0.9)
        assert conditions.current()[0].message == said, "not said anew for a jitter"
        teller.tell(host_s and host_s * 2, kafka_s and kafka_s * 2)
        assert conditions.current()[0].message != said
        teller.tell(0.0, 0.0)
        assert conditions.current() == ()
