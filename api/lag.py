"""How far counting is behind, per partition of `webhooks` and `facts`, and how old the oldest uncounted record is.

Rules:
- The position in `webhooks` is the offset that normalize committed; in `facts` it is the partition's position in Redis,
  because a number counts as counted when a reader can see it. While a database is counted again and what Redis has from
  before is ahead of it, it is the database's (`Owner.reached`).
- The age is that of the record at the position, by the broker's own timestamp (LogAppendTime); that record is fetched.
- `stale`: a worker says so of itself (`tables.conditions`), Kafka or Redis can't be asked, a position is not known, the
  age is above `STALE_AGE_MS`, or this monitor itself has not finished a round for `SILENT_S`. Lag is then the best that
  is known, or None.
- Webhooks can be taken (`ready`) while Kafka answers, whatever else goes wrong in a round: it is judged by when Kafka
  gave the logs' ends last.
- One thread with clients of its own: their calls block, and each has a timeout.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from api.log_positions import REFUSES_WRITES, LogPositions, Place
from api.metrics import Metrics
from app.report import Freshness
from app.topics import FACTS, WEBHOOKS
from tables.background import Background, Following
from tables.conditions import worst
from tables.missing_topics import WAY_OUT

log = logging.getLogger("reports.lag")

STALE_AGE_MS: Final = 10_000
SILENT_S: Final = 3.0
"""Above what one round may take with a broker that answers slowly, so that a hiccup doesn't mark every report."""
STUCK_S: Final = 15.0
"""Kafka that has not answered for so long doesn't. Above the longest pause between two rounds that fail
(`tables.background.MAX_S`), and above what a round may take while Redis doesn't answer."""
BUSY_ROUND_S: Final = 0.25
IDLE_ROUND_S: Final = 0.5
RATE_WINDOW_S: Final = 10.0


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    topic: str
    partition: int
    end: int
    """The offset the next record will get."""
    position: int | None
    """The offset of the next record to process; None: not known."""
    lag: int
    oldest_at_ms: int | None
    """When the record at the position was appended; None: there is none, or it could not be read."""


