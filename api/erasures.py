"""`POST /api/v1/erasures`: a person is forgotten in all campaigns of the organisation. Scope `write`.

Rules:
- One record for each campaign that is counted, or is in topic `facts` and not counted yet, goes into topic `facts`, and
  200 comes when all of them are stored. The workers blank what they have as they come to it, and what comes in later of
  these recipients (`app.erasure`).
- Where it is not known which campaigns there are, the answer is 503 and nothing is erased (`tables.every_campaign`).
- Whoever got no 200 asks again: an erasure may be repeated as often as one likes.
- The address is neither logged nor repeated in an answer.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.auth import authenticate
from api.body import read_body
from api.context import Context, context_of
from api.errors import json_response
from api.operations import ApiRoute, Operation
from app import shapes_lists
from app.erasure import erased_records
from app.errors import RejectRequest, StateError, TryLater
from app.esps.limits import address_problem
from app.facts import encode
from app.topics import FACTS
from tables.every_campaign import NOT_KNOWN, RETRY_S, counted_campaigns

log = logging.getLogger("reports.api")

MAX_ERASURE_BODY: Final = 16 * 1024
SENT_TOGETHER: Final = 1_000
WITHIN_S: Final = 5.0
"""How long is looked for campaigns that are not counted yet."""


class ErasureDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    recipient: str


_decode = msgspec.json.Decoder(ErasureDocument).decode


async def post_erasure(request: Request) -> Response:
    """`{"recipient": address}` → 200 `{"campaigns": N}`: in so many campaigns the person is erased."""
    context = context_of(request)
    principal = authenticate(request, context, "write")
    body = await read_body(request.scope, request.receive, MAX_ERASURE_BODY)
    try:
        address = _decode(body).recipient.strip()
    except (ValueError, RecursionError):
        # msgspec's own words may repeat what stands in the body.
        raise RejectRequest(400, "bad_erasure", 'the body must be {"recipient": "…"}') from None
    if problem := address_problem(address):
        raise RejectRequest(400, "bad_erasure", problem)
    campaigns = await _campaigns(context, principal.org)
    records = erased_records(
        context.secret,
        principal.org,
        sorted(campaigns),
        address,
        now_ms=int(context.clock() * 1000),
        partitions=context.settings.partitions,
    )
    while some := list(islice(records, SENT_TOGETHER)):
        await asyncio.gather(
            *(context.producer.send(FACTS, encode(record), [], partition) for partition, record in some)
        )
    return json_response({"campaigns": len(campaigns)})


async def _campaigns(context: Context, org: str) -> set[str]:
    """Raises TryLater where not all of them are known."""
    counted = await counted_campaigns(context.redis, context.views, org)
    settings = context.settings
    async with context.erasing:
        try:
            uncounted = await asyncio.to_thread(
                context.uncounted,
                settings.kafka,
                org,
                counted.positions,
                settings.partitions,
                within_s=WITHIN_S,
            )
        except StateError as error:
            log.warning("an erasure was refused: %s", error)
            # Where Kafka is, is nothing for those who use the API.
            raise TryLater(
                RETRY_S,
                f"{NOT_KNOWN}, topic {FACTS} can't be read: GET /ops/lag says what is wrong, try again",
            ) from error
    return counted.campaigns | uncounted


_ERASURE: Final = Operation(
    about="Erases a person in all campaigns of the organisation", answer=shapes_lists.Erasure, scope="write",
    body=ErasureDocument,
)  # fmt: skip


def routes() -> list[BaseRoute]:
    return [ApiRoute("POST", "/api/v1/erasures", post_erasure, _ERASURE)]
