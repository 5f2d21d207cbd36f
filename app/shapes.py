"""The shapes of everything that the API answers with: one type for each, from which OpenAPI is made (`api.openapi`).

The functions that build the answers name these types, and so does the Python client (`client`). Here are a report's;
`app.shapes_lists` has those of lists and of what is sent, `app.shapes_operations` what operators read. Times are RFC
3339 in UTC, the starts of timeline rows in the timezone that was asked for. A rate is in percent, null where its
denominator is 0. What the numbers mean: `docs/report.md`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

CountName = Literal["all", "people"]
VerdictName = Literal["human", "proxy", "scanner"]


class Error(TypedDict):
    error: str
    """A word for programs."""
    message: str
    """A sentence for people."""


class Staleness(TypedDict):
    lag_ms: int | None
    """Age of the oldest event that was accepted and isn't counted yet; null where it can't be known at the moment."""
    stale: bool
    """True where the numbers may be behind, or a part of them is missing."""
    reason: str | None
    """Why they are stale, in words for people; null where they are not."""
    progress: float | None
    """While a part of the numbers is rebuilt or moved: how much of that is done, from 0 to 1; else null."""


class State(Staleness):
    """How fresh the numbers are."""

    as_of: str | None
    """Time of the newest counted event; null where there is none."""
    count: CountName


class Notice(TypedDict):
    """What holds for the campaign's numbers for good."""

    code: str
    """A word for programs: `gap` (of the event log), or `lost_webhooks`."""
    message: str
    """A sentence for people."""
    at: str
    partition: int


class Head(State):
    campaign: str
    name: str | None
    subject: str | None
    notices: list[Notice]
    """Empty, unless a part of the event log or of the webhooks was lost."""


class ByVerdict(TypedDict):
    human: int
    proxy: int
    scanner: int


class Summary(TypedDict):
    """Recipients, unless a name begins with `total`."""

    sent: int
    delivered: int
    opened: int
    clicked: int
    bounced: int
    complained: int
    unsubscribed: int
    unsubscribed_suspected: int
    deferred: int
    rejected: int
    failed: int
    sent_inferred: int
    delivered_inferred: int
    bounced_after_delivery: int
    clicked_without_open: int
    openers_who_clicked: int
    total_opens: int
    total_clicks: int
    open_rate: float | None
    click_rate: float | None
    click_to_open_rate: float | None
    openers_who_clicked_rate: float | None
    bounce_rate: float | None
    complaint_rate: float | None
    unsubscribe_rate: float | None
    delivery_rate: float | None
    opens_by_verdict: ByVerdict
    clicks_by_verdict: ByVerdict


class TimelineNumbers(TypedDict):
    sent: int
    opened: int
    clicked: int
    total_opens: int
    total_clicks: int


class TimelineRow(TimelineNumbers):
    start: str


class TimelineOverflow(TypedDict):
    total_opens: int
    total_clicks: int


class Timeline(TypedDict):
    timezone: str
    unit: Literal["hour", "day"]
    rows: list[TimelineRow]
    earlier: NotRequired[TimelineRow]
    """What is before the first row, summed up; `start` is its first hour or day."""
    overflow: NotRequired[TimelineOverflow]
    """Events whose hour is not kept: beyond 200 of one type of one recipient."""


class LinkPosition(TypedDict):
    position: int
    total_clicks: int


class Clicker(TypedDict):
    recipient: str | None
    clicks: int


class LinkRow(TypedDict):
    id: str
    link: str
    total_clicks: int
    unique_clicks: int
    share: float
    """Percent of all clicks."""
    first_at: str | None
    last_at: str | None
    positions: list[LinkPosition]
    top_clickers: list[Clicker] | None
    """Of the first 20 links; null of the others, and while nobody can tell."""


class OtherLinks(TypedDict):
    links: int
    total_clicks: int


class Links(TypedDict):
    rows: list[LinkRow]
    other: OtherLinks


