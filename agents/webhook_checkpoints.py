"""Which records of topic `webhooks` were read, kept so that normalize can tell a log that lost its end.

Such a log grows again, and its offsets say nothing (`tables.checkpoints`). Rules:
- Of each partition two rows are kept, the oldest first. `agreed` is the ladder of those that the log had when it was
  last compared. `since` is what was read after that: its first one was compared too, the last one is the newest, and
  those between stand where reading stood still. A log that lost its end answers nobody for a while, so the record that
  was read last before that is among them, and what was read of the log after it can't hide it.
- They are compared in the order in which they were read.
- Where the log went another way, what Redis has stays until the log was compared once more: by then Kafka's commits are
  those of the new way, which until then would be above it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from agents.log_checks import LogEnds
from app.topics import WEBHOOKS
from tables.checkpoints import Checkpoint, goes_on_at, kept
from tables.log_reader import LogReader
from tables.webhook_positions import Fields, Trail, trail_fields

MOST: Final = 32
"""Checkpoints of a partition that were not compared yet."""


def parts_at(trail: Trail, ends: LogEnds, read: Callable[[int], bytes | None]) -> int | None:
    """None: the log has all of it, as far as can be told. Else where reading is to go on. `read`: `goes_on_at`."""
    for count in range(1, len(trail.since) + 1):
        found = goes_on_at([*trail.agreed, *trail.since[:count]], ends.start, ends.end, read)
        if found is not None:
            return found
    return None


def compare(kafka: str, trails: Mapping[int, Trail], ends: Mapping[int, LogEnds]) -> dict[int, int]:
    """Partition → where reading is to go on; only those whose log isn't the one that was read any more.

    Blocks. Raises StateError where Kafka doesn't answer."""
    parted: dict[int, int] = {}
    with LogReader(kafka) as reader:
        for partition, trail in trails.items():
            at = parts_at(trail, ends[partition], partial(reader.value, WEBHOOKS, partition))
            if at is not None:
                parted[partition] = at
    return parted


class WebhookCheckpoints:
    """Of one worker; belongs to its event loop."""

    def __init__(self) -> None:
        self._trails: dict[int, Trail] = {}
        self._last: dict[int, Checkpoint] = {}
        self._stood: dict[int, int] = {}
        """Partition → the newest offset when it was last kept."""
        self._withheld: set[int] = set()

    def begin(self, partition: int, trail: Trail, start: int, *, parted: bool) -> None:
        """Reading begins at `start`, with what was kept before. `parted`: the log lost what stands there or behind."""
        self.forget(partition)
        if parted:
            rest = [one for one in [*trail.agreed, *trail.since] if one.offset < start]
            trail = Trail(rest, rest[-1:])
            self._withheld.add(partition)
        self._trails[partition] = trail if parted else _agreed(trail)

    def forget(self, partition: int) -> None:
        for known in (self._trails, self._last, self._stood):
            known.pop(partition, None)
        self._withheld.discard(partition)

    def read(self, partition: int, offset: int, value: bytes | None) -> None:
        """A record was read, and all before it."""
        self._last[partition] = Checkpoint.of(offset, value or b"")

    def trails(self) -> dict[int, Trail]:
        """Of all partitions, with what was read until now."""
        for partition, trail in self._trails.items():
            last = self._last.get(partition)
            newest = trail.since[-1].offset if trail.since else -1
            if last is not None and last.offset > newest:
                stays = len(trail.since) < 2 or self._stood.get(partition) == newest
                since = trail.since if stays and len(trail.since) < MOST else trail.since[:-1]
                self._trails[partition] = Trail(trail.agreed, [*since, last])
            self._stood[partition] = newest if last is None else max(newest, last.offset)
        return dict(self._trails)

    def fields(self, topic: str) -> Fields:
        """For Redis."""
        return trail_fields(topic, {p: one for p, one in self.trails().items() if p not in self._withheld})

    def agreed(self, compared: Mapping[int, Trail], parted: Collection[int]) -> None:
        """The log has what was given by `trails`, but for partitions where it went another way."""
        for partition, trail in compared.items():
            now = self._trails.get(partition)
            if now is not None and partition not in parted:
                behind = [one for one in now.since if not trail.since or one.offset > trail.since[-1].offset]
                done = _agreed(trail)
                self._trails[partition] = Trail(done.agreed, [*done.since, *behind])
                self._withheld.discard(partition)


def _agreed(trail: Trail) -> Trail:
    ladder = trail.agreed
    for one in trail.since:
        if not ladder or one.offset > ladder[-1].offset:
            ladder = kept(ladder, one)
    return Trail(ladder, trail.since[-1:])
