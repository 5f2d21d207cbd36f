"""`GET …/links/{id}/clickers`: who clicked a link, the most clicks first; `people` has an order of its own."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import paged
from api.cursors import Cursors
from api.operations import PAGED, ApiRoute, Operation
from api.paths import CAMPAIGN
from app import shapes_lists
from app.errors import RejectRequest
from app.filters import link_row

KNOWN: Final = ("count", "timezone", "limit", "cursor")


async def list_clickers(request: Request) -> Response:
    """{head, "link": id, "items": [{"recipient", "clicks"}], "next", "matching"}; 404 where nobody ever clicked it."""
    asked = paged.asked_of(request, KNOWN)
    context, query = asked.context, asked.query
    link = paged.link_number(request.path_params["link"])
    limit = paged.limit_of(query)
    cursors = Cursors(context.secret, "clickers", asked.campaign, link, asked.count)
    after = cursors.read(query.get("cursor"))
    view, page = await paged.beside_view(
        asked,
        context.queries.clickers(asked.campaign, link or 0, count=asked.count, after=after, limit=limit),
    )
    if link is None or not (page.matching or await _was_clicked(asked, link)):
        raise RejectRequest(404, "not_found", "no such link")
    return paged.page_response(asked, view, page, cursors, page.matching)


async def _was_clicked(asked: paged.Asked, link: int) -> bool:
    """By anyone, where no person did."""
    key = link_row(link)
    return bool((await asked.context.queries.rows(asked.campaign, [key]))[key])


_CLICKERS: Final = Operation(
    about="Who clicked a link, the most clicks first",
    answer=shapes_lists.Clickers,
    scope="read",
    parameters=PAGED,
)


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", CAMPAIGN + "/links/{link:name}/clickers", list_clickers, _CLICKERS)]
