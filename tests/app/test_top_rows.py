"""Shown rows are exact, and with `other` they add up, whatever the partitions had to leave out and who can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import breakdown as b
from app import sections, top_rows
from app.breakdown import RowKey, row_key, row_name
from app.keys import text_id
from app.sections import NO_ROWS, Rows, events, links, places, providers
from app.summary import GROUP_FIELDS, Count
from app.tally import one, pack
from app.top_rows import COUNTS, Answer, completed, keys_of, shown_of, trimmed, wanted
from tables import ranking
from tables.book import Book
from tables.link_ends import Ends
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import pack_part, section_part

SECTIONS = (b.LINK, b.POSITION, b.CITY, b.PROVIDER, b.REASON)
SPREAD = 0x9E3779B97F4A7C15
LINKS = st.integers(4, 24).map(lambda number: number * SPREAD % 2**64)
BOUNCED = [field for field, _ in GROUP_FIELDS].index("bounced")
CLICKS = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)).filter(any)


class Partition:
    """Rows as counting makes them: a link's clicks have positions or not; a provider's bounces have reasons."""

    def __init__(
        self,
        clicked: Mapping[tuple[int, int], tuple[int, int, int]],
        opened: Mapping[int, tuple[int, int, int]],
        bounced: Mapping[tuple[int, int], int],
    ) -> None:
        rows: dict[RowKey, int] = {}

        def add(key: RowKey, value: int) -> None:
            rows[key] = rows.get(key, 0) + value

        for (link, position), verdicts in clicked.items():
            some = pack([0, 0, 0, *verdicts, 0, 0, 1, int(verdicts[0] > 0)])
            add(row_key(b.LINK, link), some)
            add(row_key(b.CITY, link), some)
            if position:
                add(row_key(b.POSITION, link, position), some)
        for city, verdicts in opened.items():
            add(row_key(b.CITY, city), pack([*verdicts, 0, 0, 0, 1, int(verdicts[0] > 0)]))
        for (provider, reason), number in bounced.items():
            add(row_key(b.REASON, provider, reason), number)
            add(row_key(b.PROVIDER, provider), number * (one(0) + one(BOUNCED)))
        ends = {link: Ends(link % 97, link % 97 + 5, -1, -1) for link, _ in clicked}
        self.rows = rows
        # In an order of their own: rows that weigh the same stand by name, as long as none is left out.
        names = [(b.LINK, link, f"https://example.com/{link % 7}/{link}") for link in ends]
        self.book = Book(names, rows.items(), ends.items())


PARTITION = st.builds(
    Partition,
    st.dictionaries(st.tuples(LINKS, st.integers(0, 2)), CLICKS, max_size=14),
    st.dictionaries(LINKS, CLICKS, max_size=6),
    st.dictionaries(st.tuples(st.integers(4, 8), LINKS), st.integers(1, 3), max_size=12),
)


def published(partitions: list[Partition], most: Callable[[int], int] | None = shown_of) -> dict[int, Rows]:
    parts = (
        (place, section, unpack_part(pack_part(section_part(partition.book, section))))
        for place, partition in enumerate(partitions)
        for section in SECTIONS
    )
    return merge_parts(parts, most)


def truth(partitions: list[Partition], section: int) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for partition in partitions:
        for key, value in partition.rows.items():
            name = row_name(key)
            if name.section == section:
                found[name.a, name.b] = found.get((name.a, name.b), 0) + value
    return found


def answer_of(partitions: list[Partition], asked: Mapping[int, list[tuple[int, int]]]) -> Answer:
    tallies = {}
    for key in keys_of(asked):
        tallies[key] = sum(partition.rows.get(key, 0) for partition in partitions)
    totals = {section: sum(truth(partitions, section).values()) for section in asked}
    ends = {key[0]: Ends(key[0] % 97, key[0] % 97 + 5, -1, -1) for key in asked.get(b.LINK, ())}
    return Answer(totals, tallies, dict(ends))


def check(found: Mapping[int, Rows], partitions: list[Partition], count: Count) -> None:
    rows = truth(partitions, b.LINK)
    exact: Any = links({b.LINK: Rows(rows), b.POSITION: Rows(truth(partitions, b.POSITION))}, count)
    by_id = {row["id"]: row for row in exact["rows"]}
    shown: Any = links(found, count, shown=sections.LINKS)
    assert len(shown["rows"]) <= sections.LINKS
    for row in shown["rows"]:
        true = by_id[row["id"]]
        assert (row["total_clicks"], row["unique_clicks"]) == (true["total_clicks"], true["unique_clicks"])
        assert all(position in true["positions"] for position in row["positions"])
        if count == "all":
            assert row["first_at"] is not None
    clicks = sum(row["total_clicks"] for row in shown["rows"]) + shown["other"]["total_clicks"]
    assert clicks == sum(row["total_clicks"] for row in exact["rows"])
    cities: Any = places(found, count)["cities"]
    true_cities: Any = places({b.CITY: Rows(truth(partitions, b.CITY))}, count)["cities"]
    for field in ("opens", "clicks"):
        assert sum(row[field] for row in cities) == sum(row[field] for row in true_cities)
    weight = sections.weight_of(b.CITY, count)
    sizes = sorted((weight(value) for value in truth(partitions, b.CITY).values()), reverse=True)
    for row in cities[: sections.ROWS]:
        if row["city"] != "other":
            assert row["opens"] + row["clicks"] in sizes
    providing: Any = providers(found, count)["rows"]
    for row in providing:
        assert sum(row["reasons"].values()) == row["bounced"]
        assert all(number > 0 for number in row["reasons"].values())
    bounced = sum(value & 0xFF for value in truth(partitions, b.REASON).values())
    assert sum(row["bounced"] for row in providing) == bounced


@settings(max_examples=100, deadline=None)
@given(
    partitions=st.lists(PARTITION, min_size=1, max_size=4),
    limits=st.integers(1, 6).flatmap(lambda limit: st.tuples(st.just(limit), st.integers(1, limit))),
    told=st.booleans(),
)
def test_shown_rows_are_exact_and_add_up(
    partitions: list[Partition], limits: tuple[int, int], told: bool
) -> None:
    limit, shown = limits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "LIMITS", {})
        patch.setattr(ranking, "DEFAULT_LIMIT", limit)
        for module in (sections, top_rows):
            patch.setattr(module, "ROWS", shown)
            patch.setattr(module, "LINKS", shown)
        found = published(partitions)
        asked = wanted(found)
        everything = published(partitions, None)
        assert _sorted(wanted(everything)) == _sorted(asked)
        assert trimmed(everything) == trimmed(found)
        for count in COUNTS:
            check(found, partitions, count)  # by itself, too
        if asked:
            assert all(len(keys) <= 2 * shown for section, keys in asked.items() if section != b.POSITION)
            if told:
                found = completed(found, asked, answer_of(partitions, asked))
                assert not any(found[section].short for section in asked)
        few = trimmed(found)
        for section, rows in few.items():
            if section != b.POSITION:
                assert len(rows.tallies) <= 2 * shown
        for count in COUNTS:
            check(few, partitions, count)
            # What is left out for room or for doubt changes nothing of what is shown.
            some: Any = links(few, count, shown=shown)
            of_all: Any = links(found, count, shown=shown)
            if found.get(b.LINK, NO_ROWS).cut:  # then those that weigh the same are chosen by key
                some, of_all = ([row["total_clicks"] for row in one["rows"]] for one in (some, of_all))
            assert some == of_all
            if told:
                complete: Any = links(few, count, shown=shown)
                clicked = sum(1 for value in truth(partitions, b.LINK).values() if _clicked(value, count))
                assert len(complete["rows"]) == min(shown, clicked)


def _sorted(asked: Mapping[int, list[tuple[int, int]]]) -> dict[int, list[tuple[int, int]]]:
    return {section: sorted(keys) for section, keys in asked.items()}


def _clicked(value: int, count: Count) -> bool:
    return sections.weight_of(b.LINK, count)(value) > 0


def test_links_that_are_clicked_once_need_nobody_to_be_asked() -> None:
    """Each link is of one recipient, and so of one partition: which ones come first is known from the parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "LIMITS", {b.LINK: 50, b.POSITION: 75})
        patch.setattr(top_rows, "LINKS", 50)
        patch.setattr(sections, "LINKS", 50)
        numbers = [text_id(f"https://example.com/?r={number}") for number in range(4_000)]
        partitions = [
            Partition({(link, 1): (1, 0, 0) for link in numbers[place::8]}, {}, {}) for place in range(8)
        ]
        found = published(partitions)
        assert not wanted(found)
        shown: Any = links(trimmed(found), "all", shown=50)
    assert {int(row["id"], 16) for row in shown["rows"]} == set(sorted(numbers)[:50])
    assert all(row["positions"] == [{"position": 1, "total_clicks": 1}] for row in shown["rows"])
    assert shown["other"] == {"links": 3_950, "total_clicks": 3_950}


def test_what_is_the_first_everywhere_is_known_without_asking() -> None:
    first = {(link, 0): (100 - link, 0, 0) for link in range(4, 14)}
    partitions = [
        Partition(first | {(link, 0): (1, 0, 0) for link in range(20 + place, 200, 4)}, {}, {})
        for place in range(4)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "LIMITS", {b.LINK: 12})
        patch.setattr(top_rows, "LINKS", 10)
        found = published(partitions)
        assert found[b.LINK].cut == 4
        assert not wanted(found)
    assert events(found[b.LINK].tallies[4, 0]) == 4 * 96
