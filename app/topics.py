"""The topics and the headers that a record of `webhooks` and `webhooks.dead` carries.

The value of such a record is the body exactly as it came over the wire. What else is known of the request travels in
Kafka headers, so that an operator can read a body with any Kafka tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

WEBHOOKS: Final = "webhooks"
WEBHOOKS_PARTITIONS: Final = 8
FACTS: Final = "facts"
DEAD: Final = "webhooks.dead"
SHARES: Final = "shares"
"""Links to one report (`app.shares`): one partition, compacted by their ids."""

INSTALLATION: Final = "installation"
"""Who the installation is (`app.installation`): one partition, kept for ever."""

NORMALIZE_GROUP: Final = "campaign-reports-normalize"
AGGREGATE_GROUP: Final = "campaign-reports-aggregate"

RECORD_OVERHEAD: Final = 65_536
"""Bytes beside the body that a record of `webhooks` may need: `max.message.bytes` is MAX_BODY plus this."""

MAX_EVENTS: Final = 5_000
"""Events of one body that are read; what stands behind them is a dead letter."""


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request: a record of topic `webhooks`."""

    org: str
    source: str
    esp: str
    received_at_ms: int
    headers: tuple[tuple[str, str], ...]
    """The request's headers that a parser may need, names in lower case; never credentials."""
    body: bytes
    imported: bool = False
    """From a file (`reports import`), not from its sender."""
    replay_of: int | None = None
    """The dead letter that was sent once more with this record."""
    again_at_ms: int | None = None
    """When it was imported, replayed or renormalized, which may be long after it was received."""
    renormalized: bool = False
    """A copy of a record before it in the topic, to be read again (`reports renormalize`)."""

    @property
    def accepted_at_ms(self) -> int:
        """Since when it waits to be counted."""
        return self.received_at_ms if self.again_at_ms is None else self.again_at_ms


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Why a body or an event stands in `webhooks.dead` and where it came from."""

    reason: str
    stage: str
    """`parse` (the body), `event` (one event of it) or `record` (the log's own record)."""
    topic: str
    partition: int
    offset: int
    index: int | None = None


KafkaHeaders = list[tuple[str, bytes]]

IMPORTED: Final = "imported"
REPLAY_OF: Final = "replay_of"
AGAIN_AT: Final = "again_at_ms"
RENORMALIZED: Final = "renormalized"

_pairs: msgspec.json.Decoder[tuple[tuple[str, str], ...]] = msgspec.json.Decoder(tuple[tuple[str, str], ...])


def webhook_headers(webhook: Webhook) -> KafkaHeaders:
    headers = [
        ("org", webhook.org.encode()),
        ("source", webhook.source.encode()),
        ("esp", webhook.esp.encode()),
        ("received_at_ms", b"%d" % webhook.received_at_ms),
        ("headers", msgspec.json.encode(webhook.headers)),
    ]
    if webhook.imported:
        headers.append((IMPORTED, b"1"))
    if webhook.replay_of is not None:
        headers.append((REPLAY_OF, b"%d" % webhook.replay_of))
    if webhook.again_at_ms is not None:
        headers.append((AGAIN_AT, b"%d" % webhook.again_at_ms))
    if webhook.renormalized:
        headers.append((RENORMALIZED, b"1"))
    return headers


def webhook_of(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Webhook:
    """A record of `webhooks` or `webhooks.dead` → the request. Raises ValueError on a record that isn't one."""
    found = dict(headers)
    try:
        return Webhook(
            org=found["org"].decode(),
            source=found["source"].decode(),
            esp=found["esp"].decode(),
            received_at_ms=int(found["received_at_ms"]),
            headers=_pairs.decode(found["headers"]),
            body=value or b"",
            imported=IMPORTED in found,
            replay_of=int(found[REPLAY_OF]) if REPLAY_OF in found else None,
            again_at_ms=int(found[AGAIN_AT]) if AGAIN_AT in found else None,
            renormalized=RENORMALIZED in found,
        )
    except (KeyError, ValueError) as error:  # msgspec's and Unicode's errors are ValueErrors
        raise ValueError(f"not a webhook record: {error}") from error


def dead_headers(webhook: Webhook, origin: Origin) -> KafkaHeaders:
    headers = [
        *webhook_headers(webhook),
        ("reason", origin.reason.encode("utf-8", "replace")),
        ("stage", origin.stage.encode()),
        ("origin", f"{origin.topic}/{origin.partition}/{origin.offset}".encode()),
    ]
    if origin.index is not None:
        headers.append(("index", b"%d" % origin.index))
    return headers
