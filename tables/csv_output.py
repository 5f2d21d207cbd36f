"""Where an export goes: CSV to a file descriptor, compressed or not, written by a thread of its own.

Rules:
- Compressing and writing let go of the interpreter, so the next rows are made meanwhile. A few blocks wait at most.
- Rows go out `TOGETHER`, and the last one (at first, the header) waits for the next. While none comes, because rows are
  being put in order or few match, what there is goes out every `TICK_S`, the last row byte by byte: no proxy takes the
  silence for an end, and a reader that is gone is noticed.
- An error while writing (a full disk, a reader that is gone) is raised by the next call.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import zlib
from collections.abc import Callable
from typing import Final

from app.csv_rows import encoded

TICK_S: Final = 2.0
WAITING: Final = 4
TOGETHER: Final = 256 << 10
"""Characters: handing over costs as much as forty rows."""
LEVEL: Final = 1
"""Of the compression: 100 MB/s where the usual 6 has 30, for a file that is a fifth longer."""
_GZIP: Final = 31

Write = Callable[[bytes], object]


class CsvOutput:
    def __init__(
        self, write: Write, header: str, *, gzip: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`write` takes all that it is given."""
        self._write = write
        self._texts = [header]
        self._held = 0
        self._gzip = zlib.compressobj(LEVEL, wbits=_GZIP) if gzip else None
        self._clock = clock
        self._last = clock()
        self._queue: queue.Queue[tuple[str, bool] | None] = queue.Queue(WAITING)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="csv output", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """To be called now and then while there are no rows."""
        if self._clock() - self._last < TICK_S:
            return
        if len(self._texts) > 1:
            self._hand_over(at_once=True)
        elif len(self._texts[0]) > 1:
            self._put(self._texts[0][:1], True)
            self._texts = [self._texts[0][1:]]

    def rows(self, rows: list[str]) -> None:
        """Rows, or texts that are several of them."""
        self._texts += rows
        self._held += sum(map(len, rows))
        if self._held >= TOGETHER:
            self._hand_over(at_once=False)

    def _hand_over(self, *, at_once: bool) -> None:
        """All but the last."""
        last = self._texts.pop()
        self._put("".join(self._texts), at_once)
        self._texts, self._held = [last], 0

    def finish(self) -> None:
        """Writes what is left, and returns when all is written."""
        self._put("".join(self._texts), False)
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _put(self, text: str, at_once: bool) -> None:
        if self._failure is not None:
            raise self._failure
        self._last = self._clock()
        self._queue.put((text, at_once))

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if self._failure is not None:
                if item is None:
                    return
                continue  # whoever waits for a place in the queue must get it
            try:
                if item is None:
                    if self._gzip is not None:
                        self._write(self._gzip.flush())
                    return
                self._take(*item)
            except BaseException as error:  # noqa: BLE001  raised again by the next call
                self._failure = error
                if item is None:
                    return

    def _take(self, text: str, at_once: bool) -> None:
        data = encoded(text)
        if self._gzip is None:
            self._write(data)
            return
        packed = self._gzip.compress(data)
        if at_once:
            packed += self._gzip.flush(zlib.Z_SYNC_FLUSH)
        if packed:
            self._write(packed)


def write_all(descriptor: int) -> Write:
    """Writes to a file descriptor, a pipe too, whatever it takes at a time."""

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write
