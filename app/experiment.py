"""A/B tests: how sure the rates of variants are, which variant is better, and any two fields against each other.

Rules:
1. Everything is reckoned from counts of recipients, never from rates, so cells add up to their rows exactly.
2. Intervals are Wilson's (95 %), null where the denominator is 0. Click-to-open is no proportion when people clicked
   without opening: its interval is null where it passes 100 %, and it is never tested (`openers_who_clicked_rate` is
   the proportion behind it).
3. Each variant is compared with all others together, so that the words need no control group, do not depend on the
   order, and several good variants can be better than one bad one.
4. The test is Pearson's chi-square of two proportions; where a count expected in its table is below 5 (Cochran 1954),
   Fisher's exact one. Many comparisons are corrected by Holm's method (1979), which holds however they depend on each
   other. Two variants are one comparison.
5. `too early to tell` stands where less than `MIN_RECIPIENTS` are on either side (one recipient would be more than a
   percentage point, and the first to open are not like the others), and where no difference was found, but one of
   `RELEVANT` of the rate would have been missed more often than one time in five. Only beyond that stands `no
   difference seen`. Where nobody has done it yet, it is too early too.
6. The level holds for one look. Who looks until something shows finds a difference by chance more often (the docs say
   so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import sqrt
from statistics import NormalDist
from typing import Final, Literal, NamedTuple, TypedDict

import numpy as np

from app.shapes import Heatmap, Method

Verdict = Literal["better", "worse", "no difference seen", "too early to tell"]
Interval = tuple[float, float]
"""Lower and upper end in percent."""
Row = tuple[Mapping[str, str], Mapping[str, object]]
"""Field → value of a variant, and its summary as `app.summary` makes it."""


class ComparedRow(TypedDict):
    variant: dict[str, str]
    interval: dict[str, Interval | None]
    verdict: Verdict | None


class Experiment(TypedDict):
    rate: str
    method: Method
    rows: list[ComparedRow]


RATES: Final[Mapping[str, tuple[str, str]]] = {
    "open_rate": ("opened", "sent"),
    "click_rate": ("clicked", "sent"),
    "click_to_open_rate": ("clicked", "opened"),
    "openers_who_clicked_rate": ("openers_who_clicked", "opened"),
    "bounce_rate": ("bounced", "sent"),
    "complaint_rate": ("complained", "sent"),
    "unsubscribe_rate": ("unsubscribed", "sent"),
    "delivery_rate": ("delivered", "sent"),
}
"""Rate → the summary's numbers that are its numerator and denominator."""
DEFAULT_RATE: Final = "click_rate"
"""Opens are what machines fake most."""
LOWER_IS_BETTER: Final = frozenset({"bounce_rate", "complaint_rate", "unsubscribe_rate"})
UNTESTED: Final = frozenset({"click_to_open_rate"})

LEVEL: Final = 0.05
POWER: Final = 0.8
RELEVANT: Final = 0.2
"""A difference worth knowing, as a share of the rate: from 20 % of openers to 24 %, from 2 % of clickers to 2.4 %."""
MIN_RECIPIENTS: Final = 100
MIN_EXPECTED: Final = 5.0

_NORMAL: Final = NormalDist()
_Z: Final = _NORMAL.inv_cdf(1 - LEVEL / 2)
_Z_POWER: Final = _NORMAL.inv_cdf(POWER)


def warm_up() -> None:
    """Imports what the tests need, so that the first answer needn't wait for it; for a thread at the start."""
    import scipy.stats  # type: ignore[import-untyped]  # noqa: F401


class Counts(NamedTuple):
    """A rate as counts of recipients; of `total`, `having` have done it."""

    having: int
    total: int


def counts_of(summary: Mapping[str, object], rate: str) -> Counts:
    """Raises KeyError for a rate that is none of `RATES`."""
    over, under = RATES[rate]
    return Counts(_number(summary, over), _number(summary, under))


def percent(counts: Counts) -> float | None:
    return 100 * counts.having / counts.total if counts.total else None


