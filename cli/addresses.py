"""Where the own servers are: each writes its address to a file in `<data>/run` while it accepts connections.

`<data>/run/kafka` holds bootstrap servers, `<data>/run/redis` a URL. A role that needs them waits for the files of
those that the settings leave empty. A file that is damaged is as good as none, and named: its server writes it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from app.errors import ConfigError, TryLater
from app.settings import PREFIX, Settings, settings_from
from tables.drafts import FOR_ALL, write_whole

POLL_S = 0.05
_SETTINGS = ("kafka", "redis")
"""Servers whose address a setting may name: what their file says must be right as that."""


def address_file(data: Path, server: str) -> Path:
    return data / "run" / server


def publish_address(data: Path, server: str, address: str) -> None:
    """Say that the server accepts connections at the address; whole or not at all."""
    path = address_file(data, server)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{address}\n".encode(), FOR_ALL)


def withdraw_address(data: Path, server: str) -> None:
    address_file(data, server).unlink(missing_ok=True)


def read_address(data: Path, server: str) -> str:
    """The published address, or an empty string."""
    try:
        address = address_file(data, server).read_text("ascii").strip()
        if address and server in _SETTINGS:
            settings_from({}, {server: address})
    except (OSError, UnicodeDecodeError, ConfigError):
        return ""
    return address


def why_no_address(data: Path, server: str) -> str:
    """Why there is no published address, and the way out."""
    path = address_file(data, server)
    if path.exists():
        return f"{path} can't be read as an address: start `reports {server}` again, which writes it"
    return (
        f"{PREFIX}{server.upper()} is not set and no own server runs with the data folder {data}: start "
        f"`reports {server}` or `reports up`"
    )


def wait_for_addresses(
    settings: Settings, timeout_s: float = 60.0, servers: Sequence[str] = ("kafka", "redis")
) -> Settings:
    """The settings with `kafka` and `redis` filled in. Raises TryLater when one isn't there in time."""
    deadline = time.monotonic() + timeout_s
    found: dict[str, str] = {}
    for server in servers:
        if getattr(settings, server):
            continue
        while not (address := read_address(settings.data, server)):
            if time.monotonic() >= deadline:
                raise TryLater(1, why_no_address(settings.data, server))
            time.sleep(POLL_S)
        found[server] = address
    return msgspec.structs.replace(settings, **found)
