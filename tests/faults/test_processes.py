"""Single processes killed in bursts and stopped again and again; the random mixture of all is `test_chaos`."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.chaos import start_load
from tests.support.stack import Stack


def test_the_api_killed_between_kafkas_word_and_its_answer(stack: Stack) -> None:
    ledger = stack.folder / "api.ledger"
    loading = start_load(stack, ledger, 21, 12_000, 1_500, "--campaign", "api-killed", "--batch", "20")
    chance = random.Random(21)
    kills = 0
    while loading.poll() is None:
        time.sleep(chance.uniform(0.3, 1.2))
        stack.kill("api")
        stack.start("api")
        stack.wait_ready()
        kills += 1
    assert loading.returncode == 0, (stack.folder / "load.log").read_text()
    assert kills >= 3
    stack.assert_verified(ledger)


@pytest.mark.parametrize("role", ["aggregate", "normalize"])
@pytest.mark.parametrize("times", [10, pytest.param(30, marks=pytest.mark.long)])
def test_killed_in_a_burst(stack: Stack, role: str, times: int) -> None:
    name = f"{role}-burst-{times}"
    ledger = stack.folder / f"{name}.ledger"
    loading = start_load(stack, ledger, 22, 400 * times, 1_000, "--campaign", name)
    chance = random.Random(22)
    for _ in range(times):
        time.sleep(chance.uniform(0.1, 1.0))
        stack.kill(role)
        stack.start(role)
    assert loading.wait(60) == 0
    stack.assert_verified(ledger)


@pytest.mark.parametrize("role", ["aggregate", "normalize"])
@pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.long)])
def test_stopped_again_and_again(stack: Stack, role: str, times: int) -> None:
    name = f"{role}-{times}"
    ledger = stack.folder / f"{name}.ledger"
    loading = start_load(stack, ledger, 23, 3_000 * times, 1_000, "--campaign", name)
    chance = random.Random(23)
    for _ in range(times):
        time.sleep(chance.uniform(1, 4))
        assert stack.stop(role) <= 10
        stack.start(role)
    assert loading.wait(60 + times * 10) == 0
    stack.assert_verified(ledger)


def test_three_workers_in_rotation(stack: Stack) -> None:
    ledger = stack.folder / "rotation.ledger"
    names = ["aggregate", "aggregate.2", "aggregate.3"]
    loading = start_load(stack, ledger, 24, 12_000, 1_000, "--campaign", "rotation")
    chance = random.Random(24)
    while loading.poll() is None:
        time.sleep(chance.uniform(0.5, 2.5))
        name = chance.choice(names)
        if not stack.is_alive(name):
            stack.start(name)
        elif chance.random() < 0.6:
            stack.kill(name)
        else:
            stack.stop(name)
    assert loading.returncode == 0
    for name in names[1:]:
        if stack.is_alive(name):
            stack.stop(name)
    if not stack.is_alive("aggregate"):
        stack.start("aggregate")
    stack.assert_verified(ledger)
