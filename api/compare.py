"""`GET /api/v1/compare`: campaigns side by side at the same age (`app.comparison`)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters, several
from api.auth import authenticate
from api.context import context_of
from api.errors import json_response
from api.operations import CAMPAIGN_LIST, NO_CAMPAIGN, REPORT, ApiRoute, Operation, Parameter
from app import shapes
from app.comparison import MAX_AGE_HOURS, at_age
from app.summary import Count
from app.times import utc_text
from tables.views import View

MAX_CAMPAIGNS: Final = 20
DEFAULT_AGE_HOURS: Final = 48


async def compare(request: Request) -> Response:
    """{"as_of", "lag_ms", "stale", "count", "age_hours", "campaigns": [{"campaign", "start", "numbers", …}]}.

    Rows in the order in which the campaigns are named."""
    context = context_of(request)
    principal = authenticate(request, context, "read")
    query = request.query_params
    parameters.only(query, ("campaign", "age_hours", "count", "timezone"), several="campaign")
    count = parameters.count_of(query)
    parameters.timezone_of(query, "UTC")  # ages have no zone; one may be given, as everywhere
    age_hours = parameters.whole_of(query, "age_hours", DEFAULT_AGE_HOURS, 1, MAX_AGE_HOURS)
    campaigns = parameters.campaigns_of(query, MAX_CAMPAIGNS)
    views = await several.views_of(context, principal.org, campaigns, hours=True)
    now_ms = int(context.clock() * 1000)
    # Many long campaigns take longer than a stream of events may wait.
    rows = await asyncio.to_thread(lambda: [_row(view, age_hours, count, now_ms) for view in views])
    document: shapes.Comparison = {
        **several.head_of(context, views, count),
        "age_hours": age_hours,
        "campaigns": rows,
    }
    return json_response(document)


def _row(view: View, age_hours: int, count: Count, now_ms: int) -> shapes.ComparedCampaign:
    assert view.quarters is not None, "the view was loaded without its hours"
    numbers = at_age(view.quarters, age_hours=age_hours, count=count, now_ms=now_ms)
    return {
        "campaign": view.campaign,
        "name": view.labels.name,
        "subject": view.labels.subject,
        "as_of": utc_text(view.as_of_ms),
        "start": numbers["start"],
        "reached": numbers["reached"],
        "numbers": numbers["numbers"],
        "curve": numbers["curve"],
    }


_COMPARE: Final = Operation(
    about="Campaigns side by side at the same age",
    answer=shapes.Comparison,
    scope="read",
    parameters=(
        CAMPAIGN_LIST,
        Parameter(
            name="age_hours", type=Annotated[int, msgspec.Meta(ge=1, le=MAX_AGE_HOURS)],
            default=DEFAULT_AGE_HOURS, about="Since the first sending.",
        ),
        *REPORT,
    ),
    others=NO_CAMPAIGN,
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", "/api/v1/compare", compare, _COMPARE)]
