"""`reports query` as a process beside the real worker: started, killed, stopped, fed while it reads."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.query.wire import QUERIES
from tests.support.processes import alive, children, wait_until
from tests.support.stack import Stack

PAGE = "/api/v1/campaigns/spring/recipients"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("query") / "stack", PARTITIONS="3") as running:
        temporary = running.folder / "tmp"
        temporary.mkdir()
        running.environ["TMPDIR"] = str(temporary)
        running.start_all()
        send(running, 0, 50)
        running.wait_for(lambda: running.summary("spring").get("sent") == 50, 20, "the first fifty")
        running.wait_for(lambda: running.get(PAGE, key=running.key()).status_code == 200, 20, "pages")
        yield running


def send(stack: Stack, first: int, last: int) -> None:
    events: list[dict[str, object]] = [
        {
            "type": "sent",
            "campaign": "spring",
            "recipient": f"p{n:04d}@example.com",
            "at": 1_790_000_000_000 + n,
        }
        for n in range(first, last)
    ]
    assert stack.post_events(events).status_code == 200


def page(stack: Stack, **parameters: str) -> Any:
    answer = stack.get(PAGE, key=stack.key(), **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_the_summary_counts_the_page_shows(stack: Stack) -> None:
    """Never fewer rows than the numbers that are shown before: both come from the same write."""
    total = 50
    for _ in range(10):
        send(stack, total, total + 30)
        total += 30
        while (shown := stack.summary("spring")["sent"]) != total:
            assert len(page(stack, limit="500")["items"]) >= int(str(shown))
        found = page(stack, limit="500")
        assert len(found["items"]) == found["matching"] == total


def test_it_is_killed_and_comes_again(stack: Stack) -> None:
    before = page(stack)
    stack.kill("query")
    answer = stack.get(PAGE, key=stack.key())
    assert answer.status_code == 503
    assert "`query`" in answer.json()["message"]
    assert stack.summary("spring")["sent"] == before["matching"]
    stack.start("query")
    stack.wait_for(lambda: stack.get(PAGE, key=stack.key()).status_code == 200, 20, "pages")
    assert page(stack)["items"] == before["items"]


def test_an_orderly_end_takes_back_what_it_announced(stack: Stack) -> None:
    with stack.redis_client() as redis:
        assert len(redis.hgetall(QUERIES)) == 3
        began = time.monotonic()
        stack.stop("query")
        assert time.monotonic() - began < 3
        assert stack.processes["query"].returncode == 0
        assert redis.hgetall(QUERIES) == {}
        stack.start("query")
        stack.wait_for(lambda: stack.get(PAGE, key=stack.key()).status_code == 200, 20, "pages")


def test_the_worker_dies_and_pages_are_there(stack: Stack) -> None:
    total = page(stack)["matching"]
    stack.kill("aggregate")
    assert page(stack)["matching"] == total
    assert len(page(stack, limit="500")["items"]) == total
    send(stack, 5_000, 5_010)
    stack.start("aggregate")
    stack.wait_for(lambda: stack.summary("spring").get("sent") == total + 10, 30, "the ten")
    assert len(page(stack, limit="500")["items"]) == total + 10


def test_a_database_is_counted_anew(stack: Stack) -> None:
    """Its folder was removed: a list is right or it is refused, never short."""
    total = page(stack)["matching"]
    stack.stop("aggregate")
    for path in sorted((stack.data / "state" / "p1").iterdir()):
        path.unlink()
    (stack.data / "state" / "p1").rmdir()
    stack.start("aggregate")
    deadline = time.monotonic() + 30
    right = 0
    while right < 20:
        answer = stack.get(PAGE, key=stack.key(), limit="500")
        if answer.status_code == 200:
            assert len(answer.json()["items"]) == total
            right += 1
        else:
            assert answer.status_code == 503
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (stack.data / "state" / "p1" / "CURRENT").exists()


def test_it_is_killed_while_it_exports(stack: Stack) -> None:
    """The export goes with it, and the next start removes what both had on the disk."""

    def folders() -> set[Path]:
        return set((stack.folder / "tmp").iterdir())

    def begun(asked: Future[httpx.Response]) -> bool:
        return bool(children(query)) or asked.done()

    query = stack.processes["query"].pid
    own = folders()
    assert len(own) == 1
    path = "/api/v1/campaigns/spring/exports/recipients.csv"
    with ThreadPoolExecutor(1) as threads:
        while True:
            asked = threads.submit(stack.get, path, key=stack.key())
            wait_until(partial(begun, asked), 20, "the export")
            wait_until(lambda: folders() - own or not children(query), 20, "its files")
            exports = children(query)
            for process in exports:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
            if exports and folders() - own:
                break
            for process in exports:  # it was too quick: it was at its end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)
            asked.result()
        stack.kill("query")
        wait_until(lambda: not any(alive(process) for process in exports), 10, "the export's end")
        with contextlib.suppress(httpx.HTTPError):
            asked.result()
    assert own < folders()
    stack.start("query")
    stack.wait_for(lambda: stack.get(PAGE, key=stack.key()).status_code == 200, 20, "pages")
    wait_until(lambda: len(folders()) == 1 and not folders() & own, 20, "the others' are removed")


def test_redis_is_emptied(stack: Stack) -> None:
    with stack.redis_client() as redis:
        redis.flushall()
    total = 360
    stack.wait_for(lambda: stack.get(PAGE, key=stack.key()).status_code == 200, 20, "pages")
    assert len(page(stack, limit="500")["items"]) == total


def test_a_frozen_process_is_answered_for_in_time(stack: Stack) -> None:
    stack.signal("query", signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert stack.get(PAGE, key=stack.key()).status_code == 503
        assert time.monotonic() - began < 3
        assert stack.get("/api/v1/campaigns/spring/summary", key=stack.key()).status_code == 200
    finally:
        stack.signal("query", signal.SIGCONT)
    stack.wait_for(lambda: stack.get(PAGE, key=stack.key()).status_code == 200, 20, "pages")


def conditions(stack: Stack) -> dict[str, dict[str, Any]]:
    answer = stack.get("/ops/workers", key=stack.key()).json()
    return {one["code"]: one for worker in answer["workers"] for one in worker["conditions"]}


def copied(stack: Stack) -> Path:
    """A copy of a partition's folder, taken while its worker is stopped."""
    copy = stack.folder / "copy"
    stack.stop("aggregate")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(stack.data / "state" / "p1", copy)
    log = stack.folder / "aggregate.log"
    before = log.read_text().count("counting partitions")
    stack.start("aggregate")
    stack.wait_for(lambda: log.read_text().count("counting partitions") > before, 120, "the worker counts")
    return copy


