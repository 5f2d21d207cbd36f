"""A request to rebuild the workers' state: `reports rebuild` writes it to Redis, and each worker into its state folder.

A database that was rebuilt notes the request's id (`Meta.rebuilt`), so one request is answered once, by whichever
worker opens the database first; and `Meta.rebuilding` marks one that was not finished.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from app.errors import UNDECODABLE
from tables.drafts import FOR_ALL, write_whole
from tables.views import REBUILD

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

FILE: Final = "rebuild.json"
HELD_S: Final = 3600
"""How long a request stands in Redis. Workers look each second; one that starts later has no part in it."""


class Request(msgspec.Struct, frozen=True):
    id: str
    from_log: bool = False
    """Forget the state and count the log again; else sums, sections and index are computed from the recipients."""


NONE: Final = Request("")


async def ask(redis: Redis, request: Request) -> None:
    """Asks all workers. Raises RedisError."""
    await redis.set(REBUILD, msgspec.json.encode(request), ex=HELD_S)


async def asked(redis: Redis) -> Request:
    """What was asked of all workers last, `NONE` where it is long ago or unreadable. Raises RedisError."""
    text = await redis.get(REBUILD)
    with contextlib.suppress(*UNDECODABLE):
        return msgspec.json.decode(text or b"", type=Request)
    return NONE


def read_request(state: Path) -> Request:
    """The last request, `NONE` where there never was one; a damaged file is made again as that."""
    try:
        return msgspec.json.decode((state / FILE).read_bytes(), type=Request)
    except FileNotFoundError:
        return NONE
    except UNDECODABLE:
        log.warning(
            "%s is damaged and made again: where a rebuild that was asked for isn't done, ask for it again",
            state / FILE,
        )
        write_request(state, NONE)
        return NONE


def write_request(state: Path, request: Request) -> None:
    write_whole(state / FILE, msgspec.json.encode(request), FOR_ALL)
