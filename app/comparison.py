"""A campaign at a given age, so that campaigns can stand side by side.

Rules:
1. A campaign's age counts from its start: the quarter hour by which 1 % of all its sent recipients were sent. One
   broken clock must not shift it; what happened before it counts all the same.
2. A number at an age is what the timeline's hours before that age add up to: a recipient counts by the time of their
   first event. Events whose times are not kept (`overflow` of the timeline) are in none.
3. More recipients may come later and move the start: compare campaigns that are sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, TypedDict, cast

from app import contribution as c
from app.shapes import ComparedNumbers, CurvePoint, TimelineNumbers
from app.summary import Count
from app.times import utc_text

MAX_AGE_HOURS: Final = 2_400
"""100 days, as many hours as the timeline shows."""
START_PERCENT: Final = 1

_HOUR_QUARTERS: Final = 4
# Number → the metrics that it sums up.
_NUMBERS: Final[dict[Count, dict[str, tuple[int, ...]]]] = {
    "all": {
        "sent": (c.FIRST_SENT,),
        "opened": (c.FIRST_OPENED,),
        "clicked": (c.FIRST_CLICKED,),
        "total_opens": tuple(range(c.OPENS, c.OPENS + 3)),
        "total_clicks": tuple(range(c.CLICKS, c.CLICKS + 3)),
    },
    "people": {
        "sent": (c.FIRST_SENT,),
        "opened": (c.FIRST_OPENED_PEOPLE,),
        "clicked": (c.FIRST_CLICKED_PEOPLE,),
        "total_opens": (c.OPENS,),
        "total_clicks": (c.CLICKS,),
    },
}
_RATES: Final = {
    "open_rate": ("opened", "sent"),
    "click_rate": ("clicked", "sent"),
    "click_to_open_rate": ("clicked", "opened"),
}


class AtAge(TypedDict):
    start: str | None
    age_hours: int
    reached: bool
    numbers: ComparedNumbers
    curve: list[CurvePoint]


def start_quarter(quarters: Mapping[int, Sequence[int]]) -> int | None:
    """The first quarter by whose end 1 % of all sent recipients were sent; None where nothing was sent."""
    times = sorted(quarters)
    sent = list(accumulate(quarters[quarter][c.FIRST_SENT] for quarter in times))
    if not sent or not sent[-1]:
        return None
    # The smallest whole number of recipients that is at least 1 %.
    enough = -(-START_PERCENT * sent[-1] // 100)
    return times[bisect_left(sent, enough)]


def at_age(quarters: Mapping[int, Sequence[int]], *, age_hours: int, count: Count, now_ms: int) -> AtAge:
    """`{"start", "age_hours", "reached", "numbers": {"sent", …, "open_rate", …}, "curve": [{"age_hours", "sent", …}]}`.

    `quarters`: quarter (minutes since 1970 UTC // 15) → count by metric (`contribution.METRICS` of them). `start` is
    RFC 3339, null where nothing was sent. `reached`: the campaign is that old at `now_ms`. `curve`: what the numbers
    were at each full hour of age, up to the one asked for or the last one that is over; the numbers are those of
    `age_hours`, or of now where it is not reached. Raises ValueError for an age that is not 1 to `MAX_AGE_HOURS`.
    """
    if not 1 <= age_hours <= MAX_AGE_HOURS:
        raise ValueError(f"must be 1 to {MAX_AGE_HOURS} hours")
    start = start_quarter(quarters)
    if start is None:
        none = cast(TimelineNumbers, dict.fromkeys(_NUMBERS[count], 0))
        return {
            "start": None,
            "age_hours": age_hours,
            "reached": False,
            "numbers": _with_rates(none),
            "curve": [],
        }
    end = start + age_hours * _HOUR_QUARTERS
    times = sorted(quarter for quarter in quarters if quarter < end)
    sums = {
        name: [0, *accumulate(sum(quarters[quarter][m] for m in metrics) for quarter in times)]
        for name, metrics in _NUMBERS[count].items()
    }

    def numbers_at(hours: int) -> TimelineNumbers:
        before = bisect_left(times, start + hours * _HOUR_QUARTERS)
        return cast(TimelineNumbers, {name: values[before] for name, values in sums.items()})

    over = (now_ms // c.QUARTER_MS - start) // _HOUR_QUARTERS
    shown = range(1, min(age_hours, over) + 1)
    return {
        "start": utc_text(start * c.QUARTER_MS),
        "age_hours": age_hours,
        "reached": over >= age_hours,
        "numbers": _with_rates(numbers_at(age_hours)),
        "curve": [{"age_hours": hours, **numbers_at(hours)} for hours in shown],
    }


def _with_rates(numbers: TimelineNumbers) -> ComparedNumbers:
    """In percent; null where the denominator is 0."""
    counts = cast(Mapping[str, int], numbers)
    rates = {
        name: 100 * counts[over] / counts[under] if counts[under] else None
        for name, (over, under) in _RATES.items()
    }
    return cast(ComparedNumbers, {**numbers, **rates})