def wilson(counts: Sequence[Counts]) -> list[Interval | None]:
    """95 % intervals by Wilson's score method (E. B. Wilson, JASA 22, 1927, p. 209), without continuity correction.

    The same as `scipy.stats.binomtest(having, total).proportion_ci(method="wilson")`, for 1,000 rates in one
    millisecond in place of 400. None where there is no proportion: nothing below, or more above than below.
    """
    sound = [total > 0 and having <= total for having, total in counts]
    table = np.array([c if ok else (0, 1) for c, ok in zip(counts, sound, strict=True)], np.float64)
    having, total = table.reshape(-1, 2).T
    rate = having / total
    middle = (rate + _Z**2 / (2 * total)) / (1 + _Z**2 / total)
    half = _Z * np.sqrt(rate * (1 - rate) / total + _Z**2 / (4 * total**2)) / (1 + _Z**2 / total)
    # At 0 and at all the ends are the rate itself, but for rounding.
    low = 100 * np.minimum(np.maximum(middle - half, 0), rate)
    high = 100 * np.maximum(np.minimum(middle + half, 1), rate)
    low[having == 0] = 0.0
    high[having == total] = 100.0
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return [end if ok else None for end, ok in zip(ends, sound, strict=True)]


def intervals(summaries: Sequence[Mapping[str, object]]) -> list[dict[str, Interval | None]]:
    """Of each summary, rate → interval."""
    flat = wilson([counts_of(summary, rate) for summary in summaries for rate in RATES])
    width = len(RATES)
    return [dict(zip(RATES, flat[at : at + width], strict=True)) for at in range(0, len(flat), width)]


def verdicts(counts: Sequence[Counts], *, lower_is_better: bool = False) -> list[Verdict]:
    """Each variant in words, against all others together (rules 3 to 5). None of them may have more above than below.

    The first call that has something to compare imports scipy.stats, which takes a second: not in an event loop.
    """
    everyone = Counts(sum(c.having for c in counts), sum(c.total for c in counts))
    others = [Counts(everyone.having - c.having, everyone.total - c.total) for c in counts]
    large = [
        place
        for place, (one, rest) in enumerate(zip(counts, others, strict=True))
        if min(one.total, rest.total) >= MIN_RECIPIENTS
    ]
    words: list[Verdict] = ["too early to tell"] * len(counts)
    if not large or not everyone.having:
        return words
    # Of two variants, each is the other's others.
    twins = sum(c.total > 0 for c in counts) == 2
    pairs = [(counts[place], others[place]) for place in large]
    values = _p_values(pairs) if everyone.having < everyone.total else [1.0] * len(pairs)
    corrected = values if twins else holm(values)
    comparisons = 1 if twins else len(large)
    for place, value in zip(large, corrected, strict=True):
        one, rest = counts[place], others[place]
        if value < LEVEL:
            higher = one.having * rest.total > rest.having * one.total
            words[place] = "better" if higher != lower_is_better else "worse"
        elif _would_have_been_seen(one, rest, comparisons):
            words[place] = "no difference seen"
    return words


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (S. Holm, Scandinavian Journal of Statistics 6, 1979, p. 65)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    raised = accumulate((min(1.0, (len(order) - n) * values[p]) for n, p in enumerate(order)), max)
    corrected = dict(zip(order, raised, strict=True))
    return [corrected[place] for place in range(len(values))]


def _p_values(pairs: Sequence[tuple[Counts, Counts]]) -> list[float]:
    """Two-sided. Everything compared has somebody who has done it, and somebody who has not."""
    from scipy.stats import chi2, fisher_exact

    having, total, others, others_total = np.array([(*a, *b) for a, b in pairs], np.float64).T
    pooled = (having + others) / (total + others_total)
    spread = pooled * (1 - pooled) * (1 / total + 1 / others_total)
    values: list[float] = chi2.sf((having / total - others / others_total) ** 2 / spread, 1).tolist()
    everyone, done = total + others_total, having + others
    # Whole numbers up to the division: one that is exactly 5 is not below it.
    expected = np.minimum(total, others_total) * np.minimum(done, everyone - done) / everyone
    for place in np.flatnonzero(expected < MIN_EXPECTED).tolist():
        (a, n), (b, m) = pairs[place]
        values[place] = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    return values


