"""The API's side of the query processes: which one has which partition, requests to all of them, one merged answer.

Rules:
- Who has a partition stands in Redis (`wire.QUERIES`). Where a partition has nobody, or the one that is named doesn't
  answer, or answers from a copy that is behind the published numbers, the whole is TryLater and says which role to look
  for, or that a database is damaged: a list is never short without anyone knowing.
- Rows are merged by their order keys. Where a process stopped looking, the page ends there: what the others have behind
  that place may not be all that is there.
- Every wait ends after `TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

import msgspec

from api.query import wire
from api.query.connection import Connections
from api.query.wire import Announcement, Page
from app import tally
from app.breakdown import RowKey
from app.errors import UNDECODABLE, TryLater
from app.facts import CampaignKey, RecipientKey
from app.filters import EventFilter, RecipientFilter
from app.keys import recipient_partition
from app.summary import Count
from app.top_rows import Answer
from tables.link_ends import Ends, widest
from tables.people import Kind
from tables.presence import WORKERS, conditions_of
from tables.redis_clock import time_ms
from tables.sketches import Union
from tables.views import PARTITIONS, Fence, fences_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger("reports.queries")

TIMEOUT_S: Final = 2.0
SECTION_TIMEOUT_S: Final = 10.0
RETRY_AFTER_S: Final = 2

_announcement = msgspec.json.Decoder(Announcement)
_refusal = msgspec.msgpack.Decoder(wire.Refusal)
_page = msgspec.msgpack.Decoder(wire.Page)
_recipient = msgspec.msgpack.Decoder(wire.RecipientAnswer)
_top_clickers = msgspec.msgpack.Decoder(wire.TopClickersAnswer)
_rows = msgspec.msgpack.Decoder(wire.RowsAnswer)
_tops = msgspec.msgpack.Decoder(wire.TopsAnswer)
_people = msgspec.msgpack.Decoder(wire.PeopleAnswer)


_A = TypeVar(
    "_A",
    wire.Page,
    wire.RecipientAnswer,
    wire.TopClickersAnswer,
    wire.RowsAnswer,
    wire.TopsAnswer,
    wire.PeopleAnswer,
)


class MergedPage(NamedTuple):
    items: list[bytes]
    """As JSON."""
    after: bytes | None
    """The order key behind which the next page begins; None: this was the last one."""
    matching: int | None


class Queries:
    """One per API process."""

    def __init__(self, redis: Redis, secret: bytes, partitions: int) -> None:
        self._redis = redis
        self._token = wire.token_of(secret)
        self._partitions = partitions
        self._processes: dict[str, Connections] = {}

    @property
    def token(self) -> str:
        """With which a query process answers."""
        return self._token

    async def places(self) -> tuple[dict[str, list[int]], dict[int, Fence]]:
        """URL → its partitions (all are somewhere), and how far the published numbers go. Raises TryLater."""
        return await self._places(set(range(self._partitions)))

    async def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    async def recipients(
        self,
        campaign: CampaignKey,
        wanted: RecipientFilter,
        *,
        count: Count,
        sort: wire.Sort,
        after: bytes | None,
        limit: int,
    ) -> MergedPage:
        pages = await self._ask(
            "recipients",
            lambda some: wire.RecipientsRequest(campaign, some, wanted, count, sort, after, limit),
            _page,
        )
        return merge_pages(pages, limit)

    async def events(
        self,
        campaign: CampaignKey,
        wanted: EventFilter,
        *,
        descending: bool,
        after: bytes | None,
        limit: int,
    ) -> MergedPage:
        only = None if wanted.recipient is None else [self._home(RecipientKey(wanted.recipient))]
        pages = await self._ask(
            "events",
            lambda some: wire.EventsRequest(campaign, some, wanted, descending, after, limit),
            _page,
            only=only,
        )
        return merge_pages(pages, limit)

    async def recipient(
        self, campaign: CampaignKey, recipient: RecipientKey, *, count: Count
    ) -> wire.RecipientAnswer:
        (answer,) = await self._ask(
            "recipient",
            lambda some: wire.RecipientRequest(campaign, some, recipient, count),
            _recipient,
            only=[self._home(recipient)],
        )
        return answer

    async def clickers(
        self, campaign: CampaignKey, link: int, *, count: Count, after: bytes | None, limit: int
    ) -> MergedPage:
        pages = await self._ask(
            "clickers",
            lambda some: wire.ClickersRequest(campaign, some, link, count, after, limit),
            _page,
        )
        return merge_pages(pages, limit)

    async def top_clickers(
        self, campaign: CampaignKey, links: Sequence[int], count: Count, most: int
    ) -> dict[int, list[tuple[str, int]]]:
        """Link → (address, clicks) of those who clicked it most; an erased person's address is empty."""
        answers = await self._ask(
            "top_clickers",
            lambda some: wire.TopClickersRequest(campaign, some, tuple(links), count, most),
            _top_clickers,
        )
        result = {}
        for place, link in enumerate(links):
            found = [clicker for answer in answers for clicker in answer.clickers[place]]
            found.sort(key=lambda clicker: (-clicker[0], clicker[1]))
            result[link] = [(address, clicks) for clicks, address in found[:most]]
        return result

    async def rows(self, campaign: CampaignKey, keys: Sequence[RowKey]) -> dict[RowKey, int]:
        """Exact tallies of rows of sections, summed over all partitions; 0 for a row that isn't there."""
        answers = await self._ask("rows", lambda some: wire.RowsRequest(campaign, some, tuple(keys)), _rows)
        return {
            key: sum(tally.from_bytes(answer.tallies[place]) for answer in answers)
            for place, key in enumerate(keys)
        }

    async def tops(self, campaign: CampaignKey, sections: Sequence[int], keys: Sequence[RowKey]) -> Answer:
        """Exact tallies of rows of these sections, summed over all partitions, and what all of their rows add up to."""
        answers = await self._ask(
            "tops", lambda some: wire.TopsRequest(campaign, some, tuple(sections), tuple(keys)), _tops
        )
        # Of thousands of rows: webhooks are taken on the event loop.
        return await asyncio.to_thread(_added_up, sections, keys, answers)

    async def people(
        self, campaigns: Sequence[CampaignKey], kinds: Sequence[Kind], first: int, end: int
    ) -> list[Union]:
        """Of each kind the distinct people of all the campaigns between two quarters (`end` not included)."""
        answers = await self._ask(
            "people",
            lambda some: wire.PeopleRequest(tuple(campaigns), some, tuple(kinds), first, end),
            _people,
            timeout_s=SECTION_TIMEOUT_S,
        )
        unions = [Union() for _ in kinds]
        for answer in answers:
            for union, sketch in zip(unions, answer.sketches, strict=True):
                union.add(sketch)
        return unions

    async def refusal(self, partitions: Iterable[int]) -> TryLater:
        """Why these partitions can't be read, as far as their processes say it. Raises RedisError."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(WORKERS)
            pipe.time()
            stored, now = cast(tuple[dict[bytes, bytes], tuple[int, int]], tuple(await pipe.execute()))
        unreadable = {
            one.partition for one in conditions_of(stored, time_ms(now)) if one.code == wire.UNREADABLE
        }
        asked = set(partitions)
        damaged = asked if None in unreadable else asked & unreadable
        numbers = ", ".join(map(str, sorted(damaged or asked)))
        if damaged:
            return TryLater(
                RETRY_AFTER_S,
                f"the database of partition {numbers} can't be read: GET /ops/workers names the fault and the way "
                "out. The report's numbers are not affected",
            )
        return TryLater(
            RETRY_AFTER_S,
            f"no query process (role `query`) can read partition {numbers} at the moment; nothing is lost",
        )

    def _home(self, recipient: RecipientKey) -> int:
        return recipient_partition(recipient, self._partitions)

    async def _ask(
        self,
        path: str,
        request: Callable[[tuple[int, ...]], wire.Request],
        decoder: msgspec.msgpack.Decoder[_A],
        *,
        only: Iterable[int] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> list[_A]:
        """The answers of all processes that have the partitions (all, or `only` some)."""
        wanted = set(range(self._partitions) if only is None else only)
        by_url, published = await self._places(wanted)
        answers = await asyncio.gather(
            *(
                self._post(url, path, request(tuple(sorted(some))), decoder, timeout_s)
                for url, some in by_url.items()
            )
        )
        behind = {
            partition
            for answer in answers
            for partition, fence in answer.fences.items()
            if (stands := published.get(partition)) is not None
            and Fence(*fence, stands.topic).is_behind(stands)
        }
        if behind:
            raise await self.refusal(behind)
        return answers

    async def _places(self, wanted: set[int]) -> tuple[dict[str, list[int]], dict[int, Fence]]:
        """URL → partitions that are asked there, and how far the published numbers go."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(wire.QUERIES)
            pipe.hgetall(PARTITIONS)
            pipe.time()
            announced, offsets, now = cast(
                tuple[dict[bytes, bytes], dict[bytes, bytes], tuple[int, int]], tuple(await pipe.execute())
            )
        by_url: dict[str, list[int]] = {}
        urls: set[str] = set()
        for partition, text in announced.items():
            try:
                number, found = int(partition), _announcement.decode(text)
            except (ValueError, *UNDECODABLE):
                continue
            urls.add(found.url)
            if number in wanted and time_ms(now) - found.at_ms < wire.FRESH_S * 1000:
                by_url.setdefault(found.url, []).append(number)
        for url in self._processes.keys() - urls:
            self._processes.pop(url).close()
        if missing := wanted.difference(*by_url.values()):
            raise await self.refusal(missing)
        return by_url, fences_of(offsets)

    async def _post(
        self,
        url: str,
        path: str,
        request: wire.Request,
        decoder: msgspec.msgpack.Decoder[_A],
        timeout_s: float,
    ) -> _A:
        partitions = request.partitions
        try:
            process = self._processes.get(url)
            if process is None:
                process = self._processes[url] = Connections(url, self._token)
            status, body = await process.post("/" + path, wire.encode(request), timeout_s)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            # The next one may listen elsewhere.
            if (process := self._processes.pop(url, None)) is not None:
                process.close()
            raise await self.refusal(partitions) from error
        if status == 409:
            raise await self.refusal(_refusal.decode(body).missing)
        if status == 503:
            raise TryLater(RETRY_AFTER_S, "the query process (role `query`) has too much to do, try again")
        if status == 401:
            log.error("the query process of partitions %s has another REPORTS_SECRET", partitions)
            raise await self.refusal(partitions)
        if status != 200:
            raise RuntimeError(f"the query process answered {status} to {path}")
        return decoder.decode(body)


