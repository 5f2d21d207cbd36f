"""The report numbers in Redis: absolute values per campaign and partition, each behind its own fence.

Redis never holds the only copy. `tables.view_writer` writes, `ViewReader` here reads. The keys, P being a partition
of topic `facts`, all of them under the installation's id (`tables.redis_names`):
- `cr:epoch`               a random word: another one means that Redis was emptied
- `cr:v3:partitions`       hash P → "generation:offset": all facts below the offset are in the views
- `cr:v3:repairs`          hash P → token of the repair under way
- `cr:v3:partitions:sections`, `cr:v3:repairs:sections`: the same of the sections, published less often
- `cr:owners`              hash P → `Owner` as JSON; `cr:delays` hash worker → `Delays` as JSON
- `cr:v3:report:<campaign key>` hash: `v` version, `org`, `campaign`, `labels`; per partition `f:P` its fence
  "generation:offset", `s:P` a `SummaryPart`, `d:P:<day>` a `DayPart` of that UTC day
- `cr:v3:sections:<campaign key>` hash: `f:P` as above, `x:P:<section>` a `tables.section_parts.SectionPart`, packed
- `cr:v3:campaigns:<org>`  sorted set of the organisation's campaigns by time of their newest counted event
- `cr:v3:names:<org>` hash: campaign → what it is called, as `labels` without fields; `cr:v3:renames:<org>` counts how
  often that hash changed (`tables.campaign_list`)
- channel `cr:tick`         "<campaign key>:<version>" whenever a view has changed

Rules:
1. A value older than the stored fence is refused by the script, so replays and zombie workers are harmless.
2. A partition's offset moves only from the value that its worker wrote last. If something else stands there, Redis was
   emptied or restored, and the worker publishes again what was touched since (`tables.publisher`).
3. While a partition's offset is missing, its campaigns' sums are incomplete, and a reader says so (`complete`).
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import numpy as np

from app.contribution import METRICS
from app.facts import CampaignKey
from app.sections import Rows
from app.timeline import DAY_QUARTERS
from app.verdicts import Rules
from tables.columns import planes_of, sums_of_tables
from tables.section_merge import merge_parts, unpack_part

if TYPE_CHECKING:
    from redis.asyncio import Redis

FORMAT_NUMBER: Final = 3
"""Another format of what is packed in here gets another number: then all is published anew, and what earlier versions
left is deleted (`ViewWriter.forget_older_formats`)."""
FORMAT: Final = f"cr:v{FORMAT_NUMBER}:"
EPOCH: Final = "cr:epoch"
PARTITIONS: Final = FORMAT + "partitions"
REPAIRS: Final = FORMAT + "repairs"
SECTION_PARTITIONS: Final = FORMAT + "partitions:sections"
SECTION_REPAIRS: Final = FORMAT + "repairs:sections"
OWNERS: Final = "cr:owners"
DELAYS: Final = "cr:delays"
TICK: Final = "cr:tick"


def report_name(campaign: CampaignKey) -> str:
    return FORMAT + "report:" + campaign.hex()


def sections_name(campaign: CampaignKey) -> str:
    return FORMAT + "sections:" + campaign.hex()


def campaigns_name(org: str) -> str:
    return FORMAT + "campaigns:" + org


def names_name(org: str) -> str:
    return FORMAT + "names:" + org


def renames_name(org: str) -> str:
    return FORMAT + "renames:" + org


class SummaryPart(msgspec.Struct, array_like=True):
    """A partition's share of one campaign, without its hours."""

    as_of_ms: int
    patterns: dict[int, int]
    """Recipients by pattern (`app.contribution`)."""
    totals: list[int]
    """Events and first events by metric, over all quarters."""
    overflow: list[int]
    """The part of `totals` whose quarter is not kept."""


DayPart = dict[int, list[int]]
"""Quarter (minutes since 1970 UTC // 15) → count by metric."""


def pack_day(day: int, part: DayPart) -> bytes:
    """MessagePack while it is small; else a compressed table of all quarters, which adds up without a loop."""
    packed = _encode(part)
    if len(packed) <= _PLAIN_BYTES:
        return packed
    table = np.zeros((DAY_QUARTERS, METRICS), np.int64)
    first = day * DAY_QUARTERS
    for quarter, counts in part.items():
        table[quarter - first] = counts
    return zlib.compress(planes_of(table))


