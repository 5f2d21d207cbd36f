"""The words of the log: what a parser says (`Event`), what is counted (`Fact`) and what is shown (`Detail`).

Rules:
- `Event` is what an ESP module makes of one event of a webhook: plain text fields, nothing hashed, nothing looked up.
- `Fact` is the part of a normalised event that numbers are made of. It is small and of fixed size, because every
  recipient's state holds a list of them: texts stand in it as 64-bit hashes (`app.keys.text_id`), 0 where not known.
- `Detail` is the rest, only ever shown, kept once in the event log and opaque to the fold.
- A record of topic `facts` is one `FactsRecord` (facts of one campaign, all of one partition), one `CampaignRecord`
  or one `ErasedRecord`.
- What has recipient keys in it says by which secret they were made (`secret`); records of the first version don't.
  Wire types are MessagePack arrays: new fields go to the end, with a default, so that an older reader still reads.
"""

from __future__ import annotations

from typing import Final, NewType

import msgspec

OrgId = NewType("OrgId", str)
CampaignName = NewType("CampaignName", str)
CampaignKey = NewType("CampaignKey", bytes)
"""8 bytes: keyed hash of organisation and campaign."""
RecipientKey = NewType("RecipientKey", bytes)
"""16 bytes: keyed hash of organisation, campaign and normalised address."""
Identity = NewType("Identity", bytes)
"""16 bytes: by it a fact is the same fact again."""
TextId = NewType("TextId", int)
"""64-bit hash of a text (a link, a reason, an agent); 0 where there is none."""

FACTS_VERSION: Final = 1

# The numbers are on disk and in the log: they never change, new types get new numbers.
QUEUED: Final = 0
SENT: Final = 1
DELIVERED: Final = 2
DEFERRED: Final = 3
BOUNCED: Final = 4
REJECTED: Final = 5
FAILED: Final = 6
OPENED: Final = 7
CLICKED: Final = 8
COMPLAINED: Final = 9
UNSUBSCRIBED: Final = 10
SUBSCRIBED: Final = 11
AUTORESPONDED: Final = 12
UNKNOWN: Final = 13

TYPE_NAMES: Final = (
    "queued", "sent", "delivered", "deferred", "bounced", "rejected", "failed", "opened", "clicked",
    "complained", "unsubscribed", "subscribed", "autoresponded", "unknown",
)  # fmt: skip
TYPE_NUMBERS: Final = {name: number for number, name in enumerate(TYPE_NAMES)}

# Bits of `Fact.evidence`: what one event by itself tells about who made it and how it counts.
MACHINE: Final = 1  # the ESP says that no person did it
AGENT_PROXY: Final = 2  # the user agent is a mailbox provider's image proxy or prefetch
AGENT_SCANNER: Final = 4  # the user agent is a security product or a script
SOFT_BOUNCE: Final = 8  # a bounce that a later delivery undoes; a bounce without the bit is hard
CLAMPED: Final = 16  # the reported time was more than an hour ahead and was set to the webhook's arrival
EXCLUDED: Final = 32  # the organisation excludes the address: in the log, counted nowhere
UNTIMED: Final = 64  # the ESP gave no time: it is the webhook's arrival
NETWORK_PROXY: Final = 128  # the address is in a network of a mailbox provider's proxy
NETWORK_SCANNER: Final = 256  # the address is in a network of a security product
HIDDEN_LINK: Final = 512  # the link is one that no person can see (a source's setting)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as an ESP's module understands it. Texts are as the ESP sent them, times in ms since 1970 UTC."""

    type: str
    """One of `TYPE_NAMES`."""
    recipient: str
    campaign: str | None = None
    """Only where the event names it itself (generic source); else the source's template makes it of the metadata."""
    at_ms: int | None = None
    event_id: str | None = None
    """Set only where the ESP documents that the id survives resends: it then makes the identity."""
    esp_event_id: str | None = None
    """The ESP's own id, shown, never part of the identity."""
    message_id: str | None = None
    link: str | None = None
    position: int | None = None
    ip: str | None = None
    user_agent: str | None = None
    country: str | None = None
    city: str | None = None
    client: str | None = None
    device: str | None = None
    bounce: str | None = None
    """`hard` or `soft`."""
    reason: str | None = None
    smtp_reply: str | None = None
    provider: str | None = None
    variant: dict[str, str] | None = None
    machine: bool | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Poison(msgspec.Struct, frozen=True):
    """One event (or, with `index` None, a whole body) that cannot be understood, for topic `webhooks.dead`."""

    reason: str
    index: int | None = None
    raw: bytes = b""


