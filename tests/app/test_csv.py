"""Rows of CSV: what Python's own reader finds in them is the items, and the fast way writes the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import contribution as c
from app import csv_events, csv_recipients
from app import facts as f
from app import fold as folding
from app.csv_events import EventRows, own_cells
from app.csv_recipients import RecipientRows
from app.csv_rows import FORMULA, cell, encoded, header, row, text_cell
from app.csv_times import Times
from app.facts import Detail, Entry
from app.items import EVENT_FIELDS, RECIPIENT_FIELDS, event_item, recipient_item
from app.keys import content_id
from app.state import RecipientState
from app.summary import Count
from app.times import utc_text
from app.verdicts import REASONS, Rules
from tests.app.test_items import Texts
from tests.support.facts import START_MS, book_of, detail_of, entries, entry
from tests.support.folding import state_of

COUNTS: tuple[Count, ...] = get_args(Count)
HOSTILE = (
    "=1+1", "+49 30", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "'quoted'", 'a "b" c', "a,b", "a\r\nb", "a\nb",
    "a\rb", ",", '"', "", " ", "\0", "é", "東京", "\U0001f4e7", "=cmd|' /C calc'!A0", "a;=1", '",=1,"', "x" * 5_000,
)  # fmt: skip

texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))


def read(rows: Iterable[str]) -> list[list[str]]:
    data = encoded("".join(rows))
    assert data.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def safe(value: str) -> str:
    return "'" + value if value[:1] and value[0] in FORMULA else value


def shown(name: str, value: object) -> str:
    """What a person finds in a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if name == "variant":
        assert isinstance(value, dict)
        value = "; ".join(f"{field}={value[field]}" for field in sorted(value))
    elif name == "tags":
        assert isinstance(value, list)
        value = "; ".join(value)
    elif name == "metadata":
        value = msgspec.json.encode(value).decode()
    return safe(str(value))


@given(st.lists(texts, min_size=1, max_size=5))
def test_texts_come_back(line: list[str]) -> None:
    written = ",".join(map(text_cell, line)) + "\r\n"
    found = read([written])
    # A row of one empty cell is an empty row to the reader.
    assert found == ([list(map(safe, line))] if line != [""] else [[]])


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula(text: str) -> None:
    (found,) = read([f"x,{text_cell(text)}\r\n"])
    assert found[1][:1] == "" or found[1][0] not in FORMULA


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("opens", 3, "3"),
        ("opened", True, "true"),
        ("excluded", False, "false"),
        ("client", None, ""),
        ("variant", {"subject": "A", "content": "1"}, "content=1; subject=A"),
        ("variant", {"a": "x,y"}, '"a=x,y"'),
        ("variant", {"=a": "1"}, "'=a=1"),
        ("tags", ["news", "-x"], "news; -x"),
        ("tags", ["-x"], "'-x"),
        ("metadata", {"run": "1"}, '"{""run"":""1""}"'),
    ],
)
def test_cells(name: str, value: object, written: str) -> None:
    assert cell(name, value) == written


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert encoded(text_cell("a\ud800")) == b"a?"


def test_the_header_is_the_fields() -> None:
    assert read([header(RECIPIENT_FIELDS), header(EVENT_FIELDS)]) == [
        list(RECIPIENT_FIELDS),
        list(EVENT_FIELDS),
    ]


@settings(deadline=None)
@given(st.one_of(st.integers(0, 2**62), st.integers(START_MS, START_MS + 200_000)))
@example(253_402_300_799_999)
@example(253_402_300_800_000)
def test_times_are_those_of_the_interface(at_ms: int) -> None:
    times = Times()
    assert times.text(at_ms) == (utc_text(at_ms) or "")
    assert times.text(at_ms) == (utc_text(at_ms) or "")


@pytest.fixture(autouse=True)
def compile_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_recipients, "WORTH", 1)


def counted(line: Sequence[Entry], kept: int = 200) -> RecipientState:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", kept)
        return state_of(line)


# Near to each other and at the same time, so that bursts, ties and too-soon clicks are likely.
near = st.builds(
    lambda pair, step: msgspec.structs.replace(
        pair[1], fact=msgspec.structs.replace(pair[1].fact, at_ms=START_MS + step)
    ),
    entries(),
    st.sampled_from([0, 1, 400, 1_000, 1_500, 3_000, 4_001, 60_000, 9_999_999]),
)
lines = st.one_of(st.lists(near, max_size=12), st.lists(entries().map(lambda pair: pair[1]), max_size=12))
rules = st.sampled_from(
    [Rules(), Rules(burst_links=2, burst_ms=60_000), Rules(burst_links=0, click_after_ms=0)]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(lines, st.sampled_from([2, 200])), min_size=1, max_size=4),
    st.sampled_from(COUNTS),
    rules,
)
def test_recipients_come_back_and_the_fast_way_writes_the_same(
    people: list[tuple[list[Entry], int]], count: Count, rules: Rules
) -> None:
    """Several recipients, so that what was learned of one is used for the next."""
    book = book_of(one for line, _ in people for one in line)
    fast = RecipientRows(Texts(book), count, rules)
    for line, kept in people:
        state = counted(line, kept)
        item = recipient_item(state, Texts(book), count, rules)
        written = fast.row(state, text_cell(state.address))
        assert fast.row(state, text_cell(state.address)) == written  # compiled by now
        if c.contribution(state, book, rules).last_at_ms < 0:
            assert written is None
            continue
        assert written == row(item)
        assert read([written]) == [[shown(name, value) for name, value in item.items()]]


