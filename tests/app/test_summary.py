"""The summary from counts by pattern: the numbers of report.md, and rates that are null where nothing was sent."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from app import contribution as c
from app.shapes import Summary
from app.summary import Count, summary

HUMAN = c.SENT | c.DELIVERED | c.OPENED | c.OPENED_PEOPLE | c.CLICKED | c.CLICKED_PEOPLE
MACHINE = c.SENT | c.DELIVERED | c.OPENED | c.CLICKED
PATTERNS = {
    c.SENT | c.DELIVERED: 580,
    HUMAN: 90,
    MACHINE: 315,
    c.SENT | c.DELIVERED | c.CLICKED | c.CLICKED_PEOPLE: 5,
    c.SENT | c.BOUNCED: 9,
    c.SENT | c.DELIVERED | c.BOUNCED: 1,
    c.REJECTED: 4,
    c.FAILED | c.SENT: 0,
}
TOTALS = [0] * c.OPENS + [300, 380, 22] + [100, 0, 31]


def test_numbers_of_every_event() -> None:
    numbers = summary(PATTERNS, TOTALS, "all")
    expected = {
        "sent": 1000,
        "delivered": 991,
        "opened": 405,
        "clicked": 410,
        "bounced": 10,
        "bounced_after_delivery": 1,
        "rejected": 4,
        "failed": 0,
        "clicked_without_open": 5,
        "openers_who_clicked": 405,
        "total_opens": 702,
        "total_clicks": 131,
        "open_rate": 40.5,
        "bounce_rate": 1.0,
        "openers_who_clicked_rate": 100.0,
    }
    assert {name: value for name, value in numbers.items() if name in expected} == expected


def test_numbers_of_people() -> None:
    numbers = summary(PATTERNS, TOTALS, "people")
    assert numbers["sent"] == 1000
    assert numbers["opened"] == 90
    assert numbers["clicked"] == 95
    assert numbers["total_opens"] == 300
    assert numbers["total_clicks"] == 100
    assert numbers["clicked_without_open"] == 5


@pytest.mark.parametrize("count", ["all", "people"])
def test_the_split_is_always_there(count: str) -> None:
    numbers = summary(PATTERNS, TOTALS, count)  # type: ignore[arg-type]
    assert numbers["opens_by_verdict"] == {"human": 300, "proxy": 380, "scanner": 22}
    assert numbers["clicks_by_verdict"] == {"human": 100, "proxy": 0, "scanner": 31}


def test_rates_of_nothing_are_null() -> None:
    numbers = summary({}, [0] * c.METRICS, "all")
    rates = [value for name, value in numbers.items() if name.endswith("_rate")]
    assert len(rates) == 8
    assert set(rates) == {None}


def test_the_shape_names_every_number_and_no_other() -> None:
    for count in get_args(Count):
        made = summary(PATTERNS, TOTALS, count)
        assert made.keys() == get_type_hints(Summary).keys()
