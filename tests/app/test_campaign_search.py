"""The words of a search, whatever their case, order and way of writing accents."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from app.campaign_search import folded, found, words_of

TEXT = st.text(max_size=20)


def finds(search: str, campaign: str, name: str | None = None, subject: str | None = None) -> bool:
    return found({campaign: folded(campaign, name, subject)}, words_of(search)) == [campaign]


def test_words_stand_anywhere_in_any_order() -> None:
    for search in ("spring", "SPRING", "sale spring", "2026 hello", "ring", "  hello\tSALE "):
        assert finds(search, "news-2026", "Spring Sale", "Hello you"), search
    for search in ("autumn", "spring autumn", "salehello", "sale hellos"):
        assert not finds(search, "news-2026", "Spring Sale", "Hello you"), search
    assert not finds("newsspring", "news", "spring"), "no word goes from one part into the next"


def test_letters_are_compared_and_not_their_bytes() -> None:
    for search, name in (
        ("STRASSE", "Straße"),
        ("straße", "STRASSE"),
        ("e\u0301te\u0301", "Été"),
        ("ÉTÉ", "e\u0301te\u0301"),
    ):
        assert finds(search, "x", name), search
    assert not finds("ete", "x", "Été")


@given(TEXT, TEXT, TEXT, st.randoms())
def test_a_campaign_is_found_by_all_that_it_is_called(
    campaign: str, name: str, subject: str, chance: object
) -> None:
    words = f"{campaign} {name} {subject}".split()
    chance.shuffle(words)  # type: ignore[attr-defined]
    for search in (
        " ".join(words),
        " ".join(words).casefold(),
        unicodedata.normalize("NFD", " ".join(words)),
    ):
        assert finds(search, campaign, name, subject)


@given(TEXT, TEXT)
def test_the_same_words_are_the_same_search(one: str, other: str) -> None:
    assert words_of(f"{one} {other}") == words_of(f"{other}  {one} {one}")


@given(st.dictionaries(st.text("abé", max_size=5), st.text("abé ", max_size=5)), st.text("abé ", max_size=4))
def test_found_are_those_that_have_each_word(called: dict[str, str], search: str) -> None:
    texts = {campaign: folded(campaign, name, None) for campaign, name in called.items()}
    words = words_of(search)
    assert found(texts, words) == [one for one in texts if all(word in texts[one] for word in words)]
