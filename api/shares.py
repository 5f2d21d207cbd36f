"""`POST`, `GET` and `DELETE /api/v1/campaigns/{campaign}/shares`: read-only links to one report.

Rules:
- Making and revoking one needs the scope `write`; `read` lists them, but without their addresses: whoever may only read
  is not to invite others.
- 201 and 204 come when Kafka has the record. From then on a link works, or doesn't, in this process at once and in all
  others within moments (`api.share_log`).
- The token stands behind `#`: browsers send that part to nobody, so it is in no log and in no `Referer`. The page at
  `PAGE` shows it to `POST /api/v1/shared` (`api.shared`).
- Removing a key from the configuration revokes no link that was made with it; `made_by` tells which these are.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import Principal, authenticate
from api.body import read_body
from api.context import Context, context_of
from api.errors import json_response
from api.operations import TOO_LARGE, ApiRoute, Operation
from api.paths import CAMPAIGN
from api.sources import base_address
from api.viewers import share_id_of
from app import shapes_operations as shapes
from app.errors import RejectRequest
from app.keys import campaign_key
from app.shares import ID_BYTES, MAX_KNOWN, MAX_LIFE_MS, MAX_LIVE, SHARES_VERSION, Share, token_of
from app.times import utc_text

PAGE: Final = "/shared"
MAX_SHARE_BODY: Final = 4_096
SHARES: Final = CAMPAIGN + "/shares"


class ShareDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    expires: str | int
    """RFC 3339 with its offset, or milliseconds since 1970."""


_decode = msgspec.json.Decoder(ShareDocument).decode


async def post_share(request: Request) -> Response:
    """`{"expires"}` → 201 `{"id", "url", "expires", …}`."""
    context = context_of(request)
    principal = authenticate(request, context, "write")
    parameters.only(request.query_params, ())
    campaign: str = request.path_params["campaign"]
    body = await read_body(request.scope, request.receive, MAX_SHARE_BODY)
    now_ms = int(context.clock() * 1000)
    expires_at_ms = _expiry(body, now_ms)
    key = campaign_key(context.secret, principal.org, campaign)
    if await context.views.load(key, epoch=await context.hub.epoch(), hours=False) is None:
        raise await context.hub.not_found()
    context.shares.check()
    known = [
        share for share in context.shares.of_campaign(principal.org, campaign) if not share.is_past(now_ms)
    ]
    if sum(share.state(now_ms) == "live" for share in known) >= MAX_LIVE:
        raise RejectRequest(
            409, "too_many_shares", f"{MAX_LIVE} links to this report work already: revoke some"
        )
    if len(known) >= MAX_KNOWN:
        raise RejectRequest(
            409, "too_many_shares", f"{MAX_KNOWN} links to this report were made within a month"
        )
    share = Share(
        SHARES_VERSION, secrets.token_bytes(ID_BYTES), principal.org, campaign, now_ms, expires_at_ms,
        principal.key_name,
    )  # fmt: skip
    await context.shares.write(context.producer, share)
    return json_response(_item(share, request, context, principal), 201)


def _expiry(body: bytes, now_ms: int) -> int:
    try:
        expires = _decode(body).expires
    except (ValueError, RecursionError):
        raise RejectRequest(
            400, "bad_share", 'the body must be {"expires": "2026-12-24T18:00:00+01:00"}'
        ) from None
    expires_at_ms = parameters.moment_of(str(expires))
    if expires_at_ms is None:
        raise RejectRequest(
            400, "bad_share", "expires: must be RFC 3339 with its offset, or milliseconds since 1970"
        )
    if not now_ms < expires_at_ms <= now_ms + MAX_LIFE_MS:
        raise RejectRequest(400, "bad_share", "expires: must lie ahead, by 366 days at most")
    return expires_at_ms


async def list_shares(request: Request) -> Response:
    """`{"items": […], "next": null, "matching": N}`, newest first; those that ended are shown for a month."""
    context = context_of(request)
    principal = authenticate(request, context, "read")
    parameters.only(request.query_params, ())
    context.shares.check()
    found = _shown(context, principal, request)
    found.sort(key=lambda share: (-share.made_at_ms, share.id))
    items = [_item(share, request, context, principal) for share in found]
    return json_response({"items": items, "next": None, "matching": len(items)})


async def get_share(request: Request) -> Response:
    context = context_of(request)
    principal = authenticate(request, context, "read")
    parameters.only(request.query_params, ())
    return json_response(_item(_named(context, principal, request), request, context, principal))


async def delete_share(request: Request) -> Response:
    """204: it is revoked, by this request or before."""
    context = context_of(request)
    principal = authenticate(request, context, "write")
    parameters.only(request.query_params, ())
    share = _named(context, principal, request)
    if share.revoked_at_ms is None:
        revoked = msgspec.structs.replace(share, revoked_at_ms=int(context.clock() * 1000))
        await context.shares.write(context.producer, revoked)
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _shown(context: Context, principal: Principal, request: Request) -> list[Share]:
    now_ms = int(context.clock() * 1000)
    found = context.shares.of_campaign(principal.org, request.path_params["campaign"])
    return [share for share in found if not share.is_past(now_ms)]


def _named(context: Context, principal: Principal, request: Request) -> Share:
    """The share that the address names. Raises RejectRequest 404 also for one of another campaign or organisation."""
    share_id = share_id_of(request.path_params["share_id"])
    context.shares.check()
    for share in _shown(context, principal, request):
        if share.id == share_id:
            return share
    raise RejectRequest(404, "not_found", "no such shared link")


def _item(share: Share, request: Request, context: Context, principal: Principal) -> dict[str, object]:
    now_ms = int(context.clock() * 1000)
    state = share.state(now_ms)
    shown = state == "live" and "write" in principal.scopes
    return {
        "id": share.id.hex(),
        "url": f"{base_address(request, context)}{PAGE}#{token_of(context.secret, share)}" if shown else None,
        "state": state,
        "made_at": utc_text(share.made_at_ms),
        "made_by": share.made_by,
        "expires": utc_text(share.expires_at_ms),
        "revoked_at": None if share.revoked_at_ms is None else utc_text(share.revoked_at_ms),
    }


_MAKE: Final = Operation(
    about="Makes a read-only link to this report", answer=shapes.Share, status=201, scope="write",
    body=ShareDocument, others={**TOO_LARGE, 409: "So many links work already."},
)  # fmt: skip
_LIST: Final = Operation(about="The links to this report, newest first", answer=shapes.Shares, scope="read")
_ONE: Final = Operation(about="One link to this report", answer=shapes.Share, scope="read")
_REVOKE: Final = Operation(about="Revokes a link", status=204, scope="write")


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("POST", SHARES, post_share, _MAKE),
        ApiRoute("GET", SHARES, list_shares, _LIST),
        ApiRoute("GET", SHARES + "/{share_id}", get_share, _ONE),
        ApiRoute("DELETE", SHARES + "/{share_id}", delete_share, _REVOKE),
    ]
