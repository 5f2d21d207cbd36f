"""What a process tells of itself in Redis: hash `cr:workers`, its name → `Presence` as JSON, about once a second.

It is there to be looked at (`GET /ops/workers`), and its conditions say why reports are stale. Counting doesn't use it.
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


SILENT_MS: Final = 10_000
"""A process that has said nothing for so long is not alive: ten signs of life missed."""
decode_presence = msgspec.json.Decoder(Presence).decode


def folder_word(state: Path) -> str:
    """A state folder's own word, with which its workers' names begin (`agents.slots`); empty where it has none."""
    with contextlib.suppress(OSError):
        return (state / "slots" / "id").read_text("utf-8", "replace").partition(" ")[0].strip()
    return ""


def conditions_of(stored: Mapping[bytes, bytes], now_ms: int) -> list[Condition]:
    """Those of all processes that are alive, from the hash; what can't be read (another version's) is left out."""
    found: list[Condition] = []
    for text in stored.values():
        with contextlib.suppress(msgspec.MsgspecError):
            said = decode_presence(text)
            if said.at_ms > now_ms - SILENT_MS:
                found += said.conditions
    return found


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
) -> Presence:
    return Presence(
        product_version(), LAYOUT_VERSION, rules, since_ms, at_ms, role, tuple(partitions), conditions,
        dict(counters or {}), socket.gethostname(), dict(configuration or {}),
    )  # fmt: skip
