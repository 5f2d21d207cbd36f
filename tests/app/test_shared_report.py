"""What a shared report leaves out: addresses in links and reasons, and ids by which one could be guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import breakdown as b
from app.keys import text_id
from app.sections import Rows, links, providers
from app.shared_report import HIDDEN, shared_rows, without_addresses
from app.tally import BITS

SECRET = b"secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.com/a?x=1", "https://example.com/a?x=1"),
        ("https://example.com/u?email=ada@example.com&x=1", f"https://example.com/u?email={HIDDEN}&x=1"),
        ("https://example.com/u?email=ada%40example.com#f", f"https://example.com/u?email={HIDDEN}#f"),
        ("https://example.com/ada%2540example.com/x", f"https://example.com/{HIDDEN}/x"),
        ("mailto:ada+b@example.com", f"mailto:{HIDDEN}"),
        ("550 5.1.1 <ada@example.com>: no such user", f"550 5.1.1 <{HIDDEN}>: no such user"),
        ("", ""),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert without_addresses(text) == shown


@given(
    st.text(),
    st.emails(),
    st.sampled_from(["@", "%40", "%2540", "\uff20"]),
    st.text(),
)
def test_no_address_is_left(before: str, address: str, at: str, after: str) -> None:
    local, _, domain = address.rpartition("@")
    shown = without_addresses(f"{before} {local}{at}{domain} {after}")
    assert at not in shown and "@" not in shown
    assert without_addresses(shown) == shown


def test_a_long_text_takes_no_long_time() -> None:
    assert HIDDEN in without_addresses("a" * 1_000_000 + "@")


def clicks(number: int) -> int:
    """A tally of that many clicks of people."""
    return number << BITS * b.E_CLICKS


def test_links_and_their_ids() -> None:
    plain, told = "https://example.com/a", "https://example.com/u?e=ada@example.com"
    rows = {
        b.LINK: Rows(
            tallies={(text_id(plain), 0): clicks(3), (text_id(told), 0): clicks(2)},
            names={(text_id(plain), 0): plain, (text_id(told), 0): told},
            ends={text_id(told): (1, 2, 1, 2)},
        ),
        b.POSITION: Rows(tallies={(text_id(told), 4): clicks(2)}),
    }
    shown = links(shared_rows(rows, SECRET), "all")["rows"]
    assert isinstance(shown, list)
    assert [(row["link"], row["total_clicks"]) for row in shown] == [
        (plain, 3),
        (f"https://example.com/u?e={HIDDEN}", 2),
    ]
    whole = links(rows, "all")["rows"]
    assert isinstance(whole, list)
    assert shown[0] == whole[0]
    assert shown[1] | {"id": "", "link": ""} == whole[1] | {"id": "", "link": ""}, "its numbers stay"
    assert shown[1]["positions"] == [{"position": 4, "total_clicks": 2}]
    assert shown[1]["id"] != whole[1]["id"]
    again = links(shared_rows(rows, SECRET), "all")["rows"]
    assert again == shown, "the same in every process and after each change"
    assert links(shared_rows(rows, b"another"), "all")["rows"] != shown
    assert rows[b.LINK].names[text_id(told), 0] == told, "what others see stays as it is"


def test_reasons_that_are_the_same_then_add_up() -> None:
    ada, bob = "no mailbox ada@example.com", "no mailbox bob@example.com"
    rows = {
        b.PROVIDER: Rows(tallies={(7, 0): 1}, names={(7, 0): "Gmail"}),
        b.REASON: Rows(
            tallies={(7, text_id(ada)): 1, (7, text_id(bob)): 2},
            names={(7, text_id(ada)): ada, (7, text_id(bob)): bob},
        ),
    }
    shown = providers(shared_rows(rows, SECRET), "all")["rows"]
    assert isinstance(shown, list)
    (row,) = shown
    assert row["reasons"][f"no mailbox {HIDDEN}"] == 3
    assert "@" not in str(row)
