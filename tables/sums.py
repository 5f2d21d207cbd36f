"""What a batch of facts adds to the sums of one campaign: contributions after, minus contributions before."""

from __future__ import annotations

from typing import Final

from app.breakdown import RowKey
from app.contribution import Contribution
from app.summary import GROUP_EVENTS, group_tally
from app.tally import BITS

_EVENTS: Final = GROUP_EVENTS * BITS
"""Where in a group's row the events stand: opens and clicks by verdict, as in `Contribution.engagement`."""


class Sums:
    """Differences of one campaign in one batch: pattern → recipients, cell → count, metric → overflow count,
    row → tally."""

    __slots__ = (
        "as_of_ms",
        "cells",
        "clicks",
        "lowered",
        "overflow",
        "patterns",
        "renamed",
        "rows",
        "unclicks",
    )

    def __init__(self) -> None:
        self.patterns: dict[int, int] = {}
        self.cells: dict[int, int] = {}
        self.overflow: dict[int, int] = {}
        self.rows: dict[RowKey, int] = {}
        self.clicks: set[bytes] = set()
        """Keys of the index of clicks by time that are put, and (`unclicks`) those that are deleted."""
        self.unclicks: set[bytes] = set()
        self.as_of_ms = -1
        self.lowered = False
        self.renamed: set[int] = set()
        """Sections in which a name was erased: their rows have to be published again, though no tally moved."""

    def move(self, before: Contribution, after: Contribution) -> None:
        patterns = self.patterns
        counted, counts = before.last_at_ms >= 0, after.last_at_ms >= 0
        if before.pattern != after.pattern or counted != counts:
            if counted:
                patterns[before.pattern] = patterns.get(before.pattern, 0) - 1
            if counts:
                patterns[after.pattern] = patterns.get(after.pattern, 0) + 1
        rows = self.rows
        if (
            before.pattern != after.pattern
            or before.engagement != after.engagement
            or before.groups != after.groups
        ):
            if counted:
                tally = group_tally(before.pattern) + (before.engagement << _EVENTS)
                for key in before.groups:
                    rows[key] = rows.get(key, 0) - tally
            if counts:
                tally = group_tally(after.pattern) + (after.engagement << _EVENTS)
                for key in after.groups:
                    rows[key] = rows.get(key, 0) + tally
        if before.rows != after.rows:
            known = before.rows
            for key, tally in after.rows.items():
                if tally != (old := known.get(key, 0)):
                    rows[key] = rows.get(key, 0) + tally - old
            for key, tally in known.items():
                if key not in after.rows:
                    rows[key] = rows.get(key, 0) - tally
        if before.cells != after.cells:
            cells = self.cells
            for cell in before.cells:
                cells[cell] = cells.get(cell, 0) - 1
            for cell in after.cells:
                cells[cell] = cells.get(cell, 0) + 1
        if before.overflow != after.overflow:
            for metric, count in before.overflow:
                self.overflow[metric] = self.overflow.get(metric, 0) - count
            for metric, count in after.overflow:
                self.overflow[metric] = self.overflow.get(metric, 0) + count
        if after.last_at_ms > self.as_of_ms:
            self.as_of_ms = after.last_at_ms
        if after.last_at_ms < before.last_at_ms:
            self.lowered = True


def add_counts(to: dict[int, int], differences: dict[int, int]) -> None:
    for key, difference in differences.items():
        count = to.get(key, 0) + difference
        if count:
            to[key] = count
        else:
            to.pop(key, None)
