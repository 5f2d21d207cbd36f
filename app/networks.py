"""Networks: what an IP address tells by itself, without a database.

Rules:
- Only networks that machines alone use stand in the table, with where that is said. Better few and sure than many: a
  person behind a network that is listed wrongly disappears from the numbers.
- So these are missing on purpose: clouds (Azure, AWS, Google Cloud: people browse from them too); Exchange Online (its
  image proxy serves people, its protection tier stands here); Apple's privacy proxy (the same addresses carry what
  people click, as iCloud Private Relay); Proofpoint, Mimecast and Zscaler (people browse through their isolation and
  gateways). Whoever knows better for their own recipients says so: `scanner_networks`, `proxy_networks`.
- An address in networks of both kinds has both bits; `app.verdicts` says which goes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from app.facts import NETWORK_PROXY, NETWORK_SCANNER
from app.keys import text_id

CACHE: Final = 16_384
WIDEST: Final = {4: 8, 6: 16}
"""Bits of the widest network that a setting may name; a wider one is a slip of the pen."""

# Sources, read 2026-11-24 (stored copies):
# [M] learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges, endpoint sets 9 and 10
#     (*.protection.outlook.com): the tier that filters mail and detonates links, no mailbox is read from it.
# [B] campus.barracuda.com, "IP ranges" of Email Gateway Defense (before: Email Security Service); that it follows links
#     from there: Act-On's "Identifying False Positives in Email Clicks". The lists in both were taken from memory.
# [G] developers.google.com/crawling/docs/crawlers-fetchers/google-user-triggered-fetchers: the names of fetchers'
#     addresses are google-proxy-….google.com. That Gmail's image proxy is among them, and the ranges that bear such
#     names: from memory and from reverse lookups that others published.
_SCANNERS: Final = (
    "40.92.0.0/15",  # [M]
    "40.107.0.0/16",  # [M]
    "52.100.0.0/14",  # [M]
    "104.47.0.0/17",  # [M]
    "2a01:111:f400::/48",  # [M]
    "2a01:111:f403::/48",  # [M]
    "64.235.144.0/20",  # [B]
    "209.222.80.0/21",  # [B]
)
_PROXIES: Final = (
    "64.233.172.0/23",  # [G]
    "66.102.8.0/23",  # [G]
    "66.249.80.0/20",  # [G]
)


class Network(NamedTuple):
    text_id: int
    """`Fact.network`: of the address's /24 (IPv4) or /48 (IPv6); 0 for what is no address."""
    evidence: int
    """NETWORK_PROXY and NETWORK_SCANNER."""


_NONE: Final = Network(0, 0)

_Address = IPv4Address | IPv6Address


class Networks:
    """The table and an organisation's own networks, as `network_problem` takes them."""

    def __init__(self, proxies: Iterable[str] = (), scanners: Iterable[str] = ()) -> None:
        # By version and bits to shift away: network → evidence. There are few lengths of prefix, so few look-ups.
        self._bits: dict[int, dict[int, dict[int, int]]] = {4: {}, 6: {}}
        for names, evidence in (
            ((*_PROXIES, *proxies), NETWORK_PROXY),
            ((*_SCANNERS, *scanners), NETWORK_SCANNER),
        ):
            for name in names:
                self._add(ip_network(name), evidence)
        self.find = lru_cache(maxsize=CACHE)(self._find)
        """An address as the ESP gives it → its `Network`."""

    def _add(self, network: IPv4Network | IPv6Network, evidence: int) -> None:
        shift = network.max_prefixlen - network.prefixlen
        known = self._bits[network.version].setdefault(shift, {})
        prefix = int(network.network_address) >> shift
        known[prefix] = known.get(prefix, 0) | evidence

    def _find(self, ip: str) -> Network:
        try:
            address: _Address = ip_address(ip.strip())
        except ValueError:
            return _NONE
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        number = int(address)
        evidence = 0
        for shift, known in self._bits[address.version].items():
            evidence |= known.get(number >> shift, 0)
        return Network(_text_id(address), evidence)


@lru_cache(maxsize=256)
def networks_of(proxies: tuple[str, ...], scanners: tuple[str, ...]) -> Networks:
    return Networks(proxies, scanners)


def network_problem(name: str) -> str | None:
    """What is wrong with a network in CIDR notation (or one address), in words; None: nothing."""
    try:
        network = ip_network(name)
    except ValueError:
        try:
            network = ip_network(name, strict=False)
        except ValueError:
            return f'{name!r} is no network, as "203.0.113.0/24" is one'
        return f"{name!r} has bits set behind its length: {network} is the network"
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        return f"{name!r} is IPv4 written as IPv6: write it as IPv4"
    if network.prefixlen < WIDEST[network.version]:
        return f"{name!r} is wider than /{WIDEST[network.version]}"
    return None


def _text_id(address: _Address) -> int:
    if isinstance(address, IPv4Address):
        return text_id(f"{address.packed[:3].hex()}/24")
    return text_id(f"{address.packed[:6].hex()}/48")
