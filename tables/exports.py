"""Exports: all recipients of a campaign by address, or its event log by time, as rows of CSV.

Rules:
- Partitions are read as of one moment each (`tables.moments`), from front to back: a look-up for each row would read
  each block of the database many times. So recipients, which stand by the hash of their address, are put in order
  afterwards (`tables.sorting`); events stand in order in each partition and are merged.
- What a filter holds for is decided by `app.filters`, as on the pages.
- Nothing that grows with the campaign is held: blocks of rows, and tables of names that begin anew when they are full.
- A record is what a row is sorted by, and the row. Records of several processes merge as those of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from app import breakdown as b
from app import facts as f
from app.breakdown import row_key
from app.csv_events import EventRows
from app.csv_rows import header
from app.facts import CampaignKey
from app.filters import EventFilter, RecipientFilter
from app.items import EVENT_FIELDS, RECIPIENT_FIELDS
from app.summary import Count
from tables.event_records import event_rows_of, event_rows_of_descending, events
from tables.recipient_records import Moments, Tell, recipient_rows_of, recipients
from tables.sorting import Block, Sorter, merged


class Asked(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What is exported: recipients or events of a campaign, whichever has a filter."""

    campaign: CampaignKey
    recipients: RecipientFilter | None = None
    events: EventFilter | None = None
    count: Count = "all"
    """Of recipients: which opens and clicks count."""
    descending: bool = False
    """Of events: the newest one first."""


def header_of(asked: Asked) -> str:
    return header(RECIPIENT_FIELDS if asked.events is None else EVENT_FIELDS)


def rows_of(asked: Asked) -> Callable[[Block], list[str]]:
    """A block of records, not an empty one → texts that are its rows, one after the other."""
    if asked.events is None:
        return recipient_rows_of
    return event_rows_of_descending if asked.descending else event_rows_of


def records(
    asked: Asked, moments: Moments, sorter: Sorter, tell: Tell = lambda read: None
) -> Iterator[Block]:
    """All records of these partitions in order. What is needed for the first one is done when it is asked for."""
    if asked.events is None:
        wanted = asked.recipients or RecipientFilter()
        return recipients(moments, asked.campaign, wanted, asked.count, sorter, tell)
    make = EventRows()
    read: dict[int, int] = {}

    def note(partition: int) -> Tell:
        def told(number: int) -> None:
            read[partition] = number
            tell(sum(read.values()))

        return told

    return merged(
        [
            events(
                moment, asked.campaign, asked.events, make, descending=asked.descending, tell=note(partition)
            )
            for partition, moment in moments.items()
        ]
    )


def total_of(asked: Asked, moments: Moments) -> int:
    """How many recipients or events are read for it, where no filter spares some."""
    if asked.events is None:
        return sum(moment.expected(asked.campaign) for moment in moments.values())
    keys = [row_key(b.TYPE, number) for number in range(len(f.TYPE_NAMES))]
    return sum(sum(moment.rows(asked.campaign, keys)) for moment in moments.values())
