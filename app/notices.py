"""What a report says for good about its own numbers: a part of the log was lost, and an operator has accepted that.

A note is what a partition publishes; a notice is what readers see. Each partition publishes a note for each gap
(`app.installation.Gap`) that may have taken events of a campaign (`tables.gaps`). Notes of one kind that were accepted
together are one notice, and so are all webhooks that were found lost together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from app.installation import Gap
from app.shapes import Notice
from app.times import utc_text
from app.words import number_of

GAP: Final = "gap"
LOST: Final = "lost_webhooks"
_TRIMMED: Final = "trimmed"
_ENDED: Final = "ended"
_RECREATED: Final = "recreated"
_GIVEN_UP: Final = "given up"


TOGETHER_MS: Final = 10 * 60 * 1000
"""What is accepted within so short a time of each other is told in one notice."""


class Note(msgspec.Struct, frozen=True, array_like=True):
    at_ms: int
    """When the gap was accepted."""
    kind: str
    lost: int
    """Records of the log; 0 where nobody knows how many."""
    before_ms: int | None
    """What is lost is older; None: than `at_ms`."""
    webhooks: int | None = None
    """The partition of topic `webhooks` that it concerns; None: it is one of `facts`."""
    partition: int = -1
    """Of the gap; below 0: the publisher's."""


_PartitionNote = tuple[int, Note]


def note_of(gap: Gap, *, crossed: bool = True) -> Note:
    """`crossed`: the database has counted what stood before the gap."""
    lost = gap.webhooks
    if lost is not None:
        return Note(lost.at_ms, LOST, lost.lost or 0, lost.before_ms, lost.partition)
    kind, records = _TRIMMED, gap.to - gap.position
    if gap.counted or (gap.lost_end and not crossed):
        kind, records = _GIVEN_UP, 0
    elif gap.recreated:
        kind, records = _RECREATED, 0
    elif gap.lost_end:
        kind, records = _ENDED, gap.position - gap.to
    return Note(gap.at_ms, kind, records, gap.before_ms, partition=gap.partition)


def notices(notes: Iterable[tuple[int, Note]]) -> list[Notice]:
    """(partition, note) → what is shown, the oldest first."""
    own: set[tuple[int, Note]] = set()
    together: dict[int, dict[int, Note]] = {}
    for partition, note in notes:
        if note.webhooks is None:
            of = note.partition if note.partition >= 0 else partition
            own.add((of, msgspec.structs.replace(note, partition=of)))
        else:  # every partition of `facts` says it
            together.setdefault(note.at_ms, {})[note.webhooks] = note
    found = [
        (max(note.at_ms for _, note in group), min(partition for partition, _ in group), GAP, _message(group))
        for group in _grouped(own)
    ]
    found += [
        (at_ms, min(lost), LOST, _lost_message(at_ms, list(lost.values())))
        for at_ms, lost in together.items()
    ]
    return [
        Notice(code=code, message=message, at=utc_text(at_ms) or "", partition=partition)
        for at_ms, partition, code, message in sorted(found)
    ]


def _grouped(notes: Iterable[_PartitionNote]) -> list[list[_PartitionNote]]:
    """What happened to several partitions at once, and was accepted together, is one thing to a reader."""
    groups: dict[str, list[list[_PartitionNote]]] = {}
    for found in sorted(notes, key=lambda found: (found[1].at_ms, found[0])):
        of_kind = groups.setdefault(found[1].kind, [])
        if of_kind and found[1].at_ms - of_kind[-1][-1][1].at_ms <= TOGETHER_MS:
            of_kind[-1].append(found)
        else:
            of_kind.append([found])
    return [group for of_kind in groups.values() for group in of_kind]


def _lost_message(at_ms: int, lost: Sequence[Note]) -> str:
    before = utc_text(max(note.before_ms or at_ms for note in lost))
    known = sum(note.lost for note in lost)
    more = "" if all(note.lost for note in lost) else "at least " if known else None
    webhooks = "webhooks" if more is None else f"{more}{known} webhook{'' if known == 1 else 's'}"
    perhaps = ", or may have been" if more is None else ""
    return (
        f"{webhooks} of this installation were accepted and lost before they were read{perhaps}; nobody can say of "
        f"which campaigns: events that were received before {before} may be missing"
    )


def _message(group: Sequence[_PartitionNote]) -> str:
    """Of notes of one kind."""
    kind = group[0][1].kind
    before = utc_text(max(note.at_ms if note.before_ms is None else note.before_ms for _, note in group))
    numbers = sorted({partition for partition, _ in group})
    where = f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
    if kind == _GIVEN_UP:
        return (
            f"events from before {before} that had been counted may be missing ({where}): an operator gave up the "
            f"database{'s' if len(numbers) > 1 else ''} that had them"
        )
    records = number_of(sum(note.lost for _, note in group), "record")
    if kind == _TRIMMED:
        return (
            f"{records} of the event log ({where}) were lost before they were counted: events from before {before} "
            "may be missing"
        )
    if kind == _ENDED:
        return (
            f"the event log ({where}) lost its end: up to {records} that were counted, and stay so, and what was not "
            f"counted by then: events from before {before} may be missing"
        )
    return (
        f"the event log ({where}) was recreated: events from before {before} may be missing that were not counted by "
        "then"
    )
