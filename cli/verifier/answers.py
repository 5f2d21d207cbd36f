"""What a ledger demands of each campaign, compared with the API's JSON and the snapshots of its event streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from cli.verifier import campaigns, rates, sections, summary, timeline
from cli.verifier.compare import Comparison
from cli.verifier.ledger import Campaign, Ledger
from cli.verifier.shown import Json, Pages, Unreadable, utc
from cli.verifier.verification import Expected

JSON: Final = "API JSON"
STREAM: Final = "event stream"

ZONES: Final = ("Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "UTC")


def compare_pages(
    result: Comparison,
    ledger: Ledger,
    wanted: Mapping[Campaign, Expected],
    org: str,
    pages: Pages,
    timezone: str,
) -> None:
    """One organisation's JSON and event streams."""
    _guard(result, JSON, "campaigns", partial(_list, result, ledger, wanted, org, pages))
    for (owner, name), expected in wanted.items():
        if owner == org:
            _guard(result, JSON, "summary", partial(_numbers, result, expected, pages, name))
            for section in sections.NAMES:
                _guard(result, JSON, section, partial(_section, result, expected, pages, name, section))
            _guard(result, JSON, "report", partial(_report, result, expected, pages, name, timezone))
            _guard(result, STREAM, "report", partial(_stream, result, expected, pages, name, timezone))


def _guard(result: Comparison, place: str, section: str, look: Callable[[], None]) -> None:
    try:
        look()
    except (
        Unreadable,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # msgspec's ValidationError is a ValueError
        result.failed(place, section, f"{type(error).__name__}: {error}")


def _numbers(result: Comparison, expected: Expected, pages: Pages, name: str) -> None:
    for count in summary.COUNTS:
        document = pages.section(name, "summary", count=count)
        _summary(result, JSON, expected, document, count)
        for zone in ZONES:
            section = pages.section(name, "timeline", count=count, timezone=zone, unit="hour")["timeline"]
            _timeline(result, JSON, expected, section, count, zone)


def _section(result: Comparison, expected: Expected, pages: Pages, name: str, section: str) -> None:
    for count in summary.COUNTS:
        _rows(result, JSON, expected, pages.section(name, section, count=count), count, (section,))
        if section == "variants":
            what, wanted = f"{'/'.join(expected.campaign)} {count}", expected.sections
            rates.compare(result, JSON, what, wanted.variants, wanted.labels, pages, name, count)


def _report(result: Comparison, expected: Expected, pages: Pages, name: str, timezone: str) -> None:
    for count in summary.COUNTS:
        _whole(result, JSON, expected, pages.section(name, "report", count=count), count, timezone)


def _stream(result: Comparison, expected: Expected, pages: Pages, name: str, timezone: str) -> None:
    for count in summary.COUNTS:
        _whole(result, STREAM, expected, pages.snapshot(name, count=count), count, timezone)


def _whole(
    result: Comparison, place: str, expected: Expected, document: Json, count: str, timezone: str
) -> None:
    """All sections in one document."""
    _summary(result, place, expected, document, count)
    _timeline(result, place, expected, document["timeline"], count, timezone)
    _rows(result, place, expected, document, count, sections.NAMES)


def _rows(
    result: Comparison, place: str, expected: Expected, document: Json, count: str, names: tuple[str, ...]
) -> None:
    what = f"{'/'.join(expected.campaign)} {count}"
    sections.compare_json(result, place, what, expected.sections, document, count, names)


def _summary(result: Comparison, place: str, expected: Expected, document: Json, count: str) -> None:
    name = "/".join(expected.campaign)
    shown = summary.of_json(msgspec.convert(document["summary"], Json))
    # An answer may say more than was asked for; what the report defines must be there and right.
    wanted = {key: value for key, value in expected.numbers[count].items() if key in shown or _is_named(key)}
    result.mappings(place, "summary", f"{name} {count}", wanted, shown)
    result.same(place, "as_of", name, utc(expected.as_of_ms), document["as_of"])


def _is_named(number: str) -> bool:
    """Whether `docs/api.md` promises the number; the others are shown or not, but never wrong."""
    return number not in ("openers_who_clicked", "deferred", "rejected", "failed", "unsubscribed_suspected")


def _timeline(
    result: Comparison, place: str, expected: Expected, section: object, count: str, zone: str
) -> None:
    name = f"{'/'.join(expected.campaign)} {count} {zone}"
    rows = msgspec.convert(msgspec.convert(section, Json)["rows"], list[Json])
    wanted = timeline.by_hour(expected.quarters[count], ZoneInfo(zone))
    result.mappings(place, "timeline", name, wanted, timeline.of_json(rows))
    for hole in timeline.holes(rows):
        result.failed(place, "timeline", f"{name}: a hole before {hole}")


def _list(
    result: Comparison, ledger: Ledger, wanted: Mapping[Campaign, Expected], org: str, pages: Pages
) -> None:
    items = {str(item["campaign"]): item for item in pages.campaigns()}
    for name in sorted(campaigns.of_ledger(ledger, org)):
        item = items.get(name)
        if item is None:
            result.failed(JSON, "campaigns", f"{org}/{name}: not in the list")
            continue
        expected = wanted.get((org, name))
        if expected is not None:
            shown = summary.of_json(msgspec.convert(item["summary"], Json))
            numbers = {key: value for key, value in expected.numbers["all"].items() if key in shown}
            result.mappings(JSON, "campaigns", f"{org}/{name}", numbers, shown)
            result.same(JSON, "campaigns", f"{org}/{name} as_of", utc(expected.as_of_ms), item["as_of"])
        label = campaigns.label_of(ledger, (org, name))
        if label is not None:
            result.same(JSON, "campaigns", f"{org}/{name} name", label, item.get("name"))
    newest = {name: expected.as_of_ms for (owner, name), expected in wanted.items() if owner == org}
    in_order = campaigns.is_newest_first(list(items), newest)
    result.same(JSON, "campaigns", f"{org} newest first", True, in_order)
