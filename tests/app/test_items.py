"""Rows of recipients and events: they say what the report counts."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import breakdown as b
from app import contribution as c
from app import facts as f
from app import fold as folding
from app.breakdown import SPECIAL_NAMES, row_name
from app.facts import Detail, Entry
from app.items import EVENT_FIELDS, RECIPIENT_FIELDS, course, event_item, recipient_item, status_of
from app.state import RecipientState
from app.summary import Count
from app.tally import field_of
from app.times import utc_text
from app.verdicts import HUMAN, PROXY
from tables.book import Book
from tests.support.facts import START_MS, book_of, detail_of, entries, entry
from tests.support.folding import state_of

HOUR_MS = 3_600_000
COUNTS: tuple[Count, ...] = get_args(Count)

Lines = list[tuple[str, Entry]]


class Texts:
    def __init__(self, book: Book) -> None:
        self.book = book

    def text(self, section: int, number: int) -> str | None:
        return self.book.texts.get((section, number))


def made(*line: tuple[int, float, dict[str, int]]) -> tuple[RecipientState, Texts]:
    """Facts as (type, hours after the start, numbers of the tables in `tests.support.facts`)."""
    of = []
    for number, (kind, hours, fields) in enumerate(line):
        evidence = fields.get("evidence", 0)
        detail, numbers = detail_of(**{name: value for name, value in fields.items() if name != "evidence"})
        rest: dict[str, Any] = {**numbers, "detail": f.encode(detail)}
        of.append(entry(kind, START_MS + int(hours * HOUR_MS), number=number, evidence=evidence, **rest))
    return state_of(of), Texts(book_of(of))


def at(hours: float) -> str | None:
    return utc_text(START_MS + int(hours * HOUR_MS))


def row(*line: tuple[int, float] | tuple[int, float, dict[str, int]], count: Count = "all") -> Any:
    state, texts = made(*((kind, hours, rest[0] if rest else {}) for kind, hours, *rest in line))
    return recipient_item(state, texts, count)


@pytest.mark.parametrize("kept", [2, 200])
@given(line=st.lists(entries(), max_size=14), count=st.sampled_from(COUNTS))
def test_a_row_says_what_the_recipient_contributes(kept: int, line: Lines, count: Count) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", kept)
        state = state_of([one for _, one in line])
    book = book_of(one for _, one in line)
    found = course(state, count)
    contributed = c.contribution(state, book)
    item: Any = recipient_item(state, Texts(book), count)
    assert tuple(item) == RECIPIENT_FIELDS
    pattern = contributed.pattern
    assert found.pattern == pattern
    people = count == "people"
    assert item["opened"] == bool(pattern & (c.OPENED_PEOPLE if people else c.OPENED))
    assert item["clicked"] == bool(pattern & (c.CLICKED_PEOPLE if people else c.CLICKED))
    for field, first in (("opens", b.E_OPENS), ("clicks", b.E_CLICKS)):
        verdicts = [field_of(contributed.engagement, first + verdict) for verdict in range(3)]
        assert item[field] == (verdicts[HUMAN] if people else sum(verdicts))
    assert item["last_event_at"] == utc_text(contributed.last_at_ms)
    for field, bit in (
        ("sent_at", c.SENT),
        ("delivered_at", c.DELIVERED),
        ("deferred_at", c.DEFERRED),
        ("bounced_at", c.BOUNCED),
        ("complained_at", c.COMPLAINED),
        ("unsubscribed_at", c.UNSUBSCRIBED),
    ):
        assert (item[field] is not None) == bool(pattern & bit)
    cells = {cell >> 32: cell & 0xFFFFFFFF for cell in reversed(contributed.cells)}
    for at_ms, metric in (
        (found.sent_at_ms, c.FIRST_SENT),
        (found.opened_at_ms, c.FIRST_OPENED_PEOPLE if people else c.FIRST_OPENED),
        (found.clicked_at_ms, c.FIRST_CLICKED_PEOPLE if people else c.FIRST_CLICKED),
    ):
        assert (at_ms // c.QUARTER_MS if at_ms >= 0 else None) == cells.get(metric)
    if contributed.groups:
        assert row_name(contributed.groups[1]).a == found.variant
        home = row_name(contributed.groups[2]).a
        assert item["country"] == (None if home in SPECIAL_NAMES else book.texts[b.COUNTRY, home])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ([], None),
        ([(f.SUBSCRIBED, 0)], None),
        ([(f.QUEUED, 0)], "sent"),
        ([(f.SENT, 0)], "sent"),
        ([(f.SENT, 0), (f.DEFERRED, 1)], "deferred"),
        ([(f.DEFERRED, 1), (f.DELIVERED, 2)], "delivered"),
        ([(f.SENT, 0), (f.OPENED, 1)], "delivered"),
        ([(f.QUEUED, 0), (f.FAILED, 1)], "failed"),
        ([(f.FAILED, 0), (f.REJECTED, 1)], "rejected"),
        ([(f.REJECTED, 0), (f.QUEUED, 1)], "sent"),
        ([(f.FAILED, 0), (f.SENT, 1), (f.DELIVERED, 2)], "delivered"),
        ([(f.DELIVERED, 0), (f.BOUNCED, 1)], "bounced"),
        ([(f.BOUNCED, 0, {"evidence": f.SOFT_BOUNCE}), (f.DELIVERED, 1)], "delivered"),
        ([(f.BOUNCED, 0), (f.UNSUBSCRIBED, 1)], "unsubscribed"),
        ([(f.COMPLAINED, 0), (f.UNSUBSCRIBED, 1)], "complained"),
    ],
)
def test_the_highest_status_is_shown(line: list[tuple[int, float]], status: str | None) -> None:
    assert row(*line)["status"] == status


def test_statuses_are_those_of_the_interface() -> None:
    assert status_of(0) is None
    assert status_of(c.SENT | c.REJECTED) == "sent"
    assert status_of(c.QUEUED) == "queued"


def test_first_and_last_times() -> None:
    found = row(
        (f.QUEUED, 0), (f.SENT, 1), (f.DEFERRED, 2), (f.DEFERRED, 3), (f.DELIVERED, 4), (f.OPENED, 5), (f.OPENED, 7),
        (f.CLICKED, 6), (f.CLICKED, 8), (f.COMPLAINED, 9), (f.UNSUBSCRIBED, 10), (f.SUBSCRIBED, 11),
    )  # fmt: skip
    assert {name: value for name, value in found.items() if name.endswith("_at")} == {
        "sent_at": at(0), "delivered_at": at(4), "deferred_at": at(2), "bounced_at": None, "opened_at": at(5),
        "last_opened_at": at(7), "clicked_at": at(6), "last_clicked_at": at(8), "complained_at": at(9),
        "unsubscribed_at": at(10), "last_event_at": at(11),
    }  # fmt: skip
    assert (found["opens"], found["clicks"], found["opened"], found["clicked"]) == (2, 2, True, True)


def test_what_is_inferred_has_the_time_of_its_proof() -> None:
    found = row((f.OPENED, 3), (f.CLICKED, 4), (f.DELIVERED, 5))
    assert (found["sent_at"], found["delivered_at"]) == (at(3), at(5))
    found = row((f.DEFERRED, 1), (f.CLICKED, 2))
    assert (found["sent_at"], found["delivered_at"]) == (at(1), at(2))


def test_a_time_stands_only_where_its_number_counts() -> None:
    assert row((f.QUEUED, 0), (f.REJECTED, 1))["sent_at"] is None
    assert row((f.BOUNCED, 0, {"evidence": f.SOFT_BOUNCE}), (f.DELIVERED, 1))["bounced_at"] is None


def test_people_have_their_own_opens() -> None:
    line = [
        (f.OPENED, 1, {"evidence": f.MACHINE}),
        (f.OPENED, 2, {}),
        (f.CLICKED, 3, {"evidence": f.MACHINE}),
    ]
    everything, people = row(*line), row(*line, count="people")
    assert (everything["opens"], everything["opened_at"], everything["clicks"]) == (2, at(1), 1)
    assert (people["opens"], people["opened_at"], people["clicks"]) == (1, at(2), 0)
    assert (people["clicked"], people["clicked_at"], people["last_clicked_at"]) == (False, None, None)


def test_the_first_that_has_the_value_gives_it() -> None:
    found = row(
        (f.SENT, 0, {"variant": 0}),
        (f.DELIVERED, 1, {"variant": 2}),
        (f.OPENED, 2, {"variant": 1, "agent": 3, "place": 3, "evidence": f.AGENT_SCANNER}),
        (f.OPENED, 3, {"agent": 2, "place": 1, "evidence": f.AGENT_PROXY}),  # an agent without a client
        (f.OPENED, 4, {"agent": 1, "evidence": f.AGENT_PROXY}),
        (f.CLICKED, 5, {"agent": 3, "place": 3}),
    )
    assert found["variant"] == {"subject": "B", "content": "1"}
    assert found["client"] == "Gmail"
    assert found["country"] == "FR"


def test_excluded_facts_show_nothing() -> None:
    found = row((f.OPENED, 1, {"variant": 1, "agent": 1, "place": 1, "evidence": f.EXCLUDED}))
    assert {value for name, value in found.items() if name != "recipient"} == {None, False}


def test_an_erased_person_has_no_address() -> None:
    state, texts = made((f.OPENED, 1, {"place": 1}))
    state.address, state.erased = "", True
    found: Any = recipient_item(state, texts, "all")
    assert (found["recipient"], found["opened"], found["country"]) == (None, True, "DE")


def test_numbers_without_a_name_are_not_known() -> None:
    state, _ = made((f.OPENED, 1, {"variant": 1, "agent": 1, "place": 1}))
    found: Any = recipient_item(state, Texts(Book()), "all")
    assert (found["variant"], found["client"], found["country"]) == (None, None, None)


def test_an_event_in_full() -> None:
    one = entry(f.CLICKED, START_MS, position=2, evidence=f.EXCLUDED)
    detail = Detail(
        "generic", "https://example.com/", "why", "250 ok", "192.0.2.1", "Agent/1", "Gmail", "mobile", "iOS",
        "Safari", "DE", "Berlin", "Google", {"subject": "A"}, "event-1", "message-1", ("a", "b"), {"run": "1"},
    )  # fmt: skip
    item = event_item(one, detail, PROXY, "agent_proxy")
    assert item == {
        "id": one.fact.identity.hex(), "at": utc_text(START_MS), "type": "clicked", "recipient": "a@example.com",
        "verdict": "proxy", "verdict_reason": "agent_proxy", "link": "https://example.com/", "position": 2,
        "reason": "why", "smtp_reply": "250 ok", "ip": "192.0.2.1", "user_agent": "Agent/1", "client": "Gmail",
        "device": "mobile", "country": "DE", "city": "Berlin", "provider": "Google", "variant": {"subject": "A"},
        "esp": "generic", "esp_event_id": "event-1", "message_id": "message-1", "tags": ["a", "b"],
        "metadata": {"run": "1"}, "excluded": True,
    }  # fmt: skip
    assert tuple(item) == EVENT_FIELDS


def test_what_is_not_known_of_an_event_is_null() -> None:
    item = event_item(entry(f.DELIVERED, START_MS, address=""), Detail(""), HUMAN, "not_judged")
    known = {"id", "at", "type", "excluded"}
    assert {value for name, value in item.items() if name not in known} == {None}
    assert (item["type"], item["excluded"]) == ("delivered", False)
