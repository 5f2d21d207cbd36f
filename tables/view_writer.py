"""The worker's side of the views in Redis: scripts that refuse what is older, and one round trip for a publication."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
from redis.exceptions import NoScriptError

from app.facts import CampaignKey
from tables.predecessor import forget_predecessor
from tables.presence import WORKERS, Presence
from tables.redis_names import PREFIX, InstallationRedis
from tables.views import (
    DELAYS,
    FORMAT_NUMBER,
    NUMBERS,
    OWNERS,
    PARTITIONS,
    SECTION_PARTITIONS,
    SECTIONS,
    TICK,
    TOPICS,
    Channel,
    DayPart,
    Delays,
    Fence,
    Labels,
    Owner,
    SummaryPart,
    campaigns_name,
    complete,
    fence_of,
    fences_of,
    names_name,
    pack_day,
    renames_name,
    report_name,
    sections_name,
    topic_prefix,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

_encode = msgspec.msgpack.Encoder().encode

# KEYS: the hash to write (report or sections), the report, campaigns of the organisation, their names, its renames,
# positions of what is published together, the sections, the channel of ticks. ARGV: partition, generation, offset, org,
# campaign, campaign key, as_of_ms, what the campaign is called ('': as before), then field, value pairs (without the
# partition's old fields where the generation is a new one).
_PUBLISH: Final = """
local function older(one, other)
  local g, o = string.match(one, '^(%d+):(%d+)$')
  local h, q = string.match(other, '^(%d+):(%d+)$')
  g, o, h, q = tonumber(g), tonumber(o), tonumber(h), tonumber(q)
  return g < h or (g == h and o < q)
end
local p, gen, off = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local position = redis.call('HGET', KEYS[6], p)
if position and tonumber(string.match(position, '^(%d+):')) > gen then return 0 end
local fence = redis.call('HGET', KEYS[1], 'f:' .. p)
if fence then
  local g, o = string.match(fence, '^(%d+):(%d+)$')
  g, o = tonumber(g), tonumber(o)
  if g > gen or (g == gen and o > off) then return 0 end
  if g < gen then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.match(field, '^%a:' .. p .. ':') then redis.call('HDEL', KEYS[1], field) end
    end
  end
end
redis.call('HSET', KEYS[1], 'f:' .. p, ARGV[2] .. ':' .. ARGV[3], 'org', ARGV[4], 'campaign', ARGV[5])
for i = 9, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local moved = redis.call('HGET', KEYS[2], 'r:' .. p)
if moved then
  local shown = redis.call('HGET', KEYS[7], 'f:' .. p)
  if shown and not older(shown, moved) then
    redis.call('HDEL', KEYS[2], 'b:' .. p)
  else
    local now = redis.call('TIME')
    redis.call('HSETNX', KEYS[2], 'b:' .. p, now[1] * 1000 + math.floor(now[2] / 1000))
  end
end
if ARGV[7] ~= '' then redis.call('ZADD', KEYS[3], 'GT', ARGV[7], ARGV[5]) end
if ARGV[8] ~= '' and redis.call('HGET', KEYS[4], ARGV[5]) ~= ARGV[8] then
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[8])
  redis.call('INCR', KEYS[5])
end
local version = redis.call('HINCRBY', KEYS[2], 'v', 1)
redis.call('PUBLISH', KEYS[8], ARGV[6] .. ':' .. version)
return version
"""

# KEYS: a hash. ARGV: field, the value that the worker knows, another value. Changes it if the known one stands there;
# returns what stands there now.
_MOVE: Final = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now ~= ARGV[2] then return now end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return ARGV[3]
"""

