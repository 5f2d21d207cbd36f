"""What a report says for good about its own numbers: a part of the log was lost, and an operator has accepted that.

A note is what a partition publishes; a notice is what readers see. There is one for each gap (`app.installation.Gap`)
of each partition in which the campaign had events at that time; one for each by which a partition lost what had been
counted, in all campaigns of that time; and one for all webhooks that were found lost together.
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
    """Of the gap, where that is another one than the publisher's."""


def note_of(gap: Gap, *, crossed: bool = True) -> Note:
    """`crossed`: the database has counted what stood before the gap."""
    lost = gap.webhooks
    if lost is not None:
        return Note(lost.at_ms, LOST, lost.lost or 0, lost.before_ms, lost.partition)
    if gap.counted:
        return Note(gap.at_ms, _GIVEN_UP, 0, gap.before_ms, partition=gap.partition)
    if gap.recreated:
        return Note(gap.at_ms, _RECREATED, 0, gap.before_ms)
    if gap.lost_end and not crossed:
        return Note(gap.at_ms, _GIVEN_UP, 0, gap.before_ms)
    if gap.to < gap.position:
        return Note(gap.at_ms, _ENDED, gap.position - gap.to, gap.before_ms)
    return Note(gap.at_ms, _TRIMMED, gap.to - gap.position, gap.before_ms)


def notices(notes: Iterable[tuple[int, Note]]) -> list[Notice]:
    """(partition, note) → what is shown, the oldest first."""
    own: set[tuple[int, Note]] = set()
    together: dict[int, dict[int, Note]] = {}
    for partition, note in notes:
        if note.webhooks is None:
            own.add((note.partition if note.partition >= 0 else partition, note))
        else:  # every partition of `facts` says it
            together.setdefault(note.at_ms, {})[note.webhooks] = note
    found = [(note.at_ms, partition, GAP, _message(partition, note)) for partition, note in own]
    found += [
        (at_ms, min(lost), LOST, _lost_message(at_ms, list(lost.values())))
        for at_ms, lost in together.items()
    ]
    return [
        Notice(code=code, message=message, at=utc_text(at_ms) or "", partition=partition)
        for at_ms, partition, code, message in sorted(found)
    ]


def _lost_message(at_ms: int, lost: Sequence[Note]) -> str:
    before = utc_text(max(note.before_ms or at_ms for note in lost))
    known = sum(note.lost for note in lost)
    more = "" if all(note.lost for note in lost) else "at least " if known else None
    webhooks = "webhooks" if more is None else f"{more}{known} webhook{'' if known == 1 else 's'}"
    return (
        f"{webhooks} of this installation were accepted and lost before they were read; nobody can say of which "
        f"campaigns: events that were received before {before} may be missing"
    )


def _message(partition: int, note: Note) -> str:
    before = utc_text(note.before_ms if note.before_ms is not None else note.at_ms)
    if note.kind == _GIVEN_UP:
        return (
            f"events from before {before} that had been counted may be missing (partition {partition}): an operator "
            "gave up the database that had them"
        )
    records = number_of(note.lost or 0, "record")
    if note.kind == _TRIMMED:
        return (
            f"{records} of the event log (partition {partition}) were lost before they were counted: events from "
            f"before {before} may be missing"
        )
    if note.kind == _ENDED:
        return (
            f"the event log (partition {partition}) lost its last {records} after they were counted: the numbers "
            "are right, but would lack these if they were counted again from the log"
        )
    return (
        f"the event log (partition {partition}) was recreated: events from before {before} may be missing that were "
        "not counted by then"
    )