def _added_up(sections: Sequence[int], keys: Sequence[RowKey], answers: Sequence[wire.TopsAnswer]) -> Answer:
    totals = {}
    for place, section in enumerate(sections):
        known = [answer.totals[place] for answer in answers]
        if None not in known:
            totals[section] = sum(tally.from_bytes(total or b"") for total in known)
    ends: dict[int, Ends] = {}
    for answer in answers:
        for link, pair in answer.ends.items():
            ends[link] = widest(Ends(*ends[link]), Ends(*pair)) if link in ends else Ends(*pair)
    tallies = {
        key: sum(tally.from_bytes(answer.tallies[place]) for answer in answers)
        for place, key in enumerate(keys)
    }
    return Answer(totals, tallies, dict(ends))


def merge_pages(pages: Sequence[Page], limit: int) -> MergedPage:
    """Pages of different partitions → one, and where the next one begins."""
    rows = sorted(row for page in pages for row in page.rows)
    stops = [page.stopped for page in pages if page.stopped is not None]
    horizon = min(stops, default=None)
    if horizon is not None:
        rows = [row for row in rows if row[0] <= horizon]
    shown = rows[:limit]
    after = shown[-1][0] if len(rows) > limit else horizon
    known = [page.matching for page in pages]
    matching = sum(number or 0 for number in known) if None not in known else None
    return MergedPage([item for _, item in shown], after, matching)
