"""The hub of the live reports: one load per watched campaign and tick, whatever the number of its watchers.

Rules:
1. The key of everything here is the campaign's key, a keyed hash of organisation (the principal's) and campaign: what
   two organisations call by the same name never meets.
2. A tick on a quiet campaign is loaded and sent at once; further ones are gathered: the summary at most every
   `SUMMARY_S`, the other sections every `SECTIONS_S`, and less often the more watchers there are (`WATCHER_S` each),
   since sending to ten thousand takes a second anyway.
3. Another epoch (restart, FLUSHALL) means that numbers may be missing. Watchers keep the last ones, marked stale, until
   the view is complete again; then they get `reset` and a snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from api.building import build
from api.feed import Feed, FeedKey, Subscription
from api.metrics import Metrics
from api.queries import Queries
from api.ticks import Ticks
from api.tops import Tops, clickers_of
from api.viewers import shared_view
from app.errors import RejectRequest, ReportsError, TryLater
from app.facts import CampaignKey
from app.keys import campaign_key
from app.report import INCOMPLETE, Freshness, TopClickers
from tables.background import Background
from tables.views import View, ViewReader

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from api.lag import LagMonitor

log = logging.getLogger("reports.hub")

SUMMARY_S: Final = 0.05
SECTIONS_S: Final = 0.25
WATCHER_S: Final = 0.000_1
"""What sending one event to one watcher costs, measured; a campaign's watchers get at most all of one core."""
TEND_S: Final = 1.0
RETRY_S: Final = 0.25
BEHIND_S: Final = 1.0
"""Until rows that are older than the numbers are looked at again."""


class Watched:
    """One campaign with watchers."""

    def __init__(self, key: CampaignKey, org: str, campaign: str) -> None:
        self.key = key
        self.org = org
        self.campaign = campaign
        self.view: View | None = None
        self.whole: View | None = None
        """With hours and rows, as far as a feed wants them."""
        self.feeds: dict[FeedKey, Feed] = {}
        self.wake = asyncio.Event()
        self.lock = asyncio.Lock()
        self.joining = 0
        """Watchers that are on their way in: it must not be let go before they are."""
        self.suspect = False
        """What was read last can't be shown: it is incomplete or of an unknown epoch."""
        self.task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        return sum(len(feed.watchers) for feed in self.feeds.values())

    @property
    def slow(self) -> bool:
        return any(feed.slow for feed in self.feeds.values())


