"""The section `variants`: the summary of each combination of A/B fields, and how sure its rates are.

A recipient's first variant counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import msgspec

from cli.verifier import experiment, heatmap, summary
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


def fields_of(groups: Groups) -> list[str]:
    """The names of all fields that somebody has, in order."""
    return sorted({field for text in groups if text for field in json.loads(text)})


def text_of(variant: Mapping[str, str] | None) -> str:
    return json.dumps(variant, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if variant else ""


def compare(
    result: Comparison,
    place: str,
    what: str,
    groups: Groups,
    labels: Labels,
    section: object,
    count: str,
    rate: str = experiment.RATE,
    against: tuple[str, str] | None = None,
) -> None:
    """`rate`: which one the words are about; `against`: the two fields whose heatmap was asked for."""
    shown = msgspec.convert(section, Json)
    rows = msgspec.convert(shown["rows"], list[Json])
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))
    listed = [name for name in names[:MOST] if name]
    found = {text_of(msgspec.convert(row["variant"], dict[str, str])): row for row in rows}
    result.same(place, "variants", f"{what}, order", listed, list(found))
    result.same(place, "variants", f"{what}, rate", rate, shown["rate"])
    numbers = {name: summary.of_recipients(groups[name], count) for name in listed}
    said = experiment.words(list(numbers.values()), rate)
    for name, word in zip(listed, said, strict=True):
        if name in found:
            row = found[name]
            _compare_group(result, place, f"{what} {name}", groups[name], numbers[name], row)
            _compare_intervals(result, place, f"{what} {name}", numbers[name], row)
            result.same(place, "variants", f"{what} {name}, verdict of {rate}", word, row["verdict"])
    result.same(place, "variants", f"{what}, has a heatmap", against is not None, "heatmap" in shown)
    if against is not None and "heatmap" in shown:
        section = msgspec.convert(shown["heatmap"], Json)
        heatmap.compare(result, place, f"{what}, heatmap of {rate}", numbers, section, against, rate)
    without = len(groups[""]) if "" in names[:MOST] else 0
    result.same(place, "variants", f"{what}, without", without, shown["without"])
    others = [recipient for name in names[MOST:] for recipient in groups[name]]
    result.same(place, "variants", f"{what}, has others", bool(others), "other" in shown)
    if others and "other" in shown:
        other = msgspec.convert(shown["other"], Json)
        wanted = summary.of_recipients(others, count)
        _compare_group(result, place, f"{what} other", others, wanted, other)
    fields: dict[str, dict[str, str]] = {name: dict(values) for name, values in labels.items()}
    for name in listed:
        for field, value in json.loads(name).items():
            fields.setdefault(field, {}).setdefault(value, value)
    result.same(place, "variants", f"{what}, fields", fields, shown["fields"])


def _compare_group(
    result: Comparison, place: str, what: str, recipients: list[Counted], wanted: summary.Numbers, row: Json
) -> None:
    result.same(place, "variants", f"{what}, recipients", len(recipients), row["recipients"])
    numbers = summary.of_json(msgspec.convert(row["summary"], Json))
    result.mappings(place, "variants", what, wanted, numbers)


def _compare_intervals(result: Comparison, place: str, what: str, wanted: summary.Numbers, row: Json) -> None:
    shown = msgspec.convert(row["interval"], dict[str, list[float] | None])
    found = {rate: None if ends is None else [round(end, 9) for end in ends] for rate, ends in shown.items()}
    result.mappings(place, "variants", f"{what}, interval of", experiment.intervals(wanted), found)
