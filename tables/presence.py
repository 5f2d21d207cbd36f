"""What a worker tells of itself in Redis: hash `cr:workers`, worker → `Presence` as JSON, written about once a second.

It is there to be looked at (`GET /ops/workers`); nothing decides by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec

from app.verdicts import Rules
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


@cache
def product_version() -> str:
    try:
        return version("campaign-reports")
    except PackageNotFoundError:
        return "unknown"  # run from a folder that was not installed


def presence(
    rules: Rules, since_ms: int, at_ms: int, *, role: str = "aggregate", partitions: Iterable[int] = ()
) -> Presence:
    return Presence(product_version(), LAYOUT_VERSION, rules, since_ms, at_ms, role, tuple(partitions))
