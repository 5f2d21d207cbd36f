"""Says as conditions what of Kafka's topics differs from the design, while it does.

What is asked is given from outside (`cli.topic_checks`): pairs of a condition's code and a line that says what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from app.errors import TryLater
from tables.conditions import Conditions

EVERY_S: Final = 60.0

Check = Callable[[], Sequence[tuple[str, str]]]
"""Blocks; raises TryLater where Kafka doesn't answer."""


async def watch_topics(check: Check, conditions: Conditions, every_s: float = EVERY_S) -> None:
    """Until cancelled."""
    said: set[str] = set()
    while True:
        try:
            found = await asyncio.to_thread(check)
        except TryLater:
            await asyncio.sleep(every_s)  # that Kafka is away is said elsewhere
            continue
        lines: dict[str, list[str]] = {}
        for code, line in found:
            lines.setdefault(code, []).append(line)
        for code in said - lines.keys():
            conditions.clear(code)
        for code, several in lines.items():
            conditions.set(code, "; ".join(several))
        said = set(lines)
        await asyncio.sleep(every_s)
