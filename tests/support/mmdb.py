"""A small City database in MaxMind's format (maxmind.github.io/MaxMind-DB, version 2): IPv4, records of 24 bits."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

Value = str | int | dict[str, "Value"] | list["Value"]


class _U32(int):
    """A number that the format wants in 32 bits."""


_MARKER = b"\xab\xcd\xefMaxMind.com"


def write_mmdb(path: Path, database_type: str, networks: dict[str, dict[str, Value]]) -> None:
    """`networks`: IPv4 networks that do not overlap → their records."""
    data = bytearray()
    nodes: list[list[int | None]] = [[None, None]]  # of each side: a node's number, or -1 - place in `data`
    for network, record in networks.items():
        place = len(data)
        data += _encoded(record)
        _insert(nodes, IPv4Network(network), -1 - place)
    count = len(nodes)
    tree = bytearray()
    for node in nodes:
        for side in node:
            number = count if side is None else side if side >= 0 else count + 16 + (-1 - side)
            tree += number.to_bytes(3, "big")
    metadata: dict[str, Value] = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_790_000_000,
        "database_type": database_type,
        "description": {"en": "for tests"},
        "ip_version": 4,
        "languages": ["en"],
        "node_count": _U32(count),
        "record_size": 24,
    }
    path.write_bytes(tree + bytes(16) + data + _MARKER + _encoded(metadata))


def _insert(nodes: list[list[int | None]], network: IPv4Network, leaf: int) -> None:
    bits = f"{int(network.network_address):032b}"[: network.prefixlen]
    node = 0
    for bit in bits[:-1]:
        following = nodes[node][int(bit)]
        if following is None:
            nodes.append([None, None])
            following = nodes[node][int(bit)] = len(nodes) - 1
        node = following
    nodes[node][int(bits[-1])] = leaf


def _encoded(value: Value) -> bytes:
    if isinstance(value, str):
        raw = value.encode()
        return _control(2, len(raw)) + raw
    if isinstance(value, int):
        # The metadata's numbers have fixed types of 16, 32 and 64 bits.
        kind, size = (6, 4) if isinstance(value, _U32) else (9, 8) if value > 1 << 30 else (5, 2)
        return _control(kind, size) + value.to_bytes(size, "big")
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encoded, value))
    return _control(7, len(value)) + b"".join(_encoded(key) + _encoded(item) for key, item in value.items())


def _control(kind: int, size: int) -> bytes:
    """Type and size; types above 7 have their number in a byte of its own."""
    number, more = (kind, b"") if kind <= 7 else (0, bytes([kind - 7]))
    if size < 29:
        return bytes([number << 5 | size]) + more
    return bytes([number << 5 | 29]) + more + bytes([size - 29])
