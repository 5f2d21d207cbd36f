"""The pages: what `make web` builds from `web/` into `api/static`, read once, each file named in a table.

Rules:
- No path of a request touches a disk.
- Files whose names carry a hash of their content never change and are kept by browsers for ever; the page itself is
  asked for each time and has an ETag, so a new release shows at the next load.
- Every path of the pages gives the same page, which looks at the address itself. What isn't in `PLACES` is 404.
- Compressed copies were made by the build; nothing is compressed while somebody waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.negotiation import Kept, codings_of, kept
from api.operations import HTML

FOLDER: Final = Path(__file__).parent / "static"
PLACES: Final = ("campaigns", "compare", "operations", "connect", "shared")
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
"""Content coding → how the copy's name ends; the better one first."""
NOT_BUILT: Final = (
    "The pages are not built. Run `make web` and start again; everything else works without them.\n"
)


class Asset(msgspec.Struct, frozen=True):
    media_type: str
    content: bytes
    coded: Mapping[str, bytes]


@lru_cache
def assets(folder: Path) -> Mapping[str, Asset]:
    """Name → file; empty where nothing is built."""
    found = {}
    for path in sorted((folder / "assets").glob("*")):
        if path.suffix in TYPES:
            copies = {coding: path.with_name(path.name + end) for coding, end in CODINGS}
            coded = {coding: copy.read_bytes() for coding, copy in copies.items() if copy.is_file()}
            found[path.name] = Asset(TYPES[path.suffix], path.read_bytes(), coded)
    return found


async def asset(request: Request) -> Response:
    found = assets(FOLDER).get(request.path_params["name"])
    if found is None:
        return Response("Not found\n", 404, {"Cache-Control": "no-store"}, media_type="text/plain")
    content = found.content
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    accepted = codings_of(request.headers.get("accept-encoding", ""))
    for coding in found.coded:
        if coding in accepted:
            content = found.coded[coding]
            headers["Content-Encoding"] = coding
            break
    return Response(content, headers={**headers, "Content-Type": found.media_type})


@lru_cache
def page(folder: Path) -> Kept | None:
    """None where it is not built."""
    try:
        return kept((folder / "index.html").read_bytes(), HTML)
    except FileNotFoundError:
        return None


async def index(request: Request) -> Response:
    found = page(FOLDER)
    if found is None:
        return Response(NOT_BUILT, 503, {"Cache-Control": "no-store"}, media_type="text/plain")
    return found.answer(request)


def routes() -> list[BaseRoute]:
    assets(FOLDER), page(FOLDER)  # read now, and not while somebody waits
    found: list[BaseRoute] = [
        Route("/assets/{name}", asset, methods=["GET"]),
        Route("/", index, methods=["GET"]),
    ]
    for place in PLACES:
        found += [
            Route(f"/{place}", index, methods=["GET"]),
            Route(f"/{place}/{{rest:path}}", index, methods=["GET"]),
        ]
    return found
