"""Only `tables.walking` iterates over a column family: rocksdict's own iterators end silently at a broken block."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_ITERATE = ROOT / "tables" / "walking.py"
WALKS = frozenset({"items", "keys", "values", "entities", "columns"})
DATABASES = ("db", "._log", "._index")


def direct_walks(source: str) -> Iterator[int]:
    """Lines that iterate over a database by themselves: a dictionary's `items` takes no arguments."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        called, on = node.func.attr, ast.unparse(node.func.value)
        if called == "iter" or (called in WALKS and (node.args or node.keywords or on.endswith(DATABASES))):
            yield node.lineno


@pytest.mark.parametrize("part", ["agents", "api", "app", "bench", "cli", "tables"])
def test_every_walk_notices_a_broken_block(part: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / part).rglob("*.py"))
        if path != MAY_ITERATE
        for line in direct_walks(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "db.items(from_key=prefix)",
        "self._db.items()",
        "self._log.keys(backwards=True)",
        "db.iter()",
        "for name in cast(Any, handle.values(from_key=low)): pass",
    ],
)
def test_the_rule_finds_what_breaks_it(source: str) -> None:
    assert list(direct_walks(source))
