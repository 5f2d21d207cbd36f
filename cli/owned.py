"""Where the partitions' databases are, and whether they have all that reports show: for commands that read them beside
their workers.

A path of another machine may be one of this machine too, with an old copy in it: what is there is its worker's only
where the folder has the word with which the worker's name begins (`agents.slots`).
A partition that is set aside may have an empty database in the place of the one that was counted: nothing would be
wrong with what is read there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from redis import RedisError

from agents.set_aside import SET_ASIDE
from app.errors import StateError
from app.settings import Settings
from cli.verifier.stored import Owner, owners
from tables.presence import WORKERS, conditions_of, folder_word
from tables.redis_client import redis_of, redis_words
from tables.redis_clock import time_ms
from tables.views import NUMBERS, Fence, fences_of

TIMEOUT_S = 5.0


class Owned(NamedTuple):
    owners: dict[int, Owner]
    published: dict[int, Fence]
    """How far the numbers go that reports show. As of before any database is opened: none that counts is behind it."""
    aside: frozenset[int]
    """Partitions that are set aside."""

    def shortage(self, partition: int, fence: Fence) -> str:
        """Why a database that is at `fence` doesn't have all that reports show, for operators; empty: it has."""
        published, is_aside = self.published.get(partition), partition in self.aside
        if published is None and is_aside:
            return f"partition {partition} is set aside, and Redis doesn't say how far its numbers went"
        # Of another topic: one that counts has just gone over to it.
        if published is None or (fence.topic != published.topic and not is_aside):
            return ""
        if fence.topic == published.topic and fence.offset >= published.offset:
            return ""
        why = "is set aside (GET /ops/workers says why, and the way out)" if is_aside else "is counted again"
        return f"partition {partition} {why}, and its database lacks what reports show"

    def unowned(self) -> list[str]:
        """Of each partition of which reports show something, and whose database nobody has, that it is so."""
        return [
            f"no worker has the database of partition {partition}"
            + (", which is set aside" * (partition in self.aside))
            for partition in sorted((self.published.keys() | self.aside) - self.owners.keys())
            if partition in self.aside or self.published[partition].offset
        ]


def is_here(owner: Owner) -> bool:
    """Whether the database is in a folder of this machine."""
    return folder_word(Path(owner.state).parent) == owner.worker.rpartition("-")[0]


def elsewhere(owners: Mapping[int, Owner]) -> list[str]:
    """Of each worker whose databases are on other machines, which and where they are, for operators."""
    there: dict[tuple[str, Path], list[str]] = {}
    for partition, owner in sorted(owners.items()):
        if not is_here(owner):
            there.setdefault((owner.worker, Path(owner.state).parent), []).append(str(partition))
    return [
        f"partition {', '.join(partitions)} is counted by {worker} in {folder}, which is not on this machine"
        for (worker, folder), partitions in there.items()
    ]


def owned(settings: Settings) -> Owned:
    """Raises StateError where Redis doesn't answer."""
    try:
        return asyncio.run(_owned(settings))
    except RedisError as error:
        raise StateError(
            f"who owns which partition can't be read: {redis_words(error, settings.redis)}"
        ) from None


async def _owned(settings: Settings) -> Owned:
    redis = redis_of(settings, timeout_s=TIMEOUT_S)
    try:
        presences = cast(dict[bytes, bytes], await redis.hgetall(WORKERS))
        said = conditions_of(presences, time_ms(await redis.time()))
        published = fences_of(cast(dict[bytes, bytes], await redis.hgetall(NUMBERS.positions)))
        aside = frozenset(
            one.partition for one in said if one.code == SET_ASIDE and one.partition is not None
        )
        return Owned(await owners(redis), published, aside)
    finally:
        await redis.aclose()
