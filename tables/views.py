"""The report numbers in Redis: absolute values per campaign and partition, each behind its own fence.

Redis never holds the only copy. `tables.view_writer` writes, `ViewReader` here reads. The keys, P being a partition
of topic `facts` and T Kafka's id of that topic, all of them under the installation's id (`tables.redis_names`):
- `cr:epoch`               a random word: another one means that Redis was emptied
- `cr:v4:partitions`       hash P → position "generation:offset:T": all facts of T below the offset are in the views;
  ":N" behind it while a publication that takes several steps is under way
- `cr:v4:repairs`          hash P → token of the repair under way
- `cr:v4:partitions:sections`, `cr:v4:repairs:sections`: the same of the sections, published less often
- `cr:v4:looks`            hash: `lost` how often it was noticed that Redis had lost something of the views, and
  P → that number as it was when the partition's last look that found all of its numbers began
- `cr:v4:topics`           set of all T of which there may be views, and `ALL_TOPICS`
- `cr:rebuild`             what `reports rebuild` asks of the workers (`tables.rebuilds`), for an hour
- `cr:owners`              hash P → `Owner` as JSON; `cr:delays` hash worker → `Delays` as JSON
- `cr:v4:T:report:<campaign key>` hash: `v` version, `org`, `campaign`, `labels`; per partition `f:P` its fence
  "generation:offset", `s:P` a `SummaryPart`, `d:P:<day>` a `DayPart` of that UTC day, `r:P` the fence as of which rows
  of its sections moved last, `b:P` since when (Redis' clock, ms) what is published of them is older than that
- `cr:v4:T:sections:<campaign key>` hash: `f:P` as above, `x:P:<section>` a `tables.section_parts.SectionPart`, packed
- `cr:v4:T:campaigns:<org>`  sorted set of the organisation's campaigns by time of their newest counted event
- `cr:v4:T:names:<org>` hash: campaign → what it is called, as `labels` without fields; `cr:v4:T:renames:<org>` counts
  how often that hash changed (`tables.campaign_list`)
- `cr:v4:T:counts` hash: P → JSON, organisation → of how many campaigns the partition's last look that found all of its
  numbers found them
- channel `cr:tick`         "<campaign key>:<version>" whenever a view has changed

Rules:
1. A value older than the stored fence is refused by the script, and so is everything of a generation below that of the
   partition's position: replays and zombie workers are harmless.
2. A partition's position moves only from the value that its worker wrote last. If something else stands there, Redis
   was emptied or restored, and the worker publishes again what was touched since (`agents.publication`).
3. The newest topic is the one of the position with the highest generation: generations come from Kafka and rise. Views
   of other topics are never shown; the workers delete them.
4. While a partition's position is missing or of another topic, or it hasn't looked at its numbers since something was
   lost, sums are incomplete, and a reader says so (`complete`).
5. A part of a partition's share is written only where the rest of it stands: a share is whole or missing.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import numpy as np

from app.contribution import METRICS
from app.facts import CampaignKey
from app.notices import Note
from app.sections import Rows
from app.timeline import DAY_QUARTERS
from app.verdicts import Rules
from tables.checkpoints import Checkpoint
from tables.columns import planes_of, sums_of_tables
from tables.section_merge import merge_parts, unpack_part

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

FORMAT_NUMBER: Final = 4
"""Another format of what is packed in here gets another number: then all is published anew, and what earlier versions
left is deleted (`ViewWriter.forget_older_formats`)."""
FORMAT: Final = f"cr:v{FORMAT_NUMBER}:"
EPOCH: Final = "cr:epoch"
PARTITIONS: Final = FORMAT + "partitions"
REPAIRS: Final = FORMAT + "repairs"
SECTION_PARTITIONS: Final = FORMAT + "partitions:sections"
SECTION_REPAIRS: Final = FORMAT + "repairs:sections"
LOOKS: Final = FORMAT + "looks"
TOPICS: Final = FORMAT + "topics"
ALL_TOPICS: Final = "*"
"""Stands among them where all are known; missing, the set was lost, and the keys are looked through."""
OWNERS: Final = "cr:owners"
DELAYS: Final = "cr:delays"
REBUILD: Final = "cr:rebuild"
TICK: Final = "cr:tick"


def topic_prefix(topic: str) -> str:
    """`topic`: Kafka's id, which has letters, digits, - and _ only."""
    return f"{FORMAT}{topic}:"


