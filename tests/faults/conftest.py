"""A running stack for the faults that need one each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything running, shared by a module's tests: each of them has campaigns of its own and leaves all running."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.start_all()
        yield running
