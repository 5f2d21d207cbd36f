"""A/B variants by every rate that can be asked for, with heatmaps."""

from __future__ import annotations

from itertools import permutations

from cli.verifier import summary, variants
from cli.verifier.compare import Comparison
from cli.verifier.shown import Pages
from cli.verifier.variants import Groups, Labels


def compare(
    result: Comparison,
    place: str,
    what: str,
    groups: Groups,
    labels: Labels,
    pages: Pages,
    name: str,
    count: str,
) -> None:
    """Asks for each rate, and where there are two fields for a heatmap: over others each time, as long as there are."""
    pairs = list(permutations(variants.fields_of(groups), 2))
    for number, rate in enumerate(summary.RATES):
        against = pairs[number % len(pairs)] if pairs else None
        axes = {"x": against[0], "y": against[1]} if against else {}
        shown = pages.section(name, "variants", count=count, rate=rate, **axes)["variants"]
        variants.compare(result, place, what, groups, labels, shown, count, rate, against)
