"""One function for each thing that the API can be asked: it makes a `Call`, which a client sends.

What may be asked for, and what it means, stands in `/docs` of every server. A wrong value is refused by the API
(`ApiError` with status 400), not here. A time is RFC 3339, or milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, Literal, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlencode

import msgspec

import app.shapes as s
import app.shapes_lists as lists
import app.shapes_operations as o

_T = TypeVar("_T")
_Item = TypeVar("_Item")
Moment = str | int
NOTHING: Final = type(None)


class Call(msgspec.Struct, Generic[_T], frozen=True, kw_only=True):
    """A request, and the shape of its answer."""

    method: str = "GET"
    path: str
    answer: type[_T]
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def target(self) -> str:
        """Path and query, encoded."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def asking(self, name: str, value: str) -> Self:
        """The same with one parameter set."""
        others = tuple(pair for pair in self.query if pair[0] != name)
        return msgspec.structs.replace(self, query=(*others, (name, value)))


class ListCall(Call[_T], Generic[_T, _Item], frozen=True, kw_only=True):
    """Of a page; its rows are `_Item`s."""


class Reading(TypedDict, total=False):
    """Parameters of what a campaign's report is made of."""

    count: s.CountName
    timezone: str


class Paged(Reading, total=False):
    limit: int
    cursor: str


