"""Section `variants`: the summary of each combination of A/B fields, with intervals and a verdict in words.

Rules:
- A recipient belongs to the variant that their first fact with one names; who has none is no row, but counted in
  `without`.
- `fields` are the labels of the campaign's own record; values that no label is given for are there all the same.
- Intervals and words are those of `app.experiment`, about one rate; of `heatmap` too, where two fields are asked for.
- Beyond `sections.ROWS` combinations the smallest ones are summed up in `other`, and `warning` says so: that many
  usually are a field that differs per recipient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from app.experiment import DEFAULT_RATE, experiment, heatmap
from app.sections import ROWS, Sections, variant_groups
from app.shapes import Summary, Variants
from app.summary import Count, group_summary


class Asked(msgspec.Struct, frozen=True):
    """What a reader may choose."""

    rate: str = DEFAULT_RATE
    """One of `experiment.RATES`: what verdicts and heatmap are about."""
    fields: tuple[str, str] | None = None
    """Two fields against each other."""
    chosen: dict[str, str] = {}
    """Field → value: only these variants make the heatmap."""


def variants(
    sections: Sections,
    labels: Mapping[str, Mapping[str, str]],
    count: Count,
    asked: Asked = Asked(),  # noqa: B008  # frozen
) -> Variants:
    """`labels`: field → value → label. Raises KeyError for an unknown rate, ValueError for a field against itself."""
    groups, rest = variant_groups(sections)
    rows: list[tuple[dict[str, str], Summary]] = []
    recipients: list[int] = []
    without = 0
    for variant, tally in groups:
        number, summary = group_summary(tally, count)
        if variant is None:
            without = number
        else:
            rows.append((variant, summary))
            recipients.append(number)
    compared = experiment(rows, asked.rate)
    result: Variants = {
        "fields": _fields(labels, [variant for variant, _ in rows]),
        "rate": compared["rate"],
        "method": compared["method"],
        "rows": [
            {
                "variant": variant,
                "recipients": number,
                "summary": summary,
                "interval": said["interval"],
                "verdict": said["verdict"],
            }
            for (variant, summary), number, said in zip(rows, recipients, compared["rows"], strict=True)
        ],
        "without": without,
    }
    if asked.fields is not None:
        result["heatmap"] = heatmap(rows, *asked.fields, asked.rate, asked.chosen)
    if rest:
        number, summary = group_summary(rest, count)
        result["other"] = {"recipients": number, "summary": summary}
        result["warning"] = (
            f"more than {ROWS} combinations of variants: is a field different for each recipient?"
        )
    return result


def _fields(
    labels: Mapping[str, Mapping[str, str]], variants: Sequence[Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    fields = {name: dict(values) for name, values in labels.items()}
    for variant in variants:
        for name, value in variant.items():
            fields.setdefault(name, {}).setdefault(value, value)
    return {name: dict(sorted(values.items())) for name, values in sorted(fields.items())}
