"""Documents of a campaign's rows: made in a thread where they are many, since webhooks are taken on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from tables.views import View

MANY_ROWS: Final = 300
"""Of a view: a millisecond or two. Asking a thread for less costs as much as it saves."""

_T = TypeVar("_T")


async def build(view: View, make: Callable[[], _T]) -> _T:
    """What `make` gives, which looks at the view's rows and at nothing that changes meanwhile."""
    rows = sum(len(some.tallies) for some in (view.sections or {}).values())
    return await asyncio.to_thread(make) if rows > MANY_ROWS else make()
