"""The summary of a campaign from its counts by pattern and its totals. Definitions: `docs/report.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, cast

from app import contribution as c
from app.shapes import Summary
from app.tally import one, unpack
from app.verdicts import VERDICT_NAMES

Count = Literal["all", "people"]


def _with(bits: int) -> Callable[[int], bool]:
    return lambda pattern: pattern & bits == bits


def _with_without(bits: int, without: int) -> Callable[[int], bool]:
    return lambda pattern: pattern & bits == bits and not pattern & without


# Numbers that count recipients: name → which patterns count, under `all` and under `people`.
_NUMBERS: Final[dict[str, tuple[Callable[[int], bool], Callable[[int], bool]]]] = {
    "sent": (_with(c.SENT), _with(c.SENT)),
    "delivered": (_with(c.DELIVERED), _with(c.DELIVERED)),
    "opened": (_with(c.OPENED), _with(c.OPENED_PEOPLE)),
    "clicked": (_with(c.CLICKED), _with(c.CLICKED_PEOPLE)),
    "bounced": (_with(c.BOUNCED), _with(c.BOUNCED)),
    "complained": (_with(c.COMPLAINED), _with(c.COMPLAINED)),
    "unsubscribed": (_with(c.UNSUBSCRIBED), _with(c.UNSUBSCRIBED)),
    "unsubscribed_suspected": (_with(c.UNSUBSCRIBED_SUSPECTED), _with(c.UNSUBSCRIBED_SUSPECTED)),
    "deferred": (_with(c.DEFERRED), _with(c.DEFERRED)),
    "rejected": (_with_without(c.REJECTED, c.SENT), _with_without(c.REJECTED, c.SENT)),
    "failed": (_with_without(c.FAILED, c.SENT), _with_without(c.FAILED, c.SENT)),
    "sent_inferred": (_with(c.SENT_INFERRED), _with(c.SENT_INFERRED)),
    "delivered_inferred": (_with(c.DELIVERED_INFERRED), _with(c.DELIVERED_INFERRED)),
    "bounced_after_delivery": (_with(c.BOUNCED | c.DELIVERED), _with(c.BOUNCED | c.DELIVERED)),
    "clicked_without_open": (
        _with_without(c.CLICKED, c.OPENED),
        _with_without(c.CLICKED_PEOPLE, c.OPENED_PEOPLE),
    ),
    "openers_who_clicked": (_with(c.OPENED | c.CLICKED), _with(c.OPENED_PEOPLE | c.CLICKED_PEOPLE)),
}

# Rates in percent: name → (numerator, denominator).
_RATES: Final = {
    "open_rate": ("opened", "sent"),
    "click_rate": ("clicked", "sent"),
    "click_to_open_rate": ("clicked", "opened"),
    "openers_who_clicked_rate": ("openers_who_clicked", "opened"),
    "bounce_rate": ("bounced", "sent"),
    "complaint_rate": ("complained", "sent"),
    "unsubscribe_rate": ("unsubscribed", "sent"),
    "delivery_rate": ("delivered", "sent"),
}


# A group's row (`app.breakdown`) holds every number of its recipients' summary, these fields in this order. On disk.
GROUP_FIELDS: Final = (
    ("recipients", "all"),
    *((name, "all") for name in _NUMBERS),
    *((name, "people") for name in ("opened", "clicked", "clicked_without_open", "openers_who_clicked")),
)
GROUP_EVENTS: Final = len(GROUP_FIELDS)
"""The first of the six fields behind them: opens by verdict, clicks by verdict."""
_PLACES: Final = {field: place for place, field in enumerate(GROUP_FIELDS)}


@lru_cache(maxsize=16_384)
def group_tally(pattern: int) -> int:
    """What one recipient with this pattern adds to its groups, without its events."""
    tally = one(0)
    for place, (name, count) in enumerate(GROUP_FIELDS[1:], start=1):
        if _NUMBERS[name][count == "people"](pattern):
            tally += one(place)
    return tally


def group_summary(tally: int, count: Count) -> tuple[int, Summary]:
    """A group's row → its recipients, and their summary, of the same shape as a campaign's."""
    fields = unpack(tally, GROUP_EVENTS + 6)
    values = {name: fields[_PLACES.get((name, count), _PLACES[name, "all"])] for name in _NUMBERS}
    return fields[0], _document(
        values, fields[GROUP_EVENTS : GROUP_EVENTS + 3], fields[GROUP_EVENTS + 3 :], count
    )


def summary(patterns: Mapping[int, int], totals: Sequence[int], count: Count) -> Summary:
    """Recipients by pattern, and events by metric (`contribution.METRICS` of them) → the object `summary`."""
    which = 0 if count == "all" else 1
    values = {
        name: sum(n for pattern, n in patterns.items() if tests[which](pattern))
        for name, tests in _NUMBERS.items()
    }
    return _document(values, totals[c.OPENS : c.OPENS + 3], totals[c.CLICKS : c.CLICKS + 3], count)


def _document(
    values: Mapping[str, int], opens: Sequence[int], clicks: Sequence[int], count: Count
) -> Summary:
    """Recipients by number, and events by verdict → the object `summary`."""
    numbers: dict[str, object] = dict(values)
    numbers["total_opens"] = sum(opens) if count == "all" else opens[0]
    numbers["total_clicks"] = sum(clicks) if count == "all" else clicks[0]
    for name, (over, under) in _RATES.items():
        numbers[name] = 100 * values[over] / values[under] if values[under] else None
    numbers["opens_by_verdict"] = dict(zip(VERDICT_NAMES, opens, strict=True))
    numbers["clicks_by_verdict"] = dict(zip(VERDICT_NAMES, clicks, strict=True))
    return cast(Summary, numbers)  # that its fields are these is a test's to say
