"""Collects differences: by place and section, with the first few in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

SHOWN: Final = 5
"""Differences told in words, per place and section."""


class Cell(msgspec.Struct):
    compared: int = 0
    differences: int = 0
    told: list[str] = []


class Comparison:
    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}

    @property
    def differences(self) -> int:
        return sum(cell.differences for cell in self.cells.values())

    def same(self, place: str, section: str, what: str, expected: object, found: object) -> None:
        """One value. Rates may differ in the last bits of a float."""
        cell = self.cells.setdefault((place, section), Cell())
        cell.compared += 1
        if not _equal(expected, found):
            self._tell(cell, f"{what}: expected {_short(expected)}, found {_short(found)}")

    def mappings(
        self,
        place: str,
        section: str,
        what: str,
        expected: Mapping[str, object] | Mapping[int, object],
        found: Mapping[str, object] | Mapping[int, object],
    ) -> None:
        """Every key of either side."""
        left: dict[object, object] = dict(expected.items())
        right: dict[object, object] = dict(found.items())
        for key in sorted({*left, *right}, key=str):
            self.same(place, section, f"{what} {key}", left.get(key, "nothing"), right.get(key, "nothing"))

    def failed(self, place: str, section: str, what: str) -> None:
        """Something could not even be read: a difference."""
        self._tell(self.cells.setdefault((place, section), Cell()), what)

    def _tell(self, cell: Cell, text: str) -> None:
        cell.differences += 1
        if len(cell.told) < SHOWN:
            cell.told.append(text)


def _equal(expected: object, found: object) -> bool:
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=1e-12)
    return expected == found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
