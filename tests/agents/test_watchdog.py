"""When a worker stands still, and when it only has nothing to do."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from agents.watchdog import EXIT_STALLED, STALL_S, Watchdog


def watchdog(positions: dict[int, int], ends: dict[int, int | None], held: set[int]) -> Watchdog:
    app: Any = SimpleNamespace(
        rebalancing=False,
        held=held,
        assigned=lambda _: set(ends),
        consumer=SimpleNamespace(highwater=lambda tp: ends[tp.partition]),
    )
    made = Watchdog(cast(Any, app), "facts", lambda: positions)
    made.joined = True
    made._look()
    made._moved_at = 0.0
    return made


def stands_still(watched: Watchdog) -> bool:
    watched._look()
    return time.monotonic() - watched._moved_at > 60


def test_behind_and_without_progress() -> None:
    assert stands_still(watchdog({0: 5, 1: 5}, {0: 5, 1: 9}, set()))
    assert stands_still(watchdog({0: 5}, {0: 5, 1: None}, set()))
    assert not stands_still(watchdog({0: 5, 1: 9}, {0: 5, 1: 9}, set()))


def test_what_is_set_aside_is_not_waited_for() -> None:
    assert not stands_still(watchdog({1: 9}, {0: None, 1: 9}, {0}))
    assert not stands_still(watchdog({}, {0: None, 1: None}, {0, 1}))
    assert stands_still(watchdog({1: 5}, {0: None, 1: 9}, {0}))


class Ended(Exception):
    pass


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    statuses: list[int] = []

    def end(status: int) -> NoReturn:
        statuses.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    # The thread that looks after the event loop would outlive the test.
    monkeypatch.setattr(threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    return statuses


def publishing(unpublished_s: float) -> Watchdog:
    app = cast(Any, SimpleNamespace(rebalancing=False))
    return Watchdog(app, "facts", dict, lambda: unpublished_s)


async def test_it_ends_when_nothing_is_published_for_too_long(ended: list[int]) -> None:
    with pytest.raises(Ended):
        await publishing(STALL_S + 1).run()
    assert ended == [EXIT_STALLED]


async def test_it_goes_on_while_something_is(ended: list[int]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await publishing(STALL_S - 1).run()
    assert ended == []
