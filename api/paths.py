"""Names in addresses. A campaign's name is any text that a sender's templates made, a slash included.

ASGI hands over the path decoded, where `a%2Fb` and `a/b` look the same. `SegmentPaths` takes the path as it came over
the wire, and leaves `/` and `%` inside one segment encoded; the convertor `name` decodes them: `{campaign:name}`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

CAMPAIGNS: Final = "/api/v1/campaigns"
CAMPAIGN: Final = CAMPAIGNS + "/{campaign:name}"


class NameConvertor(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("name", NameConvertor())


class SegmentPaths:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: bytes = scope.get("raw_path") or b""
            if b"%" in raw and not scope.get("root_path"):
                scope = {**scope, "path": segment_path(raw)}
        await self._app(scope, receive, send)


def segment_path(raw_path: bytes) -> str:
    """`/a%2Fb/%C3%A4` → `/a%2Fb/ä`: decoded but for what would read as a border of segments."""
    segments = raw_path.decode("latin-1").split("/")
    return "/".join(unquote(segment).replace("%", "%25").replace("/", "%2F") for segment in segments)
