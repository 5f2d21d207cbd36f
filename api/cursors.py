"""Cursors of paged lists: where the next page begins, and of which list.

A cursor holds the order key of the last row (`tables.paging`) and a keyed fingerprint of it and of the list: campaign,
filters, order and count. One of another list, or one that nobody made, is 400.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

import msgspec

from api import parameters
from app.errors import RejectRequest

MAX_CHARACTERS: Final = 2_000
_FINGERPRINT: Final = 12

_encode = msgspec.msgpack.Encoder().encode


class Cursors:
    """Of one list."""

    def __init__(self, secret: bytes, *described_by: object) -> None:
        """`described_by`: all that makes the list this one, as MessagePack can write it."""
        self._secret = secret
        self._list = _encode(described_by)

    def write(self, after: bytes) -> str:
        return base64.urlsafe_b64encode(self._sign(after) + after).decode().rstrip("=")

    def read(self, value: str | None) -> bytes | None:
        """The order key. Raises RejectRequest 400."""
        if value is None:
            return None
        try:
            if len(value) > MAX_CHARACTERS:
                raise ValueError
            raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _bad() from None
        after = raw[_FINGERPRINT:]
        if not hmac.compare_digest(raw[:_FINGERPRINT], self._sign(after)):
            raise _bad()
        return after

    def _sign(self, after: bytes) -> bytes:
        key = hmac.digest(self._secret, b"campaign-reports cursor v1", "sha256")
        return hmac.digest(key, hmac.digest(key, self._list, "sha256") + after, "sha256")[:_FINGERPRINT]


def _bad() -> RejectRequest:
    return parameters.bad(
        "cursor", "must be the field next of an earlier answer, with all other parameters as they were"
    )
