"""What a record of the dead-letter topic says, and what is sent of a letter once more."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dead import IdSet, Letter, letter_of, mark, marked, readable_body, replay_of
from app.errors import RejectRequest
from app.topics import WEBHOOKS, Origin, dead_headers, webhook_headers, webhook_of
from tests.support.dead import RECEIVED_MS, webhook

NOW_MS = RECEIVED_MS + 86_400_000
MAX_BODY = 10_000
LARGE = b"[" + b" " * 3 * MAX_BODY + b"]"
PACKED = webhook(gzip.compress(LARGE), encoding="gzip")
ORIGIN = Origin(reason="not JSON", stage="parse", topic=WEBHOOKS, partition=0, offset=0)


def letter(number: int = 7) -> Letter:
    return letter_of(number, NOW_MS, PACKED.body, dead_headers(PACKED, ORIGIN))


@given(st.sets(st.integers(0, 20_000)), st.integers(0, 20_000))
def test_a_set_of_ids(ids: set[int], border: int) -> None:
    found = IdSet(ids)
    assert list(found) == sorted(ids)
    assert len(found) == len(ids)
    assert all((number in found) == (number in ids) for number in range(0, 20_001, 37))
    found.forget_below(border)
    assert {number for number in ids if number >= border} <= set(found) <= ids


@given(st.binary(), st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=20)), max_size=6))
def test_any_record_is_a_letter(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    letter = letter_of(5, 1, value, headers)
    assert letter.id == 5 and letter.size == len(value)


@given(st.lists(st.integers(0, 2**60)))
def test_marks(ids: list[int]) -> None:
    value, headers = mark(ids)
    assert marked(value, headers) == ids
    assert marked(value, []) is None


def test_a_replay_as_it_came_and_with_another_body() -> None:
    again = replay_of(letter(), None, NOW_MS, MAX_BODY)
    assert (again.body, again.headers, again.received_at_ms) == (PACKED.body, PACKED.headers, RECEIVED_MS)
    assert (again.replay_of, again.again_at_ms, again.accepted_at_ms) == (7, NOW_MS, NOW_MS)
    assert readable_body(again) == LARGE
    mended = replay_of(letter(), b"[]", NOW_MS, MAX_BODY)
    assert (mended.body, mended.headers) == (b"[]", PACKED.headers[:1])


def test_a_mended_body_that_is_too_large_is_compressed_as_the_letter_was() -> None:
    again = replay_of(letter(), LARGE + b" ", NOW_MS, MAX_BODY)
    assert len(again.body) < MAX_BODY
    assert readable_body(again) == LARGE + b" "
    hard = bytes(number * number * 7919 % 251 for number in range(2 * MAX_BODY))
    with pytest.raises(RejectRequest, match="10 bytes even when it is compressed"):
        replay_of(letter(), hard, NOW_MS, 10)


def test_what_dies_again_says_whose_replay_it_was() -> None:
    again = replay_of(letter(), None, NOW_MS, MAX_BODY)
    read = webhook_of(again.body, webhook_headers(again))
    assert read == again
    second = letter_of(9, NOW_MS, read.body, dead_headers(read, ORIGIN))
    assert second.webhook.replay_of == 7
    assert replay_of(second, None, NOW_MS + 5, MAX_BODY).replay_of == 9


def test_what_was_imported_stays_so() -> None:
    given = webhook_of(b"", [*webhook_headers(webhook(b"")), ("imported", b"1")])
    assert given.imported and webhook_of(b"", dead_headers(given, ORIGIN)) == given
    assert given.accepted_at_ms == RECEIVED_MS, "of an older installation: it does not say when"
