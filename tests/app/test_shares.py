"""Shared links: tokens that can't be made, and a book that forgets no revocation whatever comes in when."""

from __future__ import annotations

import base64
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.shares import (
    COOKIE,
    DAY_MS,
    ID_BYTES,
    LINK,
    MAX_LIFE_MS,
    RECORDS_KEPT_MS,
    SHOWN_MS,
    Share,
    ShareBook,
    bytes_of,
    decode_share,
    encode_share,
    proof,
    proves,
    read_token,
    text_of,
    token_of,
)

SECRET = b"secret of the installation"
SHARE = Share(1, bytes(range(ID_BYTES)), "acme", "spring", 1_000, 2_000, "all")

ids = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
shares = st.builds(
    Share,
    version=st.just(1),
    id=ids,
    org=st.sampled_from(["acme", "globex"]),
    campaign=st.text(max_size=20),
    made_at_ms=st.integers(0, 2**41),
    expires_at_ms=st.integers(0, 2**41),
    made_by=st.text(max_size=10),
)


def opens(token: str, share: Share, secret: bytes = SECRET) -> bool:
    claimed = read_token(token)
    return claimed is not None and claimed[0] == share.id and proves(secret, share, LINK, claimed[1])


@given(shares)
def test_a_token_opens_its_share_and_a_record_comes_back_as_it_was(share: Share) -> None:
    assert opens(token_of(SECRET, share), share)
    assert not opens(token_of(b"another", share), share)
    assert decode_share(encode_share(share)) == share


@given(shares, st.data())
def test_a_token_that_is_changed_anywhere_opens_nothing(share: Share, data: st.DataObject) -> None:
    token = token_of(SECRET, share)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_+/= é\n\0"))
    assert opens(token[:place] + other + token[place + 1 :], share) is (token[place] == other)
    assert not opens(token[:place], share)
    assert not opens(token + other, share)
    assert not opens(token[place:], share) or place == 0


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_text_as_a_token_is_none(text: str) -> None:
    assert read_token(text) is None or not opens(text, SHARE)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": bytes(ID_BYTES)},
        {"org": "globex"},
        {"campaign": "sprin"},
        {"org": "acmes", "campaign": "pring"},
        {"made_at_ms": 1_001},
        {"expires_at_ms": 2_001},
    ],
)
def test_a_proof_holds_for_one_share_and_one_purpose(changes: dict[str, object]) -> None:
    other = msgspec.structs.replace(SHARE, **changes)
    for purpose in (LINK, COOKIE):
        assert not proves(SECRET, other, purpose, proof(SECRET, SHARE, purpose))
    assert not proves(SECRET, SHARE, COOKIE, proof(SECRET, SHARE, LINK))
    # What is no part of the link: that it was revoked is looked up.
    revoked = msgspec.structs.replace(SHARE, revoked_at_ms=1_500)
    assert proves(SECRET, revoked, LINK, proof(SECRET, SHARE, LINK))


@given(st.binary(min_size=1, max_size=60))
def test_bytes_have_one_spelling(raw: bytes) -> None:
    text = text_of(raw)
    assert bytes_of(text, len(raw)) == raw
    assert bytes_of(text + "=", len(raw)) is None
    assert bytes_of(text, len(raw) + 1) is None
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = [text[:-1] + one for one in last if bytes_of(text[:-1] + one, len(raw)) == raw]
    assert spelled == [text]


def test_what_is_no_record_opens_nothing() -> None:
    newer = msgspec.structs.replace(SHARE, version=2)
    short = msgspec.structs.replace(SHARE, id=b"short")
    no_text = encode_share(SHARE).replace(SHARE.org.encode(), b"\xff" * len(SHARE.org))
    for value in (
        b"",
        b"\xff",
        no_text,
        b"{}",
        encode_share(newer),
        encode_share(short),
        encode_share([1, 2]),
    ):
        assert decode_share(value) is None


def test_states_to_the_millisecond() -> None:
    assert [SHARE.state(now_ms) for now_ms in (0, 1_999, 2_000, 2_001)] == [
        "live",
        "live",
        "expired",
        "expired",
    ]
    revoked = msgspec.structs.replace(SHARE, revoked_at_ms=1_500)
    assert [revoked.state(now_ms) for now_ms in (0, 1_999, 3_000)] == ["revoked"] * 3


@given(st.lists(st.tuples(shares, st.booleans(), st.integers(0, 2**41)), max_size=8), st.integers(0, 1_000))
def test_a_revocation_stays_in_any_order(found: list[tuple[Share, bool, int]], seed: int) -> None:
    by_id = {share.id: (share, revoked, at_ms) for share, revoked, at_ms in found}
    records = []
    for share, revoked, at_ms in by_id.values():
        records += [share, share]
        if revoked:
            records += [
                msgspec.structs.replace(share, revoked_at_ms=at_ms + 5),
                msgspec.structs.replace(share, revoked_at_ms=at_ms),
            ]
    random.Random(seed).shuffle(records)
    book = ShareBook()
    for record in records:
        book.add(record)
    assert len(book) == len(by_id)
    for share, revoked, at_ms in by_id.values():
        known = book.get(share.id)
        assert known is not None
        assert known.revoked_at_ms == (at_ms if revoked else None)
        assert known in list(book.of_campaign(share.org, share.campaign))
    assert list(book.of_campaign("nobody", "x")) == []


@pytest.mark.parametrize(("revoked_at_ms", "ended_at_ms"), [(None, 2_000), (1_500, 1_500), (9_000, 2_000)])
def test_what_is_over_is_forgotten(revoked_at_ms: int | None, ended_at_ms: int) -> None:
    book = ShareBook()
    book.add(SHARE)
    other = msgspec.structs.replace(SHARE, id=bytes(ID_BYTES), expires_at_ms=10_000)
    book.add(other)
    book.add(msgspec.structs.replace(SHARE, revoked_at_ms=revoked_at_ms))
    book.forget(ended_at_ms + SHOWN_MS - 1)
    assert len(book) == 2
    book.forget(ended_at_ms + SHOWN_MS)
    assert (len(book), list(book.of_campaign("acme", "spring"))) == (1, [other])
    book.forget(10_000 + SHOWN_MS)
    assert (len(book), list(book.of_campaign("acme", "spring"))) == (0, [])


def test_the_topic_keeps_records_for_longer_than_any_link_is_shown() -> None:
    assert MAX_LIFE_MS + SHOWN_MS < RECORDS_KEPT_MS == 400 * DAY_MS
