"""What runs beside a process's work begins again, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from tables.background import FIRST_S, MAX_S, STEADY_S, Background, Following
from tables.conditions import Conditions
from tests.support.processes import wait_until


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.counted: list[str] = []
        self.conditions = Conditions()
        self.background = Background(
            self.conditions, self.counted.append, wall=lambda: 1.0, monotonic=lambda: self.now_s
        )

    @property
    def message(self) -> str:
        return "".join(one.message for one in self.conditions.current())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("tables.background.FIRST_S", 0.001)
    monkeypatch.setattr("tables.background.MAX_S", 0.004)
    return World()


async def test_a_task_begins_again_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    well = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise TimeoutError("not now")
        well.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR, "reports.background"):
        task = world.background.task("watching", work)
        await asyncio.wait_for(well.wait(), 5)
    assert world.counted == ["watching"] * 3
    assert len(caplog.records) == 3 and all(record.exc_info for record in caplog.records)
    assert "watching (TimeoutError)" in world.message
    assert world.conditions.current()[0].since_ms == 1_000
    world.now_s += STEADY_S
    assert world.message == "", "it has been going well since"
    assert (task.get_name(), world.background.running) == ("watching", {"watching": 1})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not world.background.running


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(world: World) -> None:
    """Something that it waited for was cancelled."""
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if runs == 1:
            future.cancel()
        await future

    task = world.background.task("watching", work)
    await asyncio.to_thread(wait_until, lambda: runs == 2, 5, "the second start")
    assert world.counted == ["watching"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_one_that_is_done_is_done(world: World) -> None:
    async def work() -> None:
        return

    await asyncio.wait_for(world.background.task("one campaign", work), 5)
    assert (world.counted, world.message) == ([], "")


def test_a_thread_begins_again(world: World) -> None:
    runs = 0

    def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise KeyError("x")
        following.stopping.wait()

    following = Following(world.background, "reading", work)
    following.start()
    wait_until(lambda: runs == 3, 5, "the third start")
    assert world.counted == ["reading", "reading"]
    assert "reading (KeyError)" in world.message
    assert "reading" in {thread.name for thread in threading.enumerate()}
    following.stop(5)
    assert not world.background.running


def test_a_thread_that_waits_to_begin_again_can_be_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tables.background.FIRST_S", 60.0)
    following = Following(world.background, "reading", lambda: [][0])
    following.start()
    wait_until(lambda: world.counted, 5, "the failure")
    following.stop(5)
    assert not world.background.running


def test_pauses_grow_and_begin_anew_after_a_while_that_went_well() -> None:
    now_s = 0.0
    background = Background(monotonic=lambda: now_s)
    pauses = []
    for _ in range(8):
        pauses.append(background._fail("x", KeyError()))
        background._begin("x")
        now_s += 0.1
    assert pauses == [min(FIRST_S * 2**n, MAX_S) for n in range(8)]
    now_s += STEADY_S
    assert background._fail("x", KeyError()) == FIRST_S
    assert STEADY_S > MAX_S, "one that fails at each start stays visible"


def test_several_fail_at_once() -> None:
    conditions = Conditions()
    background = Background(conditions)
    background._fail("b", KeyError())
    background._fail("a", ValueError("a secret"))
    (found,) = conditions.current()
    assert "a (ValueError), b (KeyError)" in found.message
    assert "secret" not in found.message
    assert (found.code, found.reason) == ("background_failing", None)
