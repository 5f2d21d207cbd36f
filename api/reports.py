"""A campaign's report: what Redis holds, as JSON.

Rules:
- A campaign is looked up in the organisation of the caller's key, whatever the address says: another one's is 404.
  Who has a shared link gets the same sections of one campaign (`api.viewers`).
- Redis down: 503 with Retry-After (`api.errors`). Redis emptied: what is there is answered with `stale`, what isn't is
  503 until it can be said that it doesn't exist.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.building import build
from api.context import Context, context_of
from api.errors import json_response
from api.operations import (
    FROM,
    RATE,
    REPORT,
    SECTION_LIST,
    TO,
    UNIT,
    VARIANT,
    ApiRoute,
    Operation,
    Parameter,
)
from api.tops import clickers_of
from api.viewers import REPORTS, Viewer, viewer_of
from app import shapes
from app.report import (
    ROWS_OF,
    Section,
    TopClickers,
    head,
    report_document,
    rows_of,
    summary_document,
    timeline_section,
)
from app.summary import Count
from app.variants import Asked, variants
from tables.views import View


async def summary(request: Request) -> Response:
    context, viewer = _reader(request)
    query = request.query_params
    parameters.only(query, ("count", "timezone"))
    count = parameters.count_of(query)
    parameters.timezone_of(query, _home(context, viewer))
    view = await _view(context, viewer, hours=False)
    return json_response(
        summary_document(view, freshness=context.freshness(view.complete, view.behind_ms), count=count)
    )


async def timeline(request: Request) -> Response:
    context, viewer = _reader(request)
    query = request.query_params
    parameters.only(query, ("count", "timezone", "unit", "from", "to"))
    count = parameters.count_of(query)
    zone = parameters.timezone_of(query, _home(context, viewer))
    unit = parameters.unit_of(query)
    from_ms, to_ms = parameters.time_of(query, "from"), parameters.time_of(query, "to")
    view = await _view(context, viewer, hours=True)
    document: shapes.TimelineDocument = {
        **head(view, freshness=context.freshness(view.complete, view.behind_ms), count=count),
        "timeline": timeline_section(
            view, count=count, timezone=zone, unit=unit, from_ms=from_ms, to_ms=to_ms
        ),
    }
    return json_response(document)


async def one_section(request: Request) -> Response:
    """A section that is made of rows, by the last part of the address."""
    context, viewer = _reader(request)
    query = request.query_params
    parameters.only(query, ("count", "timezone"))
    count = parameters.count_of(query)
    zone = parameters.timezone_of(query, _home(context, viewer))
    name = cast(Section, request.url.path.rpartition("/")[2])
    view = await _view(context, viewer, hours=False, sections=rows_of((name,)))
    return await _answer(context, viewer, view, count, zone, (name,))


async def variants_section(request: Request) -> Response:
    """With `x` and `y` two fields against each other, with `variant.FIELD` only the variants with that value."""
    context, viewer = _reader(request)
    query = request.query_params
    chosen_names = [name for name in query if name.startswith("variant.")]
    parameters.only(query, ("count", "timezone", "rate", "x", "y", *chosen_names))
    count = parameters.count_of(query)
    parameters.timezone_of(query, _home(context, viewer))
    rate = parameters.rate_of(query)
    fields = None
    if "x" in query or "y" in query:
        if "x" not in query or "y" not in query or query["x"] == query["y"]:
            raise parameters.bad("y" if "x" in query else "x", "two different fields are needed, x and y")
        fields = (query["x"], query["y"])
    chosen = {name.removeprefix("variant."): query[name] for name in chosen_names}
    view = await _view(context, viewer, hours=False, sections=ROWS_OF["variants"])
    rows = view.sections
    assert rows is not None
    made = await build(view, lambda: variants(rows, view.labels.fields, count, Asked(rate, fields, chosen)))
    document: shapes.VariantsDocument = {
        **head(view, freshness=context.freshness(view.complete, view.behind_ms), count=count),
        "variants": made,
    }
    return json_response(document)


async def report(request: Request) -> Response:
    context, viewer = _reader(request)
    query = request.query_params
    parameters.only(query, ("count", "timezone", "sections"))
    count = parameters.count_of(query)
    zone = parameters.timezone_of(query, _home(context, viewer))
    sections = parameters.sections_of(query)
    view = await _view(context, viewer, hours="timeline" in sections, sections=rows_of(sections))
    return await _answer(context, viewer, view, count, zone, sections)


async def _answer(
    context: Context, viewer: Viewer, view: View, count: Count, zone: str, sections: Collection[Section]
) -> Response:
    clickers = await _clickers(context, viewer, view, count) if "links" in sections else None
    freshness = context.freshness(view.complete, view.behind_ms)
    return await build(
        view,
        lambda: json_response(
            report_document(
                view, freshness=freshness, count=count, timezone=zone, sections=sections, clickers=clickers
            )
        ),
    )


def _reader(request: Request) -> tuple[Context, Viewer]:
    context = context_of(request)
    return context, viewer_of(request, context)


def _home(context: Context, viewer: Viewer) -> str:
    return context.organisations.by_id[viewer.org].timezone


async def _view(context: Context, viewer: Viewer, *, hours: bool, sections: Collection[int] = ()) -> View:
    key = viewer.key(context)
    view = await context.hub.tops.load(key, epoch=await context.hub.epoch(), hours=hours, sections=sections)
    if view is None:
        raise await context.hub.not_found()
    return await build(view, lambda: viewer.may_see(view, context.secret))


async def _clickers(context: Context, viewer: Viewer, view: View, count: Count) -> TopClickers | None:
    """None for who may not know them, too."""
    return None if viewer.shared else await clickers_of(context.queries, viewer.key(context), view, count)


_SECTION_SHAPES: Final = {
    "links": (shapes.LinksDocument, "Links with their positions and top clickers"),
    "places": (shapes.PlacesDocument, "Countries and cities"),
    "clients": (shapes.ClientsDocument, "Clients, devices, systems and browsers"),
    "providers": (shapes.ProvidersDocument, "Mailbox providers and why they bounced"),
}
_SUMMARY: Final = Operation(
    about="The summary of a campaign", answer=shapes.SummaryDocument, parameters=REPORT, scope="read"
)
_TIMELINE: Final = Operation(
    about="What happened by hour or day", answer=shapes.TimelineDocument,
    parameters=(*REPORT, UNIT, FROM, TO), scope="read",
)  # fmt: skip
_VARIANTS: Final = Operation(
    about="A/B variants with intervals, verdicts and a heatmap over two fields",
    answer=shapes.VariantsDocument, scope="read",
    parameters=(
        *REPORT,
        RATE,
        Parameter(name="x", about="A field; with `y` a heatmap of both."),
        Parameter(name="y", about="Another field."),
        VARIANT,
    ),
)  # fmt: skip
_REPORT: Final = Operation(
    about="Everything about a campaign that has a fixed size", answer=shapes.Report,
    parameters=(*REPORT, SECTION_LIST), scope="read",
)  # fmt: skip


def routes() -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for one in REPORTS:
        found += (
            ApiRoute("GET", one + "/summary", summary, _SUMMARY),
            ApiRoute("GET", one + "/timeline", timeline, _TIMELINE),
            *(
                ApiRoute(
                    "GET", f"{one}/{name}", one_section,
                    Operation(about=about, answer=shape, parameters=REPORT, scope="read"),
                )
                for name, (shape, about) in _SECTION_SHAPES.items()
            ),
            ApiRoute("GET", one + "/variants", variants_section, _VARIANTS),
            ApiRoute("GET", one + "/report", report, _REPORT),
        )  # fmt: skip
    return found
