"""Every refusal of the worker, and of what it needs, names a way out; here stands which test goes that way.

What is said of one partition, and by whom, is tried without processes (`tests.agents.test_set_aside`,
`tests.cli.test_accept_gap`, `tests.cli.test_topic_checks`, `tests.tables.test_redis_words`); what needs the whole,
here.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from app.settings import Settings
from app.topics import FACTS
from cli import own_kafka
from cli.addresses import read_address
from tables.kafka_clients import client_settings
from tests.support.kafka import delete_topics
from tests.support.stack import Stack

ROOT = Path(__file__).parents[2]
WHERE = ("agents", "tables/partition.py", "tables/batches.py", "tables/gaps.py", "cli/topics.py", "cli/up.py")
KINDS = ("StateError", "UnfitDatabase", "LogGap")

ASIDE, ACCEPT = "tests.agents.test_set_aside", "tests.cli.test_accept_gap"
REFUSED, TOPICS = "tests.agents.test_refusals", "tests.cli.test_topic_checks"
HERE = "tests.faults.test_advice"

# The begin of each message → the test that follows what it says, or why nobody can.
ADVICE = {
    # tables/partition.py
    "{where}: written by another version": f"{ASIDE}.test_a_broken_database",
    "{where}: this is the folder of partition": f"{ASIDE}.test_a_broken_database",
    "{where}: made for partition": f"{ASIDE}.test_a_broken_database",
    "{where}: made with another REPORTS_SECRET": f"{ASIDE}.test_a_broken_database",
    "{self.path} was written by a newer version": f"{ASIDE}.test_a_broken_database",
    # tables/batches.py, tables/gaps.py, agents/log_checks.py
    "gap in topic facts, partition {partition}: offset {expected}": f"{ACCEPT}.test_a_hole_in_the_log",
    "gap in topic facts, partition {partition}: offset {position}": f"{ACCEPT}.test_a_trimmed_log",
    "topic facts, partition {partition}: {path} has counted": f"{ACCEPT}.test_a_log_that_lost_its_end",
    "topic facts, partition {partition}: the log lost its end, which another": (
        f"{ACCEPT}.test_a_log_that_lost_its_end_and_a_database_that_had_not_counted_it"
    ),
    "topic facts, partition {partition}: the record at offset {offset} is none": f"{ACCEPT}.test_a_record_that_is_none",
    "topic facts, partition {partition}: the record at offset {offset} is of a newer": "its version counts it",
    "topic facts was recreated, or": f"{ACCEPT}.test_a_recreated_topic",
    "topic facts was recreated, and this database": f"{ACCEPT}.test_a_new_database_on_a_recreated_topic",
    "topic {topic} is not there": f"{HERE}.test_facts_deleted_under_running_roles",
    "topic {FACTS} was recreated while": f"{HERE}.test_facts_deleted_under_running_roles",
    "the library for": "nobody has it but who installed without extras",
    # agents
    "{path} is open in another process": f"{ASIDE}.test_a_database_that_another_process_has_open",
    "{error.filename or folder} can't be written to": (
        "tests.agents.test_slots.test_a_folder_in_the_place_of_a_file_is_named_and_the_advice_helps"
    ),
    "{folder}: all": "a thousand workers share one folder",
    # cli
    "{differs}: set": f"{TOPICS}.test_a_topic_that_somebody_made_again_with_too_few",
    "{differs}, and the further ones": f"{TOPICS}.test_more_partitions_are_let_pass_while_they_are_empty",
    "{differs}. The installation has": f"{TOPICS}.test_a_topic_that_somebody_made_again_with_too_few",
    "`reports up` or `demo` runs already": "tests.cli.test_up.test_one_per_data_folder",
}  # fmt: skip


def messages() -> Iterator[str]:
    """As they stand in the source, values as their expressions."""
    for place in WHERE:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS:
                    yield from _texts(node.args[0])


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"  # type: ignore[attr-defined]
            for part in node.values
        )


def test_each_refusal_has_a_test_that_follows_it() -> None:
    found = list(messages())
    for message in found:
        assert any(message.startswith(begin) for begin in ADVICE), f"nobody tries what this says: {message}"
    for begin, test in ADVICE.items():
        assert any(message.startswith(begin) for message in found), f"nothing says this any more: {begin}"
        if test.startswith("tests."):
            module, _, name = test.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    "command",
    [
        *(pytest.param(role, marks=pytest.mark.long) for role in ("api", "normalize", "aggregate")),
        "lag",
        "dead list",
    ],
)
def test_every_role_and_command_names_kafka_s_address(command: str, tmp_path: Path, redis_db: str) -> None:
    stack = Stack(tmp_path)
    stack.environ |= {"REPORTS_KAFKA": "127.0.0.1:9", "REPORTS_REDIS": redis_db}
    log = tmp_path / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(ROOT / ".venv/bin/python"), "-m", "cli.main", *command.split()],
            cwd=ROOT, env=stack.environ, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            stack.wait_for(
                lambda: "127.0.0.1:9" in log.read_text() or process.poll() is not None, 60, "it is named"
            )
        finally:
            process.kill()
            process.wait(10)
    assert "Traceback" not in log.read_text()
    assert "127.0.0.1:9" in log.read_text()


def opened(first: int, count: int, campaign: str = "spring") -> list[dict[str, object]]:
    return [
        {
            "type": "opened",
            "campaign": campaign,
            "recipient": f"p{n}@example.com",
            "at": "2026-11-01T10:00:00Z",
            "id": f"{n}",
        }
        for n in range(first, first + count)
    ]


def told(stack: Stack) -> Any:
    return stack.get("/api/v1/campaigns/spring/summary", key=stack.key()).json()


def conditions(stack: Stack) -> list[dict[str, Any]]:
    answer = stack.get("/ops/workers", key=stack.key())
    return (
        [one for worker in answer.json()["workers"] for one in worker["conditions"]]
        if answer.status_code == 200
        else []
    )


@pytest.mark.long
@pytest.mark.parametrize("makes", [True, False], ids=["made by clients", "gone"])
def test_facts_deleted_under_running_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes: bool
) -> None:
    """Row 18: where a broker makes topics clients made it again with one partition, and "set 1" was the advice. Where
    none does, the worker that came back was given no partition again, for good. Now it is made as designed, what is
    lost is said, and following that leads back to a report that is right."""
    if makes:
        monkeypatch.setattr(
            own_kafka, "PROPERTIES",
            own_kafka.PROPERTIES.replace("auto.create.topics.enable=false", "auto.create.topics.enable=true"),
        )  # fmt: skip
    server = own_kafka.start(Settings(data=tmp_path / "broker"), print)
    try:
        with Stack(tmp_path / "stack", PARTITIONS="4") as stack:
            kafka = stack.environ["REPORTS_KAFKA"] = read_address(tmp_path / "broker", "kafka")
            client = AdminClient(client_settings(kafka, "test"))
            roles = ("api", "normalize", "aggregate", "query")

            def going() -> bool:
                """As their parent does, what has ended is started again. `facts` is as designed, or not there."""
                for role in roles:
                    if not stack.is_alive(role):
                        stack.start(role)
                topic = client.list_topics(timeout=10).topics.get(FACTS)
                assert topic is None or len(topic.partitions) == 4
                return topic is not None

            stack.start("redis")
            stack.wait_for_port(stack.redis_port)
            stack.wait_for(lambda: going() and stack.get("/readyz").status_code == 200, 120, "ready")
            assert stack.post_events(opened(0, 40)).status_code == 200
            stack.wait_for(lambda: stack.summary("spring").get("opened") == 40, 60, "counted")
            delete_topics(kafka, (FACTS,))
            stack.wait_for(
                lambda: stack.post_events(opened(40, 20)).status_code == 200, 60, "taken meanwhile"
            )
            stack.wait_for(
                lambda: going() and len([one for one in conditions(stack) if "recreated" in one["message"]]) == 4,
                120, "each partition says it",
            )  # fmt: skip
            stack.wait_for(lambda: "set aside" in told(stack)["reason"], 30, "the report says why")
            assert told(stack)["stale"]
            done = stack.run("accept-gap", "--all", "--yes")
            assert done.returncode == 0, done.stdout
            stack.wait_for(
                lambda: going() and stack.summary("spring").get("opened") == 60,
                60,
                "all that came is counted",
            )
            assert stack.post_events(opened(60, 5)).status_code == 200
            stack.wait_for(lambda: stack.summary("spring").get("opened") == 65, 60, "and goes on")
            stack.wait_for(
                lambda: not stack.get("/api/v1/campaigns/spring/report", key=stack.key()).json()["stale"],
                30, "rows are as new as the numbers",
            )  # fmt: skip
            report = told(stack)
            assert not report["stale"]
            assert {notice["code"] for notice in report["notices"]} == {"gap"}
            assert {one["code"] for one in conditions(stack)} == {"log_incomplete"}, (
                "the databases are the only copy"
            )
    finally:
        server.stop()


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk(tmp_path: Path) -> None:
    """Row 18: "remove it" was said of a healthy database. The advice is to make room, and nothing else."""
    disk = tmp_path / "disk"
    with small_disk(disk, 256), Stack(tmp_path / "stack", PARTITIONS="2") as stack:
        stack.start_servers()
        for role, *arguments in (
            ("api",),
            ("normalize",),
            ("aggregate", "--state", str(disk / "state")),
            ("query",),
        ):
            stack.start(role, *arguments)
        stack.wait_ready()
        assert stack.post_events(opened(0, 40)).status_code == 200
        stack.wait_for(lambda: stack.summary("spring").get("opened") == 40, 60, "counted")
        fill(disk / "filler")
        stack.wait_for(
            lambda: stack.post_events(opened(1_000, 4_000)).status_code == 200
            and any(one["code"] == "disk_full" for one in conditions(stack)),
            120, "it is said",
        )  # fmt: skip
        (said,) = [one for one in conditions(stack) if one["code"] == "disk_full"]
        assert "remove none" in said["message"]
        stack.wait_for(
            lambda: bool(stack.get("/api/v1/campaigns/spring/summary", key=stack.key()).json()["stale"]),
            10,
            "stale",
        )
        (disk / "filler").unlink()
        stack.wait_for(lambda: stack.summary("spring").get("opened") == 4_040, 120, "all is counted")
        stack.wait_for(lambda: conditions(stack) == [], 10, "nothing is wrong any more")
        assert stack.is_alive("aggregate"), "it never ended"
        assert stack.run("reconcile").returncode == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
