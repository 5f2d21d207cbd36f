"""The only requests that this project makes to others: to Amazon SNS, for `certificates` and `confirmations`.

Rules:
- The address is made or approved by `app.esps.sns`, never taken from a message as it stands.
- https, no redirects, no proxy of the environment, two seconds in all, 16 KiB at most, never decompressed.
- Whatever goes wrong is TryLater: SNS sends the message again.
- Few at a time: what SNS sends while Amazon is slow waits, and is told to come again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import httpx

from app.errors import TryLater

TIMEOUT_S: Final = 2.0
MAX_BYTES: Final = 16 * 1024
AT_ONCE: Final = 4
RETRY_AFTER_S: Final = 5

# It writes every address at level INFO, and that of a confirmation carries a token.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Outgoing:
    """An HTTP client that is made when first used; `transport` is for tests."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(self, url: str, parameters: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of the answer, whatever its status. Raises TryLater where there is none to be had."""
        if not url.startswith("https://"):
            raise ValueError("only https goes out")
        try:
            async with asyncio.timeout(TIMEOUT_S), self._turns:
                return await self._get(url, parameters)
        except (TimeoutError, OSError, httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise TryLater(
                RETRY_AFTER_S, "what vouches for this webhook could not be fetched, try again"
            ) from error

    async def _get(self, url: str, parameters: Mapping[str, str] | None) -> tuple[int, bytes]:
        client = self._client
        if client is None:
            client = self._client = httpx.AsyncClient(
                transport=self._transport,
                timeout=TIMEOUT_S,
                follow_redirects=False,
                trust_env=False,
                headers={"User-Agent": "campaign-reports", "Accept-Encoding": "identity"},
            )
        async with client.stream("GET", url, params=parameters) as response:
            body = bytearray()
            async for chunk in response.aiter_raw(4_096):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise httpx.DecodingError(f"longer than {MAX_BYTES} bytes")
            return response.status_code, bytes(body)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
