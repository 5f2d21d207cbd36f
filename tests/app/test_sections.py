"""Sections from rows: they add up to the summary, whatever is cut, and say where they are not exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import breakdown as b
from app import contribution as c
from app import sections
from app.facts import Entry, RecipientKey
from app.fold import empty_state, fold
from app.sections import Rows, clients, links, places, providers
from app.summary import Count, summary
from app.tally import one, pack
from app.variants import variants
from tables import section_parts
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.sums import Sums
from tests.support.facts import book_of, entries

ADDRESSES = tuple(f"r{n}@example.com" for n in range(5))
COUNTS: tuple[Count, ...] = ("all", "people")


def counted(line: Sequence[Entry], partitions: int) -> tuple[dict[int, Rows], Counter[int], list[int]]:
    """Sections as readers see them, and the summary's patterns and totals."""
    states: dict[RecipientKey, list[Entry]] = {}
    for entry in line:
        states.setdefault(entry.recipient, []).append(entry)
    patterns: Counter[int] = Counter()
    totals = [0] * c.METRICS
    books = []
    for partition in range(partitions):
        sums = Sums()
        book = book_of(line)
        for place, facts in enumerate(states.values()):
            if place % partitions == partition:
                state = empty_state()
                fold(state, facts, lambda _at_ms, _identity: None, {})
                adds = c.contribution(state, book)
                sums.move(c.NOTHING, adds)
                if adds.last_at_ms >= 0:
                    patterns[adds.pattern] += 1
                for cell in adds.cells:
                    totals[cell >> 32] += 1
        book.rows = {key: value for key, value in sums.rows.items() if value}
        books.append(book)
    parts = [
        (partition, section, unpack_part(pack_part(section_part(book, section))))
        for partition, book in enumerate(books)
        for section in PUBLISHED
    ]
    return merge_parts(parts), patterns, totals


def total(rows: Any, field: str) -> int:
    return sum(row[field] for row in rows)


@pytest.mark.parametrize("limit", [1, 1_000])
@settings(max_examples=100, deadline=None)
@given(line=st.lists(entries(addresses=ADDRESSES), max_size=40))
def test_rows_add_up_to_the_summary(limit: int, line: list[tuple[str, Entry]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(section_parts, "LIMITS", {})
        patch.setattr(section_parts, "DEFAULT_LIMIT", limit)
        patch.setattr(sections, "ROWS", min(limit + 1, sections.ROWS))
        found, patterns, totals = counted([entry for _, entry in line], 3)
    for count in COUNTS:
        numbers: Any = summary(patterns, totals, count)
        shown: dict[str, Any] = {**places(found, count), **clients(found, count)}
        for name in ("countries", "cities", "clients", "devices", "systems"):
            assert total(shown[name], "opens") == numbers["total_opens"], name
            assert total(shown[name], "clicks") == numbers["total_clicks"], name
        assert total(shown["browsers"], "clicks") == numbers["total_clicks"]
        assert total(shown["browsers"], "opens") == 0
        linked: Any = links(found, count)
        clicks = total(linked["rows"], "total_clicks") + linked["other"]["total_clicks"]
        assert clicks == numbers["total_clicks"]
        providing: Any = providers(found, count)
        for field in ("sent", "delivered", "bounced", "deferred", "complained"):
            assert total(providing["rows"], field) == numbers[field], field
        for row in providing["rows"]:
            assert sum(row["reasons"].values()) == row["bounced"]
        compared: Any = variants(found, {}, count)
        summaries = [row["summary"] for row in compared["rows"]]
        summaries += [compared["other"]["summary"]] if "other" in compared else []
        if not compared["without"]:
            for field in ("sent", "opened", "clicked", "bounced", "total_opens", "clicked_without_open"):
                assert total(summaries, field) == numbers[field], field


def rows_of(tallies: dict[int, int], **more: Any) -> Rows:
    return Rows({(key, 0): pack([opens]) for key, opens in tallies.items()}, **more)


@pytest.mark.parametrize(
    ("rows", "exact"),
    [
        (rows_of({10: 5, 11: 4}), True),
        # Two partitions left out rows with up to 2 opens together; the last one shown has 4.
        (rows_of({10: 5, 11: 4}, cut=2, bound=2, in_cut={(10, 0): 2, (11, 0): 2}), True),
        # A partition may have left out some of this row.
        (rows_of({10: 5, 11: 4}, cut=2, bound=2, in_cut={(10, 0): 2, (11, 0): 1}), False),
        # A row in no part may have more than the last one shown.
        (rows_of({10: 5, 11: 4}, cut=2, bound=5, in_cut={(10, 0): 2, (11, 0): 2}), False),
    ],
)
def test_whether_shown_rows_are_exact(rows: Rows, exact: bool) -> None:
    assert rows.exact(2) is exact


def test_a_link_s_row() -> None:
    link = 0x9F2C
    tally = pack([0, 0, 0, 3, 0, 2, 0, 0, 2, 1])
    found = {
        b.LINK: Rows(
            {(link, 0): tally}, {(link, 0): "https://example.com/a"}, {link: (1_000, 3_000, 1_000, 2_000)}
        ),
        b.POSITION: Rows({(link, 2): tally - one(b.E_CLICKS), (link, 1): one(b.E_CLICKS)}),
    }
    clickers = {link: [("a@example.com", 4)]}
    assert links(found, "all", clickers) == {
        "rows": [
            {
                "id": "0000000000009f2c", "link": "https://example.com/a", "total_clicks": 5, "unique_clicks": 2,
                "share": 100.0, "first_at": "1970-01-01T00:00:01.000Z", "last_at": "1970-01-01T00:00:03.000Z",
                "positions": [{"position": 1, "total_clicks": 1}, {"position": 2, "total_clicks": 4}],
                "top_clickers": [{"recipient": "a@example.com", "clicks": 4}],
            }
        ],
        "other": {"links": 0, "total_clicks": 0},
    }  # fmt: skip
    linked: Any = links(found, "people")
    people = linked["rows"][0]
    assert (people["total_clicks"], people["unique_clicks"]) == (3, 1)
    assert (people["last_at"], people["top_clickers"]) == ("1970-01-01T00:00:02.000Z", None)


def test_names_of_rows_without_one() -> None:
    opens = one(b.E_OPENS)
    found = {
        b.CITY: Rows({(b.PROXY, 0): opens, (99, 0): 2 * opens}, {(99, 0): "DE\0"}),
        b.COUNTRY: Rows({(b.NOT_PROVIDED, 0): opens}),
    }
    shown: Any = places(found, "all")
    assert [(row["country"], row["city"]) for row in shown["cities"]] == [
        ("DE", "unknown"),
        ("proxy", "proxy"),
    ]
    assert [row["country"] for row in shown["countries"]] == ["not provided by the ESP"]
