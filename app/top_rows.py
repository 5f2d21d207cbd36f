"""Which rows of a section may be shown, whatever the way of counting, and which of them have to be asked for.

Rules:
- Redis has the first rows of each partition. A row that a partition may have left out is asked for by its key, from all
  partitions at once and together with the tally of all rows, so that what is shown and `other` add up.
- Asked for are the rows that would be shown by what is known of them, never more: it costs the same for any number.
- What is not shown is part of `rest`. So are rows that can't be asked for at the moment.
- Where nothing was left out, the shown rows are the first ones, ties by name. Else they are those that are the first in
  the partitions' parts: a row that every partition leaves out may have more than the last one that is shown, as far as
  many small rows of it add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from app import breakdown as b
from app.breakdown import RowKey, row_key, row_name
from app.sections import LINKS, ROWS, Ends, Key, Rows, Sections, name_in, orders_of, people_events
from app.summary import Count
from app.tally import BITS

COUNTS: Final[tuple[Count, ...]] = ("all", "people")
TOGETHER: Final = ((b.LINK, b.POSITION), (b.PROVIDER, b.REASON))
"""Sections that are compared in the report, so that both are to be as of the same moment."""


class Answer(msgspec.Struct):
    """What the partitions say."""

    totals: dict[int, int]
    """Section → tally of all of its rows; those that can't be told are missing."""
    tallies: dict[RowKey, int]
    ends: dict[int, Ends]
    """First and last click of the links among them."""


def shown_of(section: int) -> int:
    return LINKS if section == b.LINK else ROWS


def _first(rows: Rows, section: int, keys: Iterable[Key], place: int) -> list[Key]:
    """Of these rows those that come first in an order."""
    weight = orders_of(section)[place]
    tallies = rows.tallies
    # Of very many rows most have the same few tallies.
    sizes = {tally: weight(tally) for tally in set(tallies.values())}
    if rows.cut:
        some = [(-size, key) for key in keys if (size := sizes[tallies[key]])]
        some.sort()
        return [key for _, key in some[: shown_of(section)]]
    name = name_in(rows)
    found = [(-size, name(key), key) for key in keys if (size := sizes[tallies[key]])]
    found.sort()
    return [key for _, _, key in found[: shown_of(section)]]


def _counts(section: int) -> tuple[tuple[int, Count], ...]:
    """(order, way of counting)."""
    return tuple(enumerate(COUNTS[: len(orders_of(section))]))


def wanted(sections: Sections) -> dict[int, list[Key]]:
    """Section → rows to be asked for; empty where what is known will do."""
    found: dict[int, list[Key]] = {}
    lacking: set[int] = set()
    for section, rows in sections.items():
        if section == b.POSITION or not rows.cut:
            continue
        keys: dict[Key, None] = {}
        for place, count in _counts(section):
            first = _first(rows, section, rows.tallies, place)
            if not rows.unsure(count).isdisjoint(first):
                lacking.add(section)
            keys.update(dict.fromkeys(first))
        found[section] = list(keys)
    if b.LINK in sections and b.POSITION in sections:
        links = found.get(b.LINK)
        if links is None:
            links = _kept(sections[b.LINK], b.LINK)
        positions = sections[b.POSITION]
        found[b.POSITION] = _of_links(positions, links)
        if _lack_positions(sections[b.LINK], positions, links):
            lacking.add(b.POSITION)
    for group in TOGETHER:
        if not lacking.isdisjoint(group):
            for section in group:
                if section in sections:
                    lacking.add(section)
                    if section not in found:
                        found[section] = _kept(sections[section], section)
    return {section: keys for section, keys in found.items() if section in lacking}


def _kept(rows: Rows, section: int) -> list[Key]:
    """What may be shown of a section by what is known of it."""
    keys: dict[Key, None] = {}
    for place, count in _counts(section):
        unsure = rows.unsure(count)
        # In the order in which they are, which is nearly the one that they are put in.
        sure = [key for key in rows.tallies if key not in unsure] if unsure else rows.tallies
        keys.update(dict.fromkeys(_first(rows, section, sure, place)))
    return list(keys)


def _of_links(positions: Rows, links: Collection[Key]) -> list[Key]:
    numbers = {link for link, _ in links}
    return [key for key in positions.tallies if key[0] in numbers]


def _lack_positions(links: Rows, positions: Rows, keys: Collection[Key]) -> bool:
    """Whether positions of these links may be too small: they are exact where they add up to the link's clicks."""
    if not positions.short:
        return False
    numbers = {link for link, _ in keys}
    doubtful = {link for link, _ in positions.short if link in numbers}
    sums = dict.fromkeys(doubtful, 0)
    for (link, _), tally in positions.tallies.items():
        if link in doubtful:
            sums[link] += tally & _CLICKS
    return any(links.tallies.get((link, 0), 0) & _CLICKS != sums[link] for link in doubtful)


_CLICKS: Final = ((1 << 3 * BITS) - 1) << b.E_CLICKS * BITS
"""The fields of a tally in which clicks stand; recipients are not to be added up over positions."""


def keys_of(asked: Mapping[int, Collection[Key]]) -> list[RowKey]:
    return [row_key(section, *key) for section, keys in asked.items() for key in keys]


def completed(sections: Sections, asked: Mapping[int, Collection[Key]], answer: Answer) -> dict[int, Rows]:
    """The sections with what was answered, where it could be told."""
    found = dict(sections)
    for section in asked:
        total = answer.totals.get(section)
        if total is None:
            continue
        before = sections[section]
        tallies = {}
        for row, value in answer.tallies.items():
            name = row_name(row)
            if name.section == section and value:
                tallies[name.a, name.b] = value
        found[section] = Rows(
            tallies,
            {key: before.names[key] for key in tallies if key in before.names},
            {link: answer.ends[link] for link, _ in tallies if link in answer.ends} if before.ends else {},
            total - sum(tallies.values()),
            max(0, len(before.tallies) + before.rest_rows - len(tallies)),
            max(0, _people(before.tallies) + before.people_rest_rows - _people(tallies)),
            before.cut,
        )
    return found


def _people(tallies: Mapping[Key, int]) -> int:
    return sum(number for tally, number in Counter(tallies.values()).items() if people_events(tally))


def trimmed(sections: Sections) -> dict[int, Rows]:
    """The same report from as few rows as it shows."""
    found = dict(sections)
    for section, rows in sections.items():
        if section != b.POSITION and (rows.short or len(rows.tallies) > shown_of(section)):
            found[section] = _only(rows, _kept(rows, section))
    if b.POSITION in found and b.LINK in found:
        positions = found[b.POSITION]
        found[b.POSITION] = _only(positions, _of_links(positions, found[b.LINK].tallies))
    return found


def _only(rows: Rows, keys: Collection[Key]) -> Rows:
    """These rows; the others are part of the rest."""
    tallies = {key: rows.tallies[key] for key in keys}
    gone = {key: tally for key, tally in rows.tallies.items() if key not in tallies}
    return msgspec.structs.replace(
        rows,
        tallies=tallies,
        names={key: rows.names[key] for key in tallies if key in rows.names},
        ends={link: rows.ends[link] for link, _ in tallies if link in rows.ends},
        rest=rows.rest + sum(gone.values()),
        rest_rows=rows.rest_rows + len(gone),
        people_rest_rows=rows.people_rest_rows + _people(gone),
        short=rows.short & tallies.keys(),
        people_short=rows.people_short & tallies.keys(),
    )
