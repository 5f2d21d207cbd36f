"""The sockets on which roles listen, and how many files they may hold open."""

from __future__ import annotations

import errno
import resource
import socket
from typing import Final

from app.errors import ConfigError
from app.settings import PREFIX, Settings

BACKLOG: Final = 4_096
"""Connections that wait to be accepted: ten thousand watchers come back within seconds after a restart."""


def listen(settings: Settings, where: str = f"{PREFIX}HTTP") -> socket.socket:
    """The listening socket, bound before anything else: a port in use is told at once. ConfigError says so."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.http_host, settings.http_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(where, f"{settings.http} is no address: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        raise ConfigError(where, f"{settings.http} {reason}") from None
    return sock


def raise_file_limit() -> None:
    """As many open connections and files as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
