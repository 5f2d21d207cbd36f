"""`reports demo` as a person meets it: the page comes, numbers move, Ctrl-C ends all, the next run goes on."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import alive, children, environment, reports, wait_until

START_S = 90.0
END_S = 10.0


def family(pid: int) -> list[int]:
    """All processes below this one."""
    return [each for child in children(pid) for each in (child, *family(child))]


def link_in(output: Path) -> tuple[str, str]:
    """Address and key of the sign-in link, once it is printed."""
    found = wait_until(
        lambda: re.search(r"sign in with: +(http\S+)/#key=(\S+)", output.read_text()), START_S, "the link"
    )
    return found[1], found[2]


def campaigns(address: str, key: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{address}/api/v1/campaigns", headers={"Authorization": f"Bearer {key}"}, timeout=5, verify=False
    )
    if answer.status_code != 200:
        return []
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def sent(address: str, key: str) -> int:
    """All campaigns' sent, as the API says it."""
    return sum(int(item["summary"]["sent"]) for item in campaigns(address, key))


def has_sent_more(address: str, key: str, before: int) -> bool:
    return sent(address, key) > before


def test_a_demo_moves_ends_and_goes_on(tmp_path: Path) -> None:
    environ = environment(tmp_path / "var")
    before = 0
    for life in range(2):
        output = tmp_path / f"output-{life}"
        with reports(["demo"], environ, output) as parent:
            address, key = link_in(output)
            assert httpx.get(f"{address}/", timeout=5, verify=False).status_code == 200
            wait_until(partial(has_sent_more, address, key, before), 60, "more")
            before = sent(address, key)
            everybody = family(parent.pid)
            # At least: two servers' roles and their servers, API, normalize, aggregate, load.
            assert len(everybody) >= 8
            began = time.monotonic()
            parent.send_signal(signal.SIGINT)
            assert parent.wait(END_S + 2) == 0, output.read_text()[-2000:]
            assert time.monotonic() - began <= END_S
            assert [pid for pid in everybody if alive(pid)] == []
            assert "does not end: killed" not in output.read_text()


def test_kill_9_of_the_parent_leaves_nobody_behind(tmp_path: Path) -> None:
    with reports(["up"], environment(tmp_path / "var"), tmp_path / "output") as parent:
        link_in(tmp_path / "output")
        everybody = family(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in everybody), END_S, "the end of all")