class LagReport(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    known_at_ms: int | None = None
    """When ends and positions were read last; None: never. Before `at_ms` while Kafka or Redis can't be asked."""
    lag_ms: int | None
    stale: bool
    reason: str | None
    """Why it is stale, for operators."""
    trouble: str | None = None
    """What is wrong with Kafka or Redis and what to do, for operators."""
    unready: str | None = None
    """Why webhooks can't be taken, for anybody: Kafka doesn't answer, or a topic is not there."""
    partitions: tuple[PartitionLag, ...] = ()
    dead: int | None = None
    progress: float | None = None
    """Of what makes it stale, where that is known: 0 to 1."""
    rates: dict[str, float] = {}
    """Records per second over the last seconds: `<topic>_in` appended, `<topic>_out` processed."""

    @property
    def ready(self) -> bool:
        return self.unready is None

    @property
    def freshness(self) -> Freshness:
        return Freshness(
            self.lag_ms, (self.reason or "counting is behind") if self.stale else None, self.progress
        )


_SILENT: Final = "Kafka does not answer"
_UNKNOWN: Final = LagReport(
    at_ms=0, lag_ms=None, stale=True, reason="not measured yet", unready="not measured yet"
)


def judge(
    places: Mapping[tuple[str, int], Place], oldest: Mapping[tuple[str, int], int], *, now_ms: int
) -> tuple[tuple[PartitionLag, ...], int | None, str | None]:
    """Ends, positions and times of the oldest records → the partitions' lags, the age in ms, why it is stale."""
    rows: list[PartitionLag] = []
    reason: str | None = None
    age_ms = 0
    away: list[str] = []
    for (topic, partition), place in sorted(places.items()):
        at_ms = oldest.get((topic, partition))
        lag = max(0, place.end - place.start)
        rows.append(
            PartitionLag(
                topic=topic,
                partition=partition,
                end=place.end,
                position=place.position,
                lag=lag,
                oldest_at_ms=at_ms,
            )
        )
        if place.foreign:
            reason = (
                reason
                or f"topic {topic} was recreated: the numbers of partition {partition} are those of the one before"
            )
        elif place.position is not None and place.position > place.end:
            reason = reason or f"{topic}/{partition}: the log has less than was read of it: it lost its end"
        elif place.position is None and lag:
            reason = reason or f"{topic}/{partition}: the position is not known"
        elif lag and at_ms is None:
            reason = reason or f"{topic}/{partition}: the oldest record can't be read"
        if lag and at_ms is not None:
            age_ms = max(age_ms, now_ms - at_ms)
            if place.away and now_ms - at_ms > STALE_AGE_MS:
                away.append(str(partition))
    if away:
        which = f"partitions {', '.join(away)} have" if len(away) > 1 else f"partition {away[0]} has"
        reason = reason or f"counting is behind: {which} no worker"
    elif age_ms > STALE_AGE_MS:
        reason = reason or "counting is behind"
    return tuple(rows), age_ms, reason


class LagMonitor:
    def __init__(
        self,
        positions: LogPositions,
        metrics: Metrics,
        background: Background,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: seconds since 1970 as Kafka's are, since its records' times are compared with it."""
        self._positions = positions
        self._metrics = metrics
        self._clock = clock
        self._report = _UNKNOWN
        self._unready = _UNKNOWN.unready
        """Why webhooks can't be taken, by what the round under way has learned of Kafka."""
        self._answered_at = self._finished_at = time.monotonic()
        """When Kafka gave the ends last, and when a round went well."""
        self._following = Following(background, "lag", self._run)
        self._history: deque[tuple[float, dict[str, int]]] = deque()

    def start(self) -> None:
        self._following.start()

    def stop(self) -> None:
        self._following.stop()

    @property
    def report(self) -> LagReport:
        """The newest report; stale by itself when the monitor has fallen silent, and not ready when Kafka has."""
        report, now = self._report, time.monotonic()
        if not report.stale and now - self._finished_at >= SILENT_S:
            report = msgspec.structs.replace(report, stale=True, reason="the lag is not measured any more")
        if report.ready and now - self._answered_at >= STUCK_S:
            report = msgspec.structs.replace(report, unready=_SILENT)
        return report

    def _run(self) -> None:
        try:
            while not self._following.stopping.is_set():
                self._round()
        except Exception as error:
            self._positions.reopen()  # one of its clients may be what is broken
            now_ms = int(self._clock() * 1000)
            self._report = self._lost(self._report, now_ms, "the lag can't be measured", error, self._unready)
            raise
        self._positions.close()

    def _round(self) -> None:
        started = time.monotonic()
        report = self.measure()
        self._report = report
        self._finished_at = time.monotonic()
        self._publish(report)
        behind = any(row.lag for row in report.partitions)
        round_s = BUSY_ROUND_S if behind or report.stale else IDLE_ROUND_S
        self._following.stopping.wait(max(0.05, round_s - (time.monotonic() - started)))

    def measure(self) -> LagReport:
        """One round. What can't be asked makes the report stale."""
        now_ms = int(self._clock() * 1000)
        before = self._report
        self._unready = before.unready
        try:
            ends, dead = self._positions.ends()
        except KafkaException as error:
            return self._lost(before, now_ms, "Kafka can't be asked", error, _SILENT)
        self._answered_at, self._unready = time.monotonic(), None
        try:
            places = self._positions.places(ends)
            self._positions.note_ends(ends)
            conditions = self._positions.conditions()
        except KafkaException as error:
            return self._lost(before, now_ms, "Kafka can't be asked for positions", error)
        except (RedisError, OSError) as error:
            return self._lost(before, now_ms, "Redis can't be asked", error)
        oldest = self._positions.oldest_times(places)
        rows, age_ms, reason = judge(places, oldest, now_ms=int(self._clock() * 1000))
        # What a worker says of itself names the cause; that counting is behind is only what follows from it.
        known = worst(conditions)
        if known is not None:
            reason = known.reason
        if self._positions.foreign_id:
            reason = "the installation was replaced by another one: the numbers stand still"
        refuses = next((one.message for one in conditions if one.code == REFUSES_WRITES), None)
        return LagReport(
            at_ms=now_ms,
            known_at_ms=now_ms,
            lag_ms=age_ms,
            stale=reason is not None,
            reason=reason,
            progress=known.progress if known is not None else None,
            trouble=refuses or self._positions.trouble(),
            partitions=rows,
            dead=dead,
            rates=self._rates(rows),
        )

    def _lost(
        self, before: LagReport, now_ms: int, reason: str, error: Exception, unready: str | None = None
    ) -> LagReport:
        missing = self._positions.missing(error)
        trouble = self._positions.words(error)
        if missing:
            reason = unready = missing
            trouble = f"Kafka at {self._positions.kafka}: {missing}. {WAY_OUT}"
            self._positions.note_last_ends()
        if isinstance(error, KafkaException) and (redis := self._positions.redis_trouble()):
            reason, trouble = f"{reason}, nor can Redis", f"{trouble}. {redis}"
        if before.reason != reason:
            log.warning("lag is not known: %s (%s)", reason, trouble)
        # What was behind when it was last seen is at least that much older now.
        oldest = [row.oldest_at_ms for row in before.partitions if row.lag and row.oldest_at_ms is not None]
        return msgspec.structs.replace(
            before,
            at_ms=now_ms,
            lag_ms=max(0, now_ms - min(oldest)) if oldest else None,
            stale=True,
            reason=reason,
            trouble=trouble,
            progress=None,
            unready=unready,
            rates={},
        )

    def _rates(self, rows: tuple[PartitionLag, ...]) -> dict[str, float]:
        now = time.monotonic()
        sums: dict[str, int] = {}
        for row in rows:
            sums[row.topic + "_in"] = sums.get(row.topic + "_in", 0) + row.end
            sums[row.topic + "_out"] = sums.get(row.topic + "_out", 0) + row.end - row.lag
        self._history.append((now, sums))
        while now - self._history[0][0] > RATE_WINDOW_S:
            self._history.popleft()
        then, first = self._history[0]
        if now - then < BUSY_ROUND_S / 2:
            return {}
        return {
            name: round(max(0, total - first.get(name, total)) / (now - then), 1)
            for name, total in sums.items()
        }

    def _publish(self, report: LagReport) -> None:
        for row in report.partitions:
            self._metrics.lag_records.labels(row.topic, str(row.partition)).set(row.lag)
        if report.lag_ms is not None:
            self._metrics.lag_seconds.set(report.lag_ms / 1000)
        self._metrics.lag_stale.set(int(report.stale))
        if report.dead is not None:
            self._metrics.dead_letters.set(report.dead)


def topic_lags(report: LagReport) -> dict[str, int]:
    """Records behind by topic."""
    lags = {WEBHOOKS: 0, FACTS: 0}
    for row in report.partitions:
        lags[row.topic] = lags.get(row.topic, 0) + row.lag
    return lags
