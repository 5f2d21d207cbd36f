"""The timeline in every timezone: rows by local hour, sums that are the summary's, a bounded number of rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import contribution as c
from app.summary import Count
from app.timeline import MAX_ROWS, Unit, timeline

COLUMNS = {
    "sent": {"all": [c.FIRST_SENT], "people": [c.FIRST_SENT]},
    "opened": {"all": [c.FIRST_OPENED], "people": [c.FIRST_OPENED_PEOPLE]},
    "clicked": {"all": [c.FIRST_CLICKED], "people": [c.FIRST_CLICKED_PEOPLE]},
    "total_opens": {"all": [c.OPENS, c.OPENS + 1, c.OPENS + 2], "people": [c.OPENS]},
    "total_clicks": {"all": [c.CLICKS, c.CLICKS + 1, c.CLICKS + 2], "people": [c.CLICKS]},
}
NOTHING = [0] * c.METRICS
ZONES = sorted(available_timezones())

metrics = st.lists(st.integers(0, 5), min_size=c.METRICS, max_size=c.METRICS)
years = st.dictionaries(st.integers(0, 70 * 365 * 96), metrics, max_size=12)
days = st.dictionaries(st.integers(1_990_000, 1_990_800), metrics, max_size=40)


def make(quarters: dict[int, list[int]], timezone: str = "UTC", **options: Any) -> dict[str, Any]:
    overflow = options.pop("overflow", NOTHING)
    count = cast(Count, options.pop("count", "all"))
    return cast(dict[str, Any], timeline(quarters, overflow, timezone=timezone, count=count, **options))


def quarter(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 900


def sent(*times: str) -> dict[int, list[int]]:
    return {quarter(text): [1] + [0] * (c.METRICS - 1) for text in times}


def starts(document: dict[str, Any]) -> list[str]:
    return [row["start"] for row in document["rows"]]


@given(
    st.one_of(years, days),
    metrics,
    st.sampled_from(ZONES),
    st.sampled_from(["all", "people"]),
    st.sampled_from([None, "hour", "day"]),
)
def test_rows_earlier_and_overflow_add_up(
    quarters: dict[int, list[int]], beyond: list[int], zone: str, count: str, unit: Unit | None
) -> None:
    beyond = [n if metric >= c.OPENS else 0 for metric, n in enumerate(beyond)]
    document = make(quarters, zone, count=count, unit=unit, overflow=beyond)
    assert len(document["rows"]) <= MAX_ROWS
    for name, by_count in COLUMNS.items():
        shown = sum(row[name] for row in document["rows"])
        shown += document.get("earlier", {}).get(name, 0) + document.get("overflow", {}).get(name, 0)
        assert shown == sum(row[m] for row in [*quarters.values(), beyond] for m in by_count[count])


@given(days.filter(bool), st.sampled_from(ZONES))
def test_rows_are_runs_of_local_date_hour_and_offset(quarters: dict[int, list[int]], zone: str) -> None:
    """Against the definition, quarter by quarter."""
    document = make(quarters, zone, unit="hour")

    def key(at: int) -> tuple[object, ...]:
        local = datetime.fromtimestamp(at * 900, ZoneInfo(zone))
        return local.date(), local.hour, local.utcoffset()

    first, last = min(quarters), max(quarters)
    while key(first - 1) == key(first):
        first -= 1
    expected: list[tuple[str, int]] = []
    for at in range(first, last + 1):
        if at == first or key(at) != key(at - 1):
            expected.append((datetime.fromtimestamp(at * 900, ZoneInfo(zone)).isoformat(), 0))
        label, n = expected[-1]
        expected[-1] = (label, n + quarters.get(at, NOTHING)[c.FIRST_SENT])
    assert [(row["start"], row["sent"]) for row in document["rows"]] == expected[-MAX_ROWS:]


def test_empty() -> None:
    assert make({}) == {"timezone": "UTC", "unit": "hour", "rows": []}


def test_empty_hours_are_zeros() -> None:
    document = make(sent("2026-11-23T09:59Z", "2026-11-23T12:00Z"))
    assert [row["sent"] for row in document["rows"]] == [1, 0, 0, 1]


def test_spring_day_has_23_hours() -> None:
    document = make(sent("2026-03-29T00:00+01:00", "2026-03-29T23:00+02:00"), "Europe/Berlin")
    assert len(document["rows"]) == 23
    assert starts(document)[1:3] == ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]


def test_autumn_day_has_25_hours_and_two_named_alike() -> None:
    document = make(sent("2026-10-25T00:00+02:00", "2026-10-25T23:00+01:00"), "Europe/Berlin")
    assert len(document["rows"]) == 25
    assert starts(document)[2:4] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]
    assert len(make(sent("2026-10-25T00:00+02:00"), "Europe/Berlin", unit="day")["rows"]) == 1


def test_half_and_quarter_hour_zones() -> None:
    moment = sent("2026-11-23T10:00Z")
    assert starts(make(moment, "Asia/Kolkata")) == ["2026-11-23T15:00:00+05:30"]
    assert starts(make(moment, "Asia/Kathmandu")) == ["2026-11-23T15:00:00+05:45"]


def test_lord_howe_shifts_by_half_an_hour() -> None:
    # 4 October 2026: 02:00 becomes 02:30. The hour 02 has two quarters. 5 April: 01:30 to 02:00 comes twice.
    spring = make(sent("2026-10-04T01:00+10:30", "2026-10-04T03:00+11:00"), "Australia/Lord_Howe")
    assert starts(spring) == [
        "2026-10-04T01:00:00+10:30",
        "2026-10-04T02:30:00+11:00",
        "2026-10-04T03:00:00+11:00",
    ]
    autumn = make(sent("2026-04-05T01:00+11:00", "2026-04-05T02:00+10:30"), "Australia/Lord_Howe")
    assert starts(autumn) == [
        "2026-04-05T01:00:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T02:00:00+10:30",
    ]


def test_days_are_local_days() -> None:
    document = make(sent("2026-03-28T23:30Z", "2026-03-30T21:59Z"), "Europe/Berlin", unit="day")
    assert starts(document) == ["2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"]


def test_one_event_of_1970_is_earlier_and_hours_stay_hours() -> None:
    recent = {quarter("2026-11-23T09:00Z") + n: [100] + [0] * (c.METRICS - 1) for n in range(40)}
    document = make(recent | {0: [1] + [0] * (c.METRICS - 1)})
    assert document["unit"] == "hour"
    assert document["earlier"] == {
        "start": "1970-01-01T00:00:00+00:00",
        "sent": 1,
        "opened": 0,
        "clicked": 0,
        "total_opens": 0,
        "total_clicks": 0,
    }
    assert len(document["rows"]) == MAX_ROWS


def test_a_long_campaign_is_shown_by_day() -> None:
    document = make(sent("2026-01-01T00:00Z", "2026-07-01T00:00Z"))
    assert document["unit"] == "day"
    assert "earlier" not in document


def test_a_window() -> None:
    times = sent("2026-11-23T09:00Z", "2026-11-23T10:00Z", "2026-11-23T11:00Z")
    from_ms, to_ms = quarter("2026-11-23T10:00Z") * 900_000, quarter("2026-11-23T11:00Z") * 900_000
    assert starts(make(times, from_ms=from_ms, to_ms=to_ms)) == ["2026-11-23T10:00:00+00:00"]
    assert len(make(times, from_ms=from_ms)["rows"]) == 2
    assert make(times, to_ms=0)["rows"] == []


@pytest.mark.parametrize("at", [-(10**12), 10**12, -1, 2**32 - 2])
def test_times_no_calendar_knows(at: int) -> None:
    document = make({at: [1] * c.METRICS, quarter("2026-11-23T09:00Z"): [1] * c.METRICS})
    shown = sum(row["sent"] for row in document["rows"]) + document.get("earlier", {}).get("sent", 0)
    assert shown == 2


@pytest.mark.parametrize(
    "zone", ["", "Mars", "Europe", "../etc/passwd", "/etc/passwd", "x" * 5000, "a\0b", "é"]
)
def test_unknown_timezone(zone: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        make({}, zone)
