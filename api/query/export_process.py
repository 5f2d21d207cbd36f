"""The process of one export: `python -m api.query.export_process`, started by the query process (`api.query.exports`).

A job comes on standard input, the answer goes to standard output (`export_wire`). Status 0 says that it is all of it;
what went wrong stands in one line on standard error. It gives way to whoever else wants the processor, and ends when
nobody reads.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from api.query import export_wire
from api.query.export_wire import ExportHead, ExportJob, ExportRequest, framed
from app.errors import ReportsError
from app.words import number_of
from tables import exports
from tables.broken import is_database_error
from tables.csv_output import TICK_S, CsvOutput, Write, write_all
from tables.moments import Moment, small_cache
from tables.recipient_records import Tell
from tables.sorting import Block, Sorter, merged

NICE: Final = 10
_CONNECT_S: Final = 10.0


class _Missing(Exception):
    """These partitions can't be read."""

    def __init__(self, partitions: tuple[int, ...], reason: str) -> None:
        super().__init__(reason)
        self.partitions = partitions


class Elsewhere:
    """The part of another query process: its head, and its records as they come."""

    def __init__(self, url: str, request: ExportRequest, token: str) -> None:
        """Raises _Missing where it can't be had."""
        parts = urlsplit(url)
        self._partitions = request.partitions
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_CONNECT_S)
        try:
            self._connection.connect()
            self._connection.sock.settimeout(export_wire.QUIET_S)
            headers = {"authorization": f"Bearer {token}"}
            self._connection.request("POST", export_wire.PATH, export_wire.encode(request), headers)
            self._answer = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise _Missing(self._partitions, f"{url}: {error}") from None

    def head(self) -> ExportHead:
        if self._answer.status != 200:
            raise _Missing(self._partitions, f"another query process answered {self._answer.status}")
        data = self._frame()
        if data is None:
            raise _Missing(self._partitions, "another query process gave no answer")
        return export_wire.decode_head(data)

    def records(self) -> Iterator[Block]:
        while (data := self._frame()) is not None:
            yield export_wire.decode_records(data)

    def _frame(self) -> bytes | None:
        length = self._answer.read(export_wire.LENGTH_BYTES)
        if not length:
            return None
        size = int.from_bytes(length, "big")
        data = self._answer.read(size)
        if len(data) < size:
            raise http.client.IncompleteRead(data)
        return data

    def close(self) -> None:
        self._connection.close()


class _Frames:
    """Records for another process."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._last = time.monotonic()

    def tick(self) -> None:
        if time.monotonic() - self._last >= TICK_S:
            self.records([])

    def records(self, block: Block) -> None:
        self._last = time.monotonic()
        self._write(framed(export_wire.encode(block)))


def run(job: ExportJob, write: Write) -> int:
    """Writes all of the answer; gives the number of rows."""
    request = job.request
    with contextlib.ExitStack() as stack:
        try:
            others = [stack.enter_context(contextlib.closing(one)) for one in _others(request, job.token)]
            moments = _open(job, stack)
            fences = {p: (moment.fence().generation, moment.offset) for p, moment in moments.items()}
            for one in others:
                fences |= one.head().fences
        except _Missing as error:
            _tell(str(error))
            write(framed(export_wire.encode(ExportHead(missing=error.partitions))))
            return 0
        write(framed(export_wire.encode(ExportHead(fences=fences))))
        sorter = stack.enter_context(contextlib.closing(Sorter(_scratch(Path(job.state)))))
        remote = [one.records() for one in others]

        def all_of_it(tick: Callable[[], None]) -> Iterator[Block]:
            tell: Tell = lambda read: tick()  # noqa: E731
            local = exports.records(request.asked, moments, sorter, tell)
            return merged([local, *(_ticking(one, tick) for one in remote)]) if remote else local

        if request.as_records:
            return _write_records(all_of_it, _Frames(write))
        output = CsvOutput(write, exports.header_of(request.asked), gzip=request.gzip)
        return _write_rows(all_of_it, output, exports.rows_of(request.asked))


def _ticking(records: Iterator[Block], tick: Callable[[], None]) -> Iterator[Block]:
    for block in records:
        if block:
            yield block
        else:
            tick()


def _others(request: ExportRequest, token: str) -> Iterator[Elsewhere]:
    for url, partitions in request.elsewhere:
        part = ExportRequest(asked=request.asked, partitions=partitions, as_records=True)
        yield Elsewhere(url, part, token)


def _open(job: ExportJob, stack: contextlib.ExitStack) -> dict[int, Moment]:
    cache = small_cache()
    moments = {}
    for partition in job.request.partitions:
        try:
            moment = Moment(Path(job.state) / f"p{partition}", cache)
        except ReportsError as error:
            raise _Missing((partition,), str(error)) from None
        moments[partition] = stack.enter_context(contextlib.closing(moment))
    return moments


def _scratch(state: Path) -> Path | None:
    """Beside the databases there is room for as much again; elsewhere may be memory."""
    return state if os.access(state, os.W_OK) else None


Records = Callable[[Callable[[], None]], Iterator[Block]]


def _write_rows(records: Records, output: CsvOutput, rows_of: Callable[[Block], list[str]]) -> int:
    rows = 0
    for block in records(output.tick):
        if block:
            output.rows(rows_of(block))
            rows += len(block)
    output.finish()
    return rows


def _write_records(records: Records, frames: _Frames) -> int:
    rows = 0
    for block in records(frames.tick):
        frames.records(block)
        rows += len(block)
    return rows


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    os.nice(NICE)
    # Nothing here makes cycles, and looking for them takes a fifth of the time.
    gc.disable()
    job = export_wire.decode_job(sys.stdin.buffer.read())
    began = time.monotonic()
    try:
        rows = run(job, write_all(sys.stdout.fileno()))
    except BrokenPipeError:
        _tell("nobody reads any more")
        return 1
    except (OSError, http.client.HTTPException, ReportsError) as error:
        _tell(str(error))
        return 1
    except Exception as error:
        if not is_database_error(error):
            raise
        _tell(export_wire.UNREADABLE + " ".join(str(error).split()))
        return 1
    written = number_of(rows, "recipient" if job.request.asked.events is None else "event")
    partitions = number_of(len(job.request.partitions), "partition")
    _tell(f"{written} of {partitions} in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
