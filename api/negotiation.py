"""What a client has already, and in which coding it takes the rest."""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from starlette.requests import Request
from starlette.responses import Response


class Kept(msgspec.Struct, frozen=True):
    """A text that changes with a release only: asked for each time, and sent when it is another one."""

    content: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers={**headers, "Content-Type": self.media_type})


def kept(content: bytes, media_type: str) -> Kept:
    return Kept(content, media_type, f'"{blake2b(content, digest_size=12).hexdigest()}"')


def codings_of(header: str) -> set[str]:
    """The codings of an `Accept-Encoding` that a client takes: those that it gives no weight of 0."""
    taken = set()
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        number = weight.replace(" ", "").removeprefix("q=")
        if not number or number.strip("0.") != "":
            taken.add(name.strip().removeprefix("x-"))
    return taken
