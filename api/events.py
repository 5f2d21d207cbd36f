"""What senders tell us themselves: `POST /api/v1/events` and `PUT /api/v1/campaigns/{campaign}`, scope `write`.

Events go through topic `webhooks` like an ESP's, so that there is one way for all. They are checked before the answer,
by the generic source's own parser, so that their sender learns what was refused; what is refused is not stored.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.auth import authenticate
from api.body import content_encoding, read_body
from api.context import context_of
from api.errors import json_response
from api.operations import TOO_LARGE, ApiRoute, Operation
from api.paths import CAMPAIGN
from api.webhooks import kept_headers
from app import shapes_lists
from app.errors import PoisonEvent, RejectRequest
from app.esps import generic
from app.esps.limits import campaign_problem
from app.facts import FACTS_VERSION, CampaignRecord, encode
from app.inflate import inflate, limit_for
from app.keys import campaign_key, campaign_partition
from app.topics import FACTS, MAX_EVENTS, WEBHOOKS, Webhook, webhook_headers

MAX_CAMPAIGN_BODY: Final = 256 * 1024

_Label = Annotated[str, msgspec.Meta(max_length=1_000)]
_Labels = Annotated[dict[Annotated[str, msgspec.Meta(max_length=200)], _Label], msgspec.Meta(max_length=500)]
_Fields = Annotated[dict[Annotated[str, msgspec.Meta(max_length=100)], _Labels], msgspec.Meta(max_length=20)]


class CampaignDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fields`: A/B field → value as events carry it → label for people."""

    name: _Label | None = None
    subject: _Label | None = None
    fields: _Fields = {}


_decode_campaign = msgspec.json.Decoder(CampaignDocument).decode


async def post_events(request: Request) -> Response:
    """`{"events": […]}` → 200 `{"accepted": N, "refused": [{"index", "error"}]}`; refused as a whole: 400, 413, 415."""
    context = context_of(request)
    principal = authenticate(request, context, "write")
    max_body = context.settings.max_body
    wire = await read_body(request.scope, request.receive, max_body)
    try:
        body = inflate(wire, content_encoding(request.scope), limit_for(max_body))
    except PoisonEvent as error:
        raise RejectRequest(400, "broken_encoding", error.reason) from None
    checked = generic.check_events(body)
    if checked.too_many:
        raise RejectRequest(413, "too_many_events", f"send at most {MAX_EVENTS} events in one body")
    if checked.error is not None:
        raise RejectRequest(400, "no_events", f'the body must be {{"events": […]}}: {checked.error}')
    if checked.accepted:
        source = generic.events_source(context.organisations.by_id[principal.org])
        context.rates.check(source)
        headers = kept_headers(request.scope["headers"], generic.ESP)
        if checked.refused:
            stored = checked.body
            headers = tuple(pair for pair in headers if pair[0] != "content-encoding")
        else:
            stored = wire
        webhook = Webhook(
            org=principal.org,
            source=source.name,
            esp=source.esp,
            received_at_ms=int(context.clock() * 1000),
            headers=headers,
            body=stored,
        )
        await context.producer.send(WEBHOOKS, stored, webhook_headers(webhook))
        context.metrics.webhooks.labels(principal.org, source.name, "accepted").inc()
        context.arrivals.note(source, "accepted", context.clock())
        context.metrics.webhook_bytes.labels(principal.org, source.name).inc(len(stored))
    return json_response({"accepted": checked.accepted, "refused": checked.refused})


async def put_campaign(request: Request) -> Response:
    """What a campaign is called → 200 with the same. The whole document is replaced; the last one wins."""
    context = context_of(request)
    principal = authenticate(request, context, "write")
    name: str = request.path_params["campaign"]
    if problem := campaign_problem(name):
        raise RejectRequest(400, "bad_campaign", problem)
    body = await read_body(request.scope, request.receive, MAX_CAMPAIGN_BODY)
    try:
        document = _decode_campaign(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "the body is not JSON"
        if "unknown field" in reason:
            reason = (
                f"known fields: {', '.join(CampaignDocument.__struct_fields__)}"  # theirs is not repeated
            )
        raise RejectRequest(400, "bad_campaign", reason) from None
    record = CampaignRecord(
        FACTS_VERSION,
        principal.org,
        name,
        int(context.clock() * 1000),
        document.name,
        document.subject,
        document.fields,
    )
    key = campaign_key(context.secret, principal.org, name)
    partition = campaign_partition(key, context.settings.partitions)
    await context.producer.send(FACTS, encode(record), [], partition)
    return json_response(
        {"campaign": name, "name": document.name, "subject": document.subject, "fields": document.fields}
    )


_EVENTS: Final = Operation(
    about="Takes events of the generic source", answer=shapes_lists.AcceptedEvents, scope="write",
    body=shapes_lists.GenericEvents, others={**TOO_LARGE, 429: "The source's limit of events is reached."},
)  # fmt: skip
_CAMPAIGN: Final = Operation(
    about="What a campaign is called; the last document wins", answer=shapes_lists.CampaignNames, scope="write",
    body=CampaignDocument, others=TOO_LARGE,
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("POST", "/api/v1/events", post_events, _EVENTS),
        ApiRoute("PUT", CAMPAIGN, put_campaign, _CAMPAIGN),
    ]
