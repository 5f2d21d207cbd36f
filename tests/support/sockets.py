"""What this process connects to: nothing but loopback, or the test hears of it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest


class Connections:
    """Hosts beyond loopback that somebody wanted to reach or to look up; none of them was."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def check(self, host: object) -> None:
        if host is None or _is_loopback(host):
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.refused.append(name)
        raise OSError(f"a test wanted to reach {name}")


def _is_loopback(host: object) -> bool:
    if host in ("localhost", b"localhost", ""):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def loopback_only(patch: pytest.MonkeyPatch) -> Connections:
    """From now on no socket of Python's reaches beyond loopback, and no name is looked up."""
    connections = Connections()

    def guarded(name: str) -> None:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *arguments: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(arguments[-1], tuple):
                connections.check(arguments[-1][0])
            return real(self, *arguments)

        patch.setattr(socket.socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)
    real_lookup = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **more: Any) -> Any:
        connections.check(host)
        return real_lookup(host, *arguments, **more)

    patch.setattr(socket, "getaddrinfo", look_up)
    return connections
