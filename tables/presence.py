"""What a process tells of itself in Redis: hash `cr:workers`, its name → `Presence` as JSON, about once a second.

It is there to be looked at (`GET /ops/workers`), and its conditions say why reports are stale. Counting doesn't use it.
One that is refused at its start tells so as it ends (`cli.refusals`): nobody is there then, and what it says holds.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from app.errors import UNDECODABLE
from app.verdicts import Rules
from tables.conditions import Condition
from tables.layout import LAYOUT_VERSION

WORKERS: Final = "cr:workers"


class Presence(msgspec.Struct, frozen=True):
    product: str
    layout: int
    """Of the databases' keys (`tables.layout`)."""
    rules: Rules
    """Those of the settings, by which a rebuild would count."""
    since_ms: int
    """When the process began."""
    at_ms: int
    """The last sign of life."""
    role: str = "aggregate"
    partitions: tuple[int, ...] = ()
    """Of topic `webhooks`, of a worker that parses. Who counts is named by the partitions themselves (`Owner`)."""
    conditions: tuple[Condition, ...] = ()
    """What is wrong with it at the moment."""
    counters: dict[str, int] = {}
    """How often something happened since it began, by its condition's code."""
    host: str = ""
    """Its machine's name."""
    configuration: dict[str, str] = {}
    """What it goes by, as hashes (`app.configuration`)."""
    refused: bool = False
    """It has ended: it may not start, and that is its only condition."""

    def is_alive(self, now_ms: int) -> bool:
        return not self.refused and self.at_ms > now_ms - SILENT_MS

    def holds(self, now_ms: int) -> bool:
        """Whether its conditions are still there."""
        return self.at_ms > now_ms - (REFUSED_MS if self.refused else SILENT_MS)


SILENT_MS: Final = 10_000
"""A process that has said nothing for so long is not alive: ten signs of life missed."""
REFUSED_MS: Final = 45_000
"""One that was refused and has not said so again for so long is not tried any more: its parent tries it every 15 s."""
decode_presence = msgspec.json.Decoder(Presence).decode


def folder_word(state: Path) -> str:
    """A state folder's own word, with which its workers' names begin (`agents.slots`); empty where it has none."""
    with contextlib.suppress(OSError):
        return (state / "slots" / "id").read_text("utf-8", "replace").partition(" ")[0].strip()
    return ""


def conditions_of(stored: Mapping[bytes, bytes], now_ms: int) -> list[Condition]:
    """Those that hold, of all processes, from the hash; what can't be read (another version's) is left out."""
    found: list[Condition] = []
    for text in stored.values():
        with contextlib.suppress(*UNDECODABLE):
            said = decode_presence(text)
            if said.holds(now_ms):
                found += said.conditions
    return found


def refused_name(role: str) -> str:
    """Under which a role of this machine tells that it was refused; its own name it has only when it runs."""
    return f"{role} of {socket.gethostname()}"


@cache
def product_version() -> str:
    try:
        return version("campaign-reports")
    except PackageNotFoundError:
        return "unknown"  # run from a folder that was not installed


def presence(
    rules: Rules,
    since_ms: int,
    at_ms: int,
    *,
    role: str = "aggregate",
    partitions: Iterable[int] = (),
    conditions: tuple[Condition, ...] = (),
    counters: Mapping[str, int] | None = None,
    configuration: Mapping[str, str] | None = None,
    refused: bool = False,
) -> Presence:
    return Presence(
        product_version(), LAYOUT_VERSION, rules, since_ms, at_ms, role, tuple(partitions), conditions,
        dict(counters or {}), socket.gethostname(), dict(configuration or {}), refused,
    )  # fmt: skip
