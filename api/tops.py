"""What a report needs beyond Redis: rows that were cut there, and the top clickers of its first links.

- Redis holds the largest rows of each partition. Where those don't prove the ones to show, all rows are asked for
  (`app.sections.Rows.exact`); if nobody can tell them, the whole answer is TryLater, never a smaller number.
- Top clickers are an extra: while the query process is away they are null, and the numbers go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from app import breakdown as b
from app.errors import TryLater
from app.facts import CampaignKey
from app.report import TopClickers
from app.sections import LINKS, NO_ROWS, ROWS, top_links, weight_of
from app.summary import Count
from tables.views import View

if TYPE_CHECKING:
    from api.queries import Queries

TOP_LINKS: Final = 20
"""Links whose top clickers stand in the report; those of the others are at `/links/{id}/clickers`."""
TOP_CLICKERS: Final = 10


async def complete_rows(queries: Queries, key: CampaignKey, view: View, counts: Iterable[Count]) -> None:
    """Fills up sections whose rows in Redis can't be shown as they are under these counts. Raises TryLater."""
    for section, rows in (view.sections or {}).items():
        shown = LINKS if section == b.LINK else ROWS
        exact = all(rows.exact(shown, weight_of(section, count)) for count in counts)
        if not exact and section != b.POSITION:
            assert view.sections is not None
            view.sections[section] = await queries.section(key, section)


async def clickers_of(queries: Queries, key: CampaignKey, view: View, count: Count) -> TopClickers | None:
    """The top clickers of the first links; None where nobody can tell."""
    links = top_links((view.sections or {}).get(b.LINK, NO_ROWS), count, TOP_LINKS)
    if not links:
        return {}
    try:
        return await queries.top_clickers(key, links, count, TOP_CLICKERS)
    except TryLater:
        return None
