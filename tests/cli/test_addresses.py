"""Addresses of the own servers: a file that is damaged is named, and nobody falls over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import StateError, TryLater
from app.settings import Settings
from cli.addresses import address_file, publish_address, read_address, wait_for_addresses
from cli.log_writer import kafka_of

DAMAGED = (b"\xff\xfe{garbage", b"\x00" * 20, b"", b"no address", b"127.0.0.1:many")


@pytest.mark.parametrize("damaged", DAMAGED)
@pytest.mark.parametrize("server", ["kafka", "redis"])
def test_a_damaged_file_is_named_and_its_server_writes_it_again(
    tmp_path: Path, server: str, damaged: bytes
) -> None:
    settings = Settings(data=tmp_path, kafka="", redis="")
    path = address_file(tmp_path, server)
    address = "127.0.0.1:9092" if server == "kafka" else "redis://127.0.0.1:6379/0"
    publish_address(tmp_path, server, address)
    path.write_bytes(damaged)
    assert read_address(tmp_path, server) == ""
    with pytest.raises(TryLater, match=f"{path} can't be read as an address: start `reports {server}` again"):
        wait_for_addresses(settings, 0, (server,))
    if server == "kafka":
        with pytest.raises(StateError, match=str(path)):
            kafka_of(settings)
    publish_address(tmp_path, server, address)
    assert getattr(wait_for_addresses(settings, 0, (server,)), server) == address


def test_without_a_file_the_setting_or_the_server_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match=r"REPORTS_KAFKA is not set .* start `reports kafka` or `reports up`"):
        wait_for_addresses(Settings(data=tmp_path), 0, ("kafka",))
