"""The documents of the API: the same head and sections wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app import contribution as c
from app.report import SECTIONS, Freshness, Section, report_document, summary_document
from app.times import utc_text
from tables.views import Labels, View

VIEW = View(
    org="acme",
    campaign="spring",
    epoch="0a",
    version=7,
    complete=True,
    as_of_ms=1_795_428_902_120,
    patterns={c.SENT: 3},
    totals=[3] + [0] * (c.METRICS - 1),
    overflow=[0] * c.METRICS,
    labels=Labels(name="Spring sale"),
    quarters={1_795_428_902_120 // 900_000: [3] + [0] * (c.METRICS - 1)},
    sections={},
)
HEAD: dict[str, object] = {
    "campaign": "spring",
    "name": "Spring sale",
    "subject": None,
    "as_of": "2026-11-23T10:15:02.120Z",
    "lag_ms": 35,
    "stale": False,
    "reason": None,
    "progress": None,
    "count": "all",
    "notices": [],
}


def test_summary() -> None:
    document = summary_document(VIEW, freshness=Freshness(35), count="all")
    assert document["summary"]["sent"] == 3
    assert document == {**HEAD, "summary": document["summary"]}


def test_report_has_the_sections_asked_for() -> None:
    def sections(names: Sequence[Section] = SECTIONS) -> list[str]:
        document: Any = report_document(
            VIEW, freshness=Freshness(35), count="all", timezone="Europe/Berlin", sections=names
        )
        assert {name: document.pop(name) for name in HEAD} == HEAD
        return list(document)

    assert sections() == ["summary", "timeline", "links", "places", "clients", "providers", "variants"]
    assert sections(["timeline"]) == ["timeline"]


def test_rows_carry_the_local_start() -> None:
    document = report_document(
        VIEW, freshness=Freshness(None, "because"), count="all", timezone="Europe/Berlin"
    )
    timeline = document["timeline"]
    assert isinstance(timeline, dict)
    assert timeline["rows"][0]["start"] == "2026-11-23T11:00:00+01:00"
    assert document["lag_ms"] is None
    assert (document["stale"], document["reason"]) == (True, "because")


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [(-1, None), (0, "1970-01-01T00:00:00.000Z"), (1_500, "1970-01-01T00:00:01.500Z"), (10**17, None)],
)
def test_utc_text(at_ms: int, text: str | None) -> None:
    assert utc_text(at_ms) == text