def damage(stack: Stack, change: Callable[[Path], object]) -> None:
    """Of a partition's tables, and the query process has nothing of them in memory."""
    tables = sorted((stack.data / "state" / "p1").glob("*.sst"))
    assert tables
    for table in tables:
        change(table)
    stack.kill("query")
    stack.start("query")


def told(stack: Stack, total: int) -> dict[str, Any]:
    """What is said of it. Until then no list is short."""

    def said() -> bool:
        answer = stack.get(PAGE, key=stack.key(), limit="500")
        if answer.status_code == 200:
            assert len(answer.json()["items"]) == total
        return "GET /ops/workers names the fault" in answer.json().get("message", "")

    stack.wait_for(said, 60, "the list says why")
    condition = conditions(stack)["database_unreadable"]
    assert (condition["partition"], condition["stale"]) == (1, False)
    assert f"the database in {stack.data / 'state' / 'p1'} is broken (Corruption" in condition["message"]
    return condition


def is_well(stack: Stack, total: int) -> bool:
    answer = stack.get(PAGE, key=stack.key(), limit="500")
    return answer.status_code == 200 and len(answer.json()["items"]) == total and not conditions(stack)


def flip(table: Path) -> None:
    data = bytearray(table.read_bytes())
    data[len(data) // 20] ^= 0xFF
    table.write_bytes(data)


def test_a_damaged_table_under_a_running_worker(stack: Stack) -> None:
    """The worker reads it later, or never: who reads it says so, and the advice leads back."""
    total = page(stack)["matching"]
    copy = copied(stack)
    damage(stack, flip)
    condition = told(stack, total)
    assert "stop its worker, put a copy of the folder back and start the worker again" in condition["message"]
    done = stack.run("reconcile")
    assert done.returncode == 3
    assert "put a copy of the folder back" in done.stdout
    stack.stop("aggregate")
    shutil.rmtree(stack.data / "state" / "p1")
    shutil.copytree(copy, stack.data / "state" / "p1")
    stack.start("aggregate")
    stack.wait_for(lambda: is_well(stack, total), 120, "lists are right again, and nothing is said")
    assert stack.run("reconcile").returncode == 0


@pytest.mark.long
def test_a_table_that_is_cut_short_under_a_running_worker(stack: Stack) -> None:
    """RocksDB's reader would show the database as it was before that table, as of the newest offset."""
    total = page(stack)["matching"]
    copied(stack)
    damage(stack, lambda table: os.truncate(table, 100))
    told(stack, total)
    stack.wait_for(
        lambda: (
            "or remove the folder, and the partition is counted again from the log"
            in conditions(stack)["database_unreadable"]["message"]
        ),
        30,
        "the log was asked",
    )
    assert stack.run("reconcile").returncode == 3
    shutil.rmtree(stack.data / "state" / "p1")
    stack.wait_for(lambda: is_well(stack, total), 120, "lists are right again, and nothing is said")
    assert stack.run("reconcile").returncode == 0


def test_an_address_in_use_and_one_for_all_are_refused(stack: Stack, tmp_path: Path) -> None:
    environ = stack.environ
    for address, said in (
        (stack.http, "is in use"),
        ("0.0.0.0:0", "must name one address"),
        ("nothing", "must be host:port"),
    ):
        stack.environ = environ | {"REPORTS_QUERY": address}
        done = stack.run("query")
        assert done.returncode == 2
        assert done.stdout.startswith("reports: REPORTS_QUERY: ")
        assert said in done.stdout
    stack.environ = environ
