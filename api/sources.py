"""`GET /api/v1/sources`: the organisation's sources, what came from each, and whether one has fallen silent.

Scope `ops`. `counts` and times are those of all API processes since Redis was last emptied; where Redis can't be asked
they are null and `known` is false, since the addresses are worth showing all the same. When a source counts as silent
stands in `app.rhythm`.
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.arrivals import ACCEPTED, Seen
from api.auth import authenticate
from api.context import Context, context_of
from api.errors import json_response
from api.operations import ApiRoute, Operation
from app.esps.generic import events_source
from app.organisations import Source
from app.rhythm import rhythm_of
from app.shapes_operations import Sources
from app.times import utc_text

EVENTS: Final = "/api/v1/events"


async def sources(request: Request) -> Response:
    """{"sources": [{"source", "esp", "address", "verification", "last_event_at", "counts", "silent", …}], "known",
    "counted_since"}"""
    context = context_of(request)
    principal = authenticate(request, context, "ops")
    parameters.only(request.query_params, ())
    organisation = context.organisations.by_id[principal.org]
    listed = list(organisation.sources.values())
    if organisation.generic_source() is None:
        listed.append(events_source(organisation))
    now_ms = int(context.clock() * 1000)
    since_ms: int | None = None
    try:
        since_ms = await context.arrivals.since_ms(context.redis, now_ms)
        seen: list[Seen] | None = await context.arrivals.seen(
            context.redis, [(source.org, source.name) for source in listed]
        )
    except (RedisError, OSError, TimeoutError):
        seen = None
    base = base_address(request, context)
    rows = [
        _row(source, base, seen[number] if seen is not None else None, now_ms)
        for number, source in enumerate(listed)
    ]
    since = utc_text(since_ms) if seen is not None and since_ms is not None else None
    return json_response({"sources": rows, "known": seen is not None, "counted_since": since})


def base_address(request: Request, context: Context) -> str:
    """How the outside reaches us, without a slash at the end: as configured, else as this request did."""
    if context.settings.public_url:
        return context.settings.public_url
    host = request.headers.get("host") or context.settings.http
    return f"{request.url.scheme}://{host}"


def _row(source: Source, base: str, seen: Seen | None, now_ms: int) -> dict[str, object]:
    counts = seen.counts if seen is not None else {}
    last_ms = seen.last_ms if seen is not None else None
    rhythm = rhythm_of(seen.quarters if seen is not None else (), last_ms, now_ms)
    return {
        "source": source.name,
        "esp": source.esp,
        "address": _address(source, base),
        "verification": verification_of(source),
        "insecure": source.insecure,
        "key_missing": bool(source.absent),
        "last_event_at": None if last_ms is None else utc_text(last_ms),
        "silent": rhythm.silent,
        "silent_for_ms": None if last_ms is None else max(0, now_ms - last_ms),
        "allowed_silence_ms": rhythm.allowed_ms,
        "counts": None
        if seen is None
        else {
            "accepted": counts.get(ACCEPTED, 0),
            "refused": {outcome: count for outcome, count in counts.items() if outcome != ACCEPTED},
        },
    }


def _address(source: Source, base: str) -> str:
    """Where this source's webhooks or events are posted to."""
    if source.public_url:
        return source.public_url
    if verification_of(source) == ["api_key"]:
        return base + EVENTS
    return f"{base}/webhooks/{source.org}/{source.name}"


def verification_of(source: Source) -> list[str]:
    """By what a request of this source is let in, any of them; empty: by nothing (`insecure`)."""
    if source.insecure:
        return []
    found = [
        name
        for name in ("secrets", "basic", "bearer", "topics")
        if getattr(source, name) or name in source.absent
    ]
    return found if found or source.esp != "generic" else ["api_key"]


_SOURCES: Final = Operation(
    about="The sources, what came from each, and whether one has fallen silent", answer=Sources, scope="ops"
)


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", "/api/v1/sources", sources, _SOURCES)]