def add_days(days: Iterable[tuple[int, bytes]]) -> dict[int, list[int]]:
    """(day, packed), of each day as many as there are → quarter → sums, in order of time."""
    quarters: dict[int, list[int]] = {}
    large: list[tuple[int, bytes]] = []
    for day, packed in days:
        if packed[:1] == b"\x78":  # zlib's first byte; a map of MessagePack never begins so
            large.append((day, zlib.decompress(packed)))
            continue
        for quarter, counts in _day_part.decode(packed).items():
            _add(quarters.setdefault(quarter, [0] * METRICS), counts)
    if large:
        large.sort(key=itemgetter(0))
        found, starts = np.unique(np.array([day for day, _ in large]), return_index=True)
        tables = sums_of_tables([planes for _, planes in large], starts.tolist(), DAY_QUARTERS, METRICS)
        sums = tables.reshape(-1, METRICS)
        numbers = (found[:, None] * DAY_QUARTERS + np.arange(DAY_QUARTERS)).reshape(-1)
        there = sums.any(axis=1)
        for quarter, counts in zip(numbers[there].tolist(), sums[there].tolist(), strict=True):
            _add(counts, quarters.get(quarter, ()))
            quarters[quarter] = counts
    return dict(sorted(quarters.items()))


class Labels(msgspec.Struct, array_like=True):
    """What a campaign is called (`PUT /api/v1/campaigns/{campaign}`)."""

    name: str | None = None
    subject: str | None = None
    fields: dict[str, dict[str, str]] = {}


class View(msgspec.Struct, kw_only=True):
    """One campaign, summed over the partitions."""

    org: str
    campaign: str
    epoch: str
    version: int
    complete: bool
    """False while a partition's share is missing (Redis was emptied and is not repaired yet)."""
    as_of_ms: int
    """-1 where nothing was counted yet."""
    patterns: dict[int, int]
    totals: list[int]
    overflow: list[int]
    labels: Labels
    quarters: dict[int, list[int]] | None
    """None where the hours were not asked for."""
    sections: dict[int, Rows] | None = None
    """Section (`app.breakdown`) → rows. None where they were not asked for."""
    loaded: frozenset[int] = frozenset()
    """The sections that were asked for; those without rows are not in `sections`."""


_PLAIN_BYTES: Final = 200
_encode = msgspec.msgpack.Encoder().encode
_summary_part = msgspec.msgpack.Decoder(SummaryPart)
_day_part = msgspec.msgpack.Decoder(DayPart)
decode_labels = msgspec.msgpack.Decoder(Labels).decode


class Fence(msgspec.Struct, frozen=True, order=True):
    """`generation` counts rebuilds of a partition's database, `offset` is the next one that it will count."""

    generation: int
    offset: int

    def text(self) -> str:
        return f"{self.generation}:{self.offset}"


def fence_of(text: bytes | None) -> Fence | None:
    if text is None:
        return None
    generation, _, offset = text.partition(b":")
    return Fence(int(generation), int(offset))


class Channel(NamedTuple):
    """What is published together has positions and repairs of its own."""

    positions: str
    repairs: str


NUMBERS: Final = Channel(PARTITIONS, REPAIRS)
"""Summary, hours and labels: as quickly as can be."""
SECTIONS: Final = Channel(SECTION_PARTITIONS, SECTION_REPAIRS)
"""The rows of the sections: a few times a second."""


class Owner(msgspec.Struct, frozen=True):
    """Who holds a partition: the worker, the folder of its database there, and when it last said so."""

    worker: str
    state: str
    at_ms: int
    since_ms: int = 0
    """When it took the partition."""
    generation: int = 0
    rules: Rules | None = None
    """By which the partition's numbers are counted."""


class Delays(msgspec.Struct, frozen=True):
    """A worker's last minute: from a webhook's acceptance to its numbers in Redis, and facts per second."""

    p50_ms: float | None
    p99_ms: float | None
    facts_per_s: float
    at_ms: int