class LiveHub:
    def __init__(
        self,
        redis: Redis,
        views: ViewReader,
        lag: LagMonitor,
        metrics: Metrics,
        background: Background,
        *,
        secret: bytes,
        partitions: int,
    ) -> None:
        self._views = views
        self._lag = lag
        self._metrics = metrics
        self._background = background
        self.queries = Queries(redis, secret, partitions)
        self.tops = Tops(views, self.queries)
        self._secret = secret
        self._watched: dict[CampaignKey, Watched] = {}
        self._subscriptions: set[Subscription] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._ticks = Ticks(redis, views, self._moved, self._versions)
        self._ending = False

    async def start(self) -> None:
        loops = (self._ticks.listen, self._ticks.poll, self._tend)
        self._tasks = [self._background.task(f"hub_{loop.__name__.strip('_')}", loop) for loop in loops]

    async def stop(self) -> None:
        self.end_all("shutdown")
        tasks = [*self._tasks, *(watched.task for watched in self._watched.values() if watched.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end_all(self, reason: str) -> None:
        """Ends every stream; new ones are refused."""
        self._ending = True
        for subscription in list(self._subscriptions):
            subscription.end(reason)

    def track(self, subscription: Subscription) -> None:
        """A stream of another source (`/ops/live`) that is to end with the others."""
        self._check_ending()
        self._subscriptions.add(subscription)

    def untrack(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def _check_ending(self) -> None:
        if self._ending:
            raise TryLater(2, "restarting")

    async def epoch(self) -> str:
        """Redis' epoch as of the last second; raises RedisError when it was never reached."""
        return await self._ticks.epoch()

    async def not_found(self) -> ReportsError:
        """What to raise for a campaign that isn't there, or (Redis is being filled again) not there yet."""
        if not await self._views.complete():
            return TryLater(2, "the report numbers are being put together again")
        return RejectRequest(404, "not_found", "no such campaign")

    async def subscribe(self, org: str, campaign: str, key: FeedKey, last_id: str | None) -> Subscription:
        """A watcher of the campaign. Raises RejectRequest 404, TryLater while nothing is known, RedisError."""
        self._check_ending()
        campaign_id = campaign_key(self._secret, org, campaign)
        watched = self._watched.get(campaign_id)
        if watched is None:
            watched = self._watched[campaign_id] = Watched(campaign_id, org, campaign)
        watched.joining += 1
        try:
            async with watched.lock:
                feed = watched.feeds.get(key)
                if feed is None:
                    feed = Feed(key)
                    await self._fill(watched, feed)
                    watched.feeds[key] = feed
        finally:
            watched.joining -= 1
            self._let_go(watched)
        # Nothing awaits from here on, so that the campaign can't be let go between.
        if watched.task is None:
            watched.task = self._background.task("hub_follow", lambda: self._follow(watched))
        subscription = Subscription(_Left(self, watched, feed))
        feed.join(subscription, last_id)
        self._subscriptions.add(subscription)
        return subscription

    async def _fill(self, watched: Watched, feed: Feed) -> None:
        view = watched.whole if feed.slow else watched.view
        if (
            view is None
            or watched.view is None
            or view.version != watched.view.version
            or not _holds(view, feed)
        ):
            view = await self._load(watched, whole=feed.slow, joining=feed)
            if view is None:
                raise await self.not_found()
            if watched.view is None:
                watched.view = view
        await self._update(watched, feed, view)

    async def _load(self, watched: Watched, *, whole: bool, joining: Feed | None = None) -> View | None:
        """`whole`: with the hours and rows that the campaign's feeds (and one that is `joining`) want."""
        self._metrics.view_loads.labels(str(whole).lower()).inc()
        feeds = [*watched.feeds.values(), *([joining] if joining is not None else [])]
        view = await self.tops.load(
            watched.key,
            epoch=await self._ticks.epoch(),
            hours=whole and any(feed.wants_hours for feed in feeds),
            sections=sorted({row for feed in feeds for row in feed.wanted_rows}) if whole else (),
        )
        if view is not None and whole:
            watched.whole = view
        return view

    async def _update(self, watched: Watched, feed: Feed, view: View, *, anew: bool = False) -> None:
        """`anew`: the view is of another epoch than what the feed has."""
        clickers: TopClickers | None = None
        if feed.key.shared:
            loaded = view
            view = await build(loaded, lambda: shared_view(loaded, self._secret))
        elif "links" in feed.key.sections and view.sections is not None:
            clickers = await clickers_of(self.queries, watched.key, view, feed.key.count)
        made = await build(view, lambda: feed.made(view, clickers))
        if anew:
            feed.reset()  # nothing awaits until it is filled again: a watcher may look at it at any time
        feed.update(view, freshness=self._freshness(watched, feed, view), made=made)

    def release(self, watched: Watched, feed: Feed, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        feed.leave(subscription)
        if not feed.watchers and watched.feeds.get(feed.key) is feed:
            del watched.feeds[feed.key]
        self._let_go(watched)

    def _let_go(self, watched: Watched) -> None:
        if not watched.feeds and not watched.joining and self._watched.get(watched.key) is watched:
            del self._watched[watched.key]
            watched.wake.set()  # its task sees that nobody is left, and ends

    def _freshness(self, watched: Watched, feed: Feed, view: View) -> Freshness:
        freshness = self._lag.report.freshness
        if not self._ticks.answers:
            freshness = freshness.because("Redis doesn't answer")
        freshness = freshness.because(INCOMPLETE if watched.suspect or not view.complete else None)
        rows = watched.whole if feed.wanted_rows else None
        return freshness.with_rows(rows.behind_ms if rows is not None else 0)

    async def _follow(self, watched: Watched) -> None:
        """Loads a campaign's view after its ticks, and hands it to the feeds."""
        loop = asyncio.get_running_loop()
        sections_at = 0.0
        while self._watched.get(watched.key) is watched:
            await watched.wake.wait()
            watched.wake.clear()
            spread_s = watched.watchers * WATCHER_S
            now = loop.time()
            whole = watched.slow and now >= sections_at
            try:
                async with watched.lock:
                    shown = await self._refresh(watched, whole=whole)
            except (RedisError, OSError, TryLater):
                shown = False
            if not shown:
                loop.call_later(RETRY_S, watched.wake.set)
            elif whole:
                sections_at = now + max(SECTIONS_S, spread_s)
                if watched.whole is not None and watched.whole.behind_ms:
                    loop.call_later(BEHIND_S, watched.wake.set)  # no tick says that nothing comes
            elif watched.slow:
                # These numbers' hours and rows are due too, when their time has come.
                loop.call_at(sections_at, watched.wake.set)
            await asyncio.sleep(max(SUMMARY_S, spread_s))

    async def _refresh(self, watched: Watched, *, whole: bool) -> bool:
        """Loads and hands on; False: what was read can't be shown yet."""
        before = watched.view
        whole = whole or (watched.suspect and watched.slow)
        view = await self._load(watched, whole=whole)
        assert before is not None, "a campaign is followed once it was loaded"
        anew = view is not None and view.epoch != before.epoch
        if (
            view is None
            or (before.complete and not view.complete)
            or (not anew and view.version < before.version)
        ):
            # Perhaps Redis was emptied within the last second: the poll will tell.
            watched.suspect = True
            self._ticks.ask()
            self._update_heads(watched)
            return False
        watched.suspect = False
        if anew and watched.slow and not whole:
            view = await self._load(watched, whole=True) or view
        for feed in list(watched.feeds.values()):
            await self._update(watched, feed, view, anew=anew)
        # Only now: until all feeds have it, the poll of versions finds a difference, and it is tried again.
        watched.view = view
        return True

    def _update_heads(self, watched: Watched) -> None:
        if watched.view is not None:
            for feed in watched.feeds.values():
                if feed.filled:
                    feed.update_head(watched.view, self._freshness(watched, feed, watched.view))

    def _moved(self, key: CampaignKey | None) -> None:
        if key is None:
            for watched in self._watched.values():
                watched.wake.set()
        elif (found := self._watched.get(key)) is not None:
            found.wake.set()

    def _versions(self) -> dict[CampaignKey, int]:
        return {key: one.view.version for key, one in self._watched.items() if one.view is not None}

    async def _tend(self) -> None:
        """Once a second: heads whose lag moved, and streams whose time is over or whose key has to be looked at."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TEND_S)
            now = loop.time()
            for watched in list(self._watched.values()):
                self._update_heads(watched)
            for subscription in list(self._subscriptions):
                if now >= subscription.deadline:
                    subscription.end("lifetime")
                elif now >= subscription.recheck_at:
                    subscription.wake()


def _holds(view: View, feed: Feed) -> bool:
    """Whether a view was loaded with all that a feed shows."""
    return (view.quarters is not None or not feed.wants_hours) and all(
        row in view.loaded for row in feed.wanted_rows
    )


class _Left:
    """A feed as a subscription's source, and what is to be done when the watcher leaves."""

    def __init__(self, hub: LiveHub, watched: Watched, feed: Feed) -> None:
        self._hub, self._watched, self._feed = hub, watched, feed

    def chunk_for(self, watcher: Subscription) -> bytes:
        return self._feed.chunk_for(watcher)

    def leave(self, watcher: Subscription) -> None:
        self._hub.release(self._watched, self._feed, watcher)
