"""Logs: one JSON object a line, whatever is in it, and no flood."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from cli.logs import REPEATS_S, JsonFormatter, Repeats


def record(text: str, *, name: str = "reports.api", at: float = 1_790_000_000.0) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, text, None, None)
    made.created = at
    return made


@given(st.text())
def test_a_line_is_one_line_and_one_object(text: str) -> None:
    line = JsonFormatter().format(record(text.replace("%", "")))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert json.loads(line)["event"] == text.replace("%", "")


def test_a_librarys_complaint_is_told_once_in_ten_seconds() -> None:
    repeats = Repeats()
    told = [repeats.filter(record("gone", name="aiokafka.consumer", at=100.0 + n)) for n in range(25)]
    assert [number for number, one in enumerate(told) if one] == [0, 10, 20]
    last = record("gone", name="aiokafka.consumer", at=120.0 + REPEATS_S)
    assert repeats.filter(last)
    assert last.getMessage() == "gone (and 4 times before)"


def test_our_own_lines_are_all_told() -> None:
    repeats = Repeats()
    assert all(repeats.filter(record("gone", at=100.0)) for _ in range(5))
