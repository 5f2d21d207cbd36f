"""The shapes of lists (recipients, events, clickers, campaigns) and of what is sent to the API; see `app.shapes`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from app.shapes import Clicker, Head, SummaryDocument, VerdictName

Status = Literal[
    "queued", "sent", "delivered", "deferred", "bounced", "rejected", "failed", "complained", "unsubscribed"
]


class Paging(TypedDict):
    next: str | None
    """The `cursor` of the next page; null on the last one."""
    matching: int | None
    """How many there are in all; null where it isn't known without looking at each."""


class Recipient(TypedDict):
    recipient: str | None
    """Null: erased."""
    status: Status | None
    """Null: nothing that happened tells whether anything was sent."""
    opened: bool
    clicked: bool
    opens: int
    clicks: int
    sent_at: str | None
    delivered_at: str | None
    deferred_at: str | None
    bounced_at: str | None
    opened_at: str | None
    last_opened_at: str | None
    clicked_at: str | None
    last_clicked_at: str | None
    complained_at: str | None
    unsubscribed_at: str | None
    last_event_at: str | None
    variant: dict[str, str] | None
    client: str | None
    country: str | None


class Event(TypedDict):
    id: str
    at: str
    type: str
    recipient: str | None
    verdict: VerdictName | None
    verdict_reason: str | None
    link: str | None
    position: int | None
    reason: str | None
    smtp_reply: str | None
    ip: str | None
    user_agent: str | None
    client: str | None
    device: str | None
    country: str | None
    city: str | None
    provider: str | None
    variant: dict[str, str] | None
    esp: str | None
    esp_event_id: str | None
    message_id: str | None
    tags: list[str] | None
    metadata: dict[str, str] | None
    excluded: bool
    """True of tests and seed lists: in the log, counted nowhere."""


class Recipients(Head, Paging):
    items: list[Recipient]


class Events(Head, Paging):
    items: list[Event]


class Clickers(Head, Paging):
    items: list[Clicker]


class RecipientHistory(Head, Recipient):
    events: list[Event]
    events_complete: bool
    """False: older events stand in the log alone (`/events?recipient=`)."""


class Campaigns(Paging):
    items: list[SummaryDocument]


class CampaignNames(TypedDict):
    campaign: str
    name: str | None
    subject: str | None
    fields: dict[str, dict[str, str]]


class RefusedEvent(TypedDict):
    index: int
    error: str


class AcceptedEvents(TypedDict):
    accepted: int
    refused: list[RefusedEvent]


class Erasure(TypedDict):
    campaigns: int
    """In so many campaigns the person is erased."""


class GenericEvent(TypedDict):
    """An event of the generic source."""

    type: str
    campaign: str
    recipient: str
    at: str | int
    """RFC 3339, or milliseconds since 1970."""
    id: NotRequired[str]
    """The sender's own, stable over resends."""
    link: NotRequired[str]
    position: NotRequired[int]
    ip: NotRequired[str]
    user_agent: NotRequired[str]
    country: NotRequired[str]
    city: NotRequired[str]
    variant: NotRequired[dict[str, str]]
    bounce: NotRequired[Literal["hard", "soft"]]
    reason: NotRequired[str]
    smtp_reply: NotRequired[str]
    message_id: NotRequired[str]
    provider: NotRequired[str]
    machine: NotRequired[bool]
    """True: the sender knows that no person did it."""
    tags: NotRequired[list[str]]
    metadata: NotRequired[dict[str, str]]


class GenericEvents(TypedDict):
    events: list[GenericEvent]
