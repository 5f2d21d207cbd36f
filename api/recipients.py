"""`GET …/recipients`, the paged table, and `GET …/recipients/{address}`, one recipient with all their events.

| parameter | |
|---|---|
| `status` | one of `app.filters.STATUSES`; `matching` is then the number of the summary |
| `variant.FIELD` | of the recipient's variant; several may stand |
| `link` | id of a link that they clicked |
| `country` | the recipient's own |
| `search` | the start of an address, or `@` and the start of its domain |
| `sort` | `recipient` (by address) or `-last_event_at` |
| `limit`, `cursor`, `count` | as everywhere |
"""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import paged, parameters
from api.cursors import Cursors
from api.errors import json_response
from api.operations import PAGED, RECIPIENT_FILTERS, REPORT, ApiRoute, Operation, Parameter
from api.paths import CAMPAIGN
from api.query.wire import Sort
from app import shapes_lists
from app.errors import RejectRequest
from app.filters import STATUSES, RecipientFilter, recipients_by_status
from app.keys import normalise_address, recipient_key

KNOWN: Final = ("count", "timezone", "limit", "cursor", "sort", "status", "link", "country", "search")
SORTS: Final[tuple[Sort, ...]] = ("recipient", "-last_event_at")


async def list_recipients(request: Request) -> Response:
    asked = paged.asked_of(request, KNOWN, variants=True)
    context, query = asked.context, asked.query
    wanted = filter_of(query)
    sort = parameters.choice_of(query, "sort", SORTS, "recipient")
    limit = paged.limit_of(query)
    cursors = Cursors(context.secret, "recipients", asked.campaign, wanted, sort, asked.count)
    after = cursors.read(query.get("cursor"))
    view, page = await paged.beside_view(
        asked,
        context.queries.recipients(
            asked.campaign, wanted, count=asked.count, sort=sort, after=after, limit=limit
        ),
    )
    matching = page.matching
    if wanted.parts == 0 or (wanted.parts == 1 and wanted.status is not None):
        # The same number as the summary's, from the same place.
        matching = recipients_by_status(view.patterns, wanted.status, asked.count)
    return paged.page_response(asked, view, page, cursors, matching)


def filter_of(query: QueryParams) -> RecipientFilter:
    """The filters that a list of recipients is asked for with. Raises RejectRequest 400."""
    status = query.get("status")
    if status is not None and status not in STATUSES:
        raise parameters.bad("status", f"must be one of {', '.join(STATUSES)}")
    search = paged.text_of(query, "search")
    if search is not None:
        search = normalise_address(search)
        if search in ("", "@"):
            raise parameters.bad("search", "must be the start of an address, or @ and the start of a domain")
    return RecipientFilter(
        status=status,
        variant=paged.variant_of(query),
        link=paged.link_of(query),
        country=paged.text_of(query, "country"),
        search=search,
    )


async def one_recipient(request: Request) -> Response:
    """{head, "recipient": item, "events": [items of /events], "events_complete": bool}."""
    asked = paged.asked_of(request, ("count", "timezone"))
    address = normalise_address(request.path_params["address"])
    recipient = recipient_key(asked.context.secret, asked.campaign, address)
    view, found = await paged.beside_view(
        asked, asked.context.queries.recipient(asked.campaign, recipient, count=asked.count)
    )
    if found.item is None:
        raise RejectRequest(404, "not_found", "no such recipient")
    document = paged.head_of(asked, view)
    document |= msgspec.json.decode(found.item)
    document["events"] = [msgspec.Raw(event) for event in found.events]
    document["events_complete"] = found.complete
    return json_response(document)


_RECIPIENTS: Final = Operation(
    about="The table of recipients",
    answer=shapes_lists.Recipients,
    scope="read",
    parameters=(
        *PAGED,
        Parameter(name="sort", type=Sort, default="recipient", about="By address, or by newest activity."),
        *RECIPIENT_FILTERS,
    ),
)  # fmt: skip
_RECIPIENT: Final = Operation(
    about="One recipient with all their events",
    answer=shapes_lists.RecipientHistory,
    scope="read",
    parameters=REPORT,
)


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("GET", CAMPAIGN + "/recipients", list_recipients, _RECIPIENTS),
        ApiRoute("GET", CAMPAIGN + "/recipients/{address:name}", one_recipient, _RECIPIENT),
    ]
