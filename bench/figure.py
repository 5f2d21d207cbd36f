"""A measured figure beside its goal."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, kw_only=True):
    what: str
    value: float
    unit: str
    goal: float | None = None
    """None: shown for comparison, nothing was promised."""
    higher_is_better: bool = True
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """1 and above: the goal is reached."""
        if self.goal is None or not self.value:
            return None
        return self.value / self.goal if self.higher_is_better else self.goal / self.value


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile; `share` in 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
