"""What paged lists of a campaign share: parameters, the campaign's view beside the page, and the answer's shape.

The answer is the head that every document has (`app.report.head`), then `items`, `next` (a cursor, or null at the end)
and `matching`: how many rows the whole list has where the report counts them, else null. A page may be short, even
empty, and not be the last one: whoever wants all goes on until `next` is null.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from api import parameters
from api.auth import authenticate
from api.context import Context, context_of
from api.cursors import Cursors
from api.errors import json_response
from api.queries import MergedPage
from app.facts import CampaignKey
from app.keys import campaign_key
from app.report import head
from app.summary import Count
from tables.views import View

DEFAULT_LIMIT: Final = 50
MAX_TEXT: Final = 320
"""Characters of a filter's value; an address has no more."""
_VARIANT: Final = "variant."
_LINK: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks what of which campaign."""

    context: Context
    campaign: CampaignKey
    query: QueryParams
    count: Count


def asked_of(request: Request, known: Collection[str], *, variants: bool = False) -> Asked:
    """Raises RejectRequest 401, 403, and 400 where a parameter isn't among `known` (`variants`: nor `variant.…`)."""
    context = context_of(request)
    principal = authenticate(request, context, "read")
    query = request.query_params
    if variants:
        known = (*known, *(name for name in query if name.startswith(_VARIANT)))
    parameters.only(query, known)
    parameters.timezone_of(query, "UTC")  # times of rows are in UTC; a zone may be given, as everywhere
    campaign = campaign_key(context.secret, principal.org, request.path_params["campaign"])
    return Asked(context, campaign, query, parameters.count_of(query))


async def beside_view(asked: Asked, reading: Coroutine[Any, Any, _T]) -> tuple[View, _T]:
    """The campaign's view and what is read meanwhile. Raises RejectRequest 404 where there is no such campaign."""
    task = asyncio.ensure_future(reading)
    try:
        context = asked.context
        view = await context.views.load(asked.campaign, epoch=await context.hub.epoch(), hours=False)
        if view is None:
            raise await context.hub.not_found()
        return view, await task
    finally:
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # so that nobody complains that it was not asked for


def head_of(asked: Asked, view: View) -> dict[str, object]:
    return {**head(view, freshness=asked.context.freshness(view.complete), count=asked.count)}


def page_response(
    asked: Asked,
    view: View,
    page: MergedPage,
    cursors: Cursors,
    matching: int | None,
    item: Callable[[bytes], object] = msgspec.Raw,
) -> Response:
    document = head_of(asked, view)
    document["items"] = [item(one) for one in page.items]
    document["next"] = cursors.write(page.after) if page.after is not None else None
    document["matching"] = matching
    return json_response(document)


def limit_of(query: QueryParams) -> int:
    return parameters.whole_of(query, "limit", DEFAULT_LIMIT, 1, parameters.MAX_LIMIT)


def text_of(query: QueryParams, name: str) -> str | None:
    """A filter's value, as it is. Raises RejectRequest 400 where it is empty or too long."""
    value = query.get(name)
    if value is not None and not 0 < len(value) <= MAX_TEXT:
        raise parameters.bad(name, f"must have 1 to {MAX_TEXT} characters")
    return value


def link_of(query: QueryParams) -> int | None:
    value = query.get("link")
    if value is None:
        return None
    number = link_number(value)
    if number is None:
        raise parameters.bad("link", "must be the id of a link: 16 hexadecimal digits")
    return number


def link_number(text: str) -> int | None:
    """A link's id (`app.sections.link_id`) → its number; None for what is none."""
    return int(text, 16) if _LINK.fullmatch(text) else None


def variant_of(query: QueryParams) -> tuple[tuple[str, str], ...]:
    """`variant.FIELD=VALUE`, several of them, in order of the fields."""
    wanted = []
    for name, value in query.multi_items():
        if name.startswith(_VARIANT):
            field = name.removeprefix(_VARIANT)
            if not 0 < len(field) <= MAX_TEXT or not 0 < len(value) <= MAX_TEXT:
                raise parameters.bad("variant.FIELD", f"field and value must have 1 to {MAX_TEXT} characters")
            wanted.append((field, value))
    return tuple(sorted(wanted))
