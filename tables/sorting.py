"""Lists of texts put in order in little memory: sorted runs on disk, and merges of what is in order already.

Texts are compared by their characters' numbers, which is the order of their UTF-8 bytes.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

_OVERHEAD: Final = 60
"""Bytes of a text in memory beside its characters. Of texts beyond Latin each character takes two or four."""
RUN_BYTES: Final = 16 << 20
"""What is sorted at once in memory. Writing it takes as much again for a moment."""
BLOCK_BYTES: Final = 32 << 10
"""What of each run is in memory during the merge: 40 million rows of 200 bytes are 500 runs, 16 MiB."""

Block = list[str]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode


def merged(sources: Iterable[Iterator[Block]]) -> Iterator[Block]:
    """Blocks of each source in order, all in order themselves → the same of all sources together."""
    heads: list[_Head] = [head for source in sources if (head := _Head(source)).fill()]
    while heads:
        if len(heads) == 1:
            (last,) = heads
            yield last.block[last.place :]
            yield from last.source
            return
        # Up to the smallest end of a block everything is here.
        bound = min([head.block[-1] for head in heads])
        found: Block = []
        emptied = False
        for head in heads:
            emptied |= head.take(bound, found)
        found.sort()
        yield found
        if emptied:
            heads = [head for head in heads if head.place < len(head.block) or head.fill()]


class _Head:
    """A source's block under way."""

    def __init__(self, source: Iterator[Block]) -> None:
        self.source = source
        self.block: Block = []
        self.place = 0

    def fill(self) -> bool:
        for block in self.source:
            if block:
                self.block, self.place = block, 0
                return True
        return False

    def take(self, bound: str, found: Block) -> bool:
        """Moves all up to `bound`; gives whether nothing is left."""
        end = bisect_right(self.block, bound, self.place)
        found += self.block[self.place : end]
        self.place = end
        return end == len(self.block)


class Sorter:
    """Takes texts in any order and gives them back sorted. What doesn't fit into memory goes to a file without a name,
    which is gone with the process however it ends."""

    def __init__(
        self, folder: Path | None, run_bytes: int = RUN_BYTES, block_bytes: int = BLOCK_BYTES
    ) -> None:
        """`folder`: where the file may stand; None: where the system has its temporary files. Raises OSError later,
        where it is full."""
        self._folder = folder
        self._run_bytes = run_bytes
        self._block_bytes = block_bytes
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []
        self._texts: Block = []
        self._held = 0

    def add(self, texts: Block) -> None:
        self._texts += texts
        self._held += sum(map(len, texts)) + _OVERHEAD * len(texts)
        if self._held >= self._run_bytes:
            self._spill()

    def sorted(self) -> Iterator[Block]:
        """All of them; once."""
        self._texts.sort()
        last, self._texts = self._texts, []
        step = 1_000
        rest = (last[first : first + step] for first in range(0, len(last), step))
        return merged([*(self._read(begin, end) for begin, end in self._runs), rest])

    def close(self) -> None:
        self._texts = []
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 18)  # noqa: SIM115  `close` does it
        texts, self._texts = self._texts, []
        texts.sort()
        step = max(1, len(texts) * self._block_bytes // max(self._held, 1))
        begin = end = self._runs[-1][1] if self._runs else 0
        for first in range(0, len(texts), step):
            block = _encoded(texts[first : first + step])
            self._file.write(len(block).to_bytes(4, "big"))
            self._file.write(block)
            end += 4 + len(block)
        self._file.flush()
        self._runs.append((begin, end))
        self._held = 0

    def _read(self, begin: int, end: int) -> Iterator[Block]:
        assert self._file is not None
        descriptor = self._file.fileno()
        while begin < end:
            length = int.from_bytes(_read_exactly(descriptor, 4, begin), "big")
            yield _decode(_read_exactly(descriptor, length, begin + 4))
            begin += 4 + length


def _encoded(block: Block) -> bytes:
    try:
        return _encode(block)
    except UnicodeEncodeError:
        return _encode([text.encode("utf-8", "replace").decode() for text in block])


def _read_exactly(descriptor: int, length: int, place: int) -> bytes:
    found = os.pread(descriptor, length, place)
    while len(found) < length:
        more = os.pread(descriptor, length - len(found), place + len(found))
        if not more:
            raise OSError("the file of sorted runs ends too soon")
        found += more
    return found
