"""Signatures that must not vouch for two bodies (Mailgun's doesn't cover the body): a token's first body, in Redis.

Rules:
- Same token and same body: a resend, which is passed on (perhaps the first one could not be stored). Another body: 406,
  counted, since somebody uses what was signed for something else.
- Taking webhooks never needs Redis: no answer within `WITHIN_S` and the check is left out, counted, and not tried again
  for `PAUSE_S`, so that a stuck Redis doesn't cost each webhook its share.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from app.errors import RejectRequest
from app.esps.esp import Once
from app.organisations import Source

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from api.metrics import Metrics

WITHIN_S: Final = 0.1
PAUSE_S: Final = 1.0
KEPT_S: Final = 26 * 3600
"""Mailgun tries again for eight hours; a captured token is of no use for a day, and then its events are old."""


class Tokens:
    def __init__(self) -> None:
        self._pause_until_s = 0.0

    async def check(self, redis: Redis, metrics: Metrics, source: Source, once: Once) -> None:
        """Raises RejectRequest 406 for a token that came with another body before."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._pause_until_s:
            metrics.webhook_once_skipped.inc()
            return
        digest = blake2b(once.digest, digest_size=16).digest()
        try:
            async with asyncio.timeout(WITHIN_S):
                first = await redis.set(_key(source, once.token), digest, ex=KEPT_S, nx=True, get=True)
        except (RedisError, OSError, TimeoutError):
            self._pause_until_s = now_s + PAUSE_S
            metrics.webhook_once_skipped.inc()
            return
        if first is not None and first != digest:
            raise RejectRequest(406, "token_reused", "this signature was used for another body before")


def _key(source: Source, token: bytes) -> str:
    return f"cr:once:{source.org}:{source.name}:{blake2b(token, digest_size=16).hexdigest()}"
