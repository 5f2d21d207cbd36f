"""A source's rhythm: how long it is usually quiet, and whether it is quiet for longer than that now.

What is known of a source are the quarter hours in which something came from it (of the `WINDOW_DAYS` days up to the
last one) and when the last thing came. A pause is the time between two such quarters that are no neighbours. Rules:
1. A source that was heard in fewer than `MIN_QUARTERS` quarters has no rhythm yet and is never called silent.
2. Its usual pause is the longest one. If that one is more than `OUTLIER` times as long as every other, it was an
   incident and the second longest is the usual one: what happened once is an incident, twice a habit. So an outage of
   a week doesn't make us deaf for the next one; nights, weekends and weekly mailings are learnt at their second time.
3. A silence is too long when it is longer than `FACTOR` times the usual pause (`FACTOR_YOUNG` times while fewer than
   `MANY` pauses are known, since opens of a first mailing come ever more seldom), and longer than an hour.
More of the same arrivals, in any order, change nothing; waiting never ends a silence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

QUARTER_MS: Final = 15 * 60_000
WINDOW_DAYS: Final = 28
MIN_SILENCE_MS: Final = 3_600_000
MIN_QUARTERS: Final = 3
OUTLIER: Final = 4
FACTOR: Final = 2
FACTOR_YOUNG: Final = 4
MANY: Final = 8
WEEK_QUARTERS: Final = 7 * 96


class Rhythm(msgspec.Struct, frozen=True):
    usual_pause_ms: int | None
    """None: no rhythm yet."""
    allowed_ms: int | None
    """The longest silence that is nothing unusual."""
    silent: bool


def quarter_of(at_ms: int) -> int:
    return at_ms // QUARTER_MS


def rhythm_of(quarters: Iterable[int], last_ms: int | None, now_ms: int) -> Rhythm:
    """`quarters`: since 1970 in UTC, in any order; `last_ms`: the last arrival."""
    heard = sorted(set(quarters))
    if last_ms is None or not heard:
        return Rhythm(None, None, silent=False)
    heard = heard[bisect_left(heard, heard[-1] - WINDOW_DAYS * 96) :]
    if len(heard) < MIN_QUARTERS:
        return Rhythm(None, None, silent=False)
    pauses = sorted(
        (later - earlier) * QUARTER_MS for earlier, later in pairwise(heard) if later - earlier > 1
    )
    usual_ms = QUARTER_MS
    if pauses:
        second_ms = pauses[-2] if len(pauses) > 1 else QUARTER_MS
        usual_ms = pauses[-1] if pauses[-1] <= OUTLIER * second_ms else second_ms
    factor = FACTOR if len(pauses) >= MANY else FACTOR_YOUNG
    allowed_ms = max(MIN_SILENCE_MS, factor * usual_ms)
    # A quarter says itself that something came in it, even where the exact time was lost.
    since_ms = max(last_ms, heard[-1] * QUARTER_MS)
    return Rhythm(usual_ms, allowed_ms, silent=now_ms - since_ms > allowed_ms)


def quarters_in(week: int, bits: bytes) -> list[int]:
    """The quarters of a week (counted from 1970) whose bits are set, as Redis' SETBIT numbers bits."""
    first = week * WEEK_QUARTERS
    return [
        first + place
        for place in range(min(WEEK_QUARTERS, 8 * len(bits)))
        if bits[place >> 3] >> (7 - (place & 7)) & 1
    ]


def weeks_until(last_ms: int) -> range:
    """The weeks that the window touches, that of the last arrival last."""
    last = quarter_of(last_ms)
    return range((last - WINDOW_DAYS * 96) // WEEK_QUARTERS, last // WEEK_QUARTERS + 1)
