"""`/api/v1/shared`: where the page of a shared link shows its token, and what that opens.

`POST /api/v1/shared` takes the token out of a body, which no log keeps, and gives a cookie in exchange. The cookie is
HttpOnly, good for this share only, and its path is the share's own address: the browser sends it nowhere else, several
links may be open side by side, and who is signed in stays so and is not mixed up with it. It has no life of its own:
each request looks the share up, so that it ends with it, to the second.
"""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import check_origin, is_secure
from api.body import read_body
from api.context import Context, context_of
from api.errors import json_response
from api.operations import TOO_LARGE, ApiRoute, Operation
from api.viewers import SHARE_COOKIE, SHARED, SHARED_REPORT, opened, share_of_cookie
from app.errors import RejectRequest
from app.shapes_operations import SharedReport
from app.shares import COOKIE, LINK, Share, proof, read_token, text_of
from app.times import utc_text

MAX_TOKEN_BODY: Final = 1_024


class TokenDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    """What stands behind `#` in the link."""


_decode = msgspec.json.Decoder(TokenDocument).decode


async def open_share(request: Request) -> Response:
    """`{"token"}` → 200 `{"path", "organisation", "timezone", "campaign", "expires", …}` and the cookie."""
    context = context_of(request)
    parameters.only(request.query_params, ())
    if request.headers.get("origin") is not None or request.headers.get("sec-fetch-site") is not None:
        check_origin(request, context, proof=True)
    body = await read_body(request.scope, request.receive, MAX_TOKEN_BODY)
    try:
        claimed = read_token(_decode(body).token)
    except (ValueError, RecursionError):
        raise RejectRequest(400, "bad_token", 'the body must be {"token": "…"}') from None
    if claimed is None:
        raise RejectRequest(401, "unauthorized", "there is no such shared link")
    share = opened(context, *claimed, LINK)
    response = json_response(_about(share, context))
    response.set_cookie(
        SHARE_COOKIE,
        text_of(proof(context.secret, share, COOKIE)),
        max_age=max(1, int(share.expires_at_ms / 1000 - context.clock())),
        path=_path(share),
        httponly=True,
        samesite="strict",
        secure=is_secure(request, context),
    )
    return response


async def about_share(request: Request) -> Response:
    """`GET /api/v1/shared/{share}`: what `POST` said, for who has the cookie."""
    context = context_of(request)
    share = share_of_cookie(request, context)
    parameters.only(request.query_params, ())
    return json_response(_about(share, context))


def _about(share: Share, context: Context) -> dict[str, object]:
    organisation = context.organisations.by_id[share.org]
    return {
        "id": share.id.hex(),
        "path": _path(share),
        "campaign": share.campaign,
        "organisation": organisation.name,
        "timezone": organisation.timezone,
        "expires": utc_text(share.expires_at_ms),
    }


def _path(share: Share) -> str:
    return f"{SHARED}/{share.id.hex()}"


_OPEN: Final = Operation(
    about="Exchanges the token of a shared link for a cookie", answer=SharedReport, body=TokenDocument,
    others={**TOO_LARGE, 401: "There is no such link, or it has ended.", 403: "From a foreign page."},
)  # fmt: skip
_ABOUT: Final = Operation(
    about="What the shared link of this cookie shows", answer=SharedReport, scope="read"
)


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("POST", SHARED, open_share, _OPEN),
        ApiRoute("GET", SHARED_REPORT, about_share, _ABOUT),
    ]
