"""Random crashes: 30,000 facts while workers of both kinds die at least 10 times, then no difference anywhere; the long
suite has more of both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.chaos import SET_UPS, SetUp, run_chaos

PAIRS = (((SET_UPS[0], 101), (SET_UPS[3], 101)), ((SET_UPS[1], 102), (SET_UPS[2], 103)))
"""Three seeds over the four set-ups, two at a time: each waits for half of its life. All together belong to the long
suite."""
LONG_SEEDS = (201, 202, 203, 204, 205)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-and-".join(str(set_up) for set_up, _ in pair))
def test_nothing_is_lost_and_nothing_counted_twice(
    tmp_path: Path, pair: tuple[tuple[SetUp, int], ...]
) -> None:
    with ThreadPoolExecutor(len(pair)) as pool:
        runs = [
            pool.submit(
                run_chaos, tmp_path / str(set_up), set_up, seed, events=31_000, rate=1_600, least_ends=10
            )
            for set_up, seed in pair
        ]
    for run in runs:
        run.result()


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
@pytest.mark.parametrize("set_up", SET_UPS, ids=str)
def test_the_whole_matrix(tmp_path: Path, set_up: SetUp, seed: int) -> None:
    run_chaos(tmp_path, set_up, seed, events=150_000, rate=2_000, least_ends=40)
