"""What requests about several campaigns share: their views, and the head of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from api.context import Context
from app.keys import campaign_key
from app.shapes import State
from app.summary import Count
from app.times import utc_text
from tables.views import View


async def views_of(context: Context, org: str, campaigns: Sequence[str], *, hours: bool) -> list[View]:
    """In the order of the names. Raises RejectRequest 404 where one of them isn't there, and TryLater."""
    epoch = await context.hub.epoch()
    keys = [campaign_key(context.secret, org, name) for name in campaigns]
    found = await asyncio.gather(*(context.views.load(key, epoch=epoch, hours=hours) for key in keys))
    views = [view for view in found if view is not None]
    if len(views) < len(campaigns):
        raise await context.hub.not_found()
    return views


def head_of(context: Context, views: Sequence[View], count: Count) -> State:
    """`as_of`: of the newest event in any of them."""
    return {
        "as_of": utc_text(max(view.as_of_ms for view in views)),
        **context.freshness(all(view.complete for view in views)).state(),
        "count": count,
    }
