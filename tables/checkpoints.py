"""By which one tells that a log is still the one that was read: digests of records that were read, at their offsets.

A log that lost its end grows again, and has other records then where those stood: a power cut, a broker that was
restored from an older copy, an election of a replica that was behind. Its id stays, and its offsets say nothing.

One checkpoint is kept of the record that was read last, and ever fewer of those before it: about twice as much is read
again as the log has lost, at most. All behind the newest record that agrees is read once more; what counts by identity
counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

CLOSE: Final = 64
"""Records: checkpoints stand no closer."""
SPREAD: Final = 2
"""The next older one is less than that many times as far behind, as far as there was one."""
LOOKED_AT: Final = 3
"""Behind one that differs there may be some that agree: what was read before that was noticed."""
_DIGEST_BYTES: Final = 8


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    offset: int
    digest: bytes

    @classmethod
    def of(cls, offset: int, value: bytes) -> Checkpoint:
        return cls(offset, hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest())


def kept(before: Sequence[Checkpoint], last: Checkpoint) -> list[Checkpoint]:
    """The checkpoints, the oldest first, with a new one behind them; those of before where it is close to the last."""
    if before and last.offset - before[-1].offset < CLOSE:
        return list(before)
    found = [last]
    # An older one is left out where the ones beside it are near enough to each other without it.
    for number in range(len(before) - 1, -1, -1):
        older = before[number - 1].offset if number else None
        newer = last.offset - found[-1].offset + CLOSE
        if older is None or last.offset - older >= SPREAD * newer:
            found.append(before[number])
    return found[::-1]


def goes_on_at(
    checkpoints: Sequence[Checkpoint], start: int, end: int, read: Callable[[int], bytes | None]
) -> int | None:
    """None: the log, from `start` to before `end`, has the newest `LOOKED_AT` of the checkpoints (the oldest first), as
    far as can be told. Else the offset behind the newest below which it has all; `start`: it has none of them.

    `read`: offset → the record's value; None where there is none."""
    differs = False
    for number, one in enumerate(reversed(checkpoints)):
        if one.offset < start or (number >= LOOKED_AT and not differs):
            break
        value = read(one.offset) if one.offset < end else None
        if value is None or Checkpoint.of(one.offset, value) != one:
            differs = True
        elif differs:
            return one.offset + 1
    return start if differs else None
