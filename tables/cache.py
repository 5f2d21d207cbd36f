"""What a process keeps in memory of all its partitions: recent recipients, and on a `Shelf` recent campaigns."""

from __future__ import annotations

from app.contribution import Contribution
from app.facts import RecipientKey
from app.state import RecipientState
from tables.shelf import Shelf


class Recipient:
    """A recipient's state and what it contributes, kept together so that neither is computed twice."""

    __slots__ = ("contribution", "state")

    def __init__(self, state: RecipientState, contributed: Contribution) -> None:
        self.state = state
        self.contribution = contributed


class RecipientCache:
    """Recent recipients, two generations of at most `limit`: the older one is dropped whole."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.young: dict[RecipientKey, Recipient] = {}
        self.old: dict[RecipientKey, Recipient] = {}
        self.shelf = Shelf()

    def age(self) -> None:
        if len(self.young) > self._limit:
            self.old, self.young = self.young, {}
