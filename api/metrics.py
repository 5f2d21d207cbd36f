"""Every metric of the API, with its type and meaning, in one place.

Rules:
- Labels take values from configuration or code only (organisation, source, route, outcome), never from a request, so
  that no caller can make new time series.
- A registry of its own: two apps in one process (tests) don't collide.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.requests: Final = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds: Final = Histogram(
            "http_request_seconds",
            "Time from a request to the end of its answer; event streams are left out.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.webhooks: Final = Counter(
            "webhooks",
            "Webhooks by outcome: accepted, or the code of the refusal.",
            ["org", "source", "outcome"],
            registry=self.registry,
        )
        self.webhook_bytes: Final = Counter(
            "webhook_bytes", "Bytes of accepted webhook bodies.", ["org", "source"], registry=self.registry
        )
        self.webhook_once_skipped: Final = Counter(
            "webhook_once_skipped",
            "Webhooks whose token was not compared with earlier ones, since Redis did not answer in time.",
            registry=self.registry,
        )
        self.webhook_seconds: Final = Histogram(
            "webhook_seconds",
            "Time from a webhook's request to its answer, Kafka's acknowledgement included.",
            ["esp"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.shares_fresh: Final = Gauge(
            "shares_fresh",
            "1 while it is known which shared links hold; 0: they are answered 503.",
            registry=self.registry,
        )
        self.sse_clients: Final = Gauge(
            "sse_clients", "Event streams open now.", ["stream"], registry=self.registry
        )
        self.sse_events: Final = Counter(
            "sse_events", "Events sent to streams.", ["event"], registry=self.registry
        )
        self.sse_closed: Final = Counter(
            "sse_closed",
            "Event streams closed by us: lifetime, unauthorised, shutdown or send timeout (stuck client).",
            ["reason"],
            registry=self.registry,
        )
        self.view_loads: Final = Counter(
            "view_loads", "Views read from Redis for event streams.", ["hours"], registry=self.registry
        )
        self.background_restarts: Final = Counter(
            "background_restarts",
            "Failures of what runs beside the requests (lag monitor, live reports, …), each followed by a new start.",
            ["name"],
            registry=self.registry,
        )
        self.conditions: Final = Gauge(
            "conditions", "What living processes say is wrong, by its code.", ["code"], registry=self.registry
        )
        self.lag_records: Final = Gauge(
            "lag_records", "Records not yet processed.", ["topic", "partition"], registry=self.registry
        )
        self.lag_seconds: Final = Gauge(
            "lag_seconds", "Age of the oldest record accepted and not yet counted.", registry=self.registry
        )
        self.lag_stale: Final = Gauge(
            "lag_stale",
            "1 while the reports may be behind or their lag is not known.",
            registry=self.registry,
        )
        self.dead_letters: Final = Gauge(
            "dead_letters", "Letters in the dead-letter topic.", registry=self.registry
        )
        self.dead_replayed: Final = Counter(
            "dead_letters_replayed",
            "Dead letters sent once more through the API.",
            ["org"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
