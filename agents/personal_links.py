"""Tells operators which campaigns have links that look personal, and what would help (`app.personal_links`).

A campaign's links are looked at in one partition, that of its own record: so one worker tells it, and the partition is
as good a sample as any. A look costs milliseconds, so each is taken again after `AGAIN_S` at the earliest, or once the
links are twice as many. What was found is kept in the database, so that a restart or another worker goes on telling it,
until the links are no longer so, or nothing of the campaign was counted for `FORGOTTEN_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from app import breakdown as b
from app import personal_links
from app.facts import CampaignKey
from app.keys import campaign_partition
from app.tally import field_of
from tables.conditions import Conditions
from tables.partition import PartitionDatabase
from tables.personal import PersonalRow

CODE: Final = "personal_links"
AGAIN_S: Final = 300.0
FORGOTTEN_S: Final = 86_400.0
_SAMPLE: Final = 200
_NAMED: Final = 3
_KNOWN: Final = 10_000


class PersonalLinks:
    """Of one worker process. `clock`: seconds since 1970."""

    def __init__(self, conditions: Conditions, clock: Callable[[], float] = time.time) -> None:
        self._conditions = conditions
        self._clock = clock
        self._looked: dict[tuple[int, CampaignKey], tuple[float, int]] = {}
        """When, and how many links there were."""
        self._found: dict[tuple[int, CampaignKey], PersonalRow] = {}

    def take(self, database: PartitionDatabase) -> None:
        """It is this worker's from now on."""
        found = database.personal_links()
        for campaign, row in found.items():
            if self._is_forgotten(row):
                database.note_personal_links(campaign, None)
            else:
                self._found[database.partition, campaign] = row
        if found:
            self._tell()

    def look(self, database: PartitionDatabase, key: CampaignKey, org: str, campaign: str) -> None:
        """Some links of the campaign were counted in this partition."""
        now, where = self._clock(), (database.partition, key)
        if campaign_partition(key, database.meta.partitions) != database.partition:
            return
        book = database.aggregates.book(key)
        known_rows = book.known_ranking(b.LINK)
        links = known_rows.numbers[0] if known_rows.cut else len(known_rows.rows or ())
        known = self._found.get(where)
        if links < personal_links.MANY and known is None:
            return
        looked_at, there_were = self._looked.get(where, (float("-inf"), 0))
        if now - looked_at < AGAIN_S and links < 2 * there_were:
            return
        total, numbers = book.ranking(b.LINK).sums()
        if personal_links.look_personal(numbers[0], field_of(total, b.E_CLICKED)):
            keys = [row for row, _ in book.smallest_links(_SAMPLE)]
            names = [name for name in book.names_of(b.LINK, keys) if name]
            parameters = personal_links.personal_parameters(names)
            found = PersonalRow(org, campaign, numbers[0], parameters, int(now * 1000))
            self._found[where] = found
            database.note_personal_links(key, found)
        elif known is not None:
            del self._found[where]
            database.note_personal_links(key, None)
        self._looked[where] = now, numbers[0]
        while len(self._looked) > _KNOWN:
            del self._looked[next(iter(self._looked))]
        self._tell()

    def forget(self, partition: int) -> None:
        """It was given away."""
        for known in (self._found, self._looked):
            for key in [key for key in known if key[0] == partition]:
                del known[key]
        self._tell()

    def _is_forgotten(self, row: PersonalRow) -> bool:
        return self._clock() - row.at_ms / 1000 > FORGOTTEN_S

    def _tell(self) -> None:
        for key in [key for key, row in self._found.items() if self._is_forgotten(row)]:
            del self._found[key]
        if not self._found:
            self._conditions.clear(CODE)
            return
        some = sorted(self._found.values(), key=lambda row: (-row.links, row.org, row.campaign))
        said = "; ".join(_said(row) for row in some[:_NAMED])
        more = f"; and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        self._conditions.set(
            CODE,
            "nearly every link of these campaigns was clicked by one recipient only, so the links seem to be "
            f"personal: {said}{more}. What is counted stays as it is; "
            "this condition ends a day after a campaign's last click",
        )


def _said(row: PersonalRow) -> str:
    where = f"{row.org}/{row.campaign}"
    if not row.parameters:
        return f"{where}, in no query parameter: let the ESP track the same links for all"
    names = ", ".join(f'"{name}"' for name in row.parameters)
    return (
        f"{where}: for later mailings add {names} to strip_query of the source that its events come from "
        f"([orgs.{row.org}.sources.NAME] in reports.toml; that of /api/v1/events is the one with "
        'esp = "generic": where there is none, add it), and send SIGHUP'
    )