class Engagement(TypedDict):
    opens: int
    opened: int
    clicks: int
    clicked: int


class CountryRow(Engagement):
    country: str


class CityRow(CountryRow):
    city: str


class Places(TypedDict):
    countries: list[CountryRow]
    cities: list[CityRow]


class ClientRow(Engagement):
    client: str


class DeviceRow(Engagement):
    device: str


class SystemRow(Engagement):
    system: str


class BrowserRow(Engagement):
    browser: str


class Clients(TypedDict):
    clients: list[ClientRow]
    devices: list[DeviceRow]
    systems: list[SystemRow]
    browsers: list[BrowserRow]


class ProviderRow(TypedDict):
    provider: str
    sent: int
    delivered: int
    bounced: int
    deferred: int
    complained: int
    reasons: dict[str, int]
    """Bounced recipients by reason."""


class Providers(TypedDict):
    rows: list[ProviderRow]


class Method(TypedDict):
    """How intervals and verdicts are made."""

    interval: str
    test: NotRequired[str]
    compared_with: NotRequired[str]
    correction: NotRequired[str]
    level_percent: NotRequired[float]
    minimum_recipients: NotRequired[int]
    relevant_difference_percent: NotRequired[float]
    power_percent: NotRequired[float]


class VariantRow(TypedDict):
    variant: dict[str, str]
    recipients: int
    summary: Summary
    interval: dict[str, tuple[float, float] | None]
    """Rate → 95 % interval in percent."""
    verdict: str | None


class OtherVariants(TypedDict):
    recipients: int
    summary: Summary


class HeatmapCell(TypedDict):
    x: str | None
    y: str | None
    recipients: int
    numerator: int
    denominator: int
    rate: float | None
    interval: tuple[float, float] | None
    verdict: str | None


class Heatmap(TypedDict):
    rate: str
    field_x: str
    field_y: str
    x: list[str | None]
    y: list[str | None]
    method: Method
    cells: list[HeatmapCell]


class Variants(TypedDict):
    fields: dict[str, dict[str, str]]
    """Field → value → label."""
    rate: str
    method: Method
    rows: list[VariantRow]
    without: int
    """Recipients without a variant."""
    heatmap: NotRequired[Heatmap]
    other: NotRequired[OtherVariants]
    warning: NotRequired[str]


class SummaryDocument(Head):
    summary: Summary


class TimelineDocument(Head):
    timeline: Timeline


class LinksDocument(Head):
    links: Links


class PlacesDocument(Head):
    places: Places


class ClientsDocument(Head):
    clients: Clients


class ProvidersDocument(Head):
    providers: Providers


class VariantsDocument(Head):
    variants: Variants


class Report(Head):
    """The sections that were asked for."""

    summary: NotRequired[Summary]
    timeline: NotRequired[Timeline]
    links: NotRequired[Links]
    places: NotRequired[Places]
    clients: NotRequired[Clients]
    providers: NotRequired[Providers]
    variants: NotRequired[Variants]


Uniques = TypedDict(
    "Uniques",
    {
        "from": str | None,
        "to": str | None,
        "opened": NotRequired[int],
        "clicked": NotRequired[int],
        "standard_error_percent": float,
        "note": NotRequired[str],
    },
)
"""Different people within a window, widened to whole quarter hours; an end that wasn't given is null."""


class UniquesDocument(Head):
    uniques: Uniques


class SeveralUniques(State):
    campaigns: list[str]
    uniques: Uniques


class ComparedNumbers(TimelineNumbers):
    open_rate: float | None
    click_rate: float | None
    click_to_open_rate: float | None


class CurvePoint(TimelineNumbers):
    age_hours: int


class ComparedCampaign(TypedDict):
    campaign: str
    name: str | None
    subject: str | None
    as_of: str | None
    start: str | None
    reached: bool
    """Whether the campaign is that old by now."""
    numbers: ComparedNumbers
    curve: list[CurvePoint]


class Comparison(State):
    age_hours: int
    campaigns: list[ComparedCampaign]
