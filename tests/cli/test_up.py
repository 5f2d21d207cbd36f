from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import msgspec
import pytest

from app.errors import ConfigError, StateError
from app.organisations import ApiKey, Organisation, Organisations
from app.settings import Settings
from cli import up
from cli.supervisor import STAGES, Supervisor
from cli.up import only_one, page_address, roles_of, run_up, sign_in_link, why_not_ready, with_http_port


def test_own_servers_only_where_none_are_set() -> None:
    assert [role.name for role in roles_of(Settings(), 1, 1)] == [
        "kafka",
        "redis",
        "api",
        "normalize",
        "aggregate",
        "query",
    ]
    foreign = Settings(kafka="k:1", redis="redis://r:1/0")
    assert [role.name for role in roles_of(foreign, 2, 1)] == [
        "api",
        "normalize",
        "aggregate.1",
        "aggregate.2",
        "query",
    ]
    assert {role.stage for role in roles_of(Settings(), 1, 1)} <= {stage for stage, _ in STAGES}


def test_a_port_in_use_is_refused_and_port_0_becomes_a_free_one() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"REPORTS_HTTP: 127.0.0.1:{port} can't be used"):
            with_http_port(Settings(http=f"127.0.0.1:{port}"))
    assert with_http_port(Settings(http=f"127.0.0.1:{port}")).http_port == port
    assert with_http_port(Settings(http="127.0.0.1:0")).http_port > 0
    with pytest.raises(ConfigError, match="REPORTS_HTTP"):
        with_http_port(Settings(http="not-a-host.invalid:80"))


def test_one_per_data_folder(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    with (
        only_one(settings),
        pytest.raises(StateError, match=f"runs already .* process {os.getpid()}: end that one"),
        only_one(settings),
    ):
        pass
    with only_one(settings):
        (tmp_path / "run" / "up.lock").write_bytes(b"\xff\xfe")
        with pytest.raises(StateError, match="runs already"), only_one(settings):
            pass


def test_the_page_and_its_sign_in_link() -> None:
    assert page_address(Settings(http="0.0.0.0:81")) == "http://127.0.0.1:81"
    assert page_address(Settings(http="[::1]:81")) == "http://[::1]:81"
    assert page_address(Settings(public_url="https://r.example")) == "https://r.example"
    keys = (
        ApiKey(name="absent", org="a", secret=b"", scopes=frozenset({"read"}), absent=True),
        *(
            ApiKey(name=scope, org="a", secret=f"{scope}/ü".encode(), scopes=frozenset({scope}))
            for scope in ("ops", "read")
        ),
    )
    organisations = Organisations({"a": Organisation(id="a", name="A", timezone="UTC", keys=keys)})
    assert sign_in_link("http://h", Path("/d"), organisations) == "http://h/#key=read%2F%C3%BC"
    organisations.by_id["b"] = Organisation(id="b", name="B", timezone="UTC")
    assert sign_in_link("http://h", Path("/d"), organisations) == (
        "http://h/#key=read%2F%C3%BC (of A; the keys of the others lie in /d/keys, or where reports.toml says)"
    )
    assert sign_in_link("http://h", Path("/d"), Organisations()) == ""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (
            b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"error":"not_ready","message":"Kafka does not answer"}',
            "Kafka does not answer",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "the API gives no answer to /readyz"),
        (b"", "the API gives no answer to /readyz"),
    ],
)
async def test_readiness(answer: bytes, expected: str | None) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        assert asked == b"GET /readyz HTTP/1.1\r\n"
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        settings = Settings(http=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await why_not_ready(settings) == expected
    nobody = await why_not_ready(msgspec.structs.replace(settings, http="127.0.0.1:9"))
    assert nobody is not None and "nothing answers at 127.0.0.1:9" in nobody


async def test_who_waits_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "REMIND_S", 0.0)
    settings = Settings(http="127.0.0.1:9", data=tmp_path, kafka="k:1", redis="redis://r:1/0")
    supervisor = Supervisor([], lambda name, line: None)
    supervisor.refused["normalize"] = "this host has no secret"
    supervisor.refused["aggregate"] = "it had none either"
    supervisor.processes["aggregate"] = None  # type: ignore[assignment]  # it is being tried again
    greeter = asyncio.create_task(up._greet(settings, up.Teller(), supervisor, False))
    said = ""
    async with asyncio.timeout(10):
        while "still waiting" not in said:
            await asyncio.sleep(0.01)
            said += capsys.readouterr().out
    greeter.cancel()
    await asyncio.gather(greeter, return_exceptions=True)
    for part in ("nothing answers at 127.0.0.1:9", "normalize is refused: this host has no secret"):
        assert part in said
    assert "aggregate" not in said


def test_a_second_one_is_told_of_the_first_and_not_of_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        (tmp_path / "reports.toml").write_text("")
        monkeypatch.setenv("REPORTS_DATA", str(tmp_path))
        monkeypatch.setenv("REPORTS_CONFIG", str(tmp_path / "reports.toml"))
        monkeypatch.setenv("REPORTS_HTTP", f"127.0.0.1:{listener.getsockname()[1]}")
        with only_one(Settings(data=tmp_path)), pytest.raises(StateError, match="runs already"):
            run_up(aggregate=1, normalize=1, traffic=False)
