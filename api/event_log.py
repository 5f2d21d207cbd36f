"""`GET …/events`: every fact in the order it happened, newest first or oldest first.

| parameter | |
|---|---|
| `type` | one of `app.facts.TYPE_NAMES` |
| `recipient` | an address |
| `link` | id of a link: its clicks |
| `verdict` | `human`, `proxy` or `scanner`: opens and clicks only |
| `variant.FIELD` | of the event's own variant |
| `from`, `to` | times; `to` is excluded |
| `order` | `desc` or `asc` |
| `limit`, `cursor` | as everywhere |

`matching` is exact with no filter and with one that the report counts (`api.query.event_counts`).
`count` may be given, as everywhere, and changes nothing: the log is every fact, with its verdict.
"""

from __future__ import annotations

from typing import Final, Literal

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import paged, parameters
from api.cursors import Cursors
from api.operations import EVENT_FILTERS, PAGED, ApiRoute, Operation, Parameter
from api.paths import CAMPAIGN
from app import shapes_lists
from app.facts import TYPE_NUMBERS, CampaignKey
from app.filters import EventFilter
from app.keys import normalise_address, recipient_key
from app.verdicts import VERDICT_NAMES

KNOWN: Final = (
    "count", "timezone", "limit", "cursor", "order", "type", "recipient", "link", "verdict", "from", "to",
)  # fmt: skip
Order = Literal["desc", "asc"]
ORDERS: Final[tuple[Order, ...]] = ("desc", "asc")


async def list_events(request: Request) -> Response:
    asked = paged.asked_of(request, KNOWN, variants=True)
    context, query = asked.context, asked.query
    wanted = filter_of(query, context.secret, asked.campaign)
    order = parameters.choice_of(query, "order", ORDERS, "desc")
    limit = paged.limit_of(query)
    cursors = Cursors(context.secret, "events", asked.campaign, wanted, order)
    after = cursors.read(query.get("cursor"))
    view, page = await paged.beside_view(
        asked,
        context.queries.events(asked.campaign, wanted, descending=order == "desc", after=after, limit=limit),
    )
    return paged.page_response(asked, view, page, cursors, page.matching)


def filter_of(query: QueryParams, secret: bytes, campaign: CampaignKey) -> EventFilter:
    """The filters that the event log is asked for with. Raises RejectRequest 400."""
    kind, verdict = query.get("type"), query.get("verdict")
    if kind is not None and kind not in TYPE_NUMBERS:
        raise parameters.bad("type", f"must be one of {', '.join(TYPE_NUMBERS)}")
    if verdict is not None and verdict not in VERDICT_NAMES:
        raise parameters.bad("verdict", f"must be one of {', '.join(VERDICT_NAMES)}")
    address = paged.text_of(query, "recipient")
    return EventFilter(
        type=TYPE_NUMBERS[kind] if kind is not None else None,
        recipient=recipient_key(secret, campaign, normalise_address(address))
        if address is not None
        else None,
        link=paged.link_of(query),
        verdict=VERDICT_NAMES.index(verdict) if verdict is not None else None,
        variant=paged.variant_of(query),
        from_ms=_since_1970(parameters.time_of(query, "from")),
        to_ms=_since_1970(parameters.time_of(query, "to")),
    )


def _since_1970(at_ms: int | None) -> int | None:
    """No fact is older."""
    return None if at_ms is None else max(0, at_ms)


_EVENTS: Final = Operation(
    about="The event log, newest first",
    answer=shapes_lists.Events,
    scope="read",
    parameters=(
        *PAGED,
        Parameter(name="order", type=Order, default="desc", about="By time."),
        *EVENT_FILTERS,
    ),
)


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", CAMPAIGN + "/events", list_events, _EVENTS)]
