"""What a process says is wrong with it."""

from __future__ import annotations

import logging

import msgspec
import pytest

from app.verdicts import DEFAULT_RULES
from tables.conditions import Condition, Conditions, worst
from tables.presence import SILENT_MS, conditions_of, presence

UNREADABLE = (b"{}", b"no JSON", b"?", b'{"product":"\xff"}', b'{"z":' + b"[" * 100_000)
"""What may stand in `cr:workers` that is no `Presence`."""


def test_one_of_each_kind_and_partition_that_remembers_when_it_began(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1.0
    conditions = Conditions(clock=lambda: now)
    with caplog.at_level(logging.INFO, "reports.conditions"):
        conditions.set("withheld", "for one reason", partition=3, reason="partition 3 is rebuilt")
        conditions.set("withheld", "of another", partition=4)
        now = 2.0
        conditions.set(
            "withheld", "for one reason", partition=3, reason="partition 3 is rebuilt", progress=0.5
        )
    assert len(caplog.records) == 2, "said once, whatever its progress"
    first, second = conditions.current()
    assert (first.since_ms, first.partition, first.progress) == (1000, 3, 0.5)
    assert second.partition == 4
    assert worst(conditions.current()) is first
    conditions.clear("withheld", 3)
    assert (conditions.has("withheld", 3), conditions.has("withheld", 4)) == (False, True)
    assert worst(conditions.current()) is None
    conditions.forget(4)
    assert conditions.current() == ()


def test_the_silent_and_the_unreadable_say_nothing() -> None:
    condition = Condition(code="withheld", message="it is", since_ms=1, reason="so")
    alive = presence(DEFAULT_RULES, 0, 50_000, conditions=(condition,))
    silent = presence(DEFAULT_RULES, 0, 50_000 - SILENT_MS, conditions=(condition,))
    told = {
        b"a": msgspec.json.encode(alive),
        b"b": msgspec.json.encode(silent),
        **{b"%d" % number: text for number, text in enumerate(UNREADABLE)},
    }
    assert conditions_of(told, 50_000) == [condition]
