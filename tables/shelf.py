"""One budget of memory for what all partitions of a process keep of their campaigns.

Sums, names and rows are written through, so whatever is dropped costs a read and nothing else. What was not used for
longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from app.facts import CampaignKey

BUDGET: Final = 400_000
"""Entries, of about 200 bytes each."""


class Keeper(Protocol):
    """Who keeps something of campaigns: a partition."""

    def size_of(self, campaign: CampaignKey) -> int:
        """Entries of what is kept of a campaign."""
        ...

    def drop(self, campaign: CampaignKey) -> None: ...


class Shelf:
    """Of one process. Not for use from several threads."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._sizes: OrderedDict[tuple[int, CampaignKey], tuple[Keeper, int]] = OrderedDict()
        self.entries = 0

    def touch(self, keeper: Keeper, campaign: CampaignKey) -> None:
        """What is kept of a campaign was used, and may have grown."""
        size = keeper.size_of(campaign)
        _, before = self._sizes.pop((id(keeper), campaign), (keeper, 0))
        self._sizes[id(keeper), campaign] = keeper, size
        self.entries += size - before

    def trim(self) -> None:
        """Drops what is beyond the budget. Not while a batch is being made: what it changed is not written yet."""
        while self.entries > self._budget:
            (_, campaign), (keeper, size) = self._sizes.popitem(last=False)
            self.entries -= size
            keeper.drop(campaign)

    def forget(self, keeper: Keeper) -> None:
        """Nothing is kept by it any more."""
        for key in [key for key in self._sizes if key[0] == id(keeper)]:
            self.entries -= self._sizes.pop(key)[1]