# KEYS: positions, repairs, topics. ARGV: partition, generation, token, topic. Begins a repair, unless a database of a
# higher generation has published or is at it. Returns the position, the highest generation, and the token (or '').
_BEGIN: Final = """
local gen = tonumber(ARGV[2])
local position = redis.call('HGET', KEYS[1], ARGV[1])
local highest = gen
for _, text in ipairs({position or '0:', redis.call('HGET', KEYS[2], ARGV[1]) or '0:'}) do
  highest = math.max(highest, tonumber(string.match(text, '^(%d+):')))
end
if highest > gen then return {position, highest, ''} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('SADD', KEYS[3], ARGV[4])
return {position, highest, ARGV[3]}
"""

# KEYS: positions, repairs. ARGV: partition, the repair's token, position. Ends a repair: the token is gone if Redis
# was emptied meanwhile, and another one if another repair began. Returns the position that stands there now.
_END: Final = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return redis.call('HGET', KEYS[1], ARGV[1]) end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return ARGV[3]
"""

# KEYS: a report or the sections of a campaign, prefix of the topic's names. ARGV: partition, generation. Deletes the
# partition's share if it is of an older generation, and the campaign with its last share.
_SWEEP: Final = """
local p, gen = ARGV[1], tonumber(ARGV[2])
local fence = redis.call('HGET', KEYS[1], 'f:' .. p)
if not fence or tonumber(string.match(fence, '^(%d+):')) >= gen then return 0 end
local left = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.match(field, '^%a:' .. p .. '$') or string.match(field, '^%a:' .. p .. ':') then
    redis.call('HDEL', KEYS[1], field)
  elseif string.match(field, '^f:') then
    left = left + 1
  end
end
local who = redis.call('HMGET', KEYS[1], 'org', 'campaign', 'v')
if left > 0 then
  if who[3] then redis.call('HINCRBY', KEYS[1], 'v', 1) end
  return 1
end
redis.call('DEL', KEYS[1])
if who[3] and who[1] then
  redis.call('ZREM', KEYS[2] .. 'campaigns:' .. who[1], who[2])
  if redis.call('HDEL', KEYS[2] .. 'names:' .. who[1], who[2]) > 0 then
    redis.call('INCR', KEYS[2] .. 'renames:' .. who[1])
  end
end
return 1
"""


class Update(msgspec.Struct, kw_only=True):
    """One campaign's share to publish: what is None or empty stays as it is in Redis."""

    key: CampaignKey
    org: str
    campaign: str
    summary: SummaryPart | None = None
    days: dict[int, DayPart] = {}
    labels: Labels | None = None
    moved: int | None = None
    """As of which offset rows of the published sections moved last."""


Call = tuple[list[str], list[str | bytes | int]]
"""Keys and arguments of one call of the publishing script."""
FIELDS_AT: Final = 8
"""Where in the arguments field, value pairs begin."""
Command = tuple[str, list[str], list[str | bytes | int]]
"""A script's name, its keys and arguments."""

_SCRIPTS: Final = {"publish": _PUBLISH, "move": _MOVE, "begin": _BEGIN, "end": _END, "sweep": _SWEEP}
_SHA1: Final = {
    name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in _SCRIPTS.items()
}
COMMANDS_PER_TRIP: Final = 500


class Move(NamedTuple):
    """What is changed behind a publication: a field of a hash, from the value that this worker wrote last."""

    name: str
    partition: int
    known: str
    to: str


class Begun(NamedTuple):
    """What `ViewWriter.begin_repair` found."""

    stands: Fence | None
    """How far the partition's views go."""
    highest: int
    """The highest generation that has published or is at it."""
    token: str
    """Of the repair; empty: it was not begun."""


