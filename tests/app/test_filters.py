"""Filters say what the summary counts, and the quick look at the facts never says no to who matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import breakdown as b
from app import contribution as c
from app import facts as f
from app.contribution import METRICS, contribution
from app.facts import Entry
from app.filters import (
    BITS,
    STATUSES,
    EventFilter,
    EventTest,
    RecipientFilter,
    RecipientTest,
    has_variant,
    home_number,
    recipients_by_status,
    status_test,
)
from app.keys import text_id
from app.summary import Count, summary
from tables.book import Book
from tables.layout import INDEXED_BITS
from tests.support.facts import LINKS, book_of, entries
from tests.support.folding import state_of

counts: st.SearchStrategy[Count] = st.sampled_from(("all", "people"))
patterns = st.dictionaries(st.integers(0, (1 << 18) - 1), st.integers(1, 5), max_size=20)


class _Names(Book):
    def text(self, section: int, number: int) -> str | None:
        return self.texts.get((section, number))


@given(patterns, counts)
def test_a_status_is_the_number_of_the_summary(found: dict[int, int], count: Count) -> None:
    numbers = summary(found, [0] * METRICS, count)
    for status, number in numbers.items():
        if status in STATUSES:
            assert recipients_by_status(found, status, count) == number
    people = count == "people"
    opened, clicked = (c.OPENED_PEOPLE, c.CLICKED_PEOPLE) if people else (c.OPENED, c.CLICKED)
    sent = {pattern: n for pattern, n in found.items() if pattern & c.SENT}
    for status, without in (
        ("not_opened", opened),
        ("not_clicked", clicked),
        ("inactive", opened | clicked | c.COMPLAINED | c.UNSUBSCRIBED),
    ):
        expected = sum(n for pattern, n in sent.items() if not pattern & without)
        assert recipients_by_status(found, status, count) == expected
    assert recipients_by_status(found, None, count) == sum(found.values())


@given(patterns, counts)
def test_an_index_of_few_has_all_with_its_status(found: dict[int, int], count: Count) -> None:
    for status, bit in BITS.items():
        assert bit & INDEXED_BITS
        # A person's click is a click, a refusal counts only without a sending: more may have the bit, never fewer.
        implied = {p for p in found if status_test(status, count)(p)}
        if status == "clicked" and count == "people":
            implied = {
                p for p in implied if p & c.CLICKED
            }  # what contribution makes: people's clicks are clicks
        assert all(pattern & bit for pattern in implied)


def filters_of() -> st.SearchStrategy[RecipientFilter]:
    variants = st.sampled_from(
        ((("subject", "A"),), (("content", "1"), ("subject", "B")), (("subject", "x"),))
    )
    return st.builds(
        RecipientFilter,
        status=st.none() | st.sampled_from(STATUSES),
        variant=st.just(()) | variants,
        link=st.none() | st.sampled_from([text_id(link) for link in LINKS]),
        country=st.none() | st.sampled_from(("DE", "FR", "XX", "unknown", "not provided by the ESP")),
    )


@given(st.lists(entries(), min_size=1, max_size=12), filters_of(), counts)
def test_the_quick_look_never_says_no_to_who_matches(
    line: list[tuple[str, Entry]], wanted: RecipientFilter, count: Count
) -> None:
    state = state_of([entry for _, entry in line])
    names = _Names()
    for _, entry in line:
        names.learn(entry)
    test = RecipientTest(wanted, count, names)
    adds = contribution(state, book_of(entry for _, entry in line))
    if test.matches(adds):
        assert test.may_match(state)
        assert adds.last_at_ms >= 0
        assert wanted.status is None or status_test(wanted.status, count)(adds.pattern)


@pytest.mark.parametrize(
    ("search", "address", "matches"),
    [
        ("a", "ada@example.com", True),
        ("ada@example.com", "ada@example.com", True),
        ("ada@example.com.", "ada@example.com", False),
        ("da", "ada@example.com", False),
        ("@ex", "ada@example.com", True),
        ("@xample.com", "ada@example.com", False),
        ("@b", "a@b@c", False),
        ("@c", "a@b@c", True),
        ("erased", "erased:00", False),
        ("no", "no address", False),
        (None, "erased:00", True),
    ],
)
def test_search(search: str | None, address: str, matches: bool) -> None:
    test = RecipientTest(RecipientFilter(search=search), "all", _Names())
    assert test.address_matches(address) is matches


def test_countries_and_variants() -> None:
    assert home_number("DE") == text_id("DE")
    assert home_number("unknown") == b.UNKNOWN
    assert home_number('"unknown"') == text_id("unknown")
    assert home_number("not provided by the ESP") == b.NOT_PROVIDED
    assert has_variant('{"subject":"A"}', (("subject", "A"),))
    assert not has_variant('{"subject":"A"}', (("subject", "A"), ("content", "1")))
    for broken in (None, "", "{", "[]", '{"subject":1}'):
        assert not has_variant(broken, (("subject", "A"),))


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [
        (EventFilter(), 0),
        (EventFilter(type=0), 1),
        (EventFilter(type=f.CLICKED, verdict=0, link=1, from_ms=0, to_ms=0, recipient=b""), 6),
        (EventFilter(variant=(("a", "b"), ("c", "d"))), 2),
        (RecipientFilter(), 0),
        (RecipientFilter(status="sent", variant=(("a", "b"),), link=1, country="DE", search="x"), 5),
    ],
)
def test_parts(wanted: Any, parts: int) -> None:
    assert wanted.parts == parts


@pytest.mark.parametrize(
    ("wanted", "one"),
    [
        (EventFilter(), False),
        (EventFilter(link=1), True),
        (EventFilter(to_ms=1), True),
        (EventFilter(from_ms=0, to_ms=1), True),
        (EventFilter(link=1, to_ms=1), False),
        (EventFilter(link=1, from_ms=0, to_ms=1), False),
        (EventFilter(variant=(("a", "b"), ("c", "d"))), False),
    ],
)
def test_one_thing(wanted: EventFilter, one: bool) -> None:
    assert wanted.one_thing is one


@given(st.lists(entries(), min_size=1, max_size=6))
def test_a_links_events_are_its_clicks(line: list[tuple[str, Entry]]) -> None:
    for link in {entry.fact.link for _, entry in line}:
        test = EventTest(EventFilter(link=link), _Names())
        for _, entry in line:
            wanted = entry.fact.link == link and entry.fact.type == f.CLICKED
            assert test.may_match(entry.fact) == wanted


@given(st.lists(entries(), min_size=1, max_size=6))
def test_an_event_without_a_verdict_has_none_to_be_found_by(line: list[tuple[str, Entry]]) -> None:
    test = EventTest(EventFilter(verdict=0), _Names())
    for _, entry in line:
        assert test.may_match(entry.fact) == (entry.fact.type in (f.OPENED, f.CLICKED))
