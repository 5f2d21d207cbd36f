"""Every thread and task of the program is under a boundary, or stands in the table below with the reason why not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("app", "tables", "agents", "api", "cli")

STARTS = frozenset(
    {
        "Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "start_new_thread", "TaskGroup",
        "create_task", "ensure_future", "run_coroutine_threadsafe", "run_in_executor", "to_thread", "shield",
        "call_later", "call_at", "call_soon", "call_soon_threadsafe", "add_done_callback", "submit",
        "add_signal_handler", "add_reader", "add_writer", "on_delivery",
    }
)  # fmt: skip
"""Names of calls, and of arguments, that have something run beside the caller."""

BOUNDARIES = frozenset(
    {
        "tables/background.py:Background.task",
        "tables/background.py:Following.start",
        "agents/worker.py:keep_thread",
    }
)

AWAITED = "one-shot: whoever asked waits for it and gets the error"
TIMER = "sets an event or a flag: nothing in it can fail"
COMMAND = "a command that ends: its caller waits for it and gets the error"

WITHOUT = {
    "agents/aggregate.py:Aggregator._open": AWAITED,
    "agents/aggregate.py:Aggregator._open_all": AWAITED,
    "agents/normalize.py:Normalizer._produce": "called in the producer's thread, which `keep_thread` keeps",
    "agents/normalize.py:normalize_app._flush": AWAITED,
    "agents/aggregate.py:Aggregator._say_rebuilt": "sets a condition: nothing in it can fail",
    "agents/aggregate.py:Aggregator.check_log": AWAITED,
    "agents/aggregate.py:Aggregator.check_records": AWAITED,
    "agents/aggregate.py:Aggregator.check_topic": AWAITED,
    "agents/aggregate.py:aggregate_app._open": AWAITED,
    "agents/aggregate.py:Aggregator._of_new_gaps": AWAITED,
    "agents/generations.py:generations_at_assignment": AWAITED,
    "agents/publish.py:Publisher.run": "a group: an error in one of them ends all, and with that the process",
    "agents/topic_watch.py:watch_topics": AWAITED,
    "agents/webhook_log.py:WebhookLog._ask": AWAITED,
    "api/tops.py:Tops._made": AWAITED,
    "api/tops.py:Tops.load": "one-shot: whoever has to wait for the rows gets the error",
    "tables/background.py:in_thread": AWAITED,
    "tables/background.py:in_thread.run": AWAITED,
    "cli/api.py:serve": AWAITED,
    "cli/streams.py:Streams.facts": AWAITED,
    "agents/worker.py:_Worker._schedule_shutdown": "ends the process: nothing in it can fail",
    "api/building.py:build": AWAITED,
    "api/certificates.py:Certificates._fetch_once": AWAITED,
    "api/compare.py:compare": AWAITED,
    "api/desk.py:Desk.ask": AWAITED,
    "api/erasures.py:_campaigns": AWAITED,
    "api/hub.py:LiveHub._follow": TIMER,
    "api/ops.py:metrics": AWAITED,
    "api/paged.py:beside_view": AWAITED,
    "api/producer.py:Producer._serve": "`_settle`: an error in it is logged, and the next report calls it again",
    "api/producer.py:Producer._sweep": "sets futures and a timer: nothing in it can fail",
    "api/producer.py:Producer.close": AWAITED,
    "api/producer.py:Producer.send": "called in the producer's thread; `_sweep` sets futures",
    "api/queries.py:Queries.tops": AWAITED,
    "api/query/announcer.py:Announcer.run": AWAITED,
    "api/query/exports.py:Exports._see_off": AWAITED,
    "api/query/exports.py:Exports.end": AWAITED,
    "api/query/server.py:QueryServer.__init__": AWAITED,
    "api/query/server.py:QueryServer._endpoint.endpoint": AWAITED,
    "cli/api.py:Server.capture_signals": "sets a flag: nothing in it can fail",
    "cli/hangup.py:_hear": TIMER,
    "cli/jars.py:_fetch": COMMAND,
    "cli/jars.py:ensure_jars": COMMAND,
    "cli/log_writer.py:LogWriter.send": COMMAND,
    "cli/query.py:Server.capture_signals": "sets a flag: nothing in it can fail",
    "cli/refusals.py:tell_refused": "one-shot: the process ends, and what it couldn't tell stands in its log",
    "cli/role_configuration.py:RoleConfiguration.follow": AWAITED,
    "cli/run.py:_run": TIMER,
    "cli/supervisor.py:Supervisor._live": "prints a role's lines: `_say` swallows what its output does",
    "cli/supervisor.py:Supervisor.add": "`_keep` begins a role again, also where it can't be started",
    "cli/supervisor.py:Supervisor.run": "`_keep` begins a role again, also where it can't be started",
    "cli/traffic/sender.py:Sender.run": COMMAND,
    "cli/up.py:_run": "tells where the page is, once: the roles don't depend on it",
    "cli/up.py:_run.end": TIMER,
    "cli/verify.py:_verify": COMMAND,
    "tables/csv_output.py:CsvOutput.__init__": "an error is raised by the next call of who writes",
    "tables/installation.py:InstallationLog.append_together": AWAITED,
}
"""`file:function` → why what it starts needs no boundary."""


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def starts_in(tree: ast.AST, path: str) -> Iterator[tuple[str, str, int]]:
    """(place, what, line) of everything that is started."""

    def walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = (*names, node.name)
        if isinstance(node, ast.ClassDef) and any(name_of(base) in STARTS for base in node.bases):
            yield f"{path}:{'.'.join(names)}", "subclass", node.lineno
        if isinstance(node, ast.Call):
            found = {name_of(node.func), *(keyword.arg for keyword in node.keywords)} & STARTS
            if found and not under_background(node):
                yield f"{path}:{'.'.join(names)}", ", ".join(sorted(map(str, found))), node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, names)

    yield from walk(tree, ())


def under_background(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and name_of(node.func.value).endswith("background")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def test_everything_that_is_started_has_a_boundary_or_a_reason() -> None:
    found: dict[str, list[str]] = {}
    for path, tree in modules():
        for place, what, line in starts_in(tree, path):
            found.setdefault(place, []).append(f"{what} in line {line}")
    missing = {place: what for place, what in found.items() if place not in WITHOUT.keys() | BOUNDARIES}
    assert not missing, "put them under tables.background or agents.worker, or say here why they need none"
    assert not (WITHOUT.keys() | BOUNDARIES) - found.keys(), "the table names what is not there any more"


@pytest.mark.parametrize("path", ["agents/aggregate.py", "agents/normalize.py"])
def test_what_faust_runs_ends_the_process_or_begins_again(path: str) -> None:
    """Faust restarts an agent behind an error and forgets a task: neither may be left to it."""
    tree = ast.parse((ROOT / path).read_text())
    seen = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.AsyncFunctionDef):
            continue
        names = {ast.unparse(one).partition("(")[0] for one in node.decorator_list}
        if not any(name.startswith("app.") for name in names):
            continue
        seen += 1
        words = ast.unparse(node)
        guards = ("keep_running(", "background.run(") if "app.task" in names else ("with crash_on_error():",)
        assert any(guard in words for guard in guards), f"{path}: {node.name}"
    assert seen >= 8
