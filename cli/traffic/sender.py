"""Sends requests at a rate and writes the ledger: the one part of the traffic that has a clock.

Rules:
- A request's facts are in the ledger before its first byte is sent, its `accepted` line after its 200.
- At most `connections` requests are under way; a slow API slows the traffic, and nothing piles up.
- An answer that repeating cannot help (a wrong key, a missing source) ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec

from cli.traffic.client import Address, Connection, repeat_until_accepted
from cli.traffic.esps import WRITERS
from cli.traffic.esps.writer import Signed, authorization
from cli.traffic.ledger import AcceptedLine, LedgerWriter, encode_line
from cli.traffic.requests import Request


class Refused(Exception):
    """The API said no for good; `str()` is one line."""


class Counts(msgspec.Struct):
    """How far a run has come."""

    facts: int = 0
    events: int = 0
    requests: int = 0
    repeats: int = 0
    """Tries beyond the first."""
    trouble: str = ""
    """Why the newest try was in vain; empty when it was not."""
    refused_events: int = 0


class _EventsAnswer(msgspec.Struct):
    accepted: int
    refused: list[object]


class Sender:
    def __init__(
        self,
        address: Address,
        ledger: LedgerWriter,
        *,
        connections: int,
        on_change: Callable[[Counts], None],
    ) -> None:
        self.counts = Counts()
        self._address = address
        self._ledger = ledger
        self._connections = connections
        self._on_change = on_change

    async def run(self, requests: AsyncIterator[Request]) -> None:
        """Sends all of them; returns when every one was accepted. Raises Refused."""
        queue: asyncio.Queue[Request | None] = asyncio.Queue(maxsize=self._connections)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._send_all(queue))
            async for request in requests:
                self._ledger.write(request.lines)
                await queue.put(request)
            for _ in range(self._connections):
                await queue.put(None)

    async def _send_all(self, queue: asyncio.Queue[Request | None]) -> None:
        connection = Connection(self._address)
        try:
            while (request := await queue.get()) is not None:
                await self._send(connection, request)
        finally:
            connection.close()

    async def _send(self, connection: Connection, request: Request) -> None:
        target = request.target
        answer = await repeat_until_accepted(
            connection, target.path, lambda: ready(request), on_repeat=self._repeated
        )
        if answer.status != 200:
            shown = answer.body[:200].decode("utf-8", "replace")
            raise Refused(f"{target.path} answered {answer.status} for good: {shown}")
        if target.esp == "generic":
            refused = len(msgspec.json.decode(answer.body, type=_EventsAnswer).refused)
            if refused != request.expect_refused:
                raise Refused(
                    f"{target.path} refused {refused} events, {request.expect_refused} were meant to be"
                )
            self.counts.refused_events += refused
        line = AcceptedLine(
            request=request.number, status=answer.status, tries=answer.tries, at=time.time_ns() // 1_000_000
        )
        self._ledger.write(encode_line(line) + b"\n")
        self.counts.facts += request.facts
        self.counts.events += request.events
        self.counts.requests += 1
        self.counts.trouble = ""
        self._on_change(self.counts)

    def _repeated(self, trouble: str) -> None:
        self.counts.repeats += 1
        self.counts.trouble = trouble
        self._on_change(self.counts)


def ready(request: Request) -> Signed:
    """Headers and body of an attempt that is made now."""
    target = request.target
    headers, body = WRITERS[target.esp].sign(target.credentials, request.body, int(time.time()))
    return {**headers, **authorization(target.credentials)}, body


async def paced(requests: AsyncIterator[Request], rate: float) -> AsyncIterator[Request]:
    """The same requests, `rate` events a second; 0: as fast as they are taken."""
    started = time.monotonic()
    events = 0
    async for request in requests:
        if rate > 0:
            await asyncio.sleep(max(0.0, started + events / rate - time.monotonic()))
        events += request.events
        yield request
