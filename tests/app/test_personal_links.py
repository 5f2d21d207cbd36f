"""Which query parameters make links personal: those that differ from link to link, and no others."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from app.organisations import Source
from app.personal_links import MANY, look_personal, personal_parameters
from app.source_rules import rules_of

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(
    personal=st.sets(NAMES, min_size=1, max_size=3),
    common=st.dictionaries(NAMES, st.sampled_from(["x", "news", ""]), max_size=3),
    pages=st.integers(1, 5),
    recipients=st.integers(30, 80),
    fragment=st.sampled_from(["", "#top", "#?a=b&c=d"]),
    own=st.sampled_from(["r{}", "{}@example.com", "{}%3D"]),
)
def test_the_parameters_that_differ_are_found_and_stripping_them_helps(
    personal: set[str], common: dict[str, str], pages: int, recipients: int, fragment: str, own: str
) -> None:
    links = []
    for number in range(recipients):
        query = [f"{quote(name, safe='')}={value}" for name, value in common.items() if name not in personal]
        query += [f"{quote(name, safe='')}={own.format(number)}" for name in sorted(personal)]
        links.append(f"https://example.com/{number % pages}?{'&'.join(query)}{fragment}")
    found = personal_parameters(links)
    assert found == tuple(sorted(personal))
    escaped = tuple("".join(f"[{sign}]" if sign in "*?[" else sign for sign in name) for name in found)
    source = Source(org="acme", name="news", esp="generic", secrets=(), campaign=("x",), strip_query=escaped)
    stripped = {rules_of(source, ()).link(link) for link in links}
    assert len(stripped) == pages


@given(
    st.lists(
        st.builds(
            "https://example.com/{}?utm_campaign={}&lang={}".format,
            st.integers(0, 1_000), st.integers(0, 3), st.sampled_from(["de", "en"]),
        ),
        max_size=200,
    )
)  # fmt: skip
def test_links_of_many_pages_have_none(links: list[str]) -> None:
    assert personal_parameters(links) == ()


def test_a_parameter_that_is_not_what_differs() -> None:
    # The page differs as much as the parameter: without it there are as many links.
    assert personal_parameters([f"https://example.com/{n}?id={n}" for n in range(100)]) == ()
    # A click's own time beside a page for all.
    assert personal_parameters([f"https://example.com/?a=1&t={n}" for n in range(100)]) == ("t",)
    assert personal_parameters([f"https://example.com/?t={n}" for n in range(5)]) == ()
    assert personal_parameters(["https://example.com/", "", "?", "x?&=&a"]) == ()


def test_when_links_look_personal() -> None:
    assert look_personal(MANY, MANY)
    assert not look_personal(MANY - 1, MANY - 1)
    assert not look_personal(MANY, 3 * MANY)
