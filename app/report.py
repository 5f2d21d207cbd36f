"""A view → the objects of the API's JSON (shapes: `docs/api.md`). JSON answers and event streams share them.

Pure: how fresh the numbers are is a parameter. Every document has the same head (`campaign`, `as_of`, `lag_ms`,
`stale`, `reason`, `progress`, `count`, `notices`), then the sections that were asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, Protocol, cast

import msgspec

from app import breakdown as b
from app.notices import Note, notices
from app.sections import Rows, clients, links, places, providers
from app.shapes import Head, Report, Staleness, SummaryDocument, Timeline
from app.summary import Count, summary
from app.timeline import Unit, timeline
from app.times import utc_text
from app.variants import variants

Section = Literal["summary", "timeline", "links", "places", "clients", "providers", "variants"]
SECTIONS: Final[tuple[Section, ...]] = (
    "summary", "timeline", "links", "places", "clients", "providers", "variants",
)  # fmt: skip
"""What `/report` and `/live` carry, in this order. A new section is a name here, in `ROWS_OF` where it is made of rows,
and a line in `section`."""
ROWS_OF: Final[dict[Section, tuple[int, ...]]] = {
    "links": (b.LINK, b.POSITION),
    "places": (b.COUNTRY, b.CITY),
    "clients": (b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER),
    "providers": (b.PROVIDER, b.REASON),
    "variants": (b.VARIANT,),
}
"""Which rows (`app.breakdown`) a section is made of."""

TopClickers = Mapping[int, Sequence[tuple[str, int]]]
"""Link → (address, clicks), the most clicks first."""


def rows_of(sections: Collection[Section]) -> tuple[int, ...]:
    return tuple(row for name in SECTIONS if name in sections for row in ROWS_OF.get(name, ()))


class Names(Protocol):
    """A campaign's own record, as far as it is shown."""

    @property
    def name(self) -> str | None: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def fields(self) -> dict[str, dict[str, str]]: ...


class Numbers(Protocol):
    """What is read of a view (`tables.views.View`; `app` imports nothing of `tables`)."""

    @property
    def campaign(self) -> str: ...
    @property
    def as_of_ms(self) -> int: ...
    @property
    def patterns(self) -> dict[int, int]: ...
    @property
    def totals(self) -> list[int]: ...
    @property
    def overflow(self) -> list[int]: ...
    @property
    def quarters(self) -> dict[int, list[int]] | None: ...
    @property
    def sections(self) -> dict[int, Rows] | None: ...
    @property
    def labels(self) -> Names: ...
    @property
    def notes(self) -> list[tuple[int, Note]]: ...


class Freshness(msgspec.Struct, frozen=True):
    """How far the numbers are behind, and why they may be wrong or old."""

    lag_ms: int | None
    """None: it can't be known at the moment, and `reason` says why."""
    reason: str | None = None
    """Why the numbers are stale; None: they are not."""
    progress: float | None = None
    """While a partition is rebuilt or moved: how much of it is done, 0 to 1."""

    def because(self, reason: str | None) -> Freshness:
        """Stale for `reason` where there is one and it isn't stale already."""
        return self if self.reason or not reason else Freshness(self.lag_ms, reason, self.progress)

    def with_rows(self, behind_ms: int) -> Freshness:
        """Of numbers with rows that are so much older than the rest."""
        if not behind_ms:
            return self
        lag_ms = max(self.lag_ms, behind_ms) if self.lag_ms is not None else None
        found = Freshness(lag_ms, self.reason, self.progress)
        return found.because(ROWS_BEHIND if behind_ms > ROWS_BEHIND_MS else None)

    def state(self) -> Staleness:
        return {
            "lag_ms": self.lag_ms,
            "stale": self.reason is not None,
            "reason": self.reason,
            "progress": self.progress,
        }


FRESH: Final = Freshness(0)
ROWS_BEHIND_MS: Final = 2_000
"""Rows are published a few times a second."""
ROWS_BEHIND: Final = "links, places and the other rows are older than the summary"
INCOMPLETE: Final = "the numbers are being published again, a part of them is missing"


def head(view: Numbers, *, freshness: Freshness, count: Count) -> Head:
    return {
        "campaign": view.campaign,
        "name": view.labels.name,
        "subject": view.labels.subject,
        "as_of": utc_text(view.as_of_ms),
        **freshness.state(),
        "count": count,
        "notices": notices(view.notes),
    }


def section(
    name: Section, view: Numbers, *, count: Count, timezone: str, clickers: TopClickers | None = None
) -> object:
    """The value of one section, as it stands under its name."""
    if name == "summary":
        return summary(view.patterns, view.totals, count)
    if name == "timeline":
        return timeline_section(view, count=count, timezone=timezone)
    assert view.sections is not None, "the view was loaded without its rows"
    if name == "links":
        return links(view.sections, count, clickers)
    if name == "places":
        return places(view.sections, count)
    if name == "clients":
        return clients(view.sections, count)
    if name == "providers":
        return providers(view.sections, count)
    return variants(view.sections, view.labels.fields, count)


def timeline_section(
    view: Numbers,
    *,
    count: Count,
    timezone: str,
    unit: Unit | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Timeline:
    assert view.quarters is not None, "the view was loaded without its hours"
    return timeline(
        view.quarters,
        view.overflow,
        timezone=timezone,
        count=count,
        unit=unit,
        from_ms=from_ms,
        to_ms=to_ms,
    )


def summary_document(view: Numbers, *, freshness: Freshness, count: Count) -> SummaryDocument:
    return {
        **head(view, freshness=freshness, count=count),
        "summary": summary(view.patterns, view.totals, count),
    }


def report_document(
    view: Numbers,
    *,
    freshness: Freshness,
    count: Count,
    timezone: str,
    sections: Collection[Section] = SECTIONS,
    clickers: TopClickers | None = None,
) -> Report:
    document: dict[str, object] = {**head(view, freshness=freshness, count=count)}
    for name in SECTIONS:
        if name in sections:
            document[name] = section(name, view, count=count, timezone=timezone, clickers=clickers)
    return cast(Report, document)  # that each has its shape is a test's to say