@settings(deadline=None)
@given(st.lists(lines, min_size=2, max_size=5), st.sampled_from(COUNTS))
def test_so_it_does_with_full_tables(people: list[list[Entry]], count: Count) -> None:
    book = book_of(one for line in people for one in line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_recipients, "KEPT", 1)
        patch.setattr(csv_recipients, "COMPILED", 1)
        fast = RecipientRows(Texts(book), count)
        for line in people:
            state = counted(line)
            fast.row(state, text_cell(state.address))
            if (written := fast.row(state, text_cell(state.address))) is not None:
                assert written == row(recipient_item(state, Texts(book), count))


@pytest.mark.parametrize("address", HOSTILE)
def test_hostile_addresses(address: str) -> None:
    detail, numbers = detail_of(variant=1)
    state = counted([entry(f.SENT, START_MS, detail=f.encode(detail), variant=numbers["variant"])])
    state.address = address
    texts = Texts(book_of(()))
    texts.book.texts[11, numbers["variant"]] = '{"=x,": "\\"\\r\\n"}'
    item = recipient_item(state, texts, "all")
    fast = RecipientRows(texts, "all")
    fast.row(state, text_cell(address))
    written = fast.row(state, text_cell(address))
    assert written == row(item)
    assert read([written]) == [[shown(name, value) for name, value in item.items()]]
    assert item["variant"] == {"=x,": '"\r\n'}


maybe = st.none() | texts
details = st.builds(
    Detail, texts, maybe, maybe, maybe, maybe, maybe, maybe, maybe, maybe, maybe, maybe, maybe, maybe,
    st.none() | st.dictionaries(texts, texts, max_size=3), maybe, maybe,
    st.lists(texts, max_size=3).map(tuple), st.dictionaries(texts, texts, max_size=3),
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(range(len(f.TYPE_NAMES))),
            st.integers(0, 2**52),
            texts,
            details,
            st.integers(0, 9),
            st.integers(0, 1023),
            st.none() | st.tuples(st.integers(0, 2), st.sampled_from(sorted(REASONS))),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from((1, 2, 16)),
)
def test_events_come_back_and_the_fast_way_writes_the_same(
    made: list[tuple[int, int, str, Detail, int, int, tuple[int, str] | None]], few: int
) -> None:
    several, items = [], []
    for kind, at_ms, address, detail, position, evidence, said in made:
        encoded_detail = f.encode(detail)
        one = entry(
            kind, at_ms, address=address, position=position, evidence=evidence, detail=encoded_detail,
            content=content_id(encoded_detail),
        )  # fmt: skip
        verdict = said if kind in (f.OPENED, f.CLICKED) else None
        several.append((one, verdict))
        items.append(event_item(one, detail, *(verdict or (None, None))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_events, "FEW", few)
        fast = EventRows()
        begins = ["0>", *["1>"] * (len(several) - 1)]
        events, verdicts = [one for one, _ in several], [said for _, said in several]
        for _ in range(2):  # the second time from full tables
            times = fast.times(events)
            assert times == [utc_text(one.fact.at_ms) or "" for one in events]
            written = fast.rows(events, verdicts, times, begins)
            assert [text[2:] for text in written] == list(map(row, items))
            assert [text[:2] for text in written] == begins
    assert read([text[2:] for text in written]) == [
        [shown(name, value) for name, value in item.items()] for item in items
    ]


@given(st.lists(texts, max_size=40))
def test_cells_of_their_own(column: list[str]) -> None:
    assert own_cells(column) == list(map(text_cell, column))


def test_tables_that_are_full_begin_anew() -> None:
    cells: csv_events._Made[int] = csv_events._Made(lambda number: f"{number}", kept=3)
    assert [cells[number] for number in (1, 2, 1, 3, 4, 1)] == ["1", "2", "1", "3", "4", "1"]
    assert set(cells) == {1, 4}


@pytest.mark.parametrize(
    "detail",
    [
        b"\xc1",
        b"",
        f.encode(["generic"] + [None] * 7 + [5]),  # a system that is no text
        f.encode(["generic"] + [None] * 12 + [{"subject": 1}]),
        f.encode(["generic"] + [None] * 15 + [[None]]),
        f.encode(["generic"] + [None] * 15 + [[], ["x"]]),
    ],
)
def test_an_entry_whose_detail_cannot_be_read_is_still_a_row(detail: bytes) -> None:
    one = entry(f.SENT, START_MS, detail=detail)
    other = entry(f.SENT, START_MS, detail=f.encode(Detail("generic", client="Gmail")))
    fast = EventRows()
    times = fast.times([other, one])
    assert fast.rows([other, one], [None, None], times, ["", ""]) == [
        row(event_item(other, Detail("generic", client="Gmail"), None, None)),
        row(event_item(one, Detail(""), None, None)),
    ]
