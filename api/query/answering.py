"""What the answers have in common: what is remembered between them, time budgets, and how far a database is."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast

from app.facts import CampaignKey
from app.verdicts import DEFAULT_RULES, Rules
from tables.lookups import PagedReader
from tables.names import NameBook

_BOOKS: Final = 200
_TEXTS: Final = 300_000
"""Names in memory over all campaigns: some 100 MB."""
_KEPT: Final = 32
"""Lists of candidates: 1 MB each at most."""

Readers = Mapping[int, PagedReader]


_T = TypeVar("_T")
Stamp = tuple[tuple[int, int, int], ...]
"""(partition, generation, offset) as of which the campaign is: while these stay, nothing of it changed."""


def stamp_of(readers: Readers, campaign: CampaignKey) -> Stamp:
    rows = [(partition, reader, reader.campaign_row(campaign)) for partition, reader in readers.items()]
    return tuple(
        (partition, reader.fence().generation, row.offset if row is not None else -1)
        for partition, reader, row in rows
    )


class Gathered:
    """Candidates in order that were gathered last. Thread-safe."""

    def __init__(self) -> None:
        self._lists: OrderedDict[object, tuple[Stamp, object]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, stamp: Stamp, make: Callable[[], _T]) -> _T:
        """What `make` makes, or what it made for the same key as of the same stamp."""
        with self._lock:
            known = self._lists.get(key)
            if known is not None and known[0] == stamp:
                self._lists.move_to_end(key)
                return cast(_T, known[1])
        made = make()
        with self._lock:
            self._lists[key] = stamp, made
            if len(self._lists) > _KEPT:
                self._lists.popitem(last=False)
        return made


class Books:
    """What is remembered from one answer to the next: names of campaigns, and gathered candidates."""

    def __init__(self) -> None:
        self.gathered = Gathered()
        self._books: OrderedDict[CampaignKey, NameBook] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, campaign: CampaignKey) -> NameBook:
        """A campaign's names, as far as they were looked up."""
        with self._lock:
            book = self._books.pop(campaign, None) or NameBook(campaign)
            self._books[campaign] = book
            while len(self._books) > 1 and (
                len(self._books) > _BOOKS or sum(len(one.texts) for one in self._books.values()) > _TEXTS
            ):
                self._books.popitem(last=False)
            return book


class Budget:
    """How long may still be looked for rows."""

    def __init__(self, milliseconds: float) -> None:
        self._until = time.perf_counter() + milliseconds / 1000

    @property
    def spent(self) -> bool:
        return time.perf_counter() >= self._until


def rules_of(readers: Readers) -> Rules:
    """By which rules the sums of these databases were made; their pages are to say the same."""
    for reader in readers.values():
        if (meta := reader.meta()) is not None:
            return meta.rules
    return DEFAULT_RULES


def fences_of(readers: Readers) -> dict[int, tuple[int, int]]:
    fences = {partition: reader.fence() for partition, reader in readers.items()}
    return {partition: (fence.generation, fence.offset) for partition, fence in fences.items()}
