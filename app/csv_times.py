"""Times in rows of CSV: what `app.times.utc_text` gives, from small tables that stay in the processor's caches."""

from __future__ import annotations

from typing import Final

from app.times import utc_text

HOUR_MS: Final = 3_600_000
LAST_MS: Final = 253_402_300_799_999
"""Behind it no date can say the time."""
SECONDS: Final = tuple(f"{second // 60:02d}:{second % 60:02d}." for second in range(3_600))
MILLISECONDS: Final = tuple(f"{millisecond:03d}Z" for millisecond in range(1_000))
_KEPT: Final = 50_000


class Times:
    """Milliseconds since 1970 → RFC 3339, as `utc_text`."""

    def __init__(self) -> None:
        self.hours: dict[int, str] = {}
        """Hours since 1970 → how their times begin, as far as they were asked for."""

    def text(self, at_ms: int) -> str:
        """`at_ms` from 0 on; an empty text for what no date can say."""
        if at_ms > LAST_MS:
            return ""
        hour, rest = divmod(at_ms, HOUR_MS)
        start = self.hours.get(hour)
        if start is None:
            if len(self.hours) >= _KEPT:
                self.hours.clear()
            start = self.hours[hour] = (utc_text(hour * HOUR_MS) or "")[:14]
        return start + SECONDS[rest // 1000] + MILLISECONDS[rest % 1000]
