"""Links that show one report to who has them: their records, their tokens, and the book that records are folded into.

A link is `…/shared#TOKEN`. Rules:
- The token is the share's id (128 random bits) and an HMAC-SHA-256 of everything that the share is, keyed with the
  installation's secret: it can be neither guessed nor made from an id, nor carried over to another share.
- What a browser keeps after it has shown its token is another HMAC (`COOKIE`), bound to the same share: whoever gets
  hold of it has no link to pass on.
- A share is known by its record in topic `shares` and by nothing else: a token whose share isn't in the book opens
  nothing. Revoking it writes the record once more, with the time, and that stays: whatever comes in later, in any
  order and any number of times, brings no share back.
- A share ends at `expires_at_ms` to the millisecond. Lists show one that ended for `SHOWN_MS` more, then the book
  forgets it. Its first record comes in again only when the whole topic is read, and its revocation comes behind it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from app.errors import UNDECODABLE

SHARES_VERSION: Final = 1
DAY_MS: Final = 86_400_000
MAX_LIFE_MS: Final = 366 * DAY_MS
SHOWN_MS: Final = 30 * DAY_MS
RECORDS_KEPT_MS: Final = MAX_LIFE_MS + SHOWN_MS + 4 * DAY_MS
"""Retention of the topic. A revocation is younger than its share, so it can't be forgotten before it."""
MAX_LIVE: Final = 100
"""Links of one campaign that work at the same time; more than that is a program gone astray."""
MAX_KNOWN: Final = 1_000
"""Links of one campaign that work or have ended within `SHOWN_MS`: every API process has them in memory."""
ID_BYTES: Final = 16

LINK: Final = b"link"
COOKIE: Final = b"cookie"

State = Literal["live", "expired", "revoked"]


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A record of topic `shares`; the record's key is `id`. New fields go to the end, with a default."""

    version: int
    id: bytes
    org: str
    campaign: str
    made_at_ms: int
    expires_at_ms: int
    made_by: str
    """The name of the API key."""
    revoked_at_ms: int | None = None

    def state(self, now_ms: int) -> State:
        if self.revoked_at_ms is not None:
            return "revoked"
        return "live" if now_ms < self.expires_at_ms else "expired"

    def ended_at_ms(self) -> int:
        """When it ended, or will end."""
        if self.revoked_at_ms is None:
            return self.expires_at_ms
        return min(self.expires_at_ms, self.revoked_at_ms)

    def is_past(self, now_ms: int) -> bool:
        """Whether it isn't even shown any more."""
        return now_ms >= self.ended_at_ms() + SHOWN_MS


encode_share = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Share] = msgspec.msgpack.Decoder(Share)


def decode_share(value: bytes) -> Share | None:
    """A record's value → the share; None for what is none, or of a newer version (it then opens nothing here)."""
    try:
        share = _decoder.decode(value)
    except UNDECODABLE:
        return None
    return share if share.version <= SHARES_VERSION and len(share.id) == ID_BYTES else None


def proof(secret: bytes, share: Share, purpose: bytes) -> bytes:
    """32 bytes that only this installation can make. `purpose`: `LINK` or `COOKIE`."""
    key = hmac.digest(secret, b"campaign-reports share v1 " + purpose, "sha256")
    what = [share.id, share.org, share.campaign, share.made_at_ms, share.expires_at_ms]
    return hmac.digest(key, encode_share(what), "sha256")


def proves(secret: bytes, share: Share, purpose: bytes, shown: bytes) -> bool:
    return hmac.compare_digest(proof(secret, share, purpose), shown)


def token_of(secret: bytes, share: Share) -> str:
    return text_of(share.id + proof(secret, share, LINK))


def read_token(text: str) -> tuple[bytes, bytes] | None:
    """(id, proof) that a token claims; None where it can't be one."""
    raw = bytes_of(text, ID_BYTES + 32)
    return (raw[:ID_BYTES], raw[ID_BYTES:]) if raw is not None else None


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def bytes_of(text: str, length: int) -> bytes | None:
    """The bytes that `text_of` wrote, and only in that spelling; None for anything else."""
    if len(text) != -(-length * 8 // 6):
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if text_of(raw) == text else None


class ShareBook:
    """All shares that are known, by id and by campaign. Records may come in any order and repeat."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Share] = {}
        self._by_campaign: dict[tuple[str, str], set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, share: Share) -> None:
        known = self._by_id.get(share.id)
        if known is not None and known.revoked_at_ms is not None and _later(share, known.revoked_at_ms):
            return
        self._by_id[share.id] = share
        self._by_campaign.setdefault((share.org, share.campaign), set()).add(share.id)

    def get(self, share_id: bytes) -> Share | None:
        return self._by_id.get(share_id)

    def of_campaign(self, org: str, campaign: str) -> Iterator[Share]:
        for share_id in self._by_campaign.get((org, campaign), ()):
            yield self._by_id[share_id]

    def forget(self, now_ms: int) -> None:
        """Drops those that can't open anything any more and are not to be shown either."""
        gone = [share for share in self._by_id.values() if share.is_past(now_ms)]
        for share in gone:
            del self._by_id[share.id]
            of_campaign = self._by_campaign[share.org, share.campaign]
            of_campaign.discard(share.id)
            if not of_campaign:
                del self._by_campaign[share.org, share.campaign]


def _later(share: Share, revoked_at_ms: int) -> bool:
    """Whether the share says nothing of a revocation, or nothing of an earlier one."""
    return share.revoked_at_ms is None or share.revoked_at_ms >= revoked_at_ms
