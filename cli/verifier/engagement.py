"""Rows of opens and clicks, which links, places and clients are made of: by verdict, and how many recipients they are.

Rules:
- An act is in one row of each section, so the acts of all rows add up to those of the summary.
- Listed are rows that have acts under the count that was asked for, the most first, ties by name; behind the `MOST`
  first ones a row `other` sums up the rest, in which recipients of several rows count several times.
- What stands in the place of a name: `not provided by the ESP`, `proxy` (a proxy's or scanner's, so nothing is known of
  the person), `unknown` (the ESP gives something, and nothing is known about it). What is really called so, or `other`,
  stands in quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from cli.verifier.compare import Comparison
from cli.verifier.rules import VERDICTS, Act, Counted
from cli.verifier.shown import Json

MOST: Final = 200
NOT_PROVIDED: Final = "not provided by the ESP"
PROXY: Final = "proxy"
UNKNOWN: Final = "unknown"
OTHER: Final = "other"
COLUMNS: Final = ("opens", "opened", "clicks", "clicked")

_WORDS: Final = (NOT_PROVIDED, PROXY, UNKNOWN, "overflow", OTHER)
Name = tuple[str, ...]
Row = dict[str, int]
"""`opens.human` … `clicks.scanner`: acts; `opened`, `opened_people`, `clicked`, `clicked_people`: recipients."""
Rows = dict[Name, Row]

FIELDS: Final = (
    *(f"{kind}.{verdict}" for kind in ("opens", "clicks") for verdict in VERDICTS),
    "opened", "opened_people", "clicked", "clicked_people",
)  # fmt: skip


def quoted(name: str) -> str:
    """In quotes where it could be taken for one of the words, with or without quotes of its own."""
    return '"' + name + '"' if name.strip('"') in _WORDS else name


def rows_of(recipients: Iterable[Counted], name_of: Callable[[Act], Name | None]) -> Rows:
    """`name_of`: the row of an act, None where it has none in this section."""
    rows: Rows = {}
    for recipient in recipients:
        present: set[tuple[Name, str]] = set()
        for act in recipient.acts:
            name = name_of(act)
            if name is None:
                continue
            kind = act.fact.type
            row = rows.setdefault(name, dict.fromkeys(FIELDS, 0))
            row[f"{'opens' if kind == 'opened' else 'clicks'}.{act.verdict}"] += 1
            present.add((name, kind))
            if act.verdict == "human":
                present.add((name, f"{kind}_people"))
        for name, field in present:
            rows[name][field] += 1
    return rows


def numbers(row: Row, count: str) -> Row:
    """What is shown of a row under `all` or `people`."""
    people = count == "people"
    verdicts = VERDICTS[:1] if people else VERDICTS
    return {
        "opens": sum(row[f"opens.{verdict}"] for verdict in verdicts),
        "opened": row["opened_people" if people else "opened"],
        "clicks": sum(row[f"clicks.{verdict}"] for verdict in verdicts),
        "clicked": row["clicked_people" if people else "clicked"],
    }


def listed(rows: Rows, count: str, weight: Callable[[Row], int], most: int) -> tuple[list[Name], list[Name]]:
    """Names of the rows that are shown, in order, and of those that are not."""
    weights = {name: weight(numbers(row, count)) for name, row in rows.items()}
    names = sorted((name for name, n in weights.items() if n), key=lambda name: (-weights[name], name))
    return names[:most], names[most:]


def table(rows: Rows, count: str, most: int = MOST) -> list[tuple[Name, Row]]:
    """What a list of places or clients must show."""
    first, others = listed(rows, count, lambda row: row["opens"] + row["clicks"], most)
    shown = [(_words(name), numbers(rows[name], count)) for name in first]
    if others:
        rest = [numbers(rows[name], count) for name in others]
        summed = {column: sum(row[column] for row in rest) for column in COLUMNS}
        shown.append((tuple(OTHER for _ in others[0]), summed))
    return shown


def _words(name: Name) -> Name:
    """A city that is not known stands as an empty word before."""
    return tuple(word or UNKNOWN for word in name)


def compare_table(
    result: Comparison,
    place: str,
    section: str,
    what: str,
    wanted: Sequence[tuple[Name, Row]],
    shown: Iterable[Json],
    fields: Sequence[str],
) -> None:
    """`fields`: the members of a JSON row that name it."""
    found = [
        (tuple(str(row[field]) for field in fields), {column: row[column] for column in COLUMNS})
        for row in shown
    ]
    order = [" ".join(name) for name, _ in wanted]
    result.same(place, section, f"{what}, order", order, [" ".join(name) for name, _ in found])
    result.mappings(place, section, what, plain(dict(wanted)), plain(dict(found)))


def plain(rows: Mapping[Name, object]) -> dict[str, object]:
    """Names as one text each."""
    return {" / ".join(name): row for name, row in rows.items()}
