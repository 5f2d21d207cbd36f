"""Facts of another secret in topic `facts`: keyed anew where that can be proved, else named as lost (`app.foreign`).

A fact is not lost where the log has it keyed by our secret as well: the same recipient, type, time and link. That
happens where two hosts read the same webhook.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import msgspec
from confluent_kafka import Message

from app.errors import UNDECODABLE
from app.facts import (
    FACTS_VERSION,
    CampaignKey,
    Entry,
    FactsRecord,
    Identity,
    RecipientKey,
    decode_record,
    encode,
)
from app.foreign import keyed_anew, split
from app.keys import (
    campaign_key,
    normalise_address,
    recipient_key,
    recipient_partition,
    secret_fingerprint,
)
from app.settings import Settings
from app.topics import FACTS
from cli.log_writer import LogWriter
from cli.progress import Progress

Lost = dict[tuple[str, str], int]
"""(organisation, campaign) → facts."""
_Same = tuple[RecipientKey, int, int, int]
"""By our key of the recipient, type, time and link."""


class Candidate(msgspec.Struct):
    campaign: tuple[str, str]
    identities: set[Identity]
    """Foreign ones: the log may have a fact more than once."""


class Found(msgspec.Struct):
    keyed: int = 0
    candidates: dict[_Same, Candidate] = {}
    """What can't be keyed anew."""


class _Parts:
    """A record's entries: (record, key of its campaign, ours, foreign)."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.secret
        self._fingerprint = secret_fingerprint(settings.secret)

    def of(
        self, messages: Iterable[Message], progress: Progress
    ) -> Iterator[tuple[FactsRecord, CampaignKey, list[Entry], list[Entry]]]:
        for done, message in enumerate(messages, 1):
            progress.at(done)
            try:
                record = decode_record(message.value() or b"")
            except UNDECODABLE:
                continue  # aggregate stops there, and says so
            if isinstance(record, FactsRecord) and record.entries:
                campaign = campaign_key(self._secret, record.org, record.campaign)
                yield record, campaign, *split(record, self._secret, self._fingerprint, campaign)


def key_anew(
    messages: Iterable[Message],
    settings: Settings,
    org: str | None,
    from_ms: int,
    until_ms: int,
    writer: LogWriter,
    progress: Progress,
) -> Found:
    """Writes what foreign facts accepted in the time are by our secret. Written again, it is dropped as a repeat."""
    found = Found()
    for record, campaign, _, foreign in _Parts(settings).of(messages, progress):
        if not from_ms <= record.accepted_at_ms < until_ms or org not in (None, record.org):
            continue
        ours: dict[int, list[Entry]] = {}
        for entry in foreign:
            anew = keyed_anew(settings.secret, campaign, entry)
            if anew is not None:
                partition = recipient_partition(anew.recipient, settings.partitions)
                ours.setdefault(partition, []).append(anew)
                found.keyed += 1
            else:
                same = _same(settings.secret, campaign, entry)
                known = found.candidates.setdefault(same, Candidate((record.org, record.campaign), set()))
                known.identities.add(entry.fact.identity)
        for partition, entries in ours.items():
            again = FactsRecord(
                FACTS_VERSION,
                record.org,
                record.campaign,
                time.time_ns() // 1_000_000,
                entries,
                secret_fingerprint(settings.secret),
            )
            writer.send(FACTS, encode(again), [], partition)
    return found


def still_lost(
    messages: Iterable[Message], settings: Settings, candidates: dict[_Same, Candidate], progress: Progress
) -> Lost:
    """What of the candidates the log doesn't have keyed by our secret, too."""
    left = dict(candidates)
    for _, campaign, ours, _ in _Parts(settings).of(messages, progress):
        for entry in ours:
            left.pop(_same(settings.secret, campaign, entry), None)
    lost: Lost = {}
    for one in left.values():
        lost[one.campaign] = lost.get(one.campaign, 0) + len(one.identities)
    return lost


def foreign_facts(
    messages: Iterable[Message], settings: Settings, org: str | None, progress: Progress
) -> int:
    """How many these records have."""
    return sum(
        len(foreign)
        for record, _, _, foreign in _Parts(settings).of(messages, progress)
        if org in (None, record.org)
    )


def _same(secret: bytes, campaign: CampaignKey, entry: Entry) -> _Same:
    fact = entry.fact
    recipient = recipient_key(secret, campaign, normalise_address(entry.address))
    return recipient, fact.type, fact.at_ms, fact.link
