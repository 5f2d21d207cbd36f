"""A world with facts in it, for tests of commands beside workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.counting import World


@pytest.fixture
def world(tmp_path: Path, kafka: str, redis_db: str, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, kafka, redis_db)
    made.export(monkeypatch)
    made.fill()
    return made
