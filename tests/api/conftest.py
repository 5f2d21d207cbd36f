"""For servers in the tests' own process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import uvicorn.server


class _Hurried(ModuleType):
    """asyncio with short naps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


@pytest.fixture(scope="session", autouse=True)
def _uvicorn_looks_more_often() -> Iterator[None]:
    """It looks every tenth of a second whether it is to end, and three times while it does: hundreds of tests wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", _Hurried("asyncio"))
        yield
