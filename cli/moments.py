"""Points in time as options of commands: RFC 3339, a day, or how long ago."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

import click

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def moment_ms(text: str, now_ms: int) -> int:
    """`2026-11-24T10:00:00Z`, `2026-11-24` or `90m` (ago) → ms since 1970. UTC where no offset is said. ValueError."""
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


class Moment(click.ParamType):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return moment_ms(str(value), time.time_ns() // 1_000_000)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time: say 2026-11-24T10:00:00Z, 2026-11-24, or 90m, 12h, 3d ago", param, ctx
            )