def _query(asked: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """`from_` is `from`; `variant` (field → value) is `variant.FIELD`; what is None is left out."""
    found: list[tuple[str, str]] = []
    for name, value in asked.items():
        if name == "variant" and isinstance(value, Mapping):
            found += [(f"variant.{field}", one) for field, one in value.items()]
        elif value is not None:
            found.append((name.rstrip("_"), str(value)))
    return tuple(found)


def _campaign(campaign: str, end: str = "") -> str:
    # Dots alone would be taken for steps between folders.
    name = quote(campaign, safe="")
    return f"/api/v1/campaigns/{name if name.strip('.') else name.replace('.', '%2E')}{end}"


def campaigns(
    *, search: str | None = None, **asked: Unpack[Paged]
) -> ListCall[lists.Campaigns, s.SummaryDocument]:
    """Newest activity first; with `search` those that have all its words in their id, name or subject."""
    query = _query({"search": search, **asked})
    return ListCall(path="/api/v1/campaigns", answer=lists.Campaigns, query=query)


def section(campaign: str, name: str) -> Call[dict[str, object]]:
    """Anything below a campaign, as it is: for who looks at more than the shapes say."""
    return Call(path=_campaign(campaign, f"/{name}"), answer=dict[str, object])


def report(
    campaign: str, *, sections: Iterable[str] | None = None, **asked: Unpack[Reading]
) -> Call[s.Report]:
    """With `sections` only these."""
    named = None if sections is None else ",".join(sections)
    return Call(
        path=_campaign(campaign, "/report"), answer=s.Report, query=_query({"sections": named, **asked})
    )


def summary(campaign: str, **asked: Unpack[Reading]) -> Call[s.SummaryDocument]:
    return Call(path=_campaign(campaign, "/summary"), answer=s.SummaryDocument, query=_query(asked))


def timeline(
    campaign: str,
    *,
    unit: Literal["hour", "day"] | None = None,
    from_: Moment | None = None,
    to: Moment | None = None,
    **asked: Unpack[Reading],
) -> Call[s.TimelineDocument]:
    query = _query({"unit": unit, "from_": from_, "to": to, **asked})
    return Call(path=_campaign(campaign, "/timeline"), answer=s.TimelineDocument, query=query)


def links(campaign: str, **asked: Unpack[Reading]) -> Call[s.LinksDocument]:
    return Call(path=_campaign(campaign, "/links"), answer=s.LinksDocument, query=_query(asked))


def places(campaign: str, **asked: Unpack[Reading]) -> Call[s.PlacesDocument]:
    return Call(path=_campaign(campaign, "/places"), answer=s.PlacesDocument, query=_query(asked))


def clients(campaign: str, **asked: Unpack[Reading]) -> Call[s.ClientsDocument]:
    return Call(path=_campaign(campaign, "/clients"), answer=s.ClientsDocument, query=_query(asked))


def providers(campaign: str, **asked: Unpack[Reading]) -> Call[s.ProvidersDocument]:
    return Call(path=_campaign(campaign, "/providers"), answer=s.ProvidersDocument, query=_query(asked))


def variants(
    campaign: str,
    *,
    rate: str | None = None,
    x: str | None = None,
    y: str | None = None,
    variant: Mapping[str, str] | None = None,
    **asked: Unpack[Reading],
) -> Call[s.VariantsDocument]:
    """With `x` and `y` the heatmap of these two fields, of the variants that have `variant` alone."""
    query = _query({"rate": rate, "x": x, "y": y, "variant": variant, **asked})
    return Call(path=_campaign(campaign, "/variants"), answer=s.VariantsDocument, query=query)


def uniques(
    campaign: str, *, from_: Moment | None = None, to: Moment | None = None, **asked: Unpack[Reading]
) -> Call[s.UniquesDocument]:
    query = _query({"from_": from_, "to": to, **asked})
    return Call(path=_campaign(campaign, "/uniques"), answer=s.UniquesDocument, query=query)


def several_uniques(
    campaigns: Iterable[str],
    *,
    type: Literal["opened", "clicked"] | None = None,  # noqa: A002  # the API's name
    from_: Moment | None = None,
    to: Moment | None = None,
    **asked: Unpack[Reading],
) -> Call[s.SeveralUniques]:
    query = _query({"type": type, "from_": from_, "to": to, **asked})
    named = tuple(("campaign", name) for name in campaigns)
    return Call(path="/api/v1/uniques", answer=s.SeveralUniques, query=(*named, *query))


def compare(
    campaigns: Iterable[str], *, age_hours: int | None = None, **asked: Unpack[Reading]
) -> Call[s.Comparison]:
    query = _query({"age_hours": age_hours, **asked})
    named = tuple(("campaign", name) for name in campaigns)
    return Call(path="/api/v1/compare", answer=s.Comparison, query=(*named, *query))


class RecipientFilter(TypedDict, total=False):
    status: str
    link: str
    country: str
    search: str
    variant: Mapping[str, str]


class EventFilter(TypedDict, total=False):
    type: str
    recipient: str
    link: str
    verdict: s.VerdictName
    from_: Moment
    to: Moment
    variant: Mapping[str, str]


class RecipientsAsked(Paged, RecipientFilter, total=False):
    sort: Literal["recipient", "-last_event_at"]


class EventsAsked(Paged, EventFilter, total=False):
    order: Literal["asc", "desc"]


class RecipientsExport(RecipientFilter, Reading, total=False):
    pass


class EventsExport(EventFilter, Reading, total=False):
    order: Literal["asc", "desc"]


def recipients(
    campaign: str, **asked: Unpack[RecipientsAsked]
) -> ListCall[lists.Recipients, lists.Recipient]:
    return ListCall(path=_campaign(campaign, "/recipients"), answer=lists.Recipients, query=_query(asked))


def recipient(campaign: str, address: str, **asked: Unpack[Reading]) -> Call[lists.RecipientHistory]:
    path = _campaign(campaign, f"/recipients/{quote(address, safe='@')}")
    return Call(path=path, answer=lists.RecipientHistory, query=_query(asked))


def events(campaign: str, **asked: Unpack[EventsAsked]) -> ListCall[lists.Events, lists.Event]:
    return ListCall(path=_campaign(campaign, "/events"), answer=lists.Events, query=_query(asked))


def clickers(campaign: str, link: str, **asked: Unpack[Paged]) -> ListCall[lists.Clickers, s.Clicker]:
    path = _campaign(campaign, f"/links/{quote(link, safe='')}/clickers")
    return ListCall(path=path, answer=lists.Clickers, query=_query(asked))


def export_recipients(campaign: str, **asked: Unpack[RecipientsExport]) -> Call[bytes]:
    """CSV; for `download`."""
    return Call(path=_campaign(campaign, "/exports/recipients.csv"), answer=bytes, query=_query(asked))


def export_events(campaign: str, **asked: Unpack[EventsExport]) -> Call[bytes]:
    """CSV; for `download`."""
    return Call(path=_campaign(campaign, "/exports/events.csv"), answer=bytes, query=_query(asked))


def live(
    campaign: str,
    *,
    sections: Iterable[str] | None = None,
    last_event_id: str | None = None,
    **asked: Unpack[Reading],
) -> Call[s.Report]:
    """For `watch`."""
    named = None if sections is None else ",".join(sections)
    query = _query({"sections": named, "last_event_id": last_event_id, **asked})
    return Call(path=_campaign(campaign, "/live"), answer=s.Report, query=query)


def send_events(events: Iterable[lists.GenericEvent]) -> Call[lists.AcceptedEvents]:
    """At most 5,000."""
    return Call(
        method="POST",
        path="/api/v1/events",
        answer=lists.AcceptedEvents,
        body=msgspec.json.encode({"events": list(events)}),
    )


def name_campaign(
    campaign: str,
    *,
    name: str | None = None,
    subject: str | None = None,
    fields: Mapping[str, Mapping[str, str]] | None = None,
) -> Call[lists.CampaignNames]:
    """The whole record is replaced. `fields`: A/B field → value → label."""
    body = msgspec.json.encode({"name": name, "subject": subject, "fields": fields or {}})
    return Call(method="PUT", path=_campaign(campaign), answer=lists.CampaignNames, body=body)


def erase(recipient: str) -> Call[lists.Erasure]:
    return Call(
        method="POST",
        path="/api/v1/erasures",
        answer=lists.Erasure,
        body=msgspec.json.encode({"recipient": recipient}),
    )


def share(campaign: str, expires: Moment) -> Call[o.Share]:
    body = msgspec.json.encode({"expires": expires})
    return Call(method="POST", path=_campaign(campaign, "/shares"), answer=o.Share, body=body)


def shares(campaign: str) -> ListCall[o.Shares, o.Share]:
    return ListCall(path=_campaign(campaign, "/shares"), answer=o.Shares)


def shared_link(campaign: str, share_id: str) -> Call[o.Share]:
    return Call(path=_campaign(campaign, f"/shares/{quote(share_id, safe='')}"), answer=o.Share)


def revoke_share(campaign: str, share_id: str) -> Call[None]:
    path = _campaign(campaign, f"/shares/{quote(share_id, safe='')}")
    return Call(method="DELETE", path=path, answer=NOTHING)


def live_ticket(campaign: str) -> Call[o.LiveTicket]:
    return Call(method="POST", path=_campaign(campaign, "/live/tickets"), answer=o.LiveTicket)


def sources() -> Call[o.Sources]:
    return Call(path="/api/v1/sources", answer=o.Sources)


def lag() -> Call[o.Lag]:
    return Call(path="/ops/lag", answer=o.Lag)


def live_lag() -> Call[o.Lag]:
    """For `watch`."""
    return Call(path="/ops/live", answer=o.Lag)


def workers() -> Call[o.Workers]:
    return Call(path="/ops/workers", answer=o.Workers)


class LettersAsked(TypedDict, total=False):
    reason: str
    source: str
    since: Moment
    until: Moment
    limit: int
    cursor: str


def dead_letters(**asked: Unpack[LettersAsked]) -> ListCall[o.DeadLetters, o.DeadLetter]:
    return ListCall(path="/ops/dead", answer=o.DeadLetters, query=_query(asked))


def dead_letter(letter_id: int) -> Call[o.WholeDeadLetter]:
    return Call(path=f"/ops/dead/{letter_id}", answer=o.WholeDeadLetter)


def replay(letter_id: int, body: bytes | None = None) -> Call[o.Replayed]:
    """`body` takes the place of the letter's."""
    return Call(method="POST", path=f"/ops/dead/{letter_id}/replay", answer=o.Replayed, body=body)
