"""How many events a list of the event log has, where that is a number of the report.

Rules:
- Every fact stands in the log, those of excluded addresses too, and the report counts only the others. So its numbers
  are the log's while no open or click of an excluded address is in the partition: `breakdown.TYPE` has all entries by
  type, the totals have those that count.
- A link's row has its clicks but for those beyond a recipient's bound: these are in the row `overflow` of all links.
- How many events have a variant, or happened between two times, is no number of the report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from api.query.answering import Readers
from app import breakdown as b
from app import contribution as c
from app import facts as f
from app.breakdown import row_key
from app.facts import CampaignKey
from app.filters import EventFilter, link_row
from app.sections import clicks_of
from tables.lookups import PagedReader

_TYPES: Final = range(len(f.TYPE_NAMES))
_METRICS: Final = {f.OPENED: c.OPENS, f.CLICKED: c.CLICKS}


def matching(readers: Readers, campaign: CampaignKey, wanted: EventFilter) -> int | None:
    """How many events match a filter of one thing, or of nothing; None where the report doesn't hold it."""
    if wanted.parts > 1:
        return None
    if wanted.link is not None:
        link = wanted.link
        return _sum(_clicks(reader, campaign, link) for reader in readers.values())
    if wanted.verdict is not None:
        verdict = wanted.verdict
        return _sum(_judged(reader, campaign, verdict) for reader in readers.values())
    if wanted.parts == 0 or wanted.type is not None:
        return of_types(readers, campaign, _TYPES if wanted.type is None else (wanted.type,))
    return None


def of_types(readers: Readers, campaign: CampaignKey, kinds: Collection[int]) -> int:
    """How many entries the log has of these types."""
    return sum(_entries(reader, campaign, kinds) for reader in readers.values())


def _sum(numbers: Iterable[int | None]) -> int | None:
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _entries(reader: PagedReader, campaign: CampaignKey, kinds: Collection[int]) -> int:
    return sum(reader.rows(campaign, [row_key(b.TYPE, kind) for kind in kinds]))


def _totals(reader: PagedReader, campaign: CampaignKey, kinds: Collection[int]) -> list[int] | None:
    """Events of these types by verdict; None where the log has more of them than count."""
    row = reader.campaign_row(campaign)
    totals = [row.totals[_METRICS[kind] :][:3] if row is not None else [0] * 3 for kind in kinds]
    by_verdict = [sum(numbers) for numbers in zip(*totals, strict=True)]
    return by_verdict if _entries(reader, campaign, kinds) == sum(by_verdict) else None


def _judged(reader: PagedReader, campaign: CampaignKey, verdict: int) -> int | None:
    by_verdict = _totals(reader, campaign, (f.OPENED, f.CLICKED))
    return by_verdict[verdict] if by_verdict is not None else None


def _clicks(reader: PagedReader, campaign: CampaignKey, link: int) -> int | None:
    row, beyond = reader.rows(campaign, [link_row(link), link_row(b.OVERFLOW)])
    if beyond or _totals(reader, campaign, (f.CLICKED,)) is None:
        return None
    return clicks_of(row)
