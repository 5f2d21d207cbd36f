"""The worker's side of the views in Redis: scripts that refuse what is older, and one round trip for a publication."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
from redis.exceptions import NoScriptError

from app.facts import CampaignKey
from tables.predecessor import forget_predecessor
from tables.presence import WORKERS, Presence
from tables.redis_names import PREFIX, InstallationRedis, runs_of_names
from tables.touched import Standing
from tables.views import (
    ALL_TOPICS,
    DELAYS,
    FORMAT,
    FORMAT_NUMBER,
    LOOKS,
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
    counts_name,
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
# positions of what is published together, the sections, the channel of ticks, the looks. ARGV: partition, generation,
# offset, org, campaign, campaign key, as_of_ms, what the campaign is called ('': as before), whether this is the whole
# share (`WHOLE`, else what is done where it isn't there), then field, value pairs (without the partition's old fields
# where the generation is a new one). Returns the version, 0 for what is older than the stored, -1 where a part was to
# be written and the rest isn't there. A version that begins is above all that were there before Redis lost it.
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
local g, o = string.match(fence or '-1:0', '^(-?%d+):(%d+)$')
g, o = tonumber(g), tonumber(o)
if g > gen or (g == gen and o > off) then return 0 end
if g < gen then
  if ARGV[9] ~= '1' then
    if ARGV[9] == '2' then redis.call('HINCRBY', KEYS[9], 'lost', 1) end
    return -1
  end
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.match(field, '^%a:' .. p .. '$') or string.match(field, '^%a:' .. p .. ':') then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
redis.call('HSET', KEYS[1], 'f:' .. p, ARGV[2] .. ':' .. ARGV[3], 'org', ARGV[4], 'campaign', ARGV[5])
for i = 10, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = redis.call('HGET', KEYS[2], 'r:' .. p)
if moved then
  local shown = redis.call('HGET', KEYS[7], 'f:' .. p)
  if shown and not older(shown, moved) then
    redis.call('HDEL', KEYS[2], 'b:' .. p)
  else
    redis.call('HSETNX', KEYS[2], 'b:' .. p, string.format('%.0f', now))
  end
end
if ARGV[7] ~= '' then redis.call('ZADD', KEYS[3], 'GT', ARGV[7], ARGV[5]) end
if ARGV[8] ~= '' and redis.call('HGET', KEYS[4], ARGV[5]) ~= ARGV[8] then
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[8])
  redis.call('SET', KEYS[5], string.format('%.0f', now), 'NX')
  redis.call('INCR', KEYS[5])
end
redis.call('HSETNX', KEYS[2], 'v', string.format('%.0f', now))
local version = redis.call('HINCRBY', KEYS[2], 'v', 1)
redis.call('PUBLISH', KEYS[8], ARGV[6] .. ':' .. string.format('%.0f', version))
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
# partition's share if it is of an older generation, or Redis has lost of which, and the campaign with its last share.
_SWEEP: Final = """
local p, gen = ARGV[1], tonumber(ARGV[2])
local fence = redis.call('HGET', KEYS[1], 'f:' .. p)
if fence and tonumber(string.match(fence, '^(%d+):')) >= gen then return 0 end
local left, gone = 0, 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.match(field, '^%a:' .. p .. '$') or string.match(field, '^%a:' .. p .. ':') then
    redis.call('HDEL', KEYS[1], field)
    gone = gone + 1
  elseif string.match(field, '^f:') then
    left = left + 1
  end
end
if gone == 0 then return 0 end
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

