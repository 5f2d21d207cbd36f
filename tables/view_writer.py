"""The worker's side of the views in Redis: scripts that refuse what is older, and one round trip for a publication."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from redis.exceptions import NoScriptError

from app.facts import CampaignKey
from tables.predecessor import forget_predecessor
from tables.presence import WORKERS, Presence
from tables.redis_names import InstallationRedis
from tables.views import (
    DELAYS,
    FORMAT_NUMBER,
    NUMBERS,
    OWNERS,
    TICK,
    Channel,
    DayPart,
    Delays,
    Fence,
    Labels,
    Owner,
    SummaryPart,
    campaigns_name,
    fence_of,
    names_name,
    pack_day,
    renames_name,
    report_name,
    sections_name,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

_encode = msgspec.msgpack.Encoder().encode

# KEYS: the hash to write (report or sections), the report, campaigns of the organisation, their names, its renames,
# the channel.
# ARGV: partition, generation, offset, org, campaign, campaign key,
# as_of_ms, what the campaign is called ('': as before), then field, value pairs (without the partition's old fields
# where the generation is a new one).
_PUBLISH: Final = """
local p, gen, off = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
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
if ARGV[7] ~= '' then redis.call('ZADD', KEYS[3], 'GT', ARGV[7], ARGV[5]) end
if ARGV[8] ~= '' and redis.call('HGET', KEYS[4], ARGV[5]) ~= ARGV[8] then
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[8])
  redis.call('INCR', KEYS[5])
end
local version = redis.call('HINCRBY', KEYS[2], 'v', 1)
redis.call('PUBLISH', KEYS[6], ARGV[6] .. ':' .. version)
return version
"""

# KEYS: partitions, repairs. ARGV: partition, the value that its worker wrote last (or '' after a repair, and then
# the repair's token), new value. Moves the partition's offset if what stands there is what the worker knows: its own
# last value, or its own repair's token, which is gone if Redis was emptied meanwhile. Returns what stands there now.
_ADVANCE: Final = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then
  if now ~= ARGV[2] then return now end
else
  if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[4] then return now end
  redis.call('HDEL', KEYS[2], ARGV[1])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return ARGV[3]
"""


class Update(msgspec.Struct, kw_only=True):
    """One campaign's share to publish: what is None or empty stays as it is in Redis."""

    key: CampaignKey
    org: str
    campaign: str
    summary: SummaryPart | None = None
    days: dict[int, DayPart] = {}
    labels: Labels | None = None


Call = tuple[list[str], list[str | bytes | int]]
"""Keys and arguments of one call of the publishing script."""
FIELDS_AT: Final = 8
"""Where in the arguments field, value pairs begin."""
Command = tuple[str, list[str], list[str | bytes | int]]
"""A script's name, its keys and arguments."""

_SCRIPTS: Final = {"publish": _PUBLISH, "advance": _ADVANCE}
_SHA1: Final = {
    name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in _SCRIPTS.items()
}
COMMANDS_PER_TRIP: Final = 500


class Share(msgspec.Struct, kw_only=True):
    """A partition's part of a publication: calls that `ViewWriter.encode` made, all as of `after`."""

    partition: int
    channel: Channel = NUMBERS
    calls: list[Call]
    before: Fence | None
    """What this worker wrote as the partition's offset last; None: the offset isn't to be moved."""
    after: Fence


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
            for day, part in update.days.items():
                fields += (f"d:{partition}:{day}", pack_day(day, part))
            called: str | bytes = ""
            if update.labels is not None:
                fields += ("labels", _encode(update.labels))
                called = _encode(Labels(update.labels.name, update.labels.subject))
            as_of_ms = update.summary.as_of_ms if update.summary is not None else -1
            keys = _keys(report_name(update.key), update.key, update.org)
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
            keys = _keys(sections_name(key), key, org)
            args: list[str | bytes | int] = [
                partition, fence.generation, fence.offset, org, campaign, key.hex(), "", "",
            ]  # fmt: skip
            for section, packed in parts.items():
                args += (f"x:{partition}:{section}", packed)
            calls.append((keys, args))
        return calls

    async def publish(self, shares: Sequence[Share]) -> list[Fence | None]:
        """Publishes partitions' shares and moves their offsets, in order and in as few round trips as can be.

        An older fence than the stored one is refused silently. Returns, for each share that moves an offset, what
        stands there then: `after`, or what somebody else (or nobody) wrote, and then the views need a repair.
        """
        commands: list[Command] = []
        for share in shares:
            commands += (("publish", keys, args) for keys, args in share.calls)
            if share.before is not None:
                args: list[str | bytes | int] = [share.partition, share.before.text(), share.after.text(), ""]
                commands.append(("advance", list(share.channel), args))
        stands: list[Fence | None] = []
        for start in range(0, len(commands), COMMANDS_PER_TRIP):
            part = commands[start : start + COMMANDS_PER_TRIP]
            answers = await self._run(part)
            stands += (
                fence_of(answer)
                for (name, _, _), answer in zip(part, answers, strict=True)
                if name == "advance"
            )
        return stands

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Runs scripts in one round trip. They are idempotent: after NOSCRIPT all of them are run again."""
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

    async def begin_repair(self, partition: int, channel: Channel = NUMBERS) -> tuple[Fence | None, str]:
        """Returns how far the partition's views go, and the token that `end_repair` wants."""
        token = secrets.token_hex(8)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(channel.positions, str(partition))
            pipe.hset(channel.repairs, str(partition), token)
            stands, _ = await pipe.execute()
        return fence_of(stands), token

    async def end_repair(
        self, partition: int, token: str, after: Fence, channel: Channel = NUMBERS
    ) -> Fence | None:
        """Sets a partition's offset after its views were published again; not if Redis was emptied meanwhile."""
        args: list[str | bytes | int] = [partition, "", after.text(), token]
        (stands,) = await self._run([("advance", list(channel), args)])
        return fence_of(stands)

    async def partition_fences(
        self, partitions: Sequence[int], channel: Channel = NUMBERS
    ) -> list[Fence | None]:
        stored = await self._redis.hmget(channel.positions, [str(partition) for partition in partitions])
        return [fence_of(cast(bytes | None, text)) for text in stored]

    async def forget_older_formats(self) -> int:
        """Deletes views that earlier versions of the program published in other formats. Returns how many keys.

        Nobody reads them any more, and nobody would blank in them who is erased. What stands under `partitions` goes
        last, so that a cut short look is begun again, and a Redis without them costs one question."""
        gone = 0
        for prefix in (f"cr:v{number}:" for number in range(1, FORMAT_NUMBER)):
            last = prefix + "partitions"
            if not await self._redis.exists(last):
                continue
            names: list[bytes] = []
            async for name in self._redis.scan_iter(match=prefix + "*", count=COMMANDS_PER_TRIP):
                if name != last.encode():
                    names.append(name)
                if len(names) >= COMMANDS_PER_TRIP:
                    gone += await self._redis.unlink(*names)
                    names.clear()
            gone += await self._redis.unlink(*names, last)
        if self._secret and isinstance(self._redis, InstallationRedis):
            gone += await forget_predecessor(self._redis.everyone(), self._secret)
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


def _keys(written: str, campaign: CampaignKey, org: str) -> list[str]:
    return [written, report_name(campaign), campaigns_name(org), names_name(org), renames_name(org), TICK]
