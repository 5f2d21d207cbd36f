"""A request to make a worker's state anew, in its state folder: `reports rebuild` writes it, the worker answers it.

A database that was rebuilt notes the request's id (`Meta.rebuilt`), so one request is answered once, by whichever
worker opens the database first; and `Meta.rebuilding` marks one that was not finished.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

FILE: Final = "rebuild.json"


class Request(msgspec.Struct, frozen=True):
    id: str
    from_log: bool = False
    """Forget the state and count the log again; else sums, sections and index are made anew from the recipients."""


NONE: Final = Request("")


def read_request(state: Path) -> Request:
    """The last request, `NONE` where there never was one. Raises ValueError for a file that is none."""
    try:
        return msgspec.json.decode((state / FILE).read_bytes(), type=Request)
    except FileNotFoundError:
        return NONE


def write_request(state: Path, request: Request) -> None:
    temporary = state / f"{FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(request))
    temporary.replace(state / FILE)
