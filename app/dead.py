"""Dead letters: what a record of topic `webhooks.dead` says, which ones are meant, and which were sent again.

Rules:
- A letter's id is its offset (the topic has one partition): it never changes and is never used twice.
- The same topic holds marks: a record with the header `replayed`, whose value is a JSON list of the ids that were put
  into topic `webhooks` once more. A mark is written when Kafka has acknowledged those, so one that a crash prevented
  costs no more than a needless repetition, which the fold drops. A mark is younger than the letters that it names and
  so outlives them; who reads the topic from its end meets it before them.
- Total: any record is a letter or a mark.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from app.errors import UNDECODABLE, PoisonEvent, RejectRequest
from app.inflate import DEFAULT_LIMIT, GZIP_WBITS, inflate
from app.topics import DEAD, KafkaHeaders, Webhook, webhook_of

REPLAYED: Final = "replayed"
MAX_MARKED: Final = 1_000
"""Ids in one mark."""
_BLOCK: Final = 1_024

_ids: msgspec.json.Decoder[list[int]] = msgspec.json.Decoder(list[int])


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    at_ms: int
    """When it became a dead letter, by the broker's clock: in the order of the ids."""
    webhook: Webhook
    """What can be sent again; its body is empty where only a listing was asked for."""
    size: int
    """Bytes of the body."""
    reason: str
    stage: str
    origin: str
    """`topic/partition/offset` of the webhook."""
    index: int | None = None
    """Which event of that webhook's body it is; None: all of it."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant: those that all fields agree with."""

    org: str | None = None
    source: str | None = None
    """`source`, or `org/source`."""
    reason: str | None = None
    since_ms: int | None = None
    """`at_ms` from here on …"""
    until_ms: int | None = None
    """… and before this."""

    def takes(self, letter: Letter) -> bool:
        webhook = letter.webhook
        return (
            (self.org is None or webhook.org == self.org)
            and (self.source is None or self.source in (webhook.source, f"{webhook.org}/{webhook.source}"))
            and (self.reason is None or letter.reason == self.reason)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
        )


def letter_of(
    number: int, at_ms: int, value: bytes | None, headers: Iterable[tuple[str, bytes]], *, body: bool = True
) -> Letter:
    """A record that is no mark → the letter. `body`: whether to keep it."""
    pairs = list(headers)
    found = dict(pairs)
    kept = value or b""
    try:
        webhook = webhook_of(kept if body else b"", pairs)
    except ValueError:
        webhook = Webhook(
            org="", source="", esp="", received_at_ms=at_ms, headers=(), body=kept if body else b""
        )

    def text(name: str, default: str) -> str:
        return (found.get(name) or default.encode()).decode("utf-8", "replace")

    index = found.get("index") or b""
    return Letter(
        id=number,
        at_ms=at_ms,
        webhook=webhook,
        size=len(kept),
        reason=text("reason", "no reason on the record"),
        stage=text("stage", "record"),
        origin=text("origin", f"{DEAD}/0/{number}"),
        index=int(index) if index.isdigit() and len(index) < 10 else None,
    )


def mark(ids: list[int]) -> tuple[bytes, KafkaHeaders]:
    """Value and headers of the record that says that these letters were sent again."""
    return msgspec.json.encode(ids), [(REPLAYED, b"%d" % len(ids))]


def marked(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> list[int] | None:
    """The ids that a mark names; None where the record is no mark."""
    if not any(name == REPLAYED for name, _ in headers):
        return None
    try:
        return [number for number in _ids.decode(value or b"[]") if number >= 0]
    except UNDECODABLE:
        return []


def replay_of(letter: Letter, body: bytes | None, now_ms: int, max_body: int) -> Webhook:
    """What to send again: the letter's webhook, with another body where one is given (without compression).

    A body that fits into a record only when it is compressed is: a letter of a compressed webhook shows as many bytes
    as that stood for. Raises RejectRequest 413 where it doesn't fit even then.
    """
    # Not a copy of what stands in the topic any more: it may be mended.
    webhook = msgspec.structs.replace(
        letter.webhook, replay_of=letter.id, again_at_ms=now_ms, renormalized=False
    )
    if body is None:
        return webhook
    headers = tuple(pair for pair in webhook.headers if pair[0] != "content-encoding")
    if len(body) > max_body:
        body = zlib.compress(body, wbits=GZIP_WBITS)
        headers = (*headers, ("content-encoding", "gzip"))
    if len(body) > max_body:
        raise RejectRequest(
            413, "too_large", f"the mended body is larger than {max_body} bytes even when it is compressed"
        )
    return msgspec.structs.replace(webhook, body=body, headers=headers)


def readable_body(webhook: Webhook, limit: int = DEFAULT_LIMIT) -> bytes:
    """The body without its compression, or as it came where that can't be undone."""
    encoding = dict(webhook.headers).get("content-encoding", "")
    try:
        return inflate(webhook.body, encoding, limit)
    except (PoisonEvent, RejectRequest):
        return webhook.body


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey, hide or turn round (controls, bidi, lone halves)."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


class IdSet:
    """Many ids in little memory: a bit each, in blocks of which only those with an id are there."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._blocks: dict[int, int] = {}
        for number in ids:
            self.add(number)

    def add(self, number: int) -> None:
        block, bit = divmod(number, _BLOCK)
        self._blocks[block] = self._blocks.get(block, 0) | 1 << bit

    def __contains__(self, number: int) -> bool:
        block, bit = divmod(number, _BLOCK)
        return bool(self._blocks.get(block, 0) >> bit & 1)

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._blocks.values())

    def __iter__(self) -> Iterator[int]:
        """In ascending order."""
        for block in sorted(self._blocks):
            bits = self._blocks[block]
            while bits:
                lowest = bits & -bits
                yield block * _BLOCK + lowest.bit_length() - 1
                bits ^= lowest

    def forget_below(self, number: int) -> None:
        """Drops whole blocks below the id."""
        for block in [block for block in self._blocks if (block + 1) * _BLOCK <= number]:
            del self._blocks[block]
