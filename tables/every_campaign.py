"""All campaigns of an organisation: those that the views in Redis know, and those in topic `facts` behind them.

There are some behind them while a worker is behind or not there, and where Redis came back with an older file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.errors import StateError, TryLater
from app.facts import FactsRecord, decode_record
from app.topics import FACTS
from tables.log_reader import LogReader, Stretch
from tables.origin import topic_ids
from tables.redis_names import runs_of_names
from tables.views import Fence, ViewReader, topic_prefix

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Counted(NamedTuple):
    campaigns: set[str]
    positions: dict[int, Fence]
    """Partition → up to where facts are counted in them at least."""


async def counted_campaigns(redis: Redis, views: ViewReader, org: str) -> Counted | None:
    """None where it can't be said: Redis is being filled again. May raise RedisError.

    Not from the list alone: a key that Redis has lost is noticed some seconds later only.
    """
    positions = await views.partition_offsets()
    listed = await views.listed_campaigns(org)
    if listed is None:
        return None
    campaigns = set(listed)
    for kind in ("report:", "sections:"):
        async for names in runs_of_names(redis, topic_prefix(views.topic) + kind + "*"):
            async with redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(name, ("org", "campaign"))
                shares = await pipe.execute()
            campaigns |= {name.decode() for owner, name in shares if owner == org.encode() and name}
    return Counted(campaigns, positions)


def uncounted_campaigns(
    kafka: str, org: str, positions: Mapping[int, Fence], partitions: int, *, within_s: float
) -> set[str]:
    """Names of the organisation's campaigns with facts behind the positions, which may be counted already.

    Blocks. Raises TryLater where Kafka doesn't answer, or the log goes on for longer than can be read in time.
    """
    deadline = time.monotonic() + within_s
    topic = topic_ids(kafka, (FACTS,))[FACTS]
    found: set[str] = set()
    try:
        with LogReader(kafka) as reader:
            behind = {
                partition: Stretch(max(stored.begin, _position(positions.get(partition), topic)), stored.end)
                for partition, stored in reader.whole(FACTS, partitions).items()
            }
            for message in reader.read(FACTS, behind):
                try:
                    record = decode_record(message.value() or b"")
                except msgspec.MsgspecError:
                    continue
                if isinstance(record, FactsRecord) and record.org == org:
                    found.add(record.campaign)
                if time.monotonic() > deadline:
                    raise TryLater(
                        10,
                        "too much is not counted yet to say which campaigns there are: see that the workers run",
                    )
    except StateError as error:
        raise TryLater(2, str(error)) from error
    return found


def _position(published: Fence | None, topic: str) -> int:
    return published.offset if published is not None and published.topic == topic else 0
