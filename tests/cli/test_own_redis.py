from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import redis

from app.errors import ConfigError
from app.settings import Settings
from cli import own_server
from cli.addresses import address_file, read_address, wait_for_addresses
from cli.own_redis import start
from tests.support.processes import alive, children, end, environment, reports, wait_until


def test_it_keeps_its_data_through_an_end_and_through_kill_9(tmp_path: Path) -> None:
    addresses = set()
    for life, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
        output = tmp_path / f"output-{life}"
        with reports(["redis"], environment(tmp_path) | {"PATH": "/nonexistent"}, output) as role:
            # The address of a killed one is still there: its own word counts.
            wait_until(lambda output=output: b"ready after" in output.read_bytes(), 30)  # type: ignore[misc]
            url = wait_for_addresses(Settings(data=tmp_path, kafka="unused:1"), 30).redis
            addresses.add(url)
            (server,) = children(role.pid)
            with redis.Redis.from_url(url) as client:
                assert client.incr("lives") == life + 1
            assert end(role, number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
            wait_until(lambda pid=server: not alive(pid), 5, "the end of the server")  # type: ignore[misc]
    assert len(addresses) == 1
    assert read_address(tmp_path, "redis") == ""


def test_its_settings(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        found = client.config_get()
    expected = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
    assert {name: found[name] for name in expected} == expected
    assert found["bind"] == "127.0.0.1"


def test_a_remembered_port_that_is_taken_gives_another(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        (tmp_path / "redis").mkdir()
        (tmp_path / "redis" / "ports").write_text(f"{taken}\n")
        server = start(Settings(data=tmp_path), print)
        try:
            assert f":{taken}/" not in read_address(tmp_path, "redis")
            assert (tmp_path / "redis" / "ports").read_text() != f"{taken}\n"
        finally:
            server.stop()


def test_a_set_port(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.listen()
        with pytest.raises(ConfigError, match=f"REPORTS_REDIS_PORT: port {port} can't be used"):
            start(Settings(data=tmp_path, redis_port=port), print)
    server = start(Settings(data=tmp_path, redis_port=port), print)
    try:
        assert read_address(tmp_path, "redis") == f"redis://127.0.0.1:{port}/0"
    finally:
        server.stop()


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    server = own_server.OwnServer("redis", tmp_path)
    server.lock()
    deaf = tmp_path / "deaf"
    server.start(
        ["/bin/sh", "-c", f"trap '' TERM; : >{deaf}; while :; do sleep 0.1; done"], lambda: True, "x"
    )
    assert server.process is not None
    wait_until(deaf.exists)
    server.stop(timeout_s=0.5)
    assert server.process.returncode == -signal.SIGKILL
    assert not address_file(tmp_path, "redis").exists()


@pytest.mark.parametrize("damaged", [b"\xff\xfe{garbage", b"99999\n", b"-1\n", b""])
def test_damaged_remembered_ports_are_chosen_again(tmp_path: Path, damaged: bytes) -> None:
    server = own_server.OwnServer("redis", tmp_path)
    (tmp_path / "redis" / "ports").write_bytes(damaged)
    (port,) = server.ports([0])
    assert server.ports([0]) == [port]
    assert (tmp_path / "redis" / "ports").read_text() == f"{port}\n"