def _would_have_been_seen(one: Counts, rest: Counts, comparisons: int) -> bool:
    """Whether a difference of `RELEVANT` would be found with a probability of `POWER` (normal approximation)."""
    pooled = (one.having + rest.having) / (one.total + rest.total)
    z = _NORMAL.inv_cdf(1 - LEVEL / comparisons / 2) + _Z_POWER
    detectable = z * sqrt(pooled * (1 - pooled) * (1 / one.total + 1 / rest.total))
    return detectable <= RELEVANT * pooled


def experiment(rows: Sequence[Row], rate: str = DEFAULT_RATE) -> Experiment:
    """`{"rate", "method", "rows": [{"variant", "interval": {rate: [low, high] or null}, "verdict"}]}`, rows as given.

    `verdict` is about `rate`; null for one that is no proportion. Raises KeyError for an unknown rate.
    """
    counts = [counts_of(summary, rate) for _, summary in rows]
    found = intervals([summary for _, summary in rows])
    words = _words(counts, rate)
    return {
        "rate": rate,
        "method": method(rate),
        "rows": [
            {"variant": dict(variant), "interval": interval, "verdict": verdict}
            for (variant, _), interval, verdict in zip(rows, found, words, strict=True)
        ],
    }


def heatmap(
    rows: Sequence[Row], field_x: str, field_y: str, rate: str, chosen: Mapping[str, str] | None = None
) -> Heatmap:
    """`{"rate", "field_x", "field_y", "x", "y", "method", "cells": [{"x", "y", "recipients", "numerator",
    "denominator", "rate", "interval", "verdict"}]}`.

    A cell sums up the variants that have its two values; `chosen` (field → value) leaves out those that have others.
    `x` and `y`: the values in order; null stands for variants without the field, a pair that nobody has is no cell.
    `recipients` are the sent ones. Raises KeyError for an unknown rate, ValueError for a field against itself.
    """
    if field_x == field_y:
        raise ValueError("two different fields are needed")
    sums: dict[tuple[str | None, str | None], list[int]] = {}
    wanted = (chosen or {}).items()
    for variant, summary in rows:
        if all(variant.get(field) == value for field, value in wanted):
            cell = sums.setdefault((variant.get(field_x), variant.get(field_y)), [0, 0, 0])
            for place, number in enumerate((_number(summary, "sent"), *counts_of(summary, rate))):
                cell[place] += number
    places = sorted(sums, key=lambda place: (_order(place[0]), _order(place[1])))
    counts = [Counts(*sums[place][1:]) for place in places]
    words = _words(counts, rate)
    ends = wilson(counts)
    return {
        "rate": rate,
        "field_x": field_x,
        "field_y": field_y,
        "x": sorted({x for x, _ in places}, key=_order),
        "y": sorted({y for _, y in places}, key=_order),
        "method": method(rate),
        "cells": [
            {
                "x": place[0],
                "y": place[1],
                "recipients": sums[place][0],
                "numerator": cell.having,
                "denominator": cell.total,
                "rate": percent(cell),
                "interval": interval,
                "verdict": verdict,
            }
            for place, cell, interval, verdict in zip(places, counts, ends, words, strict=True)
        ],
    }


def method(rate: str) -> Method:
    """What the words and intervals rest on, for the page to show."""
    described: Method = {"interval": "Wilson, 95 %"}
    if rate in UNTESTED:
        return described
    return {
        **described,
        "test": "Pearson's chi-square of two proportions, Fisher's exact test where an expected count is below 5",
        "compared_with": "all other variants together",
        "correction": "Holm",
        "level_percent": 100 * LEVEL,
        "minimum_recipients": MIN_RECIPIENTS,
        "relevant_difference_percent": 100 * RELEVANT,
        "power_percent": 100 * POWER,
    }


def _words(counts: Sequence[Counts], rate: str) -> Sequence[Verdict | None]:
    if rate in UNTESTED:
        return [None] * len(counts)
    return verdicts(counts, lower_is_better=rate in LOWER_IS_BETTER)


def _order(value: str | None) -> tuple[bool, str]:
    return value is None, value or ""


def _number(summary: Mapping[str, object], name: str) -> int:
    value = summary[name]
    assert isinstance(value, int)
    return value
