"""Whose report is asked for, and who asks: somebody with a key of the organisation, or somebody with a shared link.

Rules:
- The same handlers answer both. A shared report has addresses of its own (`SHARED`), below which only the sections of
  one report exist: what a link doesn't show has no route there. Keys and sessions don't count below it, and the cookie
  of a shared link, whose path it is, counts nowhere else.
- A shared report names nobody (`app.shared_report`), and there are no top clickers in it.
- 401 where the cookie is missing or forged, and where the link has been revoked or has expired, which is said; 503
  while revocations can't be known (`api.share_log`).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from starlette.requests import Request

from api.auth import authenticate, check_origin, refuse_credentials_in_query
from api.context import Context
from api.paths import CAMPAIGN
from app.errors import RejectRequest
from app.facts import CampaignKey
from app.keys import campaign_key
from app.shared_report import shared_rows
from app.shares import COOKIE, ID_BYTES, Share, bytes_of, proves
from tables.views import View

SHARED: Final = "/api/v1/shared"
SHARED_REPORT: Final = SHARED + "/{share}"
REPORTS: Final = (CAMPAIGN, SHARED_REPORT)
"""Below each of these stand a report's sections."""
SHARE_COOKIE: Final = "reports_shared"
_SHARE_ID: Final = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}", re.ASCII)


class Viewer(msgspec.Struct, frozen=True):
    org: str
    campaign: str
    shared: bool

    def key(self, context: Context) -> CampaignKey:
        return campaign_key(context.secret, self.org, self.campaign)

    def may_see(self, view: View, secret: bytes) -> View:
        """What of a view is theirs to see; its rows must be complete."""
        return shared_view(view, secret) if self.shared else view


def shared_view(view: View, secret: bytes) -> View:
    if view.sections is None:
        return view
    return msgspec.structs.replace(view, sections=shared_rows(view.sections, secret))


def viewer_of(request: Request, context: Context) -> Viewer:
    """Raises RejectRequest 401 and 403, and TryLater."""
    if "share" in request.path_params:
        share = share_of_cookie(request, context)
        return Viewer(share.org, share.campaign, shared=True)
    principal = authenticate(request, context, "read")
    return Viewer(principal.org, request.path_params["campaign"], shared=False)


def share_of_cookie(request: Request, context: Context) -> Share:
    """The share that the address names, if the request's cookie was made for it and it holds."""
    refuse_credentials_in_query(request)
    share_id = share_id_of(request.path_params["share"])
    shown = bytes_of(request.cookies.get(SHARE_COOKIE, ""), 32)
    if share_id is None or shown is None:
        raise RejectRequest(401, "unauthorized", "open the shared link")
    share = opened(context, share_id, shown, COOKIE)
    check_origin(request, context, proof=False)
    return share


def opened(context: Context, share_id: bytes, shown: bytes, purpose: bytes) -> Share:
    """The share, for whoever proves that it was given to them."""
    context.shares.check()
    share = context.shares.get(share_id)
    if share is None or not proves(context.secret, share, purpose, shown):
        raise RejectRequest(401, "unauthorized", "there is no such shared link")
    if share.org not in context.organisations.by_id:
        raise RejectRequest(401, "link_ended", "this link doesn't lead anywhere any more")
    state = share.state(int(context.clock() * 1000))
    if state != "live":
        raise RejectRequest(
            401, "link_ended", f"this link has {'expired' if state == 'expired' else 'been revoked'}"
        )
    return share


def share_id_of(text: str) -> bytes | None:
    """As it stands in addresses: 32 digits."""
    return bytes.fromhex(text) if _SHARE_ID.fullmatch(text) else None
