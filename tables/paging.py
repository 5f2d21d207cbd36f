"""Ordered walks over the rows of several partitions, from any place on: what pages are cut from.

Rules:
- A step of a walk has an order key: bytes that sort as the list stands, descending lists included, and that no other
  row of the list has. A page goes on behind the order key of the last one. So the page at the end costs what the first
  one does, and rows that didn't move are neither skipped nor repeated while others come and go.
- A walk reads as of its start. What it finds may have moved since: whoever reads a state compares it with the step.
- Nothing is read before it is asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from app.facts import CampaignKey, RecipientKey
from tables import layout
from tables.lookups import PagedReader

Readers = Mapping[int, PagedReader]
"""By partition."""

_FLIP: Final = bytes(255 - byte for byte in range(256))
_EVERY: Final = b"\xff" * 24


class Step(NamedTuple):
    order: bytes
    partition: int
    value: bytes
    """The recipient's key; in a walk through the log, the stored entry."""


def flipped(key: bytes) -> bytes:
    """A key of fixed length → one that sorts the other way round. Its own inverse."""
    return key.translate(_FLIP)


def merged(walks: Iterable[Iterator[Step]]) -> Iterator[Step]:
    return heapq.merge(*walks)


def by_address(
    readers: Readers, campaign: CampaignKey, *, after: bytes | None = None, start: bytes = b""
) -> Iterator[Step]:
    """All recipients whose address begins with `start`, by address. Order key: the address."""
    prefix = b"A" + campaign
    return merged(_forward(reader, p, prefix, start, after) for p, reader in readers.items())


def by_bit(
    readers: Readers, campaign: CampaignKey, bit: int, *, after: bytes | None = None, start: bytes = b""
) -> Iterator[Step]:
    """The same for those whose pattern has one of `layout.INDEXED_BITS`."""
    prefix = layout.bit_prefix(campaign, bit)
    return merged(_forward(reader, p, prefix, start, after) for p, reader in readers.items())


def _forward(
    reader: PagedReader, partition: int, prefix: bytes, start: bytes, after: bytes | None
) -> Iterator[Step]:
    length = len(prefix)
    seek = start if after is None else max(start, after + b"\0")
    for name, recipient in reader.index_from(prefix + start, prefix + seek):
        yield Step(name[length:], partition, recipient)


def activity_order(last_at_ms: int, recipient: RecipientKey) -> bytes:
    """The order key of the newest activity first."""
    return flipped(last_at_ms.to_bytes(8, "big") + recipient)


def by_activity(readers: Readers, campaign: CampaignKey, *, after: bytes | None = None) -> Iterator[Step]:
    """All recipients, the one with the newest counted fact first. Order key: `activity_order`."""
    prefix = b"T" + campaign

    def walk(reader: PagedReader, partition: int) -> Iterator[Step]:
        behind = None if after is None else prefix + flipped(after)
        for name in reader.index_back(prefix, layout.after(prefix) if behind is None else behind):
            if name != behind:
                yield Step(flipped(name[9:]), partition, name[17:])

    return merged(walk(reader, p) for p, reader in readers.items())


def by_clicks(
    readers: Readers, campaign: CampaignKey, link: int, people: bool, *, after: bytes | None = None
) -> Iterator[Step]:
    """Who clicked a link, the most clicks first. Order key: `clicks_of`, then the recipient."""
    prefix = layout.clickers_prefix(campaign, link, people)

    def walk(reader: PagedReader, partition: int) -> Iterator[Step]:
        seek = prefix if after is None else prefix + after + b"\0"
        for name, _ in reader.index_from(prefix, seek):
            yield Step(name[18:], partition, name[22:])

    return merged(walk(reader, p) for p, reader in readers.items())


def clicks_of(order: bytes) -> int:
    """The number of clicks in an order key of `by_clicks`."""
    return layout.MAX_CLICKS - int.from_bytes(order[:4], "big")


def by_time(
    readers: Readers,
    campaign: CampaignKey,
    *,
    descending: bool,
    after: bytes | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Iterator[Step]:
    """The log between two times (`to_ms` excluded). Order key: (at_ms, identity), turned round where descending."""
    first = (from_ms or 0).to_bytes(8, "big")
    behind = _EVERY if to_ms is None else to_ms.to_bytes(8, "big")

    def forward(reader: PagedReader, partition: int) -> Iterator[Step]:
        seek = first if after is None else max(first, after + b"\0")
        for name, stored in reader.log_from(campaign, seek):
            if name[8:] >= behind:
                return
            yield Step(name[8:], partition, stored)

    def back(reader: PagedReader, partition: int) -> Iterator[Step]:
        seek = behind if after is None else min(behind, flipped(after))
        for name, stored in reader.log_back(campaign, seek):
            if name[8:] < first:
                return
            if name[8:] != seek:
                yield Step(flipped(name[8:]), partition, stored)

    return merged((back if descending else forward)(reader, p) for p, reader in readers.items())
