"""Which keys of the index a recipient owns, and how they move with its contribution (`tables.layout` has the keys)."""

from __future__ import annotations

from rocksdict import ColumnFamily, WriteBatch

from app.contribution import Contribution
from app.facts import CampaignKey, RecipientKey
from tables import layout
from tables.sums import Sums


def addressed_names(campaign: CampaignKey, address: str, contributed: Contribution) -> set[bytes]:
    """The index keys with the address in them that a recipient owns."""
    if contributed.last_at_ms < 0:
        return set()
    names = {layout.address_name(campaign, address)}
    bits = contributed.pattern & layout.INDEXED_BITS
    while bits:
        bit = bits & -bits
        bits ^= bit
        names.add(layout.bit_name(campaign, bit, address))
    return names


def move_keys(
    batch: WriteBatch, handle: ColumnFamily, old: set[bytes], new: set[bytes], value: bytes
) -> None:
    if old != new:
        for name in old - new:
            batch.delete(name, handle)
        for name in new - old:
            batch.put(name, value, handle)


def move_index(
    batch: WriteBatch,
    handle: ColumnFamily,
    campaign: CampaignKey,
    recipient: RecipientKey,
    before: Contribution,
    after: Contribution,
    differences: Sums,
) -> None:
    """Moves the keys by activity and by clicks; what moves of the clicks by time is noted in `differences`."""
    if before.last_at_ms != after.last_at_ms:
        if before.last_at_ms >= 0:
            batch.delete(layout.activity_name(campaign, before.last_at_ms, recipient), handle)
        if after.last_at_ms >= 0:
            batch.put(layout.activity_name(campaign, after.last_at_ms, recipient), b"", handle)
    if before.clicks != after.clicks:
        old = layout.click_names(campaign, recipient, before.clicks)
        new = layout.click_names(campaign, recipient, after.clicks)
        move_keys(batch, handle, old, new, b"")
        differences.unclicks.update(name for name in old - new if name[:1] == b"F")
        differences.clicks.update(name for name in new - old if name[:1] == b"F")
