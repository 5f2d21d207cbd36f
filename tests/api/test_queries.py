"""Merging pages of several query processes, and cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import Cursors
from api.queries import merge_pages
from api.query.wire import Page
from app.errors import RejectRequest

keys = st.lists(st.integers(0, 200).map(lambda n: n.to_bytes(2, "big")), unique=True, max_size=60)


def page_of(rows: list[bytes], after: bytes | None, limit: int, looks: int) -> Page:
    """What a process answers that has these rows, of which every other one matches, and looks at `looks` at most."""
    ahead = [row for row in sorted(rows) if after is None or row > after]
    found: list[bytes] = []
    for place, row in enumerate(ahead):
        if row[1] % 2:
            if len(found) == limit:
                return Page([(one, one) for one in found], found[-1], None, {})
            found.append(row)
        if place + 1 == looks and place + 1 < len(ahead):
            return Page([(one, one) for one in found], row, None, {})
    return Page([(one, one) for one in found], None, None, {})


@given(keys, st.integers(1, 4), st.integers(1, 7), st.integers(1, 9))
def test_pages_of_several_processes_are_one_list(
    rows: list[bytes], processes: int, limit: int, looks: int
) -> None:
    parts = [[row for row in rows if row[1] % processes == n] for n in range(processes)]
    seen: list[bytes] = []
    after = None
    for _ in range(1_000):
        merged = merge_pages([page_of(part, after, limit, looks) for part in parts], limit)
        assert len(merged.items) <= limit
        assert after is None or merged.after is None or merged.after > after
        seen += merged.items
        after = merged.after
        if after is None:
            break
    assert seen == sorted(row for row in rows if row[1] % 2)


def test_matching_is_known_where_all_know_it() -> None:
    assert merge_pages([Page([], None, 2, {}), Page([], None, 3, {})], 5).matching == 5
    assert merge_pages([Page([], None, 2, {}), Page([], None, None, {})], 5).matching is None


@given(st.binary(max_size=400))
def test_a_cursor_comes_back(after: bytes) -> None:
    cursors = Cursors(b"secret", "recipients", b"campaign", None)
    assert cursors.read(cursors.write(after)) == after
    for other in (
        Cursors(b"another", "recipients", b"campaign", None),
        Cursors(b"secret", "events", b"campaign", None),
        Cursors(b"secret", "recipients", b"campaigm", None),
        Cursors(b"secret", "recipients", b"campaign", "sent"),
    ):
        with pytest.raises(RejectRequest, match="cursor"):
            other.read(cursors.write(after))


@given(st.text(max_size=100))
def test_no_text_is_a_cursor_but_one_that_was_made(text: str) -> None:
    with pytest.raises(RejectRequest, match="cursor"):
        Cursors(b"secret", "recipients").read(text)
