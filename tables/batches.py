"""Records of topic `facts`, in the order of their offsets → what they are about: recipients, labels, erasures.

What was keyed by another secret (`app.foreign`) is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from app.errors import UNDECODABLE, LogGap, StateError
from app.facts import (
    FACTS_VERSION,
    CampaignKey,
    CampaignRecord,
    Entry,
    ErasedRecord,
    FactsRecord,
    LogRecord,
    RecipientKey,
    decode_record,
)
from app.foreign import split
from app.keys import secret_fingerprint
from tables.foreign import Left, Renormalized


class Grouped(msgspec.Struct):
    next_offset: int
    facts: int = 0
    accepted_at_ms: list[int] = []
    """Of each record of facts, when its oldest webhook was accepted."""
    by_recipient: dict[RecipientKey, tuple[CampaignKey, list[Entry]]] = {}
    erased: set[RecipientKey] = set()
    labels: dict[CampaignKey, CampaignRecord] = {}
    owners: dict[CampaignKey, tuple[str, str]] = {}
    """Organisation and name of each campaign that a record names."""
    foreign: list[Left | Renormalized] = []
    last: tuple[int, bytes] | None = None
    """Offset and value of the last record."""
    fault: StateError | None = None
    """Why the records from `next_offset` on can't be counted."""


def group(
    records: Iterable[tuple[int, bytes]],
    partition: int,
    next_offset: int,
    key_of: Callable[[str, str], CampaignKey],
    secret: bytes,
) -> Grouped:
    """Leaves out what was counted before, and ends before a gap and before a record that can't be read (`fault`)."""
    grouped = Grouped(next_offset)
    by_recipient = grouped.by_recipient
    fingerprint = secret_fingerprint(secret)
    for offset, value in records:
        if offset < grouped.next_offset:
            continue
        try:
            record = _checked(value, offset, grouped.next_offset, partition)
        except StateError as fault:
            grouped.fault = fault
            break
        grouped.next_offset = offset + 1
        grouped.last = (offset, value)
        if isinstance(record, FactsRecord) and record.renormalized_from_ms is not None:
            if record.secret == fingerprint:
                below = offset if record.renormalized_below is None else record.renormalized_below
                grouped.foreign.append(
                    Renormalized(record.renormalized_from_ms, record.org, range(below, offset))
                )
            continue
        campaign = key_of(record.org, record.campaign)
        grouped.owners[campaign] = (record.org, record.campaign)
        if isinstance(record, FactsRecord):
            entries, foreign = split(record, secret, fingerprint, campaign)
            if foreign:
                grouped.foreign.append(_left(record, campaign, offset, facts=len(foreign)))
            grouped.facts += len(entries)
            if entries:
                grouped.accepted_at_ms.append(record.accepted_at_ms)
            for entry in entries:
                known = by_recipient.get(entry.recipient)
                if known is None:
                    by_recipient[entry.recipient] = (campaign, [entry])
                else:
                    known[1].append(entry)
        elif isinstance(record, ErasedRecord):
            if record.secret not in ("", fingerprint):
                grouped.foreign.append(_left(record, campaign, offset, erasures=len(record.recipients)))
                continue
            grouped.erased.update(record.recipients)
            for recipient in record.recipients:
                by_recipient.setdefault(recipient, (campaign, []))
        else:
            grouped.labels[campaign] = record
    return grouped


def _left(
    record: FactsRecord | ErasedRecord,
    campaign: CampaignKey,
    offset: int,
    *,
    facts: int = 0,
    erasures: int = 0,
) -> Left:
    return Left(
        campaign, record.org, record.campaign, record.secret, offset, record.accepted_at_ms, facts, erasures
    )


def _checked(value: bytes, offset: int, expected: int, partition: int) -> LogRecord:
    if offset > expected:
        raise LogGap(
            f"gap in topic facts, partition {partition}: offset {expected} is to be counted next but the log goes on "
            f"with {offset}",
            position=expected,
            to=offset,
        )
    try:
        record = decode_record(value)
    except UNDECODABLE as error:
        raise LogGap(
            f"topic facts, partition {partition}: the record at offset {offset} is none of this project ({error}): "
            "only normalize and the API may write there",
            position=offset,
            to=offset + 1,
        ) from error
    if record.version > FACTS_VERSION:
        raise StateError(
            f"topic facts, partition {partition}: the record at offset {offset} is of a newer version "
            f"({record.version}): upgrade the workers that count, which go before those that normalize"
        )
    return record
