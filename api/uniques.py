"""`GET …/{campaign}/uniques` and `GET /api/v1/uniques`: how many different people opened and clicked.

Rules:
- One whole campaign (no `from`, no `to`) is exact: it is the summary's number. Everything else comes from sketches
  (`tables.people`), read by the query processes; `standard_error_percent` is 0 where these are exact too (few people).
- A window is widened to whole quarter hours, and the answer says to which. An end that isn't given is null: open.
- A person is an address of the organisation: over several campaigns they count once.
- Sketches can't forget, so `people` goes there by each event's own evidence and not by bursts: `note` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters, several
from api.auth import authenticate
from api.context import Context, context_of
from api.errors import json_response
from api.operations import CAMPAIGN_LIST, FROM, NO_CAMPAIGN, REPORT, TO, ApiRoute, Operation, Parameter
from api.viewers import REPORTS, viewer_of
from app import shapes
from app.contribution import QUARTER_MS
from app.facts import TYPE_NUMBERS
from app.keys import campaign_key
from app.report import head
from app.summary import Count, summary
from app.times import utc_text
from tables.people import kind_of
from tables.sketches import STANDARD_ERROR_PERCENT
from tables.views import View

MAX_CAMPAIGNS: Final = 100
NOTE: Final = (
    "people of a window go by each event's own evidence (agent, network, the ESP's flag), not by bursts"
)
_LAST_QUARTER: Final = parameters.MAX_MS // QUARTER_MS
_SHARED: Final = ("count", "timezone", "from", "to")

Type = Literal["opened", "clicked"]
TYPES: Final[tuple[Type, ...]] = ("opened", "clicked")


async def of_campaign(request: Request) -> Response:
    """{head, "uniques": {"from", "to", "opened", "clicked", "standard_error_percent"}}."""
    context = context_of(request)
    viewer = viewer_of(request, context)
    query = request.query_params
    parameters.only(query, _SHARED)
    count, window = _asked(query)
    (view,) = await several.views_of(context, viewer.org, [viewer.campaign], hours=False)
    found = await _uniques(context, viewer.org, [view], window, TYPES, count)
    document: shapes.UniquesDocument = {
        **head(view, freshness=context.freshness(view.complete), count=count),
        "uniques": found,
    }
    return json_response(document)


async def of_campaigns(request: Request) -> Response:
    """{"as_of", "lag_ms", "stale", "count", "campaigns", "uniques"}; with `type` only that one."""
    context = context_of(request)
    principal = authenticate(request, context, "read")
    query = request.query_params
    parameters.only(query, (*_SHARED, "campaign", "type"), several="campaign")
    count, window = _asked(query)
    types = (parameters.choice_of(query, "type", TYPES, "opened"),) if "type" in query else TYPES
    campaigns = parameters.campaigns_of(query, MAX_CAMPAIGNS)
    views = await several.views_of(context, principal.org, campaigns, hours=False)
    found = await _uniques(context, principal.org, views, window, types, count)
    document: shapes.SeveralUniques = {
        **several.head_of(context, views, count),
        "campaigns": campaigns,
        "uniques": found,
    }
    return json_response(document)


_Window = tuple[int | None, int | None]
"""First quarter, and the one behind the last; None: open."""


def _asked(query: QueryParams) -> tuple[Count, _Window]:
    count = parameters.count_of(query)
    parameters.timezone_of(query, "UTC")  # times are in UTC; a zone may be given, as everywhere
    from_ms, to_ms = parameters.time_of(query, "from"), parameters.time_of(query, "to")
    if from_ms is not None and to_ms is not None and from_ms > to_ms:
        raise parameters.bad("from", "is after to")
    first = None if from_ms is None else _known(from_ms // QUARTER_MS)
    end = None if to_ms is None else _known(-(-to_ms // QUARTER_MS))
    return count, (first, end)


def _known(quarter: int) -> int:
    return min(max(quarter, 0), _LAST_QUARTER)


async def _uniques(
    context: Context,
    org: str,
    views: Sequence[View],
    window: _Window,
    types: Sequence[Type],
    count: Count,
) -> shapes.Uniques:
    first, end = window
    answer: shapes.Uniques = {
        "from": None if first is None else utc_text(first * QUARTER_MS),
        "to": None if end is None else utc_text(end * QUARTER_MS),
        "standard_error_percent": 0,
    }
    if first is None and end is None and len(views) == 1:
        numbers = summary(views[0].patterns, views[0].totals, count)
        for name in types:
            answer[name] = numbers[name]
        return answer
    unions = await context.queries.people(
        [campaign_key(context.secret, org, view.campaign) for view in views],
        [kind_of(TYPE_NUMBERS[name], count == "people") for name in types],
        0 if first is None else first,
        _LAST_QUARTER + 1 if end is None else end,
    )
    for name, union in zip(types, unions, strict=True):
        answer[name] = union.count()
    if not all(union.exact for union in unions):
        answer["standard_error_percent"] = STANDARD_ERROR_PERCENT
    if count == "people":
        answer["note"] = NOTE
    return answer


_UNIQUES: Final = Operation(
    about="Different people within a window", answer=shapes.UniquesDocument, scope="read",
    parameters=(*REPORT, FROM, TO),
)  # fmt: skip
_SEVERAL: Final = Operation(
    about="Different people over several campaigns within a window", answer=shapes.SeveralUniques, scope="read",
    parameters=(
        CAMPAIGN_LIST, *REPORT, FROM, TO, Parameter(name="type", type=Type, about="Only these."),
    ),
    others=NO_CAMPAIGN,
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [
        *(ApiRoute("GET", one + "/uniques", of_campaign, _UNIQUES) for one in REPORTS),
        ApiRoute("GET", "/api/v1/uniques", of_campaigns, _SEVERAL),
    ]
