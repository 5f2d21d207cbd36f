"""What is known of topic `webhooks` beside Kafka: hash `cr:webhooks`, told by those who read and by those who take.

Kafka forgets normalize's positions with the topic that they are of, and when its group was away for a week. Both come
back from here; where Redis was emptied as well, what was lost is named without a number.

- `p:<partition>` = `<topic id>:<offset>`: what normalize reads next, by whoever has the partition.
- `c:<partition>` = `<topic id>:<JSON of a Trail>`: by which records that were read the log is told from another one.
- `e:<topic id>:<partition>` = `<offset>`: where the log ended, by each API process. It stays when the topic is
  recreated: then it says how much of the old one was not read. It falls where the log lost its end, by whoever finds
  that first.
- `l:<topic id>:<partition>` = `<offset>`: where the log ended before it lost its end, by the API process that found it,
  where not all of that was read as far as is known. It stays until normalize has recorded the loss.
- `f` = `<topic id>:<offset>,<offset>…`: where the partitions of topic `facts` ended when positions were told last.
  Where facts stand behind that, the hash is older than they are: Redis was restored from an older file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from tables.checkpoints import Checkpoint

WEBHOOK_POSITIONS: Final = "cr:webhooks"
FACTS_FIELD: Final = "f"

Fields = dict[bytes | bytearray | memoryview | str | float, bytes | bytearray | memoryview | str | float]


class Known(NamedTuple):
    topic: str
    """Kafka's id."""
    offset: int


class Trail(msgspec.Struct, frozen=True, array_like=True):
    """Checkpoints of one partition, the oldest first (`agents.webhook_checkpoints`)."""

    agreed: list[Checkpoint] = []
    since: list[Checkpoint] = []

    @property
    def read_to(self) -> int:
        """The offset behind the last one; 0 where there is none."""
        return self.since[-1].offset + 1 if self.since else 0


_encode_trail = msgspec.json.Encoder().encode
_trail: msgspec.json.Decoder[Trail] = msgspec.json.Decoder(Trail)


def positions_of(stored: Mapping[bytes, bytes]) -> dict[int, Known]:
    """The hash → partition → its position; what can't be read is left out."""
    found: dict[int, Known] = {}
    for name, text in stored.items():
        kind, *where = name.decode("utf-8", "replace").split(":")
        topic, _, offset = text.decode("utf-8", "replace").partition(":")
        with contextlib.suppress(ValueError):
            if kind == "p" and len(where) == 1:
                found[int(where[0])] = Known(topic, int(offset))
    return found


def trails_of(stored: Mapping[bytes, bytes], topic: str) -> dict[int, Trail]:
    """The hash → partition → what was read of this topic; what can't be read is left out."""
    found: dict[int, Trail] = {}
    for name, text in stored.items():
        kind, *where = name.decode("utf-8", "replace").split(":")
        of, _, trail = text.partition(b":")
        with contextlib.suppress(ValueError, msgspec.MsgspecError):
            if kind == "c" and len(where) == 1 and of == topic.encode():
                found[int(where[0])] = _trail.decode(trail)
    return found


def ends_of(stored: Mapping[bytes, bytes], topic: str) -> dict[int, int]:
    """The hash → partition → where the log of this topic ended when it was last seen."""
    return _offsets_of(stored, "e", topic)


def lost_ends_of(stored: Mapping[bytes, bytes], topic: str) -> dict[int, int]:
    """The hash → partition → where the log of this topic ended before it lost its end."""
    return _offsets_of(stored, "l", topic)


def _offsets_of(stored: Mapping[bytes, bytes], wanted: str, topic: str) -> dict[int, int]:
    found: dict[int, int] = {}
    for name, offset in stored.items():
        kind, *where = name.decode("utf-8", "replace").split(":")
        with contextlib.suppress(ValueError):
            if kind == wanted and len(where) == 2 and where[0] == topic:
                found[int(where[1])] = int(offset)
    return found


def read_before(
    stored: Mapping[bytes, bytes], partition: int, topic: str, committed: Mapping[int, int]
) -> str:
    """Kafka's id of the topic that was read before, by the hash and by Kafka's commits; empty where neither knows.

    `committed`: of all partitions. Kafka forgets them with the topic, so where there are any it is still the same one.
    """
    known = positions_of(stored).get(partition)
    if known is not None:
        return known.topic
    if committed:
        return topic
    others = {where[1] for name in stored if len(where := name.decode("utf-8", "replace").split(":")) == 3}
    others.discard(topic)
    return others.pop() if len(others) == 1 else ""


def facts_ends_of(stored: Mapping[bytes, bytes], topic: str) -> dict[int, int] | None:
    """The hash → partition → where topic `facts` ended when positions were told last; None: not known of this topic."""
    told, _, ends = stored.get(FACTS_FIELD.encode(), b"").decode("utf-8", "replace").partition(":")
    if told != topic:
        return None
    with contextlib.suppress(ValueError):
        return dict(enumerate(map(int, ends.split(","))))
    return None


def facts_field(topic: str, ends: Mapping[int, int]) -> Fields:
    return {FACTS_FIELD: f"{topic}:{','.join(str(ends[partition]) for partition in sorted(ends))}"}


def position_fields(topic: str, positions: Mapping[int, int]) -> Fields:
    return {f"p:{partition}": f"{topic}:{offset}" for partition, offset in positions.items()}


def end_fields(topic: str, ends: Mapping[int, int]) -> Fields:
    return {f"e:{topic}:{partition}": offset for partition, offset in ends.items()}


def lost_end_fields(topic: str, ends: Mapping[int, int]) -> Fields:
    return {f"l:{topic}:{partition}": offset for partition, offset in ends.items()}


def trail_fields(topic: str, trails: Mapping[int, Trail]) -> Fields:
    return {f"c:{partition}": topic.encode() + b":" + _encode_trail(one) for partition, one in trails.items()}
