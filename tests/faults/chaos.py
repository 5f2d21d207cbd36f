"""Workers killed, stopped and started at random under load, then the oracle of the ledger.

Rules:
- The seed decides what happens to whom, and is printed; the machine's speed decides when exactly.
- Every action is against a worker that lives or for one that doesn't; at the end both kinds work again.
- `own`: each aggregate worker has a state folder of its own, and a worker that gets a partition it knows nothing of
  reads the log from its start; `shared`: all have one folder.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT
from tests.support.stack import Stack


class SetUp(NamedTuple):
    """`aggregates`: workers that may live at a time."""

    aggregates: int
    folders: str

    def __str__(self) -> str:
        return f"{self.aggregates}-{self.folders}"


SET_UPS = (SetUp(1, "own"), SetUp(1, "shared"), SetUp(2, "own"), SetUp(2, "shared"))


class Chaos:
    def __init__(self, stack: Stack, set_up: SetUp, seed: int) -> None:
        self.stack = stack
        self.set_up = set_up
        self.random = random.Random(seed)
        self.ended = 0
        self.log: list[str] = []
        # With one worker at a time and own folders, two take turns: state then moves between folders.
        self.aggregates = ["aggregate.1", "aggregate.2"] if set_up != SetUp(1, "shared") else ["aggregate.1"]
        self.normalizers = ["normalize.1", "normalize.2"]

    def start(self, name: str) -> None:
        arguments: list[str] = []
        if name.startswith("aggregate"):
            folder = "shared" if self.set_up.folders == "shared" else name
            arguments = ["--state", str(self.stack.data / "states" / folder)]
        self.stack.start(name, *arguments)
        self._note(f"start {name}")

    def end(self, name: str) -> None:
        number = self.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        self._note(f"{number.name} {name}")
        self.ended += 1
        if number == signal.SIGKILL:
            self.stack.kill(name)
        else:
            seconds = self.stack.stop(name, 15)
            assert seconds <= 10, f"{name} took {seconds:.1f} s to stop"

    def step(self) -> None:
        """One thing that happens."""
        kind = self.random.choice(("aggregate", "aggregate", "normalize"))
        names = self.aggregates if kind == "aggregate" else self.normalizers
        at_once = self.set_up.aggregates if kind == "aggregate" else 2
        alive = [name for name in names if self.stack.is_alive(name)]
        dead = [name for name in names if name not in alive]
        if alive and (len(alive) >= at_once or not dead or self.random.random() < 0.5):
            victim = self.random.choice(alive)
            self.end(victim)
            # Mostly somebody is there again at once: kills while nobody works would test nothing.
            if self.random.random() < 0.8:
                waiting = [name for name in names if not self.stack.is_alive(name)]
                self.start(self.random.choice(waiting))
        else:
            self.start(self.random.choice(dead))

    def settle(self) -> None:
        """Somebody of each kind works."""
        for names, at_once in ((self.aggregates, self.set_up.aggregates), (self.normalizers, 1)):
            dead = [name for name in names if not self.stack.is_alive(name)]
            for name in dead[: max(0, at_once - (len(names) - len(dead)))]:
                self.start(name)

    def _note(self, text: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {text}")


def run_chaos(folder: Path, set_up: SetUp, seed: int, *, events: int, rate: int, least_ends: int) -> None:
    """The whole test; AssertionError where anything is lost or counted twice."""
    print(f"seed {seed}, set-up {set_up}, folder {folder}")
    ledger = folder / "ledger"
    with Stack(folder) as stack:
        stack.start_servers()
        stack.start("api")
        stack.wait_ready()
        chaos = Chaos(stack, set_up, seed)
        chaos.settle()
        load = start_load(stack, ledger, seed, events, rate)
        while load.poll() is None or chaos.ended < least_ends:
            time.sleep(chaos.random.uniform(0.3, 3.0))
            chaos.step()
        chaos.settle()
        output = (folder / "load.log").read_text()
        assert load.returncode == 0, output
        print("\n".join(chaos.log), output)
        stack.assert_verified(ledger)
        for name in stack.processes:
            assert_no_guessing(folder / f"{name}.log")


def start_load(
    stack: Stack, ledger: Path, seed: int, events: int, rate: int, *more: str
) -> subprocess.Popen[bytes]:
    """`reports load` in the background; its words go to `load.log`."""
    with (stack.folder / "load.log").open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "cli.main", "load", "--events", str(events), "--rate", str(rate), "--ledger",
                str(ledger), "--seed", str(seed), *more,
            ],
            cwd=ROOT,
            env=stack.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    stack.processes[f"load.{process.pid}"] = process
    return process


def assert_no_guessing(log: Path) -> None:
    """No worker met a gap or somebody else's database."""
    if log.exists():
        text = log.read_text(errors="replace")
        assert "gap in topic" not in text, f"a gap in {log}"
