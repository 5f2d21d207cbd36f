"""What a report says for good about its own numbers: a part of the log was lost, and an operator has accepted that.

A note is what a partition publishes; a notice is what readers see. There is one for each gap (`app.installation.Gap`)
of each partition in which the campaign had events at that time; and one for each by which a partition lost what had
been counted, in all campaigns of that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from app.installation import Gap
from app.shapes import Notice
from app.times import utc_text

GAP: Final = "gap"
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
    partition: int = -1
    """Of the gap, where that is another one than the publisher's."""


def note_of(gap: Gap) -> Note:
    if gap.counted:
        return Note(gap.at_ms, _GIVEN_UP, 0, gap.before_ms, gap.partition)
    if gap.recreated:
        return Note(gap.at_ms, _RECREATED, 0, gap.before_ms)
    if gap.to < gap.position:
        return Note(gap.at_ms, _ENDED, gap.position - gap.to, gap.before_ms)
    return Note(gap.at_ms, _TRIMMED, gap.to - gap.position, gap.before_ms)


def notices(notes: Iterable[tuple[int, Note]]) -> list[Notice]:
    """(partition, note) → what is shown, the oldest first."""
    found = {(note.partition if note.partition >= 0 else partition, note) for partition, note in notes}
    ordered = sorted(found, key=lambda one: (one[1].at_ms, one[0]))
    return [
        Notice(
            code=GAP, message=_message(partition, note), at=utc_text(note.at_ms) or "", partition=partition
        )
        for partition, note in ordered
    ]


def _message(partition: int, note: Note) -> str:
    before = utc_text(note.before_ms if note.before_ms is not None else note.at_ms)
    if note.kind == _GIVEN_UP:
        return (
            f"events from before {before} that had been counted are missing (partition {partition}): an operator gave "
            "up the database that had them"
        )
    records = "1 record" if note.lost == 1 else f"{note.lost} records"
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
