"""Tells operators which campaigns have links that look personal, and what would help (`app.personal_links`).

A look at a campaign costs some milliseconds, so each is taken again after `AGAIN_S` at the earliest. What was found
holds until the links are no longer so, or nothing of the campaign was counted for `FORGOTTEN_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from app import breakdown as b
from app.facts import CampaignKey
from app.personal_links import look_personal, personal_parameters
from app.tally import field_of
from tables.campaign_book import CampaignBook
from tables.conditions import Conditions

CODE: Final = "personal_links"
AGAIN_S: Final = 300.0
FORGOTTEN_S: Final = 86_400.0
_SAMPLE: Final = 200
_NAMED: Final = 3
_KNOWN: Final = 10_000


class _Found(NamedTuple):
    at: float
    campaign: str
    """`organisation/campaign`; empty: its links are not personal."""
    links: int = 0
    parameters: tuple[str, ...] = ()


class PersonalLinks:
    """Of one worker process."""

    def __init__(self, conditions: Conditions, clock: Callable[[], float] = time.monotonic) -> None:
        self._conditions = conditions
        self._clock = clock
        self._found: dict[tuple[int, CampaignKey], _Found] = {}

    def look(self, partition: int, key: CampaignKey, campaign: str, book: CampaignBook) -> None:
        """`campaign`: `organisation/campaign`, some of whose links were counted in this partition."""
        now = self._clock()
        known = self._found.get((partition, key))
        if known is not None and now - known.at < AGAIN_S:
            return
        total, numbers = book.ranking(b.LINK).sums()
        found = _Found(now, "")
        if look_personal(numbers[0], field_of(total, b.E_CLICKED)):
            keys = [row for row, _ in book.smallest_links(_SAMPLE)]
            names = [name for name in book.names_of(b.LINK, keys) if name]
            found = _Found(now, campaign, numbers[0], personal_parameters(names))
        elif known is None and numbers[0] < _SAMPLE:
            return  # most campaigns: not worth a word
        self._found[partition, key] = found
        self._tell(now)

    def forget(self, partition: int) -> None:
        """It was given away."""
        for key in [key for key in self._found if key[0] == partition]:
            del self._found[key]
        self._tell(self._clock())

    def _tell(self, now: float) -> None:
        for key in [key for key, found in self._found.items() if now - found.at > FORGOTTEN_S]:
            del self._found[key]
        while len(self._found) > _KNOWN:
            del self._found[next(iter(self._found))]
        largest: dict[str, _Found] = {}
        for found in self._found.values():
            before = largest.get(found.campaign)
            if found.campaign and (before is None or found.links > before.links):
                largest[found.campaign] = found
        if not largest:
            self._conditions.clear(CODE)
            return
        some = sorted(largest.values(), key=lambda found: (-found.links, found.campaign))
        said = "; ".join(_said(found) for found in some[:_NAMED])
        more = f"; and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        self._conditions.set(
            CODE,
            "nearly each link was clicked by one recipient only, as where everybody has a link of their own: "
            f"{said}{more}. "
            "Links that are counted stay as they are",
        )


def _said(found: _Found) -> str:
    if not found.parameters:
        return f"{found.campaign}, in no query parameter: let the ESP track the same links for all"
    names = ", ".join(f'"{name}"' for name in found.parameters)
    return f"{found.campaign}: set strip_query = [{names}] in its source in reports.toml, and send SIGHUP"