class ViewWriter:
    """The worker's side. All calls may raise `redis.RedisError`; nothing is lost by that, the caller tries again."""

    def __init__(self, redis: Redis, secret: bytes = b"") -> None:
        """`secret`: the installation's, by which what it left in Redis before keys carried its id is told."""
        self._redis = redis
        self._secret = secret

    def encode(self, partition: int, fence: Fence, updates: Sequence[Update]) -> list[Call]:
        """Shares of campaigns as of `fence`, as the script takes them."""
        calls: list[Call] = []
        for update in updates:
            fields: list[str | bytes] = []
            if update.summary is not None:
                fields += (f"s:{partition}", _encode(update.summary))
            if update.moved is not None:
                fields += (f"r:{partition}", f"{fence.generation}:{update.moved}")
            for day, part in update.days.items():
                fields += (f"d:{partition}:{day}", pack_day(day, part))
            called: str | bytes = ""
            if update.labels is not None:
                fields += ("labels", _encode(update.labels))
                called = _encode(Labels(update.labels.name, update.labels.subject))
            as_of_ms = update.summary.as_of_ms if update.summary is not None else -1
            written = report_name(fence.topic, update.key)
            keys = _keys(written, fence.topic, update.key, update.org, NUMBERS)
            args: list[str | bytes | int] = [
                partition, fence.generation, fence.offset, update.org, update.campaign, update.key.hex(), as_of_ms,
                called,
            ]  # fmt: skip
            calls.append((keys, [*args, *fields]))
        return calls

    def encode_sections(
        self, partition: int, fence: Fence, updates: Sequence[tuple[CampaignKey, str, str, dict[int, bytes]]]
    ) -> list[Call]:
        """(campaign key, organisation, campaign, section → packed part) as of `fence`, as the script takes them."""
        calls: list[Call] = []
        for key, org, campaign, parts in updates:
            keys = _keys(sections_name(fence.topic, key), fence.topic, key, org, SECTIONS)
            args: list[str | bytes | int] = [
                partition, fence.generation, fence.offset, org, campaign, key.hex(), "", "",
            ]  # fmt: skip
            for section, packed in parts.items():
                args += (f"x:{partition}:{section}", packed)
            calls.append((keys, args))
        return calls

    async def publish(self, calls: Sequence[Call], moves: Sequence[Move] = ()) -> list[bool]:
        """Publishes shares, and then moves what says that they are there.

        An older fence than the stored one is refused silently. Returns of each move whether it was made; where it
        wasn't, something else stands there: Redis was emptied or restored, or another worker has the partition.
        """
        if calls:
            await self._run([("publish", keys, args) for keys, args in calls])
        if not moves:
            return []
        # A round trip of its own: Redis may refuse one command (it is full) and carry out the next one.
        answers = await self._run(
            [("move", [move.name], [str(move.partition), move.known, move.to]) for move in moves]
        )
        return [answer == move.to.encode() for answer, move in zip(answers, moves, strict=True)]

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Runs scripts in one round trip. They may be repeated: after NOSCRIPT all of them are run again."""
        try:
            return await self._try(commands)
        except NoScriptError:
            for text in _SCRIPTS.values():
                await self._redis.script_load(text)
            return await self._try(commands)

    async def _try(self, commands: Sequence[Command]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, keys, args in commands:
                pipe.evalsha(_SHA1[name], len(keys), *keys, *args)
            return list(await pipe.execute())

    async def begin_repair(self, partition: int, fence: Fence, channel: Channel = NUMBERS) -> Begun:
        """A publication whose position isn't known, of a database that is at `fence`.

        It is not begun where Redis knows of a higher generation: two that take turns would never end."""
        token = f"{fence.generation}:{secrets.token_hex(8)}"
        keys = [*channel, TOPICS]
        ((stands, highest, begun),) = await self._run(
            [("begin", keys, [partition, fence.generation, token, fence.topic])]
        )
        return Begun(fence_of(stands), highest, begun.decode())

    async def end_repair(self, partition: int, token: str, after: Fence, channel: Channel = NUMBERS) -> bool:
        """Sets a partition's position after its views were published again; not if Redis was emptied meanwhile."""
        args: list[str | bytes | int] = [partition, token, after.text()]
        (stands,) = await self._run([("end", list(channel), args)])
        return fence_of(stands) == after

    async def partition_fences(
        self, partitions: Sequence[int], channel: Channel = NUMBERS
    ) -> list[Fence | None]:
        stored = await self._redis.hmget(channel.positions, [str(partition) for partition in partitions])
        return [fence_of(cast(bytes | None, text)) for text in stored]

    async def highest_generations(self, partitions: Sequence[int]) -> dict[int, int]:
        """Of each partition the highest generation that has published or is at it; 0: none."""
        names = [str(partition) for partition in partitions]
        async with self._redis.pipeline(transaction=False) as pipe:
            for channel in (NUMBERS, SECTIONS):
                pipe.hmget(channel.positions, names)
                pipe.hmget(channel.repairs, names)
            answers: list[list[bytes | None]] = await pipe.execute()
        return {
            partition: max(int(text.partition(b":")[0]) if text else 0 for text in texts)
            for partition, texts in zip(partitions, zip(*answers, strict=True), strict=True)
        }

    async def sweep(self, partition: int, fence: Fence, channel: Channel) -> int:
        """Deletes the partition's shares of older generations: what the database doesn't have. Returns how many."""
        prefix = topic_prefix(fence.topic)
        kind = "report:" if channel is NUMBERS else "sections:"
        gone = 0
        async for names in self._names(prefix + kind + "*"):
            commands: list[Command] = [
                ("sweep", [name, prefix], [partition, fence.generation]) for name in names
            ]
            gone += sum(await self._run(commands))
        return gone

    async def _names(self, pattern: str) -> AsyncIterator[list[str]]:
        """Keys in runs of some hundred."""
        names: list[str] = []
        async for name in self._redis.scan_iter(match=pattern, count=COMMANDS_PER_TRIP):
            names.append(name.decode())
            if len(names) >= COMMANDS_PER_TRIP:
                yield names
                names = []
        if names:
            yield names

    async def forget_older_formats(self) -> int:
        """Deletes views that earlier versions of the program published in other formats. Returns how many keys.

        Nobody reads them any more, and nobody would blank in them who is erased. What stands under `partitions` goes
        last, so that a cut short look is begun again, and a Redis without them costs one question."""
        gone = 0
        for prefix in (f"cr:v{number}:" for number in range(1, FORMAT_NUMBER)):
            last = prefix + "partitions"
            if await self._redis.exists(last):
                async for names in self._names(prefix + "*"):
                    if some := [name for name in names if not name.endswith(last.removeprefix(PREFIX))]:
                        gone += await self._redis.unlink(*some)
                gone += await self._redis.unlink(last)
        if self._secret and isinstance(self._redis, InstallationRedis):
            gone += await forget_predecessor(self._redis.everyone(), self._secret)
        return gone

    async def forget_older_topics(self, topic: str, partitions: int) -> int:
        """Deletes the views of all topics but this one, once every partition has published of it. Returns how many."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.smembers(TOPICS)
            pipe.hgetall(PARTITIONS)
            pipe.hgetall(SECTION_PARTITIONS)
            known, *positions = await pipe.execute()
        older = [name.decode() for name in known if name.decode() != topic]
        if not older or not all(complete(fences_of(stored), topic, partitions) for stored in positions):
            return 0
        gone = 0
        for one in older:
            async for names in self._names(topic_prefix(one) + "*"):
                gone += await self._redis.unlink(*names)
            await self._redis.srem(TOPICS, one)
        return gone

    async def announce(
        self, worker: str, owners: Mapping[int, Owner], delays: Delays, said: Presence
    ) -> None:
        """Tells where each partition's database is, how quick this worker is, and what it is."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition, owner in owners.items():
                pipe.hset(OWNERS, str(partition), msgspec.json.encode(owner))
            pipe.hset(DELAYS, worker, msgspec.json.encode(delays))
            pipe.hset(WORKERS, worker, msgspec.json.encode(said))
            await pipe.execute()


def _keys(written: str, topic: str, campaign: CampaignKey, org: str, channel: Channel) -> list[str]:
    return [
        written,
        report_name(topic, campaign),
        campaigns_name(topic, org),
        names_name(topic, org),
        renames_name(topic, org),
        channel.positions,
        sections_name(topic, campaign),
        TICK,
    ]
