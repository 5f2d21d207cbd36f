from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.facts import NETWORK_PROXY, NETWORK_SCANNER
from app.keys import text_id
from app.networks import _PROXIES, _SCANNERS, Network, Networks, network_problem, networks_of

KNOWN = Networks()


@pytest.mark.parametrize("name", [*_PROXIES, *_SCANNERS])
def test_what_the_table_lists_is_well_formed_and_found_from_end_to_end(name: str) -> None:
    assert network_problem(name) is None
    network = ip_network(name)
    bit = NETWORK_PROXY if name in _PROXIES else NETWORK_SCANNER
    first, last = network.network_address, network.broadcast_address
    assert KNOWN.find(str(first)).evidence == KNOWN.find(str(last)).evidence == bit
    assert KNOWN.find(str(first - 1)).evidence in (0, bit)
    assert KNOWN.find(str(last + 1)).evidence in (0, bit)


def test_nothing_is_listed_twice() -> None:
    networks = [ip_network(name) for name in (*_PROXIES, *_SCANNERS)]
    for place, one in enumerate(networks):
        assert not any(one.version == other.version and one.overlaps(other) for other in networks[:place])


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "127.0.0.1",
        "10.0.0.1",
        "40.94.0.1",  # Exchange Online beside its protection
        "17.58.63.10",  # Apple
        "67.231.152.1",  # Proofpoint: its isolation carries people
        "8.8.8.8",
        "::1",
        "2a01:111:f402::1",
    ],
)
def test_where_people_may_be_is_not_listed(address: str) -> None:
    assert KNOWN.find(address).evidence == 0


@pytest.mark.parametrize("text", ["", " ", "no address", "192.0.2", "192.0.2.256", "192.0.2.1/24", "\udcff"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert KNOWN.find(text) == Network(0, 0)


def test_the_id_is_that_of_the_network() -> None:
    assert KNOWN.find("192.0.2.7").text_id == KNOWN.find(" 192.0.2.200 ").text_id == text_id("c00002/24")
    assert KNOWN.find("192.0.3.7").text_id != text_id("c00002/24")
    assert KNOWN.find("::ffff:192.0.2.7").text_id == text_id("c00002/24")
    assert KNOWN.find("2001:db8:1:2::3").text_id == text_id("20010db80001/48")


def test_an_organisation_has_networks_of_its_own() -> None:
    networks = Networks(["203.0.113.0/24", "2001:db8::/32"], ["198.51.100.7", "203.0.113.128/25"])
    assert networks.find("203.0.113.1").evidence == NETWORK_PROXY
    assert networks.find("203.0.113.200").evidence == NETWORK_PROXY | NETWORK_SCANNER
    assert networks.find("::ffff:203.0.113.1").evidence == NETWORK_PROXY
    assert networks.find("198.51.100.7").evidence == NETWORK_SCANNER
    assert networks.find("198.51.100.8").evidence == 0
    assert networks.find("2001:db8:ffff::1").evidence == NETWORK_PROXY
    assert networks.find("66.249.84.1").evidence == NETWORK_PROXY
    assert KNOWN.find("203.0.113.1").evidence == 0


def test_the_same_settings_share_what_is_cached() -> None:
    assert networks_of((), ("192.0.2.0/24",)) is networks_of((), ("192.0.2.0/24",))
    assert networks_of((), ("192.0.2.0/24",)) is not networks_of(("192.0.2.0/24",), ())


@pytest.mark.parametrize("name", ["192.0.2.0/24", "192.0.2.7", "192.0.2.7/32", "10.0.0.0/8", "2001::/16"])
def test_a_network(name: str) -> None:
    assert network_problem(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("example.com", "is no network"),
        ("192.0.2.0/33", "is no network"),
        ("192.0.2.*", "is no network"),
        ("192.0.2.7/24", "has bits set behind its length: 192.0.2.0/24 is the network"),
        ("0.0.0.0/0", "is wider than /8"),
        ("64.0.0.0/7", "is wider than /8"),
        ("2000::/3", "is wider than /16"),
        ("::ffff:192.0.2.0/120", "write it as IPv4"),
    ],
)
def test_what_is_wrong_with_a_network(name: str, words: str) -> None:
    problem = network_problem(name)
    assert problem is not None and words in problem and repr(name) in problem


NETWORKS = st.lists(
    st.builds(lambda number, bits: str(ip_network((number, bits), strict=False)),
              st.integers(0x0A000000, 0x0A0000FF), st.integers(8, 32)),
    max_size=6,
)  # fmt: skip


@given(NETWORKS, NETWORKS, st.integers(0x09FFFFF0, 0x0A00010F))
def test_an_address_is_found_in_whatever_holds_it(
    proxies: list[str], scanners: list[str], number: int
) -> None:
    address = ip_address(number)
    proxy = any(address in ip_network(name) for name in proxies)
    scanner = any(address in ip_network(name) for name in scanners)
    found = Networks(proxies, scanners).find(str(address)).evidence
    assert found == (NETWORK_PROXY if proxy else 0) | (NETWORK_SCANNER if scanner else 0)