# KEYS: prefix of the topic's names, topics, looks, positions. ARGV: partition, generation, topic, the partition's
# position, `report:` or `sections:`, then of each campaign its key, the offset of what touched it last, organisation,
# name, as_of_ms, '1' if it was given a name. Returns how often something was lost, and the places of the campaigns
# whose share, or place in a list, is not there or older; nothing where another position stands.
_LOOK: Final = """
local p, gen = ARGV[1], tonumber(ARGV[2])
if redis.call('HGET', KEYS[4], p) ~= ARGV[4] then return {} end
redis.call('SADD', KEYS[2], ARGV[3])
local found = {}
for i = 6, #ARGV, 6 do
  local stored = redis.call('HMGET', KEYS[1] .. ARGV[5] .. ARGV[i], 'f:' .. p, 's:' .. p, 'v', 'org', 'campaign')
  local g, o = string.match(stored[1] or '-1:0', '^(-?%d+):(%d+)$')
  g, o = tonumber(g), tonumber(o)
  local lost = g < gen or (g == gen and o < tonumber(ARGV[i + 1]))
  if ARGV[5] == 'report:' and not lost then
    local score = redis.call('ZSCORE', KEYS[1] .. 'campaigns:' .. ARGV[i + 2], ARGV[i + 3])
    local whole = stored[2] and stored[3] and stored[4] and stored[5] and score
    lost = not whole or tonumber(score) < tonumber(ARGV[i + 4])
      or (ARGV[i + 5] == '1' and redis.call('HEXISTS', KEYS[1] .. 'names:' .. ARGV[i + 2], ARGV[i + 3]) == 0)
  end
  if lost then found[#found + 1] = (i - 6) / 6 end
end
local count = tonumber(redis.call('HGET', KEYS[3], 'lost') or '0')
if #found > 0 then redis.call('HINCRBY', KEYS[3], 'lost', 1) end
return {count, unpack(found)}
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
FIELDS_AT: Final = 9
"""Where in the arguments field, value pairs begin."""
Command = tuple[str, list[str], list[str | bytes | int]]
"""A script's name, its keys and arguments."""

WHOLE: Final = 1
"""All that the partition has of a campaign."""
REST_UNKNOWN: Final = 0
"""A part of it, of which the rest may never have been published."""
REST_PUBLISHED: Final = 2
"""A part of it; if the rest isn't there, Redis has lost it, which is noted."""

_SCRIPTS: Final = {
    "publish": _PUBLISH, "move": _MOVE, "begin": _BEGIN, "end": _END, "sweep": _SWEEP, "look": _LOOK,
}  # fmt: skip
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


class Published(NamedTuple):
    """What `ViewWriter.publish` did."""

    lacking: list[int]
    """Places of the calls that were refused because the rest of the share isn't there."""
    moved: list[bool]
    """Of each move whether it was made."""


