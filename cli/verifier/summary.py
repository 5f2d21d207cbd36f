"""The section `summary`: every number and rate, from recipients as counted, or from stored sums of patterns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cli.verifier.rules import VERDICTS, Counted

Numbers = dict[str, int | float | None]

RECIPIENT_NUMBERS: Final = (
    "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed", "unsubscribed_suspected",
    "deferred", "rejected", "failed", "sent_inferred", "delivered_inferred", "bounced_after_delivery",
)  # fmt: skip
COUNTS: Final = ("all", "people")
BY_PEOPLE: Final = frozenset(("opened", "clicked"))

RATES: Final = {
    "open_rate": ("opened", "sent"),
    "click_rate": ("clicked", "sent"),
    "click_to_open_rate": ("clicked", "opened"),
    "openers_who_clicked_rate": ("openers_who_clicked", "opened"),
    "bounce_rate": ("bounced", "sent"),
    "complaint_rate": ("complained", "sent"),
    "unsubscribe_rate": ("unsubscribed", "sent"),
    "delivery_rate": ("delivered", "sent"),
}

# How a stored pattern says it: the bits of the layout on disk (`docs/report.md`), which never change.
_BITS: Final = (
    "sent", "sent_inferred", "delivered", "delivered_inferred", "bounced", "opened", "opened_people", "clicked",
    "clicked_people", "complained", "unsubscribed", "unsubscribed_suspected", "deferred", "rejected", "failed",
)  # fmt: skip
# Places of the verdicts' totals among the stored metrics.
_OPENS, _CLICKS = 5, 8


def of_recipients(recipients: Iterable[Counted], count: str) -> Numbers:
    """What the summary must say under `all` or `people`."""
    opens = dict.fromkeys(VERDICTS, 0)
    clicks = dict.fromkeys(VERDICTS, 0)
    flags: list[tuple[frozenset[str], int]] = []
    for recipient in recipients:
        flags.append((recipient.flags, 1))
        for _, verdict in recipient.opens:
            opens[verdict] += 1
        for _, verdict in recipient.clicks:
            clicks[verdict] += 1
    return _numbers(flags, opens, clicks, count)


def of_patterns(patterns: Mapping[int, int], totals: Sequence[int], count: str) -> Numbers:
    """The same from sums as they are stored."""
    flags = []
    for pattern, recipients in patterns.items():
        named = {name for bit, name in enumerate(_BITS) if pattern >> bit & 1}
        if "sent" in named:
            named -= {"rejected", "failed"}
        if {"bounced", "delivered"} <= named:
            named.add("bounced_after_delivery")
        flags.append((frozenset(named), recipients))
    opens = dict(zip(VERDICTS, totals[_OPENS : _OPENS + 3], strict=True))
    clicks = dict(zip(VERDICTS, totals[_CLICKS : _CLICKS + 3], strict=True))
    return _numbers(flags, opens, clicks, count)


def _numbers(
    flags: Sequence[tuple[frozenset[str], int]], opens: dict[str, int], clicks: dict[str, int], count: str
) -> Numbers:
    people = count == "people"
    opened, clicked = ("opened_people", "clicked_people") if people else ("opened", "clicked")
    numbers: Numbers = {}
    for name in RECIPIENT_NUMBERS:
        flag = f"{name}_people" if people and name in BY_PEOPLE else name
        numbers[name] = sum(recipients for named, recipients in flags if flag in named)
    numbers["clicked_without_open"] = sum(n for named, n in flags if clicked in named and opened not in named)
    numbers["openers_who_clicked"] = sum(n for named, n in flags if clicked in named and opened in named)
    numbers["total_opens"] = opens["human"] if people else sum(opens.values())
    numbers["total_clicks"] = clicks["human"] if people else sum(clicks.values())
    for name, (over, under) in RATES.items():
        part, whole = numbers[over] or 0, numbers[under] or 0
        numbers[name] = 100 * part / whole if whole else None
    for verdict in VERDICTS:
        numbers[f"opens_by_verdict.{verdict}"] = opens[verdict]
        numbers[f"clicks_by_verdict.{verdict}"] = clicks[verdict]
    return numbers


def of_json(section: Mapping[str, object]) -> Numbers:
    """The JSON's object `summary`, made flat."""
    numbers: Numbers = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            for verdict, number in value.items():
                numbers[f"{name}.{verdict}"] = number
        elif value is None or isinstance(value, int | float):
            numbers[name] = value
    return numbers
