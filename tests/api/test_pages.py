"""How the pages are served: what was built, and nothing else."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from api import pages

SCRIPT = b"console.log('pages')"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>x</title>")
    for name, content in {
        "a-1.js": SCRIPT,
        "a-1.js.br": b"brotli",
        "a-1.js.gz": gzip.compress(SCRIPT),
        "a-1.map": b"{}",
    }.items():
        (tmp_path / "assets" / name).write_bytes(content)
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    return tmp_path


async def get(path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=pages.routes()))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://pages") as client,
        client.stream("GET", path, headers=sent) as answer,
    ):
        answer._content = b"".join([part async for part in answer.aiter_raw()])  # as it came over the wire
        return answer


async def test_every_place_gives_the_page_with_its_etag(built: Path) -> None:
    for path in ("/", "/campaigns", "/campaigns/a%2Fb/recipients", "/operations", "/shared"):
        answer = await get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        again = await get(path, if_none_match=answer.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
    assert (await get("/elsewhere")).status_code == 404


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip"), ("identity", None), ("", None)],
)
async def test_assets_are_for_ever_and_come_as_small_as_the_client_takes(
    built: Path, accepted: str, coding: str | None
) -> None:
    answer = await get("/assets/a-1.js", accept_encoding=accepted)
    assert answer.headers.get("content-encoding") == coding
    assert answer.content == {"br": b"brotli", "gzip": gzip.compress(SCRIPT), None: SCRIPT}[coding]
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("name", ["a-1.map", "a-1.js.gz", "..%2Findex.html", "%2Fetc%2Fpasswd", "none.js"])
async def test_only_what_the_table_names_is_there(built: Path, name: str) -> None:
    assert (await get(f"/assets/{name}")).status_code == 404


async def test_pages_that_are_not_built_say_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path / "nothing")
    answer = await get("/campaigns/spring")
    assert answer.status_code == 503
    assert "make web" in answer.text
