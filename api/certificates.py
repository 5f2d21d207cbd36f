"""The certificates with which Amazon SNS signs: fetched once, kept while they are valid.

Rules:
- Only addresses that the ESP's module approved come here; of each one, one request is under way at a time.
- What was fetched must be a certificate that is valid now, by the clock that is passed in.
- At most `MAX_KEPT` are kept, those used last. A failure is remembered for `FAILED_S`, so that a flood of webhooks
  while Amazon is away doesn't become a flood of requests.
- No certificate: TryLater, so that SNS sends the message again. It is never "let it in".
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from api.outgoing import RETRY_AFTER_S, Outgoing
from app.errors import TryLater
from app.esps.sns import read_certificate

MAX_KEPT: Final = 64
"""Amazon has one for each region, and a new one a year."""
FAILED_S: Final = 5.0


class Kept(msgspec.Struct, frozen=True):
    pem: bytes
    not_before_s: float
    not_after_s: float


class Certificates:
    """`clock`: seconds since 1970."""

    def __init__(self, outgoing: Outgoing | None = None, clock: Callable[[], float] = time.time) -> None:
        self._outgoing = outgoing or Outgoing()
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Kept]] = {}

    async def get(self, url: str) -> bytes:
        """The certificate as PEM. Raises TryLater."""
        kept = self._kept.get(url)
        if kept is not None and self._is_valid(kept):
            self._kept.move_to_end(url)
            return kept.pem
        return (await self._fetch_once(url)).pem

    async def close(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        await self._outgoing.close()

    async def _fetch_once(self, url: str) -> Kept:
        # A clock that was set back doesn't make the pause longer.
        if 0.0 < self._failed.get(url, 0.0) - self._clock() <= FAILED_S:
            raise _away()
        task = self._under_way.get(url)
        if task is None:
            task = asyncio.create_task(self._fetch(url), name="certificate")
            self._under_way[url] = task
            task.add_done_callback(lambda done: self._end(url, done))
        # One sender's closed connection doesn't take the certificate from the others.
        return await asyncio.shield(task)

    def _end(self, url: str, task: asyncio.Task[Kept]) -> None:
        self._under_way.pop(url, None)
        if not task.cancelled():
            task.exception()  # told to those who wait, if any still do

    async def _fetch(self, url: str) -> Kept:
        try:
            status, pem = await self._outgoing.get(url)
        except TryLater:
            raise self._failure(url) from None
        kept = _read(pem) if status == 200 else None
        if kept is None or not self._is_valid(kept):
            raise self._failure(url)
        self._kept[url] = kept
        self._kept.move_to_end(url)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    def _is_valid(self, kept: Kept) -> bool:
        return kept.not_before_s <= self._clock() <= kept.not_after_s

    def _failure(self, url: str) -> TryLater:
        self._failed[url] = self._clock() + FAILED_S
        self._failed.move_to_end(url)
        while len(self._failed) > MAX_KEPT:
            self._failed.popitem(last=False)
        return _away()


def _away() -> TryLater:
    return TryLater(RETRY_AFTER_S, "the certificate of this webhook could not be fetched, try again")


def _read(pem: bytes) -> Kept | None:
    certificate = read_certificate(pem)
    if certificate is None:
        return None
    return Kept(
        pem, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    )
