"""The shapes of what operators read, of shared links and of sessions; see `app.shapes`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from app.shapes_lists import Paging


class PartitionLag(TypedDict):
    topic: str
    partition: int
    end: int
    """The offset that the next record will get."""
    position: int | None
    """The offset of the next record to process; null where it is not known."""
    lag: int
    """Records behind."""
    oldest_at: str | None
    """When the oldest pending record was accepted."""


class Delay(TypedDict):
    """Of the slowest worker, within the last minute: from a webhook's acceptance to its numbers in Redis."""

    p50_ms: float | None
    p99_ms: float | None
    facts_per_s: float


class Versions(TypedDict):
    product: str | None
    layout: int | None
    """Of the databases."""
    rules: int | None
    """Of the verdicts."""


class Thresholds(TypedDict):
    """The verdict rules that a partition is counted by (`docs/operate.md`)."""

    version: int
    burst_links: int
    burst_ms: int
    click_after_ms: int
    open_after_ms: int


class HeldPartition(TypedDict):
    topic: str
    partition: int
    state: NotRequired[str]
    """Folder of the database, on the worker's machine."""
    at: NotRequired[str]
    since: NotRequired[str | None]
    generation: NotRequired[int | None]
    rules: NotRequired[Thresholds | None]
    rebuild_needed: NotRequired[bool | None]
    """True where the worker's settings have other verdict rules than the partition was counted by."""


class Condition(TypedDict):
    """Something that is wrong with a worker at the moment (`docs/operate.md` lists them)."""

    code: str
    message: str
    """What is wrong, what follows from it, and the way out."""
    since: str
    partition: int | None
    """Of topic `facts`, where it concerns one."""
    stale: bool
    """Whether it makes all reports stale."""
    progress: float | None
    """Of what ends it by itself, from 0 to 1."""
    count: int | None
    """How often it has happened, where it is one of many."""


class Worker(TypedDict):
    worker: str
    role: str
    host: str | None
    """Its machine's name; null where it doesn't say."""
    alive: bool
    at: str
    """The last sign of life."""
    since: str | None
    versions: Versions
    partitions: list[HeldPartition]
    p50_ms: float | None
    p99_ms: float | None
    facts_per_s: float | None
    conditions: list[Condition]


class Workers(TypedDict):
    workers: list[Worker]
    away: list[int]
    """Partitions of `facts` that no living worker holds."""


class Lag(TypedDict):
    at: str
    known_at: str | None
    """When `lag` and `partitions` were read last; before `at` while Kafka or Redis can't be asked."""
    lag_ms: int | None
    stale: bool
    reason: str | None
    """Why reports are stale, where they are."""
    trouble: str | None
    """What is wrong with Kafka or Redis and what to do; null where nothing is."""
    lag: dict[str, int]
    """Records behind by topic."""
    partitions: list[PartitionLag]
    rates: dict[str, float | None]
    dead_letters: int | None
    delay: Delay
    workers: list[Worker] | None
    """Null while Redis can't be asked; so is `away`."""
    away: list[int] | None


class SourceCounts(TypedDict):
    accepted: int
    refused: dict[str, int]


class Source(TypedDict):
    source: str
    esp: str
    address: str
    """Where its webhooks or events are posted to."""
    verification: list[str]
    insecure: bool
    key_missing: bool
    """True where a secret of the source is not on the host that answers, or can't be used there: what it can't verify
    is told to come again."""
    last_event_at: str | None
    silent: bool
    """True where nothing has come for longer than the source's own rhythm lets expect."""
    silent_for_ms: int | None
    allowed_silence_ms: int | None
    counts: SourceCounts | None


class Sources(TypedDict):
    sources: list[Source]
    known: bool
    """False while Redis can't be asked: counts and times are null."""
    counted_since: str | None
    """A source without `last_event_at` has had none since then: when counting began, or began anew with an emptied
    Redis."""


class DeadLetter(TypedDict):
    id: int
    reason: str
    stage: str
    source: str
    esp: str
    origin: str
    """Topic, partition and offset of the webhook."""
    index: int | None
    """Which event of the body; null where the whole body is dead."""
    replay_of: int | None
    size: int
    received_at: str | None
    died_at: str | None
    replayed: bool | None


class DeadLetters(TypedDict):
    items: list[DeadLetter]
    next: str | None


class WholeDeadLetter(DeadLetter):
    headers: list[tuple[str, str]]
    body: str
    encoding: Literal["base64"] | None
    """Null: the body is a text."""


class Replayed(TypedDict):
    id: int
    replayed: bool
    replayed_before: bool | None
    edited: bool


class Share(TypedDict):
    id: str
    url: str | None
    """Null where it no longer works, and for a key without the scope write."""
    state: Literal["live", "expired", "revoked"]
    made_at: str
    made_by: str
    """Name of the key."""
    expires: str
    revoked_at: str | None


class Shares(Paging):
    items: list[Share]


class SharedReport(TypedDict):
    id: str
    path: str
    """Under which the report's sections stand, with the cookie that comes along."""
    campaign: str
    organisation: str
    timezone: str
    expires: str


class LiveTicket(TypedDict):
    ticket: str
    expires: str


class Session(TypedDict):
    org: str
    name: str
    """Of the organisation."""
    timezone: str
    key: str
    scopes: list[str]


class SignIn(TypedDict):
    key: str
