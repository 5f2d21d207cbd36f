"""One clock for all hosts: Redis's, as far as it was asked.

Rules:
- What is stamped on one host and compared on another is stamped by this clock. Whoever compares takes Redis's own time
  in the same round trip: no host's clock plays a part in an age.
- Redis is asked every `MEASURE_S`. An answer says what its clock showed at some moment of the round trip; of the
  answers that agree the one that leaves the least doubt is kept, and the doubt grows with its age. One that contradicts
  (Redis's clock was set, another server took over) takes its place at once.
- Between two answers, and while Redis is unavailable, the monotonic clock carries it on: a host's clock that is set
  moves nothing. Until the first answer it is the host's own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import redis as sync_redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tables.conditions import Conditions

if TYPE_CHECKING:
    from redis.asyncio import Redis

MEASURE_S: Final = 1.0
DRIFT: Final = 500e-6
"""How fast two clocks move apart at most: what the kernel allows when it slews one."""
DIFFERS_S: Final = 30.0
"""A host's clock that is so far off is said to be wrong."""
KAFKA_DIFFERS_S: Final = 5.0
"""Kafka's: the lag that is shown is wrong by as much."""
_FIRST_TIMEOUT_S: Final = 0.5
_FIRST_SAMPLES: Final = 3


class _Sample(NamedTuple):
    ahead_s: float
    """Redis's clock less the monotonic one."""
    doubt_s: float
    """Half of the round trip."""
    at_s: float

    def doubt_at(self, now_s: float) -> float:
        return self.doubt_s + max(0.0, now_s - self.at_s) * DRIFT


class RedisClock:
    """Read from any thread. `wall` and `monotonic` in seconds."""

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._sample: _Sample | None = None

    def seconds(self) -> float:
        """Since 1970."""
        return self.at(self._monotonic())

    def now_ms(self) -> int:
        return int(self.seconds() * 1000)

    def at(self, moment_s: float) -> float:
        """Seconds since 1970 at a moment of the monotonic clock."""
        sample = self._sample  # once: another thread may set it anew
        if sample is None:
            return self._wall() + moment_s - self._monotonic()
        return sample.ahead_s + moment_s

    def off_s(self) -> float | None:
        """How far this host's clock is ahead of Redis's; None until that was asked."""
        return None if self._sample is None else self._wall() - self.seconds()

    def note(self, asked_s: float, answered_s: float, redis_s: float) -> None:
        """Takes an answer over: Redis's time, and the monotonic clock before and after the round trip."""
        new = _Sample(redis_s - (asked_s + answered_s) / 2, (answered_s - asked_s) / 2, answered_s)
        kept = self._sample
        if kept is not None:
            doubt_s = kept.doubt_at(answered_s)
            agrees = abs(new.ahead_s - kept.ahead_s) <= new.doubt_s + doubt_s
            if agrees and doubt_s < new.doubt_s:
                return
        self._sample = new

    async def measure(self, redis: Redis) -> None:
        """Raises RedisError or OSError where Redis doesn't answer."""
        asked_s = self._monotonic()
        seconds, microseconds = await redis.time()
        self.note(asked_s, self._monotonic(), seconds + microseconds / 1_000_000)


def measured_clock(url: str) -> RedisClock:
    """A clock that was measured, before a process stamps anything; it blocks for a second at most."""
    clock = RedisClock()
    with (
        contextlib.suppress(RedisError, OSError),
        sync_redis.Redis.from_url(
            url,
            socket_timeout=_FIRST_TIMEOUT_S,
            socket_connect_timeout=_FIRST_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        ) as client,
    ):
        client.ping()  # connects
        for _ in range(_FIRST_SAMPLES):
            asked_s = time.monotonic()
            seconds, microseconds = client.time()
            clock.note(asked_s, time.monotonic(), seconds + microseconds / 1_000_000)
    return clock


def time_ms(answer: tuple[int, int]) -> int:
    """Redis's answer to TIME."""
    return answer[0] * 1000 + answer[1] // 1000


async def keep_time(
    redis: Redis,
    clock: RedisClock,
    conditions: Conditions,
    kafka_off_s: Callable[[], float | None] = lambda: None,
) -> None:
    """Measures until cancelled, and says where a clock is wrong. `kafka_off_s`: how far Kafka's is ahead of Redis's."""
    teller = ClockTeller(conditions, socket.gethostname())
    while True:
        with contextlib.suppress(RedisError, OSError):  # it is asked again in a moment
            await clock.measure(redis)
        teller.tell(clock.off_s(), kafka_off_s())
        await asyncio.sleep(MEASURE_S)


class ClockTeller:
    """The condition `clock_differs`. Not said anew for the jitter of a measurement."""

    def __init__(self, conditions: Conditions, host: str) -> None:
        self._conditions = conditions
        self._host = host
        self._said: list[float] = []

    def tell(self, host_s: float | None, kafka_s: float | None) -> None:
        """How far the clocks of this host and of Kafka are ahead of Redis's; None: not known."""
        wrong = [
            (off_s, text)
            for off_s, most_s, text in (
                (host_s, DIFFERS_S, f"the clock of host {self._host} is {{}} Redis's"),
                (
                    kafka_s,
                    KAFKA_DIFFERS_S,
                    "Kafka's clock is {} Redis's, and the lag shown is wrong by as much",
                ),
            )
            if off_s is not None and abs(off_s) > most_s
        ]
        if not wrong:
            self._said = []
            self._conditions.clear("clock_differs")
            return
        offs = [off_s for off_s, _ in wrong]
        if len(offs) == len(self._said) and all(
            abs(now - said) < max(2.0, abs(said) / 10) for now, said in zip(offs, self._said, strict=True)
        ):
            return
        self._said = offs
        findings = "; ".join(text.format(_distance(off_s)) for off_s, text in wrong)
        self._conditions.set(
            "clock_differs",
            f"{findings}. Ages and arrivals go by Redis's clock: they are right where that one is. "
            "Let NTP set the one that is wrong",
        )


def _distance(off_s: float) -> str:
    return f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'}"
