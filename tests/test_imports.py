"""The rule of imports: `app` is pure, `tables` stands on it, `agents` and `api` on both, nothing on `cli`; `client` on
the shapes alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = frozenset({"app", "tables", "agents", "api", "cli", "client"})

MAY_IMPORT = {
    "app": frozenset({"app"}),
    "tables": frozenset({"app", "tables"}),
    "agents": frozenset({"app", "tables", "agents"}),
    "api": frozenset({"app", "tables", "api"}),
    "cli": PARTS,
    "client": frozenset({"app", "client"}),
}

# All that a program that reads reports needs of this project.
OF_APP_FOR_CLIENTS = ("app.shapes", "app.shapes_lists", "app.shapes_operations")

# Libraries that reach files, the network, other processes, threads, the clock or chance.
IMPURE = frozenset(
    {
        "aiohttp",
        "aiokafka",
        "asyncio",
        "click",
        "concurrent",
        "confluent_kafka",
        "faust",
        "geoip2",
        "http",
        "httpx",
        "io",
        "jgo",
        "logging",
        "maxminddb",
        "mode",
        "multiprocessing",
        "os",
        "prometheus_client",
        "random",
        "redis",
        "requests",
        "rich",
        "rocksdict",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "starlette",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uvicorn",
        "uvloop",
    }
)


def modules() -> list[Path]:
    return sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that is imported, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "."
            else:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def offences(part: str, source: str) -> list[str]:
    found = []
    for line, name in imported(source):
        top = name.partition(".")[0]
        if name == ".":
            found.append(f"line {line}: a relative import")
        elif (top in PARTS and top not in MAY_IMPORT[part]) or top == "tests":
            found.append(f"line {line}: {part} imports {name}")
        elif part == "client" and top == "app" and not name.startswith(OF_APP_FOR_CLIENTS):
            found.append(f"line {line}: client knows shapes only, but imports {name}")
        elif part == "app" and any(name == impure or name.startswith(f"{impure}.") for impure in IMPURE):
            found.append(f"line {line}: app is pure, but imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    assert offences(part, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("app", "import tables.views"),
        ("app", "def f():\n    import socket"),
        ("app", "from urllib.request import urlopen"),
        ("app", "from . import facts"),
        ("tables", "from agents import app"),
        ("agents", "import api.webhooks"),
        ("api", "from agents.app import build"),
        ("api", "from cli.config import load_settings"),
        ("cli", "from tests.support import kafka"),
        ("client", "from app.facts import Fact"),
        ("client", "from api.errors import json_response"),
        ("api", "import client"),
    ],
)
def test_the_rule_finds_what_breaks_it(part: str, source: str) -> None:
    assert offences(part, source)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("app", "from urllib.parse import urlsplit"),
        ("tables", "import os\nfrom app.facts import Fact"),
        ("api", "from tables.views import read"),
        ("cli", "import api.main, agents.app"),
        ("cli", "from client import Client"),
        ("client", "from app.shapes import Report"),
    ],
)
def test_the_rule_leaves_the_rest_alone(part: str, source: str) -> None:
    assert offences(part, source) == []


HTTP_CLIENTS = frozenset({"aiohttp", "http.client", "httpx", "requests", "urllib.request", "urllib3"})


# These ask our own query processes, at the address that each announces in Redis, with the installation's token.
ASK_QUERY_PROCESSES = frozenset({"api/exports.py", "api/query/export_process.py"})


def test_only_one_module_of_the_roles_makes_requests_to_others() -> None:
    found = set()
    for path in modules():
        name = str(path.relative_to(ROOT))
        if name.startswith(("app/", "tables/", "agents/", "api/")):
            names = [name for _, name in imported(path.read_text("utf-8"))]
            if any(
                name == client or name.startswith(f"{client}.") for name in names for client in HTTP_CLIENTS
            ):
                found.add(name)
    assert found == {"api/outgoing.py"} | ASK_QUERY_PROCESSES