class Fact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is counted of one event. Two facts are the same fact when their identities are equal."""

    identity: Identity
    at_ms: int
    type: int
    evidence: int
    content: int
    """64-bit hash of the whole entry: of copies of one reading, the one with the smallest (at_ms, content) stays."""
    link: int = 0
    position: int = 0
    place: int = 0
    """`text_id` of "country\\0city"."""
    agent: int = 0
    """`text_id` of "client\\0device\\0system\\0browser"."""
    network: int = 0
    """`text_id` of the address's network: /24 of IPv4, /48 of IPv6."""
    reason: int = 0
    provider: int = 0
    variant: int = 0
    """`text_id` of the canonical "field=value" list."""
    reading: int = 0
    """Which reading of the webhook it is (`app.normalize.READING`): of copies that differ the newest one stays."""


class Detail(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What the event log shows of one event and nothing is counted by."""

    esp: str
    link: str | None = None
    reason: str | None = None
    smtp_reply: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    client: str | None = None
    device: str | None = None
    system: str | None = None
    browser: str | None = None
    country: str | None = None
    city: str | None = None
    provider: str | None = None
    variant: dict[str, str] | None = None
    esp_event_id: str | None = None
    message_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of the log: whose fact, the fact, and its `Detail` as MessagePack bytes."""

    recipient: RecipientKey
    address: str
    """As the ESP spelled it, trimmed."""
    fact: Fact
    detail: bytes


class FactsRecord(msgspec.Struct, frozen=True, array_like=True, tag="f", gc=False):
    """A record of topic `facts`: facts of one campaign whose recipients live in this record's partition."""

    version: int
    org: str
    campaign: str
    accepted_at_ms: int
    """When the oldest webhook in it was accepted."""
    entries: list[Entry]
    secret: str = ""
    """`keys.secret_fingerprint` of the secret that made the recipients' keys; empty in records of the first version."""
    renormalized_from_ms: int | None = None
    """Only in a record without entries, which `reports renormalize` writes behind the facts that it brought: the
    webhooks accepted from this time on have been read again, those of all organisations where `org` is empty."""
    renormalized_below: int | None = None
    """With it: the end of this partition when that began. A host with another secret may have read the webhooks again
    as well, and what it made of them stands from here on. None in records of earlier versions."""


class CampaignRecord(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False):
    """A record of topic `facts`: what a campaign is called. The last one in the log wins; it counts nothing."""

    version: int
    org: str
    campaign: str
    accepted_at_ms: int
    name: str | None = None
    subject: str | None = None
    fields: dict[str, dict[str, str]] = {}
    """A/B field → value as events carry it → label for people."""


class ErasedRecord(msgspec.Struct, frozen=True, array_like=True, tag="e", gc=False):
    """A record of topic `facts`: these recipients of a campaign are erased, now and whatever comes later."""

    version: int
    org: str
    campaign: str
    accepted_at_ms: int
    recipients: list[RecipientKey]
    secret: str = ""
    """As in `FactsRecord`."""


LogRecord = FactsRecord | CampaignRecord | ErasedRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[LogRecord] = msgspec.msgpack.Decoder(
    FactsRecord | CampaignRecord | ErasedRecord
)
_detail_decoder: msgspec.msgpack.Decoder[Detail] = msgspec.msgpack.Decoder(Detail)

encode = _encoder.encode


def decode_record(value: bytes) -> LogRecord:
    """A record's value → the record. Raises `UNDECODABLE` on anything else."""
    return _decoder.decode(value)


def decode_detail(value: bytes) -> Detail:
    return _detail_decoder.decode(value)
