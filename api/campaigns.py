"""`GET /api/v1/campaigns`: the organisation's campaigns with their summaries, newest activity first.

| parameter | |
|---|---|
| `search` | words that stand in the id, name or subject (`app.campaign_search`) |
| `limit`, `cursor`, `count` | as everywhere |

`matching` is the number of campaigns in the list, on every page. A page costs what its own rows cost
(`tables.campaign_list`).
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import paged, parameters
from api.auth import authenticate
from api.context import context_of
from api.cursors import Cursors
from api.errors import json_response
from api.operations import PAGED, ApiRoute, Operation, Parameter
from api.paths import CAMPAIGNS
from app import shapes_lists
from app.campaign_search import words_of
from app.keys import campaign_key
from app.report import summary_document
from app.shapes import SummaryDocument
from tables.campaign_list import Place

KNOWN: Final = ("count", "timezone", "limit", "cursor", "search")
LOADED_TOGETHER: Final = 50
"""Views that are asked for at once: a page of 500 must not make the live streams wait."""


async def list_campaigns(request: Request) -> Response:
    """{"items": [summary documents], "next": cursor or null, "matching": N}."""
    context = context_of(request)
    principal = authenticate(request, context, "read")
    query = request.query_params
    parameters.only(query, KNOWN)
    parameters.timezone_of(query, "UTC")  # nothing here is local; a zone may be given, as everywhere
    count = parameters.count_of(query)
    words = search_of(query)
    cursors = Cursors(context.secret, "campaigns", principal.org, words)
    after = cursors.read(query.get("cursor"))
    epoch = await context.hub.epoch()
    page = await context.campaigns.page(
        principal.org,
        words,
        after=None if after is None else Place.unpack(after),
        limit=paged.limit_of(query),
        epoch=epoch,
    )
    items: list[SummaryDocument] = []
    for first in range(0, len(page.names), LOADED_TOGETHER):
        names = page.names[first : first + LOADED_TOGETHER]
        keys = [campaign_key(context.secret, principal.org, name) for name in names]
        items += (
            summary_document(view, freshness=context.freshness(view.complete), count=count)
            for view in await context.views.load_summaries(keys, epoch=epoch)
            if view is not None
        )
    following = None if page.after is None else cursors.write(page.after.pack())
    document: shapes_lists.Campaigns = {"items": items, "next": following, "matching": page.matching}
    return json_response(document)


def search_of(query: QueryParams) -> tuple[str, ...]:
    """The words that are looked for; none: all campaigns. Raises RejectRequest 400."""
    search = paged.text_of(query, "search")
    if search is None:
        return ()
    words = words_of(search)
    if not words:
        raise parameters.bad("search", "must have a word")
    return words


_LIST: Final = Operation(
    about="The organisation's campaigns with their summaries, newest activity first",
    answer=shapes_lists.Campaigns,
    scope="read",
    parameters=(
        *PAGED,
        Parameter(
            name="search", example="spring sale",
            about="Words, each a part of the id, name or subject; in any order and case.",
        ),
    ),
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", CAMPAIGNS, list_campaigns, _LIST)]
