"""The section `timeline`: first events and totals by quarter hour, and by the local hour of any zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from cli.verifier.rules import Counted

COLUMNS: Final = ("sent", "opened", "clicked", "total_opens", "total_clicks")
QUARTER_MS: Final = 15 * 60 * 1000

Row = dict[str, int]
Quarters = dict[int, Row]
"""Minutes since 1970 UTC // 15 → columns; quarters without events are missing."""


def of_recipients(recipients: Iterable[Counted], count: str) -> Quarters:
    people = count == "people"
    quarters: Quarters = {}

    def add(at_ms: int | None, column: str) -> None:
        if at_ms is not None:
            row = quarters.setdefault(at_ms // QUARTER_MS, dict.fromkeys(COLUMNS, 0))
            row[column] += 1

    for recipient in recipients:
        add(recipient.sent_at, "sent")
        add(recipient.opened_people_at if people else recipient.opened_at, "opened")
        add(recipient.clicked_people_at if people else recipient.clicked_at, "clicked")
        for at_ms, verdict in recipient.opens:
            add(at_ms if verdict == "human" or not people else None, "total_opens")
        for at_ms, verdict in recipient.clicks:
            add(at_ms if verdict == "human" or not people else None, "total_clicks")
    return quarters


# Places of the columns among the stored metrics.
_STORED: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    "all": {
        "sent": (0,),
        "opened": (1,),
        "clicked": (3,),
        "total_opens": (5, 6, 7),
        "total_clicks": (8, 9, 10),
    },
    "people": {"sent": (0,), "opened": (2,), "clicked": (4,), "total_opens": (5,), "total_clicks": (8,)},
}


def of_stored(quarters: Mapping[int, Sequence[int]], count: str) -> Quarters:
    """The same from quarters as they are stored."""
    found: Quarters = {}
    for quarter, metrics in quarters.items():
        row = {column: sum(metrics[place] for place in places) for column, places in _STORED[count].items()}
        if any(row.values()):
            found[quarter] = row
    return found


def by_hour(quarters: Quarters, zone: ZoneInfo) -> dict[str, Row]:
    """Start of each local hour that has events → its columns."""
    rows: dict[str, Row] = {}
    labels: dict[int, str] = {}
    for quarter, counts in quarters.items():
        label = labels.get(quarter) or labels.setdefault(quarter, _hour_label(quarter, zone))
        row = rows.setdefault(label, dict.fromkeys(COLUMNS, 0))
        for column, value in counts.items():
            row[column] += value
    return rows


def _hour_label(quarter: int, zone: ZoneInfo) -> str:
    """Where the run of quarters with the same local date, hour and offset begins that this one is in."""
    local = _local(quarter, zone)
    while True:
        before = _local(quarter - 1, zone)
        if (before.date(), before.hour, before.utcoffset()) != (local.date(), local.hour, local.utcoffset()):
            return local.isoformat()
        quarter, local = quarter - 1, before


def _local(quarter: int, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarter)).astimezone(zone)


def of_json(rows: Sequence[Mapping[str, object]]) -> dict[str, Row]:
    """The JSON's rows without the empty ones, which only fill holes. A row that stands twice shows as a difference."""
    found: dict[str, Row] = {}
    for shown in rows:
        row = {column: value for column in COLUMNS if isinstance(value := shown[column], int)}
        if any(row.values()):
            start = str(shown["start"])
            found[start if start not in found else f"{start} again"] = row
    return found


def holes(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Hours that are missing between the first and the last row: empty hours must be zeros. No hour is longer."""
    starts = [datetime.fromisoformat(str(row["start"])) for row in rows]
    return [
        str(later)
        for earlier, later in pairwise(starts)
        if not timedelta(0) < later - earlier <= timedelta(hours=1)
    ]
