"""Rows are taken from a walk few or many at once, as long as looking at them takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.query import taking
from api.query.wire import SCAN_MS
from tables.paging import Step


class Looked:
    """A check that finds every `every`th step, and a clock that a look at a step moves by `step_s`."""

    def __init__(self, every: int, step_s: float) -> None:
        self.now_s = 0.0
        self.batches: list[int] = []
        self._every = every
        self._step_s = step_s

    def rows(self, steps: list[Step], most: int) -> Iterator[Step]:
        self.batches.append(len(steps))
        self.now_s += len(steps) * self._step_s
        found = [step for step in steps if int(step.order) % self._every == 0]
        yield from found[:most]


def walk(first: int, end: int) -> Iterator[Step]:
    return (Step(b"%09d" % number, 0, b"") for number in range(first, end))


def take(check: Looked, first: int, end: int, limit: int) -> tuple[list[Step], bytes | None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.query.taking.time.perf_counter", lambda: check.now_s)
        return taking.take(walk(first, end), check, limit)


@given(
    st.integers(0, 3_000),
    st.integers(1, 60),
    st.integers(1, 50),
    st.sampled_from((0.0, 1e-6, 1e-4, 1e-3, 0.1)),
)
def test_pages_together_are_the_list(length: int, every: int, limit: int, step_s: float) -> None:
    found: list[bytes] = []
    first = 0
    while True:
        rows, after = take(Looked(every, step_s), first, length, limit)
        assert len(rows) <= limit
        found += [row.order for row in rows]
        if after is None:
            break
        assert int(after) >= first, "a page goes on behind the one before"
        first = int(after) + 1
    assert found == [b"%09d" % number for number in range(0, length, every)]


def test_looking_ends_soon_after_its_time_however_slow_a_step_is() -> None:
    for step_s in (1e-5, 1e-4, 5e-4):
        check = Looked(10**6, step_s)
        rows, after = take(check, 1, 10**6, 50)
        assert (rows, after is None) == ([], False)
        assert SCAN_MS / 1000 <= check.now_s < SCAN_MS / 1000 + 0.012, step_s


def test_what_is_quick_is_taken_in_large_parts() -> None:
    check = Looked(10**6, 1e-7)
    take(check, 1, 10**5, 50)
    assert check.batches[-2] == 512
