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
from app.breakdown import OTHER, SPECIAL_NAMES, meant, row_key, said
from app.facts import Entry, RecipientKey
from app.keys import text_id
from app.sections import Rows, clients, links, places, providers, weight_of
from app.summary import Count, summary
from app.tally import one, pack
from app.variants import variants
from app.verdicts import HUMAN, SCANNER
from tables import section_parts
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import PUBLISHED, SectionPart, pack_part, section_part
from tables.sums import Sums
from tests.support.facts import book_of, entries
from tests.support.folding import state_of

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
                adds = c.contribution(state_of(facts), book)
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
    assert rows.exact(2, weight_of(b.CITY, "all")) is exact


def test_rows_are_exact_by_what_they_stand_in_order_by() -> None:
    # Two rows of 5 opens each, of which people made 5 and 2; one that was left out may have 3 of people.
    rows = Rows({(10, 0): pack([5]), (11, 0): pack([2, 3])}, cut=1, bound=3, in_cut={(10, 0): 1, (11, 0): 1})
    assert rows.exact(2, weight_of(b.CITY, "all"))
    assert not rows.exact(2, weight_of(b.CITY, "people"))
    # Providers stand by recipients, the first field, and not by sent or delivered.
    assert not rows.exact(2, weight_of(b.PROVIDER, "all"))
    # Perhaps the second one is among those that were left out.
    alone = Rows({(10, 0): pack([5]), (11, 0): pack([0, 9])}, cut=1, bound=1, in_cut={(10, 0): 1, (11, 0): 1})
    assert not alone.exact(2, weight_of(b.CITY, "people"))


CLICKED: Any = st.dictionaries(st.integers(4, 40), st.tuples(st.integers(1, 9), st.booleans()), max_size=30)


@given(partitions=st.lists(CLICKED, min_size=1, max_size=4), limit=st.integers(1, 8), shown=st.integers(1, 8))
def test_a_link_is_counted_once_however_often_it_was_left_out(
    partitions: list[dict[int, tuple[int, bool]]], limit: int, shown: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(section_parts, "LIMITS", {b.LINK: limit})
        found = links_of(partitions)
    rows = found.get(b.LINK, Rows())
    for count, clicked in (
        ("all", {link for some in partitions for link in some}),
        ("people", {link for some in partitions for link, (_, human) in some.items() if human}),
    ):
        linked: Any = links(found, count, shown=shown)  # type: ignore[arg-type]
        if rows.exact(shown, weight_of(b.LINK, count)):  # type: ignore[arg-type]
            assert len(linked["rows"]) + linked["other"]["links"] == len(clicked)


def links_of(partitions: list[dict[int, tuple[int, bool]]]) -> dict[int, Rows]:
    """Of each partition: link → clicks, and whether people's."""
    parts = []
    for partition, clicked in enumerate(partitions):
        book = book_of(())
        book.rows = {
            row_key(b.LINK, link): clicks * (b.CLICK_UNITS[HUMAN] if human else b.CLICK_UNITS[SCANNER])
            for link, (clicks, human) in clicked.items()
        }
        parts.append((partition, b.LINK, unpack_part(pack_part(section_part(book, b.LINK)))))
    return merge_parts(parts)


@pytest.mark.parametrize(
    ("share", "error"),
    [
        (0.0, 0.0),  # each link is of one partition, as where each mail has its own
        (1.0, 0.0),  # all partitions have the same links
        (0.5, 0.05),
    ],
)
def test_of_very_many_links_a_sample_tells_how_many_there_are(share: float, error: float) -> None:
    """Eight partitions leave out 9,000 links each, of which a share is in all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(section_parts, "LIMITS", {b.LINK: 10})
        common = [text_id(f"common {number}") for number in range(int(9_000 * share))]
        first = {text_id(f"first {number}"): (5, True) for number in range(10)}
        partitions = []
        for place in range(8):
            own = [text_id(f"{place} {number}") for number in range(9_000 - len(common))]
            partitions.append(first | {link: (1, link % 3 == 0) for link in (*common, *own)})
        found = links_of(partitions)
    for count, links_there in (
        ("all", {link for some in partitions for link in some}),
        ("people", {link for some in partitions for link, (_, human) in some.items() if human}),
    ):
        linked: Any = links(found, count, shown=10)  # type: ignore[arg-type]
        assert linked["other"]["links"] == pytest.approx(len(links_there) - 10, rel=error, abs=1)


def test_parts_of_a_worker_that_names_none() -> None:
    """While workers are exchanged: numbers of rows are added up, as ever."""
    part = SectionPart([], rest=b"\1", rest_rows=3, least=1)
    found = merge_parts([(place, b.LINK, unpack_part(pack_part(part))) for place in range(2)])
    assert (found[b.LINK].rest_rows, found[b.LINK].people_rest_rows) == (6, 6)


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


TEXTS = st.text(alphabet='"othernuko', max_size=8) | st.sampled_from(
    ["other", "proxy", "unknown", "overflow", "not provided by the ESP"]
)


@given(TEXTS, TEXTS)
def test_names_are_told_apart_from_what_stands_in_place_of_one(name: str, another: str) -> None:
    assert said(name) not in (*SPECIAL_NAMES.values(), OTHER)
    assert meant(said(name)) == name
    assert (said(name) == said(another)) == (name == another)


def test_what_is_really_called_other_is_not_the_row_of_the_others() -> None:
    many = {(1_000 + number, 0): one(b.E_OPENS) for number in range(sections.ROWS)}
    names = {key: f"c{key[0]}" for key in many}
    called = {(500, 0): pack([9]), (501, 0): pack([8]), (b.UNKNOWN, 0): pack([7])}
    named = {(500, 0): "other", (501, 0): "unknown"}
    found = {b.CLIENT: Rows(many | called, names | named)}
    rows: Any = clients(found, "all")["clients"]
    assert [(row["client"], row["opens"]) for row in [*rows[:3], rows[-1]]] == [
        ('"other"', 9), ('"unknown"', 8), ("unknown", 7), ("other", 3),
    ]  # fmt: skip
    providing: Any = providers(
        {
            b.PROVIDER: Rows(many | called, names | named),
            b.REASON: Rows({(500, 7): 1, (500, b.NOT_PROVIDED): 1}, {(500, 7): "not provided by the ESP"}),
        },
        "all",
    )["rows"]
    assert [row["provider"] for row in [*providing[:3], providing[-1]]] == [
        '"other"', '"unknown"', "unknown", "other",
    ]  # fmt: skip
    assert {'"not provided by the ESP"', "not provided by the ESP"} <= providing[0]["reasons"].keys()
    located: Any = places(
        {
            b.COUNTRY: Rows({(500, 0): 2, (b.PROXY, 0): 1}, {(500, 0): "proxy"}),
            b.CITY: Rows(
                {(500, 0): 3, (501, 0): 2, (502, 0): 1},
                {(500, 0): "DE\0unknown", (501, 0): "DE\0", (502, 0): "other\0other"},
            ),
        },
        "all",
    )
    assert [row["country"] for row in located["countries"]] == ['"proxy"', "proxy"]
    assert [(row["country"], row["city"]) for row in located["cities"]] == [
        ("DE", '"unknown"'), ("DE", "unknown"), ('"other"', '"other"'),
    ]  # fmt: skip
    # A link has an id.
    linked: Any = links({b.LINK: Rows({(500, 0): one(b.E_CLICKS)}, {(500, 0): "other"})}, "all")
    assert linked["rows"][0]["link"] == "other"
