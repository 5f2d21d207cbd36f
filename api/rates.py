"""How many webhooks a second a source may send (`rate_limit`), so that one flood leaves the others their share.

Rules:
- A bucket for each source that has a limit: a second's worth may come at once, then one by one as it fills again.
- Asked after the signature: what anybody can send takes nothing from who can sign (`docs/deploy.md`, "Floods").
- Each API process counts for itself: two of them let through twice as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from app.errors import TryLater
from app.organisations import Source


class RateLimited(TryLater):
    """The source has used up its share; it is told to come again, as everyone who could not be stored."""


class Rates:
    """`clock`: seconds, from anywhere, never backwards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        """(organisation, source) → what was left, and when. As many as the configuration has sources with a limit."""

    def check(self, source: Source) -> None:
        """Takes one of the source's share; raises RateLimited where none is left."""
        limit = source.rate_limit
        if not limit:
            return
        now = self._clock()
        left, at = self._buckets.get((source.org, source.name), (float(limit), now))
        left = min(float(limit), left + (now - at) * limit)
        if left < 1:
            self._buckets[source.org, source.name] = left, now
            raise RateLimited(ceil((1 - left) / limit), "this source sends more than its limit, try again")
        self._buckets[source.org, source.name] = left - 1, now
