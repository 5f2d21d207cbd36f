"""The section `variants`: the summary of each combination of A/B fields. A recipient's first variant counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import sqrt
from statistics import NormalDist

import msgspec

from cli.verifier import summary
from cli.verifier.compare import Comparison
from cli.verifier.engagement import MOST
from cli.verifier.rules import Counted
from cli.verifier.shown import Json

Groups = dict[str, list[Counted]]
"""Fields as JSON with its names in order (empty: none) → recipients."""
Labels = Mapping[str, Mapping[str, str]]


def of_recipients(recipients: Iterable[Counted]) -> Groups:
    groups: Groups = {}
    for recipient in recipients:
        groups.setdefault(text_of(recipient.variant), []).append(recipient)
    return groups


def text_of(variant: Mapping[str, str] | None) -> str:
    return json.dumps(variant, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if variant else ""


def compare(
    result: Comparison, place: str, what: str, groups: Groups, labels: Labels, section: object, count: str
) -> None:
    shown = msgspec.convert(section, Json)
    rows = msgspec.convert(shown["rows"], list[Json])
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))
    listed = [name for name in names[:MOST] if name]
    found = {text_of(msgspec.convert(row["variant"], dict[str, str])): row for row in rows}
    result.same(place, "variants", f"{what}, order", listed, list(found))
    for name in listed:
        if name in found:
            _compare_group(result, place, f"{what} {name}", groups[name], found[name], count)
    if "" in names[:MOST]:
        result.same(place, "variants", f"{what}, without", len(groups[""]), shown["without"])
    else:
        result.same(place, "variants", f"{what}, without", 0, shown["without"])
    others = [recipient for name in names[MOST:] for recipient in groups[name]]
    result.same(place, "variants", f"{what}, has others", bool(others), "other" in shown)
    if others and "other" in shown:
        other = msgspec.convert(shown["other"], Json)
        _compare_group(result, place, f"{what} other", others, other, count)
    fields: dict[str, dict[str, str]] = {name: dict(values) for name, values in labels.items()}
    for name in listed:
        for field, value in json.loads(name).items():
            fields.setdefault(field, {}).setdefault(value, value)
    result.same(place, "variants", f"{what}, fields", fields, shown["fields"])


def _compare_group(
    result: Comparison, place: str, what: str, recipients: list[Counted], row: Json, count: str
) -> None:
    result.same(place, "variants", f"{what}, recipients", len(recipients), row["recipients"])
    numbers = summary.of_json(msgspec.convert(row["summary"], Json))
    wanted = summary.of_recipients(recipients, count)
    result.mappings(place, "variants", what, wanted, numbers)
    shown = msgspec.convert(row.get("interval") or {}, dict[str, list[float] | None])
    for rate, ends in shown.items():
        over, under = (wanted[name] or 0 for name in summary.RATES[rate])
        expected = wilson(over, under)
        found = None if ends is None else [round(end, 9) for end in ends]
        result.same(place, "variants", f"{what}, interval of {rate}", expected, found)


def wilson(part: float, whole: float) -> list[float] | None:
    """Ends of the 95 % interval in percent (E. B. Wilson 1927); None where it is no share of something."""
    if not 0 <= part <= whole or not whole:
        return None
    # The shares that are 1.96 standard errors of their own away from what was seen.
    square = NormalDist().inv_cdf(0.975) ** 2 / whole
    share = part / whole
    root = sqrt(square * (share * (1 - share) + square / 4))
    ends = ((share + square / 2 - root) / (1 + square), (share + square / 2 + root) / (1 + square))
    return [round(100 * end, 9) + 0.0 for end in ends]
