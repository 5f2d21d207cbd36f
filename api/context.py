"""What the handlers share: one `Context` per process, made by `cli/api.py` and reached from any request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from api.arrivals import Arrivals
from api.certificates import Certificates
from api.confirmations import Confirmations
from api.desk import Desk
from api.metrics import Metrics
from api.queries import Queries
from api.rates import Rates
from api.share_log import ShareLog
from app.organisations import Organisations
from app.report import INCOMPLETE, Freshness
from app.settings import Settings
from tables.background import Background
from tables.campaign_list import CampaignList
from tables.conditions import Conditions
from tables.every_campaign import uncounted_campaigns
from tables.views import ViewReader

if TYPE_CHECKING:
    from api.hub import LiveHub
    from api.lag import LagMonitor
    from api.producer import Producer


@dataclass(slots=True, kw_only=True)
class Context:
    settings: Settings
    organisations: Organisations
    """Swapped as a whole on SIGHUP: read it once per request."""
    secret: bytes
    redis: Redis
    producer: Producer
    views: ViewReader
    lag: LagMonitor
    hub: LiveHub
    metrics: Metrics
    certificates: Certificates = field(default_factory=Certificates)
    confirmations: Confirmations = field(default_factory=Confirmations)
    rates: Rates = field(default_factory=Rates)
    arrivals: Arrivals = field(default_factory=Arrivals)
    dead: Desk = field(default_factory=Desk)
    clock: Callable[[], float] = field(default=time.time)
    """Seconds since 1970 by Redis's clock (`tables.redis_clock`), as on all hosts."""
    conditions: Conditions = field(default_factory=Conditions)
    """What is wrong with this process."""
    background: Background = field(default_factory=Background)
    beside: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What else runs while the process serves, by its name."""
    uncounted: Callable[..., set[str]] = field(default=uncounted_campaigns)
    """`tables.every_campaign.uncounted_campaigns`: it asks Kafka."""
    erasing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Each of them reads from Kafka in a thread."""
    queries: Queries = field(init=False)
    campaigns: CampaignList = field(init=False)
    shares: ShareLog = field(init=False)

    def freshness(self, complete: bool, behind_ms: int = 0) -> Freshness:
        """How fresh what is answered now is; `complete`: no partition's share of it is missing; `behind_ms`: how much
        older its rows are."""
        return self.lag.report.freshness.because(None if complete else INCOMPLETE).with_rows(behind_ms)

    def __post_init__(self) -> None:
        self.queries = self.hub.queries
        self.campaigns = CampaignList(self.redis, self.views)
        self.shares = ShareLog(self.settings.kafka, self.background)
        self.metrics.shares_fresh.set_function(lambda: float(self.shares.fresh))


def context_of(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context
