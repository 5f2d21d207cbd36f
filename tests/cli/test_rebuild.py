"""What `reports rebuild` says while it waits."""

from __future__ import annotations

import time

import msgspec

from agents.set_aside import SET_ASIDE
from app.verdicts import DEFAULT_RULES
from cli.rebuild import _set_aside
from tables.conditions import Condition
from tables.presence import presence


def test_it_does_not_wait_for_partitions_that_are_set_aside() -> None:
    now_ms = int(time.time() * 1000)
    conditions = tuple(
        Condition(code=SET_ASIDE, message=f"{n} is broken: mend it", since_ms=now_ms, partition=n)
        for n in (1, 2)
    )
    said = presence(DEFAULT_RULES, now_ms, now_ms, role="aggregate", conditions=conditions)
    presences = {b"worker": msgspec.json.encode(said)}
    assert _set_aside([1, 2], presences) == {1: "1 is broken: mend it", 2: "2 is broken: mend it"}
    assert _set_aside([2], presences) == {2: "2 is broken: mend it"}
    assert _set_aside([0, 1, 2], presences) == {}, "0 is under way"
    assert _set_aside([1], {}) == {}
