from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.times import utc_text


@given(st.integers(0, 253_402_300_799_999))
def test_as_datetime_writes_it(at_ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    assert utc_text(at_ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (-1, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_007, "2026-09-21T14:13:20.007Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, None),
        (1 << 62, None),
        (1 << 200, None),
    ],
)
def test_edges(at_ms: int, text: str | None) -> None:
    assert utc_text(at_ms) == text
