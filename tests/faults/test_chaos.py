"""Random crashes: 30,000 facts while workers of both kinds die at least 10 times, then no difference anywhere; the long
suite has more of both, in all set-ups."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.chaos import SET_UPS, SetUp, run_chaos

PAIR = ((SET_UPS[0], 101), (SET_UPS[3], 101))
"""Two of the four set-ups at a time: each waits for half of its life."""
LONG_SEEDS = (201, 202, 203, 204, 205)


def test_nothing_is_lost_and_nothing_counted_twice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(PAIR)) as pool:
        runs = [
            pool.submit(
                run_chaos, tmp_path / str(set_up), set_up, seed, events=31_000, rate=1_600, least_ends=10
            )
            for set_up, seed in PAIR
        ]
    for run in runs:
        run.result()


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
@pytest.mark.parametrize("set_up", SET_UPS, ids=str)
def test_the_whole_matrix(tmp_path: Path, set_up: SetUp, seed: int) -> None:
    run_chaos(tmp_path, set_up, seed, events=150_000, rate=2_000, least_ends=40)