class ViewReader:
    """The API's side: sums the partitions' shares."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._summary_fields = ["v", "org", "campaign", "labels", *(f"s:{p}" for p in range(partitions))]

    async def epoch(self) -> str:
        """Another epoch means that versions start anew: Redis was restarted, restored or emptied."""
        info: Mapping[str, Any] = await self._redis.info("server")
        await self._redis.set(EPOCH, secrets.token_hex(4), nx=True)
        word = cast(bytes, await self._redis.get(EPOCH))
        return str(info["run_id"])[:8] + word.decode()

    async def partition_offsets(self) -> dict[int, Fence]:
        """Partition → how far its published numbers go. A partition that is missing has published nothing yet."""
        stored = cast(dict[bytes, bytes], await self._redis.hgetall(PARTITIONS))
        return {int(p): fence for p, text in stored.items() if (fence := fence_of(text)) is not None}

    async def load(
        self, campaign: CampaignKey, *, epoch: str, hours: bool, sections: Collection[int] = ()
    ) -> View | None:
        """A campaign's view, or None where nothing of it was ever published. `sections`: see `View.sections`."""
        parts = [(p, section) for section in sections for p in range(self._partitions)]
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(PARTITIONS)
            if hours:
                pipe.hgetall(report_name(campaign))
            else:
                pipe.hmget(report_name(campaign), self._summary_fields)
            if parts:
                pipe.hlen(SECTION_PARTITIONS)
                pipe.hmget(sections_name(campaign), [f"x:{p}:{section}" for p, section in parts])
            known, answer, *rest = await pipe.execute()
        fields: dict[bytes, bytes] = answer if hours else self._fields(answer)
        view = view_of(fields, epoch=epoch, complete=known >= self._partitions, hours=hours)
        if view is not None and rest:
            view.complete = view.complete and rest[0] >= self._partitions
            view.loaded = frozenset(sections)
            view.sections = merge_parts(
                (partition, section, unpack_part(packed))
                for (partition, section), packed in zip(parts, rest[1], strict=True)
                if packed is not None
            )
        return view

    async def load_summaries(self, campaigns: Sequence[CampaignKey], *, epoch: str) -> list[View | None]:
        """Views without hours and sections, as `load` gives them, in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(PARTITIONS)
            for campaign in campaigns:
                pipe.hmget(report_name(campaign), self._summary_fields)
            known, *answers = await pipe.execute()
        complete = known >= self._partitions
        return [
            view_of(self._fields(answer), epoch=epoch, complete=complete, hours=False) for answer in answers
        ]

    def _fields(self, answer: Sequence[bytes | None]) -> dict[bytes, bytes]:
        """What HMGET of `_summary_fields` says."""
        names = self._summary_fields
        return {name.encode(): value for name, value in zip(names, answer, strict=True) if value is not None}

    async def every_campaign(self, org: str) -> list[str] | None:
        """Names of all of an organisation's campaigns; None where it can't be said (Redis is being filled again)."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(PARTITIONS)
            pipe.zrange(campaigns_name(org), 0, -1)
            known, names = await pipe.execute()
        return [name.decode() for name in names] if known >= self._partitions else None


def view_of(fields: Mapping[bytes, bytes], *, epoch: str, complete: bool, hours: bool) -> View | None:
    """The fields of a report's hash → the view. Pure, so that the sums can be tested without a server."""
    if b"v" not in fields or b"org" not in fields:
        return None  # without `org`: Redis was emptied, and only the sections are there again
    view = View(
        org=fields[b"org"].decode(),
        campaign=fields[b"campaign"].decode(),
        epoch=epoch,
        version=int(fields[b"v"]),
        complete=complete,
        as_of_ms=-1,
        patterns={},
        totals=[0] * METRICS,
        overflow=[0] * METRICS,
        labels=decode_labels(fields[b"labels"]) if b"labels" in fields else Labels(),
        quarters=None,
    )
    days: list[tuple[int, bytes]] = []
    for name, value in fields.items():
        if name.startswith(b"s:"):
            part = _summary_part.decode(value)
            view.as_of_ms = max(view.as_of_ms, part.as_of_ms)
            for pattern, recipients in part.patterns.items():
                view.patterns[pattern] = view.patterns.get(pattern, 0) + recipients
            _add(view.totals, part.totals)
            _add(view.overflow, part.overflow)
        elif name.startswith(b"d:") and hours:
            days.append((int(name.rpartition(b":")[2]), value))
    if hours:
        view.quarters = add_days(days)
    return view


def _add(row: list[int], counts: Sequence[int]) -> None:
    for metric, count in enumerate(counts):
        row[metric] += count