def report_name(topic: str, campaign: CampaignKey) -> str:
    return topic_prefix(topic) + "report:" + campaign.hex()


def sections_name(topic: str, campaign: CampaignKey) -> str:
    return topic_prefix(topic) + "sections:" + campaign.hex()


def campaigns_name(topic: str, org: str) -> str:
    return topic_prefix(topic) + "campaigns:" + org


def names_name(topic: str, org: str) -> str:
    return topic_prefix(topic) + "names:" + org


def counts_name(topic: str) -> str:
    return topic_prefix(topic) + "counts"


def renames_name(topic: str, org: str) -> str:
    return topic_prefix(topic) + "renames:" + org


class SummaryPart(msgspec.Struct, array_like=True):
    """A partition's share of one campaign, without its hours."""

    as_of_ms: int
    patterns: dict[int, int]
    """Recipients by pattern (`app.contribution`)."""
    totals: list[int]
    """Events and first events by metric, over all quarters."""
    overflow: list[int]
    """The part of `totals` whose quarter is not kept."""
    notes: list[Note] = []
    """What holds for the numbers for good (`app.notices`)."""


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
    """False while a partition's share may be missing (Redis was emptied or lost keys, and is not repaired yet)."""
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
    notes: list[tuple[int, Note]] = []
    """(partition, note)."""
    loaded: frozenset[int] = frozenset()
    """The sections that were asked for; those without rows are not in `sections`."""
    behind_ms: int = 0
    """How long the rows have been older than the other numbers."""


_PLAIN_BYTES: Final = 200
_encode = msgspec.msgpack.Encoder().encode
_summary_part = msgspec.msgpack.Decoder(SummaryPart)
_day_part = msgspec.msgpack.Decoder(DayPart)
decode_labels = msgspec.msgpack.Decoder(Labels).decode


class Fence(msgspec.Struct, frozen=True):
    """How far a partition is: of two, the one with the higher generation is the newer one, then the higher offset."""

    generation: int
    """Of the partition's database. Each database that is made new or rebuilt has a higher one (`app.installation`)."""
    offset: int
    """The next one that it will count."""
    topic: str
    """Kafka's id of `facts`: offsets of different topics have nothing to do with each other."""

    def text(self) -> str:
        return f"{self.generation}:{self.offset}:{self.topic}"

    def is_behind(self, published: Fence) -> bool:
        """Whether a database that is so far lacks something of the published numbers."""
        return self.generation < published.generation or self.offset < published.offset


def fence_of(text: bytes | None) -> Fence | None:
    """None where nothing stands, or nothing that can be read."""
    parts = text.decode("utf-8", "replace").split(":") if text is not None else []
    if len(parts) < 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return Fence(int(parts[0]), int(parts[1]), parts[2])


def fences_of(stored: Mapping[bytes, bytes]) -> dict[int, Fence]:
    """A hash of positions → partition → how far its published numbers go."""
    return {
        int(partition): fence
        for partition, text in stored.items()
        if partition.isdigit() and (fence := fence_of(text)) is not None
    }


def newest_topic(fences: Mapping[int, Fence]) -> str | None:
    """None where nothing was published."""
    newest = max(fences.values(), key=lambda fence: (fence.generation, fence.topic), default=None)
    return newest.topic if newest is not None else None


def complete(fences: Mapping[int, Fence], topic: str, partitions: int) -> bool:
    """Whether every partition has published, and all of the same topic."""
    return all(
        (fence := fences.get(partition)) is not None and fence.topic == topic
        for partition in range(partitions)
    )


def nothing_lost(looks: Mapping[bytes, bytes], partitions: int) -> bool:
    """Whether every partition has found all of its numbers since something was lost last."""
    losses = looks.get(b"lost")
    return losses is None or all(looks.get(b"%d" % partition) == losses for partition in range(partitions))


class Channel(NamedTuple):
    """What is published together has positions and repairs of its own."""

    positions: str
    repairs: str


NUMBERS: Final = Channel(PARTITIONS, REPAIRS)
"""Summary, hours and labels: as quickly as can be."""
LOST_MS: Final = 86_400_000
"""How long behind rows are said to be that are missing in Redis."""
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
    reached: int | None = None
    """The next offset that its database will count, while its numbers are withheld (Redis holds newer ones), or what
    Redis holds is not known yet."""
    topic: str = ""
    last: Checkpoint | None = None
    """Of that topic, the last record that the database had counted."""


