"""An organisation's campaigns in Redis: newest activity first, page by page, and by words of what they are called.

Rules:
- The order is that of the sorted set (`tables.views`): by time of the newest counted event, falling, then by name as
  bytes, falling. A page begins after a place in it, not after a number of rows: rows that did not move are neither
  skipped nor repeated while events come in, and moved ones stand where they now belong.
- What is searched is kept in this process (`app.campaign_search`), and read anew when a campaign came or was named:
  then only what changed is folded. A search costs Redis two small questions, however many campaigns there are.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast

from app.campaign_search import folded, found
from tables.views import Labels, ViewReader, campaigns_name, decode_labels, names_name, renames_name

if TYPE_CHECKING:
    from redis.asyncio import Redis

ORGANISATIONS: Final = 100
"""Whose campaigns are kept for searching, those that searched last."""
FEW: Final = 500
"""Found campaigns whose places are asked for by name; of more the sorted set is walked."""
STEP: Final = 500
_AT: Final = struct.Struct(">q")


class Place(NamedTuple):
    """Where a campaign stands in the list."""

    at_ms: int
    """-1: nothing was counted yet."""
    name: bytes

    def pack(self) -> bytes:
        return _AT.pack(self.at_ms) + self.name

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        return cls(_AT.unpack(packed[: _AT.size])[0], packed[_AT.size :])


class CampaignPage(NamedTuple):
    names: list[str]
    after: Place | None
    """Where the next page begins; None on the last one."""
    matching: int


class _Directory(NamedTuple):
    """What of one organisation is searched, as of `stamp`."""

    stamp: tuple[str, str, bytes | None, int]
    """Epoch, topic, how often something was named, how many campaigns there are."""
    packed: Mapping[bytes, bytes]
    """Campaign → what it is called, as Redis has it."""
    texts: Mapping[str, str]


class CampaignList:
    def __init__(self, redis: Redis, views: ViewReader) -> None:
        """`views`: knows which topic is the newest."""
        self._redis = redis
        self._views = views
        self._directories: OrderedDict[str, _Directory] = OrderedDict()

    async def page(
        self, org: str, words: Sequence[str], *, after: Place | None, limit: int, epoch: str
    ) -> CampaignPage:
        """The campaigns that have all the words (all there are, where there are no words), after a place."""
        await self._views.follow_newest()
        wanted: list[str] | None = None
        if words:
            wanted = found((await self._directory(org, epoch)).texts, words)
        if wanted is not None and len(wanted) <= FEW:
            places = await self._places(org, wanted)
            places = [place for place in places if after is None or place < after]
        else:
            places = await self._walk(org, after, limit + 1, wanted)
        matching = await self._count(org) if wanted is None else len(wanted)
        last = places[limit - 1] if len(places) > limit else None
        return CampaignPage([place.name.decode() for place in places[:limit]], last, matching)

    async def _count(self, org: str) -> int:
        return int(await self._redis.zcard(campaigns_name(self._views.topic, org)))

    async def _places(self, org: str, names: Sequence[str]) -> list[Place]:
        """In the order of the list."""
        if not names:
            return []
        times = await self._redis.zmscore(campaigns_name(self._views.topic, org), list(names))
        there = zip(times, names, strict=True)
        return sorted((Place(int(at), name.encode()) for at, name in there if at is not None), reverse=True)

    async def _walk(
        self, org: str, after: Place | None, count: int, wanted: Collection[str] | None
    ) -> list[Place]:
        """The first so many (of those that are wanted) after a place."""
        names = None if wanted is None else set(wanted)
        key = campaigns_name(self._views.topic, org)
        step = count if names is None else max(count, STEP)
        rank = 0 if after is None else await self._rank(org, after)
        places: list[Place] = []
        while len(places) < count:
            rows = cast(
                list[tuple[bytes, float]],
                await self._redis.zrevrange(key, rank, rank + step - 1, withscores=True),
            )
            places += (Place(int(at), name) for name, at in rows if names is None or name.decode() in names)
            if len(rows) < step:
                break
            rank += step
        return places[:count]

    async def _rank(self, org: str, after: Place) -> int:
        """How many stand before a place, or at it."""
        at = after.at_ms
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zcount(campaigns_name(self._views.topic, org), f"({at}", "+inf")
            pipe.zrevrangebyscore(campaigns_name(self._views.topic, org), at, at)
            found_: tuple[int, list[bytes]] = tuple(await pipe.execute())
        newer, same = found_
        return newer + sum(name >= after.name for name in same)

    async def _directory(self, org: str, epoch: str) -> _Directory:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(renames_name(self._views.topic, org))
            pipe.zcard(campaigns_name(self._views.topic, org))
            renames, count = await pipe.execute()
        known = self._directories.get(org)
        if known is None or known.stamp != (epoch, self._views.topic, renames, count):
            known = await self._read(org, epoch, known)
            self._directories[org] = known
        self._directories.move_to_end(org)
        if len(self._directories) > ORGANISATIONS:
            self._directories.popitem(last=False)
        return known

    async def _read(self, org: str, epoch: str, before: _Directory | None) -> _Directory:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(renames_name(self._views.topic, org))
            pipe.zrange(campaigns_name(self._views.topic, org), 0, -1)
            pipe.hgetall(names_name(self._views.topic, org))
            renames, members, packed = await pipe.execute()
        texts: dict[str, str] = {}
        for member in members:
            campaign = member.decode()
            named = packed.get(member)
            text = None if before is None else before.texts.get(campaign)
            if before is None or text is None or before.packed.get(member) != named:
                labels = Labels() if named is None else decode_labels(named)
                text = folded(campaign, labels.name, labels.subject)
            texts[campaign] = text
        return _Directory((epoch, self._views.topic, renames, len(members)), packed, texts)
