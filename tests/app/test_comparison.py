"""A campaign at an age: the start that one broken clock does not shift, and numbers that are the timeline's."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import contribution as c
from app.comparison import MAX_AGE_HOURS, at_age, start_quarter
from app.summary import Count
from app.timeline import timeline

START = 1_990_000
LATER_MS = (START + 100_000) * c.QUARTER_MS
NOTHING = [0] * c.METRICS
NAMES = ("sent", "opened", "clicked", "total_opens", "total_clicks")

metrics = st.lists(st.integers(0, 60), min_size=c.METRICS, max_size=c.METRICS)
some = st.dictionaries(st.integers(START, START + 400), metrics, max_size=30)
counts = st.sampled_from(["all", "people"])


def counted(**numbers: int) -> list[int]:
    row = list(NOTHING)
    for name, number in numbers.items():
        row[getattr(c, name.upper())] = number
    return row


def compare(
    quarters: dict[int, list[int]], age_hours: int, count: str = "all", now_ms: int = LATER_MS
) -> dict[str, Any]:
    return cast(
        dict[str, Any], at_age(quarters, age_hours=age_hours, count=cast(Count, count), now_ms=now_ms)
    )


@given(some)
def test_the_start_is_the_first_quarter_with_one_percent(quarters: dict[int, list[int]]) -> None:
    start = start_quarter(quarters)
    total = sum(row[c.FIRST_SENT] for row in quarters.values())
    if start is None:
        assert total == 0
        return
    by_then = sum(row[c.FIRST_SENT] for quarter, row in quarters.items() if quarter <= start)
    before = sum(row[c.FIRST_SENT] for quarter, row in quarters.items() if quarter < start)
    assert 100 * by_then >= total > 100 * before
    assert quarters[start][c.FIRST_SENT]


def test_one_broken_clock_does_not_shift_it() -> None:
    sending = {START + n: counted(first_sent=1_000) for n in range(4)}
    assert start_quarter(sending) == START
    assert start_quarter({0: counted(first_sent=39), **sending}) == START
    assert start_quarter({0: counted(first_sent=41), **sending}) == 0
    assert start_quarter({7: counted(first_sent=1)}) == 7
    # What the broken clock said counts all the same.
    assert compare({0: counted(first_sent=39), **sending}, 1)["numbers"]["sent"] == 4_039


@given(some, st.integers(1, 120), counts)
def test_the_numbers_are_those_of_the_timeline_before_that_age(
    quarters: dict[int, list[int]], age_hours: int, count: str
) -> None:
    document = compare(quarters, age_hours, count)
    start = start_quarter(quarters)
    if start is None:
        assert document["start"] is None
        assert document["curve"] == []
        assert all(document["numbers"][name] == 0 for name in NAMES)
        return
    for at in {1, age_hours}:
        rows = timeline(
            quarters,
            NOTHING,
            timezone="UTC",
            count=cast(Count, count),
            unit="hour",
            to_ms=(start + 4 * at) * c.QUARTER_MS,
        )["rows"]
        expected = {name: sum(row[name] for row in cast(list[Any], rows)) for name in NAMES}
        assert document["curve"][at - 1] == {"age_hours": at, **expected}
    assert {name: document["numbers"][name] for name in NAMES} == expected_last(document)
    assert len(document["curve"]) == age_hours
    for before, after in zip(document["curve"], document["curve"][1:], strict=False):
        assert all(before[name] <= after[name] for name in NAMES)


def expected_last(document: dict[str, Any]) -> dict[str, int]:
    return {name: document["curve"][-1][name] for name in NAMES}


@given(some, counts, st.randoms(use_true_random=False))
def test_the_order_of_the_quarters_does_not_matter(
    quarters: dict[int, list[int]], count: str, chance: Any
) -> None:
    items = list(quarters.items())
    chance.shuffle(items)
    assert compare(dict(items), 24, count) == compare(quarters, 24, count)


def test_an_example() -> None:
    quarters = {
        START: counted(first_sent=900),
        START + 3: counted(first_sent=100, first_opened=50, opens=30),
        START + 4: counted(first_opened=200, first_opened_people=100, first_clicked=10, opens=250, clicks=11),
        START + 8: counted(first_opened=1_000),
    }
    assert compare(quarters, 2) == {
        "start": "2026-10-03T04:00:00.000Z",
        "age_hours": 2,
        "reached": True,
        "numbers": {
            "sent": 1_000,
            "opened": 250,
            "clicked": 10,
            "total_opens": 280,
            "total_clicks": 11,
            "open_rate": 25.0,
            "click_rate": 1.0,
            "click_to_open_rate": 4.0,
        },
        "curve": [
            {
                "age_hours": 1,
                "sent": 1_000,
                "opened": 50,
                "clicked": 0,
                "total_opens": 30,
                "total_clicks": 0,
            },
            {
                "age_hours": 2,
                "sent": 1_000,
                "opened": 250,
                "clicked": 10,
                "total_opens": 280,
                "total_clicks": 11,
            },
        ],
    }
    assert compare(quarters, 2, "people")["numbers"]["open_rate"] == 10.0


def test_rates_of_nothing_are_null() -> None:
    numbers = compare({}, 1)["numbers"]
    assert [numbers[name] for name in ("sent", "open_rate", "click_to_open_rate")] == [0, None, None]


@pytest.mark.parametrize(
    ("minutes", "hours"), [(0, 0), (59, 0), (60, 1), (119, 1), (120, 2), (9_999, 2), (-500, 0)]
)
def test_hours_that_are_not_over_are_not_shown(minutes: int, hours: int) -> None:
    now_ms = START * c.QUARTER_MS + minutes * 60_000
    document = compare({START: counted(first_sent=5)}, 2, now_ms=now_ms)
    assert (len(document["curve"]), document["reached"]) == (hours, hours == 2)
    assert document["numbers"]["sent"] == 5


@pytest.mark.parametrize("age_hours", [0, -1, MAX_AGE_HOURS + 1])
def test_other_ages_are_refused(age_hours: int) -> None:
    with pytest.raises(ValueError, match="hours"):
        compare({}, age_hours)
