"""The timeline: counts by quarter hour (UTC) → rows by the hour or day of any timezone.

Rules:
1. A row is a run of quarter hours with the same local date, hour and offset (unit `day`: the same local date), labelled
   by its real start. So half-hour zones, days of 23 and 25 hours and half-hour shifts come out right.
2. Rows without events between the first and the last one are zeros, not holes.
3. Nothing is left out: rows, `earlier` and `overflow` add up to the summary. Only a window (`from`, `to`) shows less.
4. At most `MAX_ROWS` rows, the newest ones; all before them is summed in `earlier` (one event with a broken clock, said
   to be of 1970, must not make half a million rows).
5. Without a unit asked for: hours when the newest `MAX_ROWS` hours hold 99 % of everything, else days.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, cast
from zoneinfo import ZoneInfo

from app import contribution as c
from app.shapes import Timeline, TimelineNumbers, TimelineRow
from app.summary import Count

Unit = Literal["hour", "day"]
UNITS: Final[tuple[Unit, ...]] = ("hour", "day")

MAX_ROWS: Final = 2_400
"""100 days of hours, six years of days: what a chart can still show and a stream can still send."""
ENOUGH: Final = 0.99
"""Share of the events within the newest hours from which on hours say more than days."""

QUARTER_S: Final = 900
DAY_QUARTERS: Final = 96
# A local day has at most 25 hours and a bit, a local hour at most four quarters.
_ROW_QUARTERS: Final[dict[Unit, int]] = {"hour": 4, "day": 104}
_ROW_LENGTH_S: Final[dict[Unit, int]] = {"hour": 3_600, "day": 86_400}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What datetime can tell in every zone: 1 January 0002 to 31 December 9998.
_FIRST_QUARTER: Final = int((datetime(2, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) // QUARTER_S
_LAST_QUARTER: Final = int((datetime(9998, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds()) // QUARTER_S

# Which metrics make the columns of a row.
_Columns = tuple[tuple[str, tuple[int, ...]], ...]
_COLUMNS: Final[dict[Count, _Columns]] = {
    "all": (
        ("sent", (c.FIRST_SENT,)),
        ("opened", (c.FIRST_OPENED,)),
        ("clicked", (c.FIRST_CLICKED,)),
        ("total_opens", (c.OPENS, c.OPENS + 1, c.OPENS + 2)),
        ("total_clicks", (c.CLICKS, c.CLICKS + 1, c.CLICKS + 2)),
    ),
    "people": (
        ("sent", (c.FIRST_SENT,)),
        ("opened", (c.FIRST_OPENED_PEOPLE,)),
        ("clicked", (c.FIRST_CLICKED_PEOPLE,)),
        ("total_opens", (c.OPENS,)),
        ("total_clicks", (c.CLICKS,)),
    ),
}


def zone_of(timezone: str) -> ZoneInfo:
    """The IANA zone of that name; raises ValueError for anything else."""
    try:
        return ZoneInfo(timezone)
    except (LookupError, OSError, ValueError):
        # LookupError: not known. OSError: a folder ("America") or a name too long. ValueError: no relative path.
        raise ValueError("not an IANA timezone") from None


def timeline(
    quarters: Mapping[int, Sequence[int]],
    overflow: Sequence[int],
    *,
    timezone: str,
    count: Count,
    unit: Unit | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Timeline:
    """The object `timeline`: {"timezone", "unit", "rows"} and, where they hold something, "earlier" and "overflow".

    `quarters`: quarter (minutes since 1970 UTC // 15) → count by metric. `overflow`: the same of the events whose
    quarter is not kept. `from_ms` (included) and `to_ms` (not included) are widened to whole quarter hours.
    Raises ValueError for an unknown timezone.
    """
    zone = zone_of(timezone)
    columns = _COLUMNS[count]
    chosen = _within(_on_the_calendar(quarters), from_ms, to_ms)
    times = sorted(chosen)
    if unit is None:
        unit = _best_unit(chosen, times)
    result: Timeline = {"timezone": timezone, "unit": unit, "rows": []}
    if times:
        starts = _row_starts(zone, unit, times[0], times[-1])
        first_shown = bisect_left(times, starts[0])
        if first_shown:
            early = times[:first_shown]
            result["earlier"] = {
                "start": _label(zone, early[0]),
                **_sums(columns, [chosen[q] for q in early]),
            }
        result["rows"] = list(_rows(zone, columns, chosen, times[first_shown:], starts))
    if from_ms is None and to_ms is None:
        beyond = _sums(columns, [overflow])
        if beyond["total_opens"] or beyond["total_clicks"]:
            result["overflow"] = {
                "total_opens": beyond["total_opens"],
                "total_clicks": beyond["total_clicks"],
            }
    return result


def _on_the_calendar(quarters: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[int]]:
    """Times that no calendar knows count at its ends: a broken clock must not make numbers disappear."""
    if not quarters or (min(quarters) >= _FIRST_QUARTER and max(quarters) <= _LAST_QUARTER):
        return quarters
    bounded: dict[int, list[int]] = {}
    for quarter, counts in quarters.items():
        at = min(max(quarter, _FIRST_QUARTER), _LAST_QUARTER)
        bounded[at] = [a + b for a, b in zip(bounded.get(at, [0] * len(counts)), counts, strict=True)]
    return bounded


def _within(
    quarters: Mapping[int, Sequence[int]], from_ms: int | None, to_ms: int | None
) -> Mapping[int, Sequence[int]]:
    if from_ms is None and to_ms is None:
        return quarters
    first = from_ms // c.QUARTER_MS if from_ms is not None else _FIRST_QUARTER
    end = -(-to_ms // c.QUARTER_MS) if to_ms is not None else _LAST_QUARTER + 1
    return {quarter: counts for quarter, counts in quarters.items() if first <= quarter < end}


def _best_unit(quarters: Mapping[int, Sequence[int]], times: Sequence[int]) -> Unit:
    if not times or times[-1] - times[0] < 4 * MAX_ROWS:
        return "hour"
    border = times[-1] - 4 * MAX_ROWS
    everything = sum(sum(counts) for counts in quarters.values())
    recent = sum(sum(quarters[quarter]) for quarter in times[bisect_left(times, border) :])
    return "hour" if recent >= ENOUGH * everything else "day"


def _rows(
    zone: ZoneInfo,
    columns: _Columns,
    quarters: Mapping[int, Sequence[int]],
    times: Sequence[int],
    starts: Sequence[int],
) -> Iterator[TimelineRow]:
    position = 0
    for start, end in pairwise([*starts, _LAST_QUARTER + DAY_QUARTERS]):
        until = position
        while until < len(times) and times[until] < end:
            until += 1
        counts = [quarters[quarter] for quarter in times[position:until]]
        yield {"start": _label(zone, start), **_sums(columns, counts)}
        position = until


def _sums(columns: _Columns, counts: Sequence[Sequence[int]]) -> TimelineNumbers:
    totals = [sum(of_metric) for of_metric in zip(*counts, strict=True)] or [0] * c.METRICS
    return cast(TimelineNumbers, {name: sum([totals[m] for m in metrics]) for name, metrics in columns})


def _row_starts(zone: ZoneInfo, unit: Unit, first: int, last: int) -> list[int]:
    """The first quarters of the rows that hold `first` to `last`, the newest MAX_ROWS of them, in order."""
    oldest = max(first - _ROW_QUARTERS[unit], last - (MAX_ROWS + 1) * _ROW_QUARTERS[unit], _FIRST_QUARTER)
    starts: list[int] = []
    for day in range(oldest // DAY_QUARTERS, last // DAY_QUARTERS + 1):
        starts += _starts_of_day(zone.key, unit, day)
    # The row that holds `first` begins at or before it; rows behind `last` aren't wanted.
    begin = max(bisect_left(starts, first + 1) - 1, 0)
    end = bisect_left(starts, last + 1)
    return starts[begin:end][-MAX_ROWS:]


@lru_cache(maxsize=16_384)
def _starts_of_day(timezone: str, unit: Unit, day: int) -> tuple[int, ...]:
    """The quarters of one UTC day at which a row begins."""
    zone = ZoneInfo(timezone)
    first = day * DAY_QUARTERS
    offset = _local(zone, first - 1).utcoffset()
    if offset is not None and offset == _local(zone, first + DAY_QUARTERS - 1).utcoffset():
        # No shift that day: local time is UTC and a constant, and reckoning is faster than asking 97 times.
        offset_s = int(offset.total_seconds())
        length_s = _ROW_LENGTH_S[unit]
        local_s = range(
            first * QUARTER_S + offset_s, (first + DAY_QUARTERS) * QUARTER_S + offset_s, QUARTER_S
        )
        return tuple(first + n for n, s in enumerate(local_s) if s // length_s != (s - QUARTER_S) // length_s)
    keys = [_row_key(zone, unit, quarter) for quarter in range(first - 1, first + DAY_QUARTERS)]
    return tuple(first + n for n in range(DAY_QUARTERS) if keys[n] != keys[n + 1])


def _local(zone: ZoneInfo, quarter: int) -> datetime:
    return (_EPOCH + timedelta(seconds=quarter * QUARTER_S)).astimezone(zone)


def _row_key(zone: ZoneInfo, unit: Unit, quarter: int) -> object:
    local = _local(zone, quarter)
    if unit == "day":
        return local.toordinal()
    return local.toordinal(), local.hour, local.utcoffset()


@lru_cache(maxsize=65_536)
def _label_text(timezone: str, quarter: int) -> str:
    return _local(ZoneInfo(timezone), quarter).isoformat()


def _label(zone: ZoneInfo, quarter: int) -> str:
    return _label_text(zone.key, quarter)
