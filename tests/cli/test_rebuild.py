"""What `reports rebuild` says while it waits."""

from __future__ import annotations

from agents.set_aside import SET_ASIDE
from cli.rebuild import _set_aside, _told
from tables.conditions import Condition


def test_it_does_not_wait_for_partitions_that_are_set_aside() -> None:
    said = [
        Condition(code=SET_ASIDE, message=f"{n} is broken: mend it", since_ms=1, partition=n) for n in (1, 2)
    ]
    assert _set_aside([1, 2], said) == {1: "1 is broken: mend it", 2: "2 is broken: mend it"}
    assert _set_aside([2], said) == {2: "2 is broken: mend it"}
    assert _set_aside([0, 1, 2], said) == {}, "0 is under way"
    assert _set_aside([1], []) == {}


def test_how_far_the_partitions_are() -> None:
    said = [Condition(code="rebuild", message="", since_ms=1, partition=1, progress=0.25)]
    assert _told([0, 1], said) == "0: waits, 1: 25%"
