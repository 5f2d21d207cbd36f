"""All campaigns of an organisation: those that the views in Redis know, and those in topic `facts` behind them.

There are some behind them while a worker is behind or not there, and where Redis came back with an older file.

Rules:
- Names and positions are of one moment of Redis, so that an older file can't come in between them.
- The log must go on where the positions end. Where it begins above one, or is of another topic, nobody here knows what
  stood in between: that is said (`NOT_KNOWN`), and no list is given. It ends once the workers have published, which
  are at or above the log's begin, or have been told to go on there (`reports accept-gap`).
- What is removed from the log while it is read is found by a second look.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec

from app.errors import UNDECODABLE, StateError, TryLater
from app.facts import FactsRecord, decode_record
from app.topics import FACTS
from tables.log_reader import LogReader, Stretch
from tables.origin import topic_ids
from tables.redis_names import runs_of_names
from tables.views import Fence, ViewReader, counts_name, topic_prefix

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOT_KNOWN: Final = "not all campaigns are known yet"
RETRY_S: Final = 2
LONG_S: Final = 10


FENCES_AT_ONCE: Final = 2_500
"""So many take Redis some milliseconds, in which it does nothing else."""

# KEYS: reports or sections of campaigns. ARGV: organisation, partitions. Returns the names of the organisation's
# campaigns among them, then for each partition how many of these have a share of it. Here, since so many fences would
# take the caller's event loop a thousand times longer.
_SHARES: Final = """
local campaigns, counts, fields = {}, {}, {}
for i = 2, #ARGV do
  fields[i - 1] = 'f:' .. ARGV[i]
  counts[i - 1] = 0
end
for _, key in ipairs(KEYS) do
  local who = redis.call('HMGET', key, 'org', 'campaign')
  if who[1] == ARGV[1] and who[2] then
    campaigns[#campaigns + 1] = who[2]
    if #fields > 0 then
      for i, fence in ipairs(redis.call('HMGET', key, unpack(fields))) do
        if fence then counts[i] = counts[i] + 1 end
      end
    end
  end
end
return {campaigns, counts}
"""


class Counted(NamedTuple):
    campaigns: set[str]
    positions: dict[int, Fence]
    """Partition → up to where facts are counted in them at least."""


async def counted_campaigns(redis: Redis, views: ViewReader, org: str) -> Counted:
    """Raises TryLater where it can't be said, since Redis is being filled again. May raise RedisError.

    Not from the list alone: a key that Redis has lost is noticed some seconds later only. So each partition's shares
    are counted, too: it has said of how many campaigns there were some.
    """
    listed = await views.listed_campaigns(org)
    if listed is None:
        raise TryLater(
            RETRY_S, f"{NOT_KNOWN}, Redis is being filled: see that `reports aggregate` runs, and try again"
        )
    campaigns = listed.names
    stored = cast("dict[bytes, bytes]", await redis.hgetall(counts_name(views.topic)))
    said = {partition.decode(): _count(counts, org) for partition, counts in stored.items()}
    found: Counter[str] = Counter()
    for kind, partitions in (("report:", [*said]), ("sections:", [])):
        seen: set[str] = set()
        at_once = max(1, FENCES_AT_ONCE // max(1, len(partitions)))
        async for run in runs_of_names(redis, topic_prefix(views.topic) + kind + "*"):
            names = [name for name in dict.fromkeys(run) if name not in seen]  # SCAN gives some twice
            seen.update(names)
            while names:
                asked, names = names[:at_once], names[at_once:]
                answer = redis.eval(_SHARES, len(asked), *asked, org, *partitions)
                some, counts = cast("tuple[list[bytes], list[int]]", await cast("Awaitable[object]", answer))
                campaigns |= {name.decode() for name in some}
                found.update(dict(zip(partitions, counts, strict=True)))
    if any(count is None or found[partition] < count for partition, count in said.items()):
        raise TryLater(
            RETRY_S, f"{NOT_KNOWN}, Redis has lost some: see that `reports aggregate` runs, and try again"
        )
    return Counted(campaigns, listed.positions)


def _count(stored: bytes, org: str) -> int | None:
    """Of how many campaigns of the organisation a partition has shares; None: what it said can't be read."""
    try:
        return msgspec.json.decode(stored, type=dict[str, int]).get(org, 0)
    except UNDECODABLE:
        return None


def uncounted_campaigns(
    kafka: str, org: str, positions: Mapping[int, Fence], partitions: int, *, within_s: float
) -> set[str]:
    """Names of the organisation's campaigns with facts behind the positions, which may be counted already.

    Blocks. Raises TryLater where not all of them can be known, or the log goes on for longer than can be read in time,
    and StateError where Kafka doesn't answer or topic `facts` is not there.
    """
    deadline = time.monotonic() + within_s
    found: set[str] = set()
    with LogReader(kafka) as reader:
        behind = _behind(kafka, reader, positions, partitions)
        for message in reader.read(FACTS, behind):
            try:
                record = decode_record(message.value() or b"")
            except UNDECODABLE:
                continue
            if isinstance(record, FactsRecord) and record.org == org:
                found.add(record.campaign)
            if time.monotonic() > deadline:
                raise TryLater(LONG_S, f"{NOT_KNOWN}, too much is not counted: see that the workers run")
        if any(stretch.begin < stretch.end for stretch in behind.values()):
            _behind(kafka, reader, positions, partitions)
    return found


def _behind(
    kafka: str, reader: LogReader, positions: Mapping[int, Fence], partitions: int
) -> dict[int, Stretch]:
    """Partition → what is stored behind its position. Raises as `uncounted_campaigns`."""
    try:
        topic = topic_ids(kafka, (FACTS,))[FACTS]  # first: where it is not there, this says so at once
    except TryLater as error:
        raise StateError(str(error)) from error
    stretches = {}
    for partition, stored in reader.whole(FACTS, partitions).items():
        published = positions.get(partition)
        if published is not None and published.topic != topic:
            raise _unknown(partition, "the numbers are those of the topic before it was recreated")
        position = published.offset if published is not None else 0
        if position < stored.begin:
            raise _unknown(partition, f"the log begins at offset {stored.begin}, above offset {position}")
        # Behind a log that lost its end: what has come in since is below the position, and all of it is looked at.
        stretches[partition] = Stretch(position if position <= stored.end else stored.begin, stored.end)
    return stretches


def _unknown(partition: int, why: str) -> TryLater:
    return TryLater(
        RETRY_S,
        f"{NOT_KNOWN}, what topic {FACTS} had behind the report numbers of partition {partition} is gone ({why}): see "
        "that `reports aggregate` runs and what GET /ops/workers says of the partition, and try again",
    )
