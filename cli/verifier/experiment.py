"""How sure the rates of A/B variants are: intervals and words from counts of recipients (`docs/ab-tests.md`).

Written a second time, in another way where there is one: the test by scipy's contingency table, Holm's method as the
steps that it is described by, the power as a probability and not as a difference that can be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

from cli.verifier.summary import RATES, Numbers

RATE: Final = "click_rate"
"""What is compared unless another rate is asked for."""
BETTER_LOW: Final = ("bounce_rate", "complaint_rate", "unsubscribe_rate")
NO_PROPORTION: Final = "click_to_open_rate"

LEVEL: Final = 0.05
POWER: Final = 0.8
RELEVANT: Final = 0.2
LEAST: Final = 100
COCHRAN: Final = 5

_NORMAL: Final = NormalDist()


class Share(NamedTuple):
    """How many of how many recipients."""

    part: int
    whole: int


def share(numbers: Numbers, rate: str) -> Share:
    over, under = RATES[rate]
    return Share(int(numbers[over] or 0), int(numbers[under] or 0))


def intervals(numbers: Numbers) -> dict[str, list[float] | None]:
    """Of each rate the ends of its interval in percent."""
    return {rate: wilson(*share(numbers, rate)) for rate in RATES}


def wilson(part: float, whole: float) -> list[float] | None:
    """Ends of the 95 % interval in percent (E. B. Wilson 1927); None where it is no share of something."""
    if not 0 <= part <= whole or not whole:
        return None
    # The shares that are 1.96 standard errors of their own away from what was seen.
    square = _NORMAL.inv_cdf(0.975) ** 2 / whole
    seen = part / whole
    root = sqrt(square * (seen * (1 - seen) + square / 4))
    ends = ((seen + square / 2 - root) / (1 + square), (seen + square / 2 + root) / (1 + square))
    return [round(100 * end, 9) + 0.0 for end in ends]


def words(variants: Sequence[Numbers], rate: str) -> list[str | None]:
    """What must be said of each variant, against all others together."""
    return words_of([share(numbers, rate) for numbers in variants], rate)


def words_of(shares: Sequence[Share], rate: str) -> list[str | None]:
    if rate == NO_PROPORTION:
        return [None] * len(shares)
    all_of_it = Share(sum(one.part for one in shares), sum(one.whole for one in shares))
    said: list[str | None] = ["too early to tell"] * len(shares)
    if not all_of_it.part:
        return said
    pairs = {
        place: (one, rest)
        for place, one in enumerate(shares)
        if one.whole >= LEAST
        and (rest := Share(all_of_it.part - one.part, all_of_it.whole - one.whole)).whole >= LEAST
    }
    # Where two were sent, comparing the second with the first says the same again.
    comparisons = 1 if sum(one.whole > 0 for one in shares) == 2 else len(pairs)
    different = _different(pairs, comparisons)
    for place, (one, rest) in pairs.items():
        if place in different:
            higher = one.part * rest.whole > rest.part * one.whole
            said[place] = "worse" if higher == (rate in BETTER_LOW) else "better"
        elif _power(one, rest, comparisons) >= POWER:
            said[place] = "no difference seen"
    return said


def _different(pairs: dict[int, tuple[Share, Share]], comparisons: int) -> set[int]:
    """Which comparisons pass, by Holm's steps: the smallest first, until one doesn't."""
    values = sorted((_p_value(one, rest), place) for place, (one, rest) in pairs.items())
    passed: set[int] = set()
    for step, (value, place) in enumerate(values):
        if value >= LEVEL / max(1, comparisons - step):
            break
        passed.add(place)
    return passed


def _p_value(one: Share, rest: Share) -> float:
    from scipy.stats import chi2_contingency, fisher_exact  # type: ignore[import-untyped]

    table = [[side.part, side.whole - side.part] for side in (one, rest)]
    done, not_done = one.part + rest.part, one.whole + rest.whole - one.part - rest.part
    if not done or not not_done:
        return 1.0
    # The smallest count that the test expects, times all: whole numbers, so that the border is where it is.
    if min(one.whole, rest.whole) * min(done, not_done) < COCHRAN * (done + not_done):
        return float(fisher_exact(table).pvalue)
    return float(chi2_contingency(table, correction=False).pvalue)


def _power(one: Share, rest: Share, comparisons: int) -> float:
    """How likely a relevant difference would have been found."""
    rate = (one.part + rest.part) / (one.whole + rest.whole)
    error = sqrt(rate * (1 - rate) * (1 / one.whole + 1 / rest.whole))
    if not error:
        return 1.0
    return _NORMAL.cdf(RELEVANT * rate / error - _NORMAL.inv_cdf(1 - LEVEL / comparisons / 2))