class Looked(NamedTuple):
    """What `ViewWriter.look` found."""

    losses: int
    """How often something had been lost before."""
    lacking: list[int]
    """Places of the campaigns whose share isn't there as it was published."""


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

    def encode(
        self, partition: int, fence: Fence, updates: Sequence[Update], kind: int = WHOLE
    ) -> list[Call]:
        """Shares of campaigns as of `fence`, as the script takes them. `kind`: `WHOLE`, `REST_UNKNOWN` or
        `REST_PUBLISHED`."""
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
                called, kind,
            ]  # fmt: skip
            calls.append((keys, [*args, *fields]))
        return calls

    def encode_sections(
        self,
        partition: int,
        fence: Fence,
        updates: Sequence[tuple[CampaignKey, str, str, dict[int, bytes]]],
        kind: int = WHOLE,
    ) -> list[Call]:
        """(campaign key, organisation, campaign, section → packed part) as of `fence`, as the script takes them."""
        calls: list[Call] = []
        for key, org, campaign, parts in updates:
            keys = _keys(sections_name(fence.topic, key), fence.topic, key, org, SECTIONS)
            args: list[str | bytes | int] = [
                partition, fence.generation, fence.offset, org, campaign, key.hex(), "", "", kind,
            ]  # fmt: skip
            for section, packed in parts.items():
                args += (f"x:{partition}:{section}", packed)
            calls.append((keys, args))
        return calls

    async def publish(self, calls: Sequence[Call], moves: Sequence[Move] = ()) -> Published:
        """Publishes shares, and then moves what says that they are there.

        An older fence than the stored one is refused silently. Where a move wasn't made, something else stands there:
        Redis was emptied or restored, or another worker has the partition.
        """
        lacking: list[int] = []
        if calls:
            versions = await self._run([("publish", keys, args) for keys, args in calls])
            lacking = [place for place, version in enumerate(versions) if version == -1]
        if not moves:
            return Published(lacking, [])
        # A round trip of its own: Redis may refuse one command (it is full) and carry out the next one.
        answers = await self._run(
            [("move", [move.name], [str(move.partition), move.known, move.to]) for move in moves]
        )
        return Published(
            lacking, [answer == move.to.encode() for answer, move in zip(answers, moves, strict=True)]
        )

    async def look(
        self, partition: int, published: Fence, campaigns: Sequence[Standing], channel: Channel = NUMBERS
    ) -> Looked | None:
        """Whether the shares of campaigns are in Redis as they were published; None: the position isn't `published`."""
        keys = [topic_prefix(published.topic), TOPICS, LOOKS, channel.positions]
        args: list[str | bytes | int] = [
            partition, published.generation, published.topic, published.text(), _kind(channel),
        ]  # fmt: skip
        for one in campaigns:
            args += (one.key.hex(), one.offset, one.org, one.campaign, one.as_of_ms, "1" if one.named else "")
        (answer,) = await self._run([("look", keys, args)])
        return Looked(answer[0], answer[1:]) if answer else None

    async def losses(self) -> int:
        """How often it was noticed that Redis had lost something."""
        return int(await self._redis.hget(LOOKS, "lost") or 0)

    async def looked(self, partition: int, topic: str, losses: int, campaigns: Mapping[str, int]) -> None:
        """A look at all of a partition's numbers, which began when so much had been lost, found all of them, of so many
        campaigns of each organisation."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(TOPICS, topic)  # its views may have been deleted since the look began
            pipe.hset(counts_name(topic), str(partition), msgspec.json.encode(campaigns))
            pipe.hset(LOOKS, str(partition), str(losses))
            await pipe.execute()

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
        gone = 0
        async for names in runs_of_names(self._redis, prefix + _kind(channel) + "*"):
            commands: list[Command] = [
                ("sweep", [name, prefix], [partition, fence.generation]) for name in names
            ]
            gone += sum(await self._run(commands))
        return gone

    async def forget_older_formats(self) -> int:
        """Deletes views that earlier versions of the program published in other formats. Returns how many keys.

        Nobody reads them any more, and nobody would blank in them who is erased. What stands under `partitions` goes
        last, so that a cut short look is begun again, and a Redis without them costs one question."""
        gone = 0
        for prefix in (f"cr:v{number}:" for number in range(1, FORMAT_NUMBER)):
            last = prefix + "partitions"
            if await self._redis.exists(last):
                async for names in runs_of_names(self._redis, prefix + "*"):
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
        if not all(complete(fences_of(stored), topic, partitions) for stored in positions):
            return 0
        topics = {name.decode() for name in known}
        if ALL_TOPICS not in topics:
            topics |= await self._topics()
            await self._redis.sadd(TOPICS, *topics, ALL_TOPICS)
        older = topics - {topic, ALL_TOPICS}
        gone = 0
        for one in older:
            async for names in runs_of_names(self._redis, topic_prefix(one) + "*"):
                gone += await self._redis.unlink(*names)
            await self._redis.srem(TOPICS, one)
        return gone

    async def _topics(self) -> set[str]:
        """All topics of which there are views, from their names."""
        found: set[str] = set()
        for kind in ("report:", "sections:", "campaigns:", "names:", "renames:", "counts"):
            async for names in runs_of_names(self._redis, f"{FORMAT}*:{kind}*"):
                found |= {name.partition(FORMAT.removeprefix(PREFIX))[2].partition(":")[0] for name in names}
        return found

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
        LOOKS,
    ]


def _kind(channel: Channel) -> str:
    return "report:" if channel is NUMBERS else "sections:"
