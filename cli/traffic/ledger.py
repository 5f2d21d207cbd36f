"""The ledger: what was sent, written down before it is sent, as JSON lines.

Rules:
- A line `fact` for each fact, duplicates too, with the number of its request; it is on its way to the disk before the
  request is. What was meant stands beside it (verdict, agent, place, provider, variant, bounce, machine).
- A line `poison` for each thing in a request that must become a dead letter.
- A line `accepted` when a request got its 200. A fact without it may be counted or not: nobody knows.
- A line `labels` for what a campaign was called (`PUT /api/v1/campaigns/…`).
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec


class FactLine(msgspec.Struct, tag_field="line", tag="fact", omit_defaults=True, kw_only=True, gc=False):
    request: int
    id: str
    """Unique within the ledger, except that a duplicate carries the id of what it repeats."""
    org: str
    esp: str
    campaign: str
    type: str
    recipient: str
    at: int
    """ms since 1970, to the precision in which it was reported."""
    reported: str
    """The time as it stood in the request."""
    event_id: str | None = None
    """The sender's own id where it makes the identity (generic source)."""
    link: str | None = None
    """Without what the source strips from it: that differs per recipient, so it tells no two facts of one apart."""
    position: int | None = None
    ip: str | None = None
    user_agent: str | None = None
    variant: dict[str, str] | None = None
    client: str | None = None
    """What must be read in the agent, or is said beside it; so are the next three."""
    device: str | None = None
    system: str | None = None
    browser: str | None = None
    country: str | None = None
    """As the ESP says it, and so is the city."""
    city: str | None = None
    provider: str | None = None
    """Of the mailbox, as the ESP says it or by the domain."""
    verdict: str | None = None
    """By what the fact shows of itself, of opens and clicks; of an unsubscription `scanner` where one shows."""
    bounce: str | None = None
    reason: str | None = None
    machine: bool = False
    hidden: bool = False
    """A link that no person can see."""
    excluded: bool = False
    duplicate: bool = False


class PoisonLine(msgspec.Struct, tag_field="line", tag="poison", kw_only=True):
    request: int
    org: str
    what: str
    where: str
    """`body` or `event`: whole bodies, or one event among good ones; `refused`: named in the answer, not stored."""


class AcceptedLine(msgspec.Struct, tag_field="line", tag="accepted", kw_only=True):
    request: int
    status: int
    tries: int
    at: int


class LabelsLine(msgspec.Struct, tag_field="line", tag="labels", kw_only=True):
    org: str
    campaign: str
    name: str
    fields: dict[str, dict[str, str]] | None = None
    """A/B field → value → label."""


Line = FactLine | PoisonLine | AcceptedLine | LabelsLine

encode_line = msgspec.json.Encoder().encode


class LedgerWriter:
    """Appends lines; `None` as the path keeps no ledger at all."""

    def __init__(self, path: Path | None) -> None:
        self._file: BinaryIO | None = None if path is None else path.open("ab")

    def write(self, lines: bytes) -> None:
        """Encoded lines, handed to the operating system before this returns."""
        if self._file is not None:
            self._file.write(lines)
            self._file.flush()

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
