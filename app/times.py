"""Times as the API writes them."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
_MINUTES: Final = [f"T{minute // 60:02}:{minute % 60:02}:" for minute in range(1440)]


def utc_text(at_ms: int) -> str | None:
    """Milliseconds since 1970 → RFC 3339 in UTC with milliseconds; None for -1 (never) and for what no date can say."""
    # A page has hundreds of times: put together of parts, which takes a third of what `datetime` takes.
    if at_ms < 0:
        return None
    days, rest = divmod(at_ms, _DAY_MS)
    day = _day_text(days)
    if day is None:
        return None
    minute, rest = divmod(rest, 60_000)
    return f"{day}{_MINUTES[minute]}{rest // 1000:02}.{rest % 1000:03}Z"


@lru_cache(maxsize=4_096)
def _day_text(days: int) -> str | None:
    try:
        return (_EPOCH + timedelta(days=days)).isoformat()
    except OverflowError:
        return None
