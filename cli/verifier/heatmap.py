"""Two A/B fields against each other: one rate of everybody who got a pair of values."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from cli.verifier import experiment
from cli.verifier.compare import Comparison
from cli.verifier.experiment import Share
from cli.verifier.shown import Json
from cli.verifier.summary import Numbers

Pair = tuple[str | None, str | None]


def compare(
    result: Comparison,
    place: str,
    what: str,
    variants: Mapping[str, Numbers],
    section: Json,
    fields: tuple[str, str],
    rate: str,
) -> None:
    """`variants`: fields as JSON → the summary of those who have them; `section`: the JSON's `heatmap`."""
    sent, shares = _sums(variants, fields, rate)
    x, y = ([*sorted(one for one in ends if one is not None), *([None] if None in ends else [])]
            for ends in ({pair[0] for pair in sent}, {pair[1] for pair in sent}))  # fmt: skip
    pairs = [(one, other) for one in x for other in y if (one, other) in sent]
    said = dict(zip(pairs, experiment.words_of([shares[pair] for pair in pairs], rate), strict=True))
    shown = msgspec.convert(section["cells"], list[Json])
    axes = (rate, *fields, x, y)
    result.same(
        place, "variants", f"{what}, axes", axes,
        (section["rate"], section["field_x"], section["field_y"], section["x"], section["y"]),
    )  # fmt: skip
    result.same(place, "variants", f"{what}, cells", pairs, [(cell["x"], cell["y"]) for cell in shown])
    for cell in shown:
        pair = msgspec.convert((cell["x"], cell["y"]), Pair)
        if pair not in sent:
            continue
        part, whole = shares[pair]
        wanted = {
            "recipients": sent[pair],
            "numerator": part,
            "denominator": whole,
            "rate": round(100 * part / whole, 9) if whole else None,
            "interval": experiment.wilson(part, whole),
            "verdict": said[pair],
        }
        found = {name: _rounded(cell[name]) for name in wanted}
        for name, value in wanted.items():
            result.same(place, "variants", f"{what} {pair}, {name}", value, found[name])


def _sums(
    variants: Mapping[str, Numbers], fields: tuple[str, str], rate: str
) -> tuple[dict[Pair, int], dict[Pair, Share]]:
    """How many were sent to each pair of values, and the rate of these as a share."""
    sent: dict[Pair, int] = {}
    shares: dict[Pair, Share] = {}
    for text, numbers in variants.items():
        values = json.loads(text)
        pair = (values.get(fields[0]), values.get(fields[1]))
        part, whole = experiment.share(numbers, rate)
        before = shares.get(pair, Share(0, 0))
        shares[pair] = Share(before.part + part, before.whole + whole)
        sent[pair] = sent.get(pair, 0) + int(numbers["sent"] or 0)
    return sent, shares


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 9)
    return [_rounded(one) for one in value] if isinstance(value, list) else value