class Delays(msgspec.Struct, frozen=True):
    """A worker's last minute: from a webhook's acceptance to its numbers in Redis, and facts per second."""

    p50_ms: float | None
    p99_ms: float | None
    facts_per_s: float
    at_ms: int


Stamp = tuple[bytes | None, ...]
"""The fences of a campaign's parts of the sections, by partition: the same ones mean the same parts."""


class Listed(NamedTuple):
    """What Redis lists as of one moment."""

    names: set[str]
    positions: dict[int, Fence]


class PackedSections(NamedTuple):
    """What Redis holds of a campaign's rows, as it is stored."""

    stamp: Stamp
    parts: dict[int, list[tuple[int, bytes]]]
    """Section → (partition, packed part)."""

    def merged(self, most: Callable[[int], int] | None = None) -> dict[int, Rows]:
        """Section → rows; those without rows are missing. `most`: see `merge_parts`."""
        parts = (
            (partition, section, unpack_part(packed))
            for section, some in self.parts.items()
            for partition, packed in some
        )
        return merge_parts(parts, most)


class ViewReader:
    """The API's side: sums the partitions' shares of the newest topic."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._summary_fields = ["v", "org", "campaign", "labels", *(f"s:{p}" for p in range(partitions))]
        self.topic = ""
        """The newest topic, as it was read last."""

    async def epoch(self) -> str:
        """Another epoch means that versions start anew: Redis was restarted, restored or emptied, or another topic is
        counted."""
        info: Mapping[str, Any] = await self._redis.info("server")
        await self._redis.set(EPOCH, secrets.token_hex(4), nx=True)
        word = cast(bytes, await self._redis.get(EPOCH))
        self._follow(await self.partition_offsets())
        # Not the id itself: it may have a `-`, which parts epoch and version for those who watch.
        return f"{info['run_id'][:8]}{word.decode()}{zlib.crc32(self.topic.encode()):08x}"

    def _follow(self, fences: Mapping[int, Fence]) -> None:
        """Goes over to the newest topic."""
        self.topic = newest_topic(fences) or self.topic

    async def partition_offsets(self) -> dict[int, Fence]:
        """Partition → how far its published numbers go. A partition that is missing has published nothing yet."""
        return fences_of(cast(dict[bytes, bytes], await self._redis.hgetall(PARTITIONS)))

    async def follow_newest(self) -> None:
        """Goes over to the newest topic that anything was published of."""
        self._follow(await self.partition_offsets())

    async def complete(self) -> bool:
        """Whether what isn't there doesn't exist."""
        known, _ = await self._of_newest(lambda pipe: None)
        return known

    async def load(
        self, campaign: CampaignKey, *, epoch: str, hours: bool, sections: Collection[int] = ()
    ) -> View | None:
        """A campaign's view, or None where nothing of it was ever published. `sections`: see `View.sections`."""
        found = await self.load_packed(campaign, epoch=epoch, hours=hours, sections=sections)
        if found is None:
            return None
        view, packed = found
        if packed is not None:
            view.sections = packed.merged()
        return view

    async def load_packed(
        self,
        campaign: CampaignKey,
        *,
        epoch: str,
        hours: bool,
        sections: Collection[int] = (),
        parts: bool = True,
    ) -> tuple[View, PackedSections | None] | None:
        """The same, and the rows as they are stored, where sections were asked for. Without `parts` only their stamp:
        of a mailing with a link for each recipient they are 330 kB."""
        partitions = range(self._partitions)
        wanted = [(p, section) for section in sections for p in partitions] if parts else []

        def ask(pipe: Pipeline) -> None:
            report, rows = report_name(self.topic, campaign), sections_name(self.topic, campaign)
            if hours:
                pipe.hgetall(report)
            else:
                pipe.hmget(report, self._summary_fields)
            if sections:
                pipe.hgetall(SECTION_PARTITIONS)
                pipe.hmget(report, [f"{letter}:{p}" for p in partitions for letter in "rb"])
                pipe.hmget(
                    rows, [f"f:{p}" for p in partitions] + [f"x:{p}:{section}" for p, section in wanted]
                )
                pipe.time()

        known, (answer, *rest) = await self._of_newest(ask)
        fields: dict[bytes, bytes] = answer if hours else self._fields(answer)
        view = view_of(fields, epoch=epoch, complete=known, hours=hours)
        if view is None:
            return None
        if not rest:
            return view, None
        published, moved, stored, (seconds, micros) = rest
        fences, stored = stored[: self._partitions], stored[self._partitions :]
        view.complete = known and complete(fences_of(published), self.topic, self._partitions)
        view.loaded = frozenset(sections)
        view.behind_ms = rows_behind_ms(moved, fences, seconds * 1000 + micros // 1000)
        packed = PackedSections(tuple(fences), {})
        for (partition, section), part in zip(wanted, stored, strict=True):
            if part is not None:
                packed.parts.setdefault(section, []).append((partition, part))
        return view, packed

    async def _of_newest(
        self, ask: Callable[[Pipeline], None], *, transaction: bool = False
    ) -> tuple[bool, list[Any]]:
        """Answers about the newest topic, and whether all of it is there; one round trip."""
        while True:
            asked = self.topic
            async with self._redis.pipeline(transaction=transaction) as pipe:
                pipe.hgetall(PARTITIONS)
                pipe.hgetall(LOOKS)
                ask(pipe)
                stored, looks, *answers = await pipe.execute()
            fences = fences_of(stored)
            self._follow(fences)
            # Once more where another topic has come, by whomever it was seen; seldom, and never twice in a row.
            if self.topic == asked:
                known = complete(fences, self.topic, self._partitions)
                return known and nothing_lost(looks, self._partitions), answers

    async def load_summaries(self, campaigns: Sequence[CampaignKey], *, epoch: str) -> list[View | None]:
        """Views without hours and sections, as `load` gives them, in one round trip."""

        def ask(pipe: Pipeline) -> None:
            for campaign in campaigns:
                pipe.hmget(report_name(self.topic, campaign), self._summary_fields)

        known, answers = await self._of_newest(ask)
        return [view_of(self._fields(answer), epoch=epoch, complete=known, hours=False) for answer in answers]

    async def versions(self, campaigns: Sequence[CampaignKey]) -> list[int | None]:
        """The views' versions; None where there is none."""

        def ask(pipe: Pipeline) -> None:
            for campaign in campaigns:
                pipe.hget(report_name(self.topic, campaign), "v")

        _, answers = await self._of_newest(ask)
        return [int(text) if text is not None else None for text in answers]

    def _fields(self, answer: Sequence[bytes | None]) -> dict[bytes, bytes]:
        """What HMGET of `_summary_fields` says."""
        names = self._summary_fields
        return {name.encode(): value for name, value in zip(names, answer, strict=True) if value is not None}

    async def listed_campaigns(self, org: str) -> Listed | None:
        """An organisation's campaigns; None where not all are there (Redis is being filled again)."""

        def ask(pipe: Pipeline) -> None:
            pipe.hgetall(PARTITIONS)
            pipe.zrange(campaigns_name(self.topic, org), 0, -1)

        known, (positions, names) = await self._of_newest(ask, transaction=True)
        return Listed({name.decode() for name in names}, fences_of(positions)) if known else None


def rows_behind_ms(moved: Sequence[bytes | None], fences: Sequence[bytes | None], now_ms: int) -> int:
    """`moved`: of each partition `r:P` and `b:P`; `fences`: of its part of the sections."""
    behind_ms = 0
    for last, since, fence in zip(moved[::2], moved[1::2], fences, strict=True):
        if last is None:
            continue
        if fence is None or _place_of(fence) < _place_of(last):
            # Without a word since when, the part was lost in Redis.
            behind_ms = max(behind_ms, now_ms - int(since) if since is not None else LOST_MS)
    return behind_ms


def _place_of(fence: bytes) -> tuple[int, int]:
    """A campaign's fence of one partition → (generation, offset)."""
    generation, _, offset = fence.partition(b":")
    return int(generation), int(offset)


def view_of(fields: Mapping[bytes, bytes], *, epoch: str, complete: bool, hours: bool) -> View | None:
    """The fields of a report's hash → the view. Pure, so that the sums can be tested without a server."""
    if b"v" not in fields or b"org" not in fields or b"campaign" not in fields:
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
            view.notes += ((int(name[2:]), note) for note in part.notes)
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
