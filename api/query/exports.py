"""Exports in the query process: each runs in a process of its own, whose output is passed on.

Rules:
- A few at a time (`AT_ONCE`): each takes a core for as long as it runs. Whoever comes on top is told to come again.
- When the reader is gone, or this process ends, the export's process is ended, and its folder goes with it.
- An export that fails breaks its answer off: no reader takes half of it for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.query import export_wire, wire
from api.query.export_wire import LENGTH_BYTES, MAX_HEAD, ExportHead, ExportJob, framed
from app.errors import UNDECODABLE
from tables.own_files import sweep

log = logging.getLogger("reports.query")

AT_ONCE: Final = 2
START_S: Final = 60.0
"""Within this time the databases are opened: a second for each 100 MB that the worker hasn't flushed."""
CHUNK: Final = 256 << 10
COMMAND: Final = (sys.executable, "-m", "api.query.export_process")


class ExportFailed(Exception):
    """The export's process ended in the middle; what it said stands in the log."""


class Exports:
    def __init__(
        self,
        state: Path,
        token: str,
        command: Sequence[str] | None = None,
        unread: Callable[[Exception, int], object] = lambda *_: None,
    ) -> None:
        """`unread`: told RocksDB's error where an export can't read a database, and when that export began."""
        self._unread = unread
        self._command = command
        self._state = state
        self._token = token
        self.running: dict[asyncio.subprocess.Process, int] = {}
        """And when each began, in ns since 1970."""
        self._starting = 0

    async def answer(self, body: bytes) -> Response:
        try:
            request = export_wire.decode_request(body)
        except UNDECODABLE:
            return Response(status_code=400)
        if len(self.running) + self._starting >= AT_ONCE and not request.as_records:
            return Response(wire.encode(wire.Refusal(())), 503)
        job = ExportJob(request=request, state=str(self._state), token=self._token)
        self._starting += 1
        began = time.time_ns()
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._command or COMMAND),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=2 * CHUNK,
            )
            self.running[process] = began
        finally:
            self._starting -= 1
        try:
            async with asyncio.timeout(START_S):
                head = await _begin(process, export_wire.encode(job))
        except BaseException as error:
            await self.end(process)
            if isinstance(error, TimeoutError | EOFError | OSError | ValueError):
                log.warning("an export could not be started: %s", type(error).__name__)
                return Response(wire.encode(wire.Refusal(request.partitions)), 409)
            raise
        if head.missing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)
            await self.end(process)
            return Response(wire.encode(wire.Refusal(head.missing)), 409)
        return _PassedOn(self, process, head)

    async def end(self, process: asyncio.subprocess.Process) -> None:
        """Ends it where it lives, and tells how it went."""
        began = self.running.pop(process, None)
        if began is None:
            return
        gone = process.returncode is None
        if gone:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        # Not to be cancelled before the end is noticed: a child that nobody waits for stays as a zombie.
        await asyncio.shield(self._see_off(process, gone, began))

    async def _see_off(self, process: asyncio.subprocess.Process, gone: bool, began: int) -> None:
        assert process.stderr is not None
        said = (await process.stderr.read()).decode("utf-8", "replace").strip()
        status = await process.wait()
        if status:
            # What it held went with it only if it had the time.
            await asyncio.to_thread(sweep)
        if gone:
            log.info(
                "an export was ended before it was done, its reader is gone: %s", said[-2_000:] or "no error"
            )
        elif status:
            log.error("an export failed (status %d): %s", status, said[-2_000:])
            if said.startswith(export_wire.UNREADABLE):
                error = Exception(said.removeprefix(export_wire.UNREADABLE))
                await asyncio.to_thread(self._unread, error, began)
        else:
            log.info("an export is done: %s", said)

    async def close(self) -> None:
        """Ends what runs."""
        await asyncio.gather(*(self.end(process) for process in list(self.running)))


class _PassedOn(StreamingResponse):
    """The process's output; whatever happens, it is over when the answer is."""

    def __init__(self, exports: Exports, process: asyncio.subprocess.Process, head: ExportHead) -> None:
        super().__init__(_output_of(process, head), media_type="application/octet-stream")
        self._exports = exports
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._exports.end(self._process)


async def _output_of(process: asyncio.subprocess.Process, head: ExportHead) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    yield framed(export_wire.encode(head))
    while chunk := await process.stdout.read(CHUNK):
        yield chunk
    if status := await process.wait():
        raise ExportFailed(f"status {status}")


async def _begin(process: asyncio.subprocess.Process, job: bytes) -> ExportHead:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(job)
    await process.stdin.drain()
    process.stdin.close()
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    if length > MAX_HEAD:
        raise ValueError("no answer of an export")
    return export_wire.decode_head(await process.stdout.readexactly(length))
