"""When a source is called silent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.rhythm import (
    FACTOR,
    FACTOR_YOUNG,
    MANY,
    MIN_QUARTERS,
    MIN_SILENCE_MS,
    OUTLIER,
    QUARTER_MS,
    WEEK_QUARTERS,
    WINDOW_DAYS,
    quarter_of,
    quarters_in,
    rhythm_of,
    weeks_until,
)

START = 2_000_000
HOUR_MS = 3_600_000
DAY = 96

quarter_sets = st.sets(st.integers(START, START + 20 * DAY), min_size=1, max_size=60)


def end_of(quarters: set[int] | list[int]) -> int:
    """A moment in the last quarter."""
    return max(quarters) * QUARTER_MS + QUARTER_MS // 2


def every(step: int, count: int) -> list[int]:
    return [START + step * number for number in range(count)]


@given(quarter_sets, st.integers(0, 40 * DAY * QUARTER_MS), st.integers(0, 400 * DAY * QUARTER_MS))
def test_waiting_never_ends_a_silence(quarters: set[int], first_ms: int, more_ms: int) -> None:
    last_ms = end_of(quarters)
    if rhythm_of(quarters, last_ms, last_ms + first_ms).silent:
        assert rhythm_of(quarters, last_ms, last_ms + first_ms + more_ms).silent


@given(quarter_sets, st.randoms(use_true_random=False), st.integers(0, 30 * DAY * QUARTER_MS))
def test_order_and_repeats_change_nothing(quarters: set[int], random: object, later_ms: int) -> None:
    last_ms = end_of(quarters)
    mixed = [*quarters, *quarters]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    once = rhythm_of(sorted(quarters), last_ms, last_ms + later_ms)
    assert rhythm_of(mixed, last_ms, last_ms + later_ms) == once


@given(quarter_sets, st.integers(-DAY * QUARTER_MS, MIN_SILENCE_MS))
def test_never_silent_within_an_hour(quarters: set[int], later_ms: int) -> None:
    last_ms = end_of(quarters)
    assert not rhythm_of(quarters, last_ms, last_ms + later_ms).silent


@given(quarter_sets)
def test_every_source_with_a_rhythm_is_silent_in_the_end(quarters: set[int]) -> None:
    last_ms = end_of(quarters)
    found = rhythm_of(quarters, last_ms, last_ms + (FACTOR_YOUNG * WINDOW_DAYS + 1) * DAY * QUARTER_MS)
    assert found.silent == (len(quarters) >= MIN_QUARTERS)
    assert (found.allowed_ms is None) == (len(quarters) < MIN_QUARTERS)


@given(st.integers(2, 3 * DAY), st.integers(MIN_QUARTERS, 200))
def test_a_regular_source_is_silent_after_a_multiple_of_its_period(step: int, count: int) -> None:
    quarters = every(step, count)
    quarters = [quarter for quarter in quarters if quarter >= quarters[-1] - WINDOW_DAYS * DAY]
    last_ms = end_of(quarters)
    factor = FACTOR if len(quarters) > MANY else FACTOR_YOUNG
    allowed_ms = max(MIN_SILENCE_MS, factor * step * QUARTER_MS)
    assert not rhythm_of(quarters, last_ms, last_ms + allowed_ms).silent
    assert rhythm_of(quarters, last_ms, last_ms + allowed_ms + 1).silent


@given(st.integers(2, 20), st.integers(4, 40), st.integers(2, 300))
def test_one_outage_does_not_make_us_deaf_for_the_next(step: int, count: int, times: int) -> None:
    before = every(step, count)
    pause = step * OUTLIER + times
    after = [before[-1] + pause + step * number for number in range(count)]
    last_ms = end_of(after)
    calm = rhythm_of([*every(step, 2 * count)], end_of(every(step, 2 * count)), last_ms)
    found = rhythm_of([*before, *after], last_ms, last_ms)
    if pause > OUTLIER * step:
        assert found.usual_pause_ms == calm.usual_pause_ms


def test_nights_are_a_habit_from_the_second_one_on() -> None:
    day = [START + number for number in range(40)]
    one_night = [*day, *(quarter + DAY for quarter in day)]
    evening_ms = end_of(one_night)
    assert rhythm_of(one_night, evening_ms, evening_ms + 14 * HOUR_MS).silent
    two_nights = [*one_night, *(quarter + 2 * DAY for quarter in day)]
    evening_ms = end_of(two_nights)
    found = rhythm_of(two_nights, evening_ms, evening_ms + 14 * HOUR_MS)
    assert not found.silent
    assert found.usual_pause_ms == (DAY - 39) * QUARTER_MS


def test_a_weekly_mailing() -> None:
    quarters = [START + week * 7 * DAY + number for week in range(4) for number in range(8)]
    last_ms = end_of(quarters)
    assert not rhythm_of(quarters, last_ms, last_ms + 8 * 24 * HOUR_MS).silent


def test_a_busy_source_is_missed_after_an_hour() -> None:
    quarters = every(1, 200)
    last_ms = end_of(quarters)
    assert rhythm_of(quarters, last_ms, last_ms + HOUR_MS + 1).silent


def test_a_test_webhook_is_no_rhythm() -> None:
    assert not rhythm_of([START], START * QUARTER_MS, (START + 900 * DAY) * QUARTER_MS).silent
    assert not rhythm_of([], None, START * QUARTER_MS).silent


@given(st.sets(st.integers(0, WEEK_QUARTERS - 1)), st.integers(2_000, 4_000))
def test_bits_of_a_week(places: set[int], week: int) -> None:
    """As Redis' SETBIT writes them."""
    bits = bytearray(max(places, default=-1) // 8 + 1)
    for place in places:
        bits[place // 8] |= 128 >> place % 8
    found = quarters_in(week, bytes(bits))
    assert found == [week * WEEK_QUARTERS + place for place in sorted(places)]
    assert all(quarter // WEEK_QUARTERS == week for quarter in found)


def test_the_window_is_within_the_weeks_read() -> None:
    for now_ms in (1_790_000_000_000, 1_790_000_000_000 + 5 * DAY * QUARTER_MS):
        weeks = weeks_until(now_ms)
        oldest = quarter_of(now_ms) - WINDOW_DAYS * DAY
        assert oldest // WEEK_QUARTERS == weeks[0] and quarter_of(now_ms) // WEEK_QUARTERS == weeks[-1]
