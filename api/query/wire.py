"""What the API asks a query process and what it answers: MessagePack over HTTP, POST /<name of the request>.

Rules:
- Every request names the partitions that it is about. An answer is about all of them or it is no answer: 409 with the
  ones that aren't there, so that a page is never short without anyone knowing.
- An answer tells how far each of its databases is (`fences`), so that the API sees a stale copy.
- Rows carry their order key (`tables.paging`) and their JSON as it goes out, so that the API only merges.
- The token is made of the installation's secret: who can't read that, can't read recipients.
"""

from __future__ import annotations

import hmac
from typing import Final, Literal

import msgspec

from app.facts import CampaignKey, RecipientKey
from app.filters import EventFilter, RecipientFilter
from app.summary import Count

QUERIES: Final = "cr:queries"
"""Hash in Redis: partition → `Announcement` as JSON."""
UNREADABLE: Final = "database_unreadable"
"""Code of the condition of a query process that can't read a database."""
ANNOUNCE_S: Final = 1.0
FRESH_S: Final = 6.0
"""What is older was announced by a process that is gone: it would say so each second."""

SCAN_MS: Final = 50
"""How long a page looks for rows that match; then it is answered with those that were found."""

Sort = Literal["recipient", "-last_event_at"]


class Announcement(msgspec.Struct, frozen=True):
    url: str
    at_ms: int


class RecipientsRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    wanted: RecipientFilter
    count: Count
    sort: Sort
    after: bytes | None
    limit: int


class EventsRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    wanted: EventFilter
    descending: bool
    after: bytes | None
    limit: int


class ClickersRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    link: int
    count: Count
    after: bytes | None
    limit: int


class Page(msgspec.Struct, frozen=True, array_like=True):
    rows: list[tuple[bytes, bytes]]
    """(order key, the item as JSON), in order."""
    stopped: bytes | None
    """The order key up to which everything was looked at; None: the list ends with these rows."""
    matching: int | None
    """How many rows the whole list has in these partitions, where the report counts them."""
    fences: dict[int, tuple[int, int]]
    """Partition → (generation, offset)."""


class RecipientRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    """The recipient's only."""
    recipient: RecipientKey
    count: Count


class RecipientAnswer(msgspec.Struct, frozen=True, array_like=True):
    item: bytes | None
    """As JSON; None where the campaign has no such recipient."""
    events: list[bytes]
    complete: bool
    """Whether these are all events; the others are found page by page in the event log."""
    fences: dict[int, tuple[int, int]]


class TopClickersRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    links: tuple[int, ...]
    count: Count
    most: int


class TopClickersAnswer(msgspec.Struct, frozen=True, array_like=True):
    clickers: list[list[tuple[int, str]]]
    """Per link of the request: (clicks, address), the most clicks first."""
    fences: dict[int, tuple[int, int]]


class RowsRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    keys: tuple[bytes, ...]


class RowsAnswer(msgspec.Struct, frozen=True, array_like=True):
    tallies: list[bytes]
    """Of each key of the request (`app.tally`)."""
    fences: dict[int, tuple[int, int]]


class TopsRequest(msgspec.Struct, frozen=True, array_like=True):
    campaign: CampaignKey
    partitions: tuple[int, ...]
    sections: tuple[int, ...]
    keys: tuple[bytes, ...]
    """Rows of these sections."""


class TopsAnswer(msgspec.Struct, frozen=True, array_like=True):
    totals: list[bytes | None]
    """Of each section the tally of all of its rows; None: it can't be told."""
    tallies: list[bytes]
    """Of each key."""
    ends: dict[int, tuple[int, int, int, int]]
    """First and last clicks of the links among them (`app.sections.Ends`)."""
    fences: dict[int, tuple[int, int]]


class PeopleRequest(msgspec.Struct, frozen=True, array_like=True):
    campaigns: tuple[CampaignKey, ...]
    partitions: tuple[int, ...]
    kinds: tuple[int, ...]
    """As `tables.people.kind_of` gives them."""
    first: int
    end: int
    """Quarters (minutes since 1970 UTC // 15), `end` not included."""


class PeopleAnswer(msgspec.Struct, frozen=True, array_like=True):
    sketches: list[bytes]
    """Of each kind of the request one encoded sketch (`tables.sketches`), of all its campaigns and partitions."""
    fences: dict[int, tuple[int, int]]


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """The body of 409 and 503."""

    missing: tuple[int, ...]


Request = (
    RecipientsRequest
    | EventsRequest
    | ClickersRequest
    | RecipientRequest
    | TopClickersRequest
    | RowsRequest
    | TopsRequest
    | PeopleRequest
)

encode = msgspec.msgpack.Encoder().encode


def token_of(secret: bytes) -> str:
    return hmac.digest(secret, b"campaign-reports query v1", "sha256").hex()
