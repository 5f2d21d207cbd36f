"""What a route does, said where it stands: from this `api.openapi` makes the document, and a test the requests.

How to describe a route: give `ApiRoute` an `Operation` with the shape of its answer (`app.shapes`), its parameters
(those that several routes have are here) and its scope. What follows from these is added by `api.openapi`: 401 and 403
of a scope, 400 of parameters, 404 of names in the path, 503.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.experiment import DEFAULT_RATE, RATES
from app.facts import TYPE_NUMBERS
from app.filters import STATUSES
from app.report import SECTIONS
from app.shapes import CountName, VerdictName

Scope = Literal["read", "write", "ops"]
JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
FORM: Final = "application/x-www-form-urlencoded"


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    type: Any = str
    """What msgspec makes a JSON schema of."""
    where: Literal["query", "path", "header"] = "query"
    required: bool = False
    default: Any = None
    example: Any = None
    many: bool = False
    """The same name may stand several times."""
    fields: bool = False
    """`name` is the start of names that end as the caller likes."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    about: str
    answer: Any = None
    """The shape of the answer; None: no JSON."""
    media: str = JSON
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    scope: Scope | None = None
    """None: for everybody."""
    body: Any = None
    """The shape of a JSON body."""
    body_media: str = JSON
    others: Mapping[int, str] = {}
    """Further statuses, and when they come."""


class ApiRoute(Route):
    """A route that says what it does."""

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        operation: Operation,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method = method
        self.operation = operation


Limit = Annotated[int, msgspec.Meta(ge=1, le=500)]
Moment = Annotated[str, msgspec.Meta(min_length=1)]

COUNT: Final = Parameter(
    name="count", type=CountName, default="all",
    about="Every event (`all`), or only what people did (`people`): without proxies and scanners.",
)  # fmt: skip
TIMEZONE: Final = Parameter(
    name="timezone", example="Europe/Berlin",
    about="An IANA timezone for rows by hour or day. Without it: the organisation's.",
)  # fmt: skip
SECTION_LIST: Final = Parameter(
    name="sections", example="summary,timeline",
    about=f"A list of {', '.join(SECTIONS)}. Without it: all of them.",
)  # fmt: skip
UNIT: Final = Parameter(
    name="unit", type=Literal["hour", "day"], about="Without it: hours while they hold nearly everything."
)
FROM: Final = Parameter(
    name="from", type=Moment, example="2026-11-23T00:00:00Z",
    about="RFC 3339 with its offset, or milliseconds since 1970; included.",
)  # fmt: skip
TO: Final = Parameter(name="to", type=Moment, example="2026-11-24T00:00:00Z", about="The same; not included.")
LIMIT: Final = Parameter(name="limit", type=Limit, default=50, about="Items of a page.")
CURSOR: Final = Parameter(
    name="cursor", about="`next` of the page before; it holds with the same filters and order only."
)
RATE: Final = Parameter(
    name="rate", type=Literal[tuple(RATES)], default=DEFAULT_RATE,
    about="What verdicts and heatmap are about.",
)  # fmt: skip
VARIANT: Final = Parameter(
    name="variant.", fields=True, about="`variant.FIELD=value`: only this variant; several may stand."
)
LINK: Final = Parameter(
    name="link", type=Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")], about="Id of a link."
)
CAMPAIGN_LIST: Final = Parameter(
    name="campaign", many=True, required=True, about="One for each campaign.", example="spring"
)
LAST_EVENT_ID: Final = Parameter(
    name="last_event_id", about="Goes on after this event, as the header `Last-Event-ID` does."
)

RECIPIENT_FILTERS: Final = (
    Parameter(
        name="status", type=Literal[tuple(STATUSES)],
        about="Of the recipient; `matching` is then the number of the summary.",
    ),
    VARIANT,
    LINK,
    Parameter(name="country", about="The recipient's own.", example="DE"),
    Parameter(name="search", about="The start of an address, or `@` and the start of its domain."),
)  # fmt: skip
EVENT_FILTERS: Final = (
    Parameter(name="type", type=Literal[tuple(TYPE_NUMBERS)], about="Of the event."),
    Parameter(name="recipient", about="An address."),
    msgspec.structs.replace(LINK, about="Id of a link: its clicks."),
    Parameter(name="verdict", type=VerdictName, about="Who made it, of opens and clicks."),
    VARIANT,
    FROM,
    TO,
)

REPORT: Final = (COUNT, TIMEZONE)
PAGED: Final = (COUNT, TIMEZONE, LIMIT, CURSOR)

TOO_LARGE: Final = {413: "The body is too large.", 415: "The body's encoding or type is not known."}
NO_CAMPAIGN: Final = {404: "There is no such campaign."}
NOBODY: Final = {401: "Nobody is signed in, or the key is unknown."}
