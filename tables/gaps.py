"""A partition's database crosses the gaps of its log that an operator has accepted.

Rules:
- A gap is crossed by a database that stands where it begins: counting goes on where it ends (`app.installation`), and
  never stands there again.
- Every gap of the topic is noted in the database, crossed or not (one that is counted again from the log comes upon
  none), and in the row of every campaign that may have lost facts by it: those that began before,
  and those that began within a day after it was accepted (`open_at`), since their beginning may be what was lost.
- So is a gap of another partition: the database that crossed it doesn't know a campaign that lost all it had there. And
  one of lost webhooks, which is never crossed.
- What a database has noted and topic `installation`, which was deleted, doesn't know any more is recorded there again
  (`unrecorded`): the next database is to note it too.
- A database that crosses one, or notes one in a campaign's row, says so in the same write (`Meta.renew`). Whoever
  opens it gives it another generation: all of it is published anew, whatever the offsets say, and topic `installation`
  says what it has crossed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from rocksdict import Rdict, WriteBatch

from app.errors import LogGap
from app.facts import encode
from app.installation import LATE_MS, Gap, History, LostWebhooks
from app.notices import Note, note_of
from tables import layout
from tables.aggregates import campaign_decoder
from tables.layout import CampaignRow, Meta
from tables.stored_checkpoints import Checkpoints

DAY_MS: Final = 24 * 60 * 60 * 1000

_decoder: msgspec.msgpack.Decoder[Gap] = msgspec.msgpack.Decoder(Gap)


class Stand(NamedTuple):
    """Where a database stands: of which log it has counted everything up to which offset."""

    meta: Meta
    position: int


class Gaps:
    """Those that a database has noted."""

    def __init__(self, db: Rdict, partition: int) -> None:
        self._partition = partition
        self._crossed: set[int] = set()
        self._known: dict[int, Gap] = {}
        self._numbers: dict[int, int] = {}
        """The number that is stored → the gap's own: an earlier version stored the offset of its record."""
        for name, value in layout.scan(db, b"G"):
            gap = _decoder.decode(value)
            self._known[gap.number] = gap
            self._numbers[int.from_bytes(name[1:], "big")] = gap.number

    def open_at(self, position: int, accepted_ms: int) -> list[int]:
        """Numbers of the gaps that may have taken facts of a campaign that appears at this offset.

        `accepted_ms`: when the webhooks there were accepted."""
        return [
            number
            for number, gap in self._known.items()
            if accepted_ms < gap.at_ms + LATE_MS
            or (gap.webhooks is None and gap.partition == self._partition and position < gap.end)
        ]

    def notes(self, row: CampaignRow) -> list[Note]:
        numbers = dict.fromkeys(self._numbers.get(number, number) for number in row.gaps)
        return [
            note_of(gap, crossed=number in self._crossed or gap.partition != self._partition)
            for number in numbers
            if (gap := self._known.get(number)) is not None
        ]

    def unrecorded(self, history: History) -> list[Gap | LostWebhooks]:
        """What topic `installation`, which was made again since, doesn't know."""
        recorded = {gap.number for gap in (*history.gaps, *history.elsewhere)}
        missing = [gap for gap in self._known.values() if gap.number not in recorded]
        return [
            gap if gap.webhooks is None else msgspec.structs.replace(gap.webhooks, again=True)
            for gap in sorted(missing, key=lambda gap: gap.at_ms)
        ]

    def cross(
        self, db: Rdict, stand: Stand, topic_id: str, history: History, checkpoints: Checkpoints
    ) -> Stand:
        """Where the database stands once it has crossed what it can, and that is written.

        Raises LogGap where it was counted from another topic and no gap leads to this one.
        """
        meta, position = stand
        before = tuple(self._numbers.get(number, number) for number in meta.crossed)
        # An end that the log lost after others had counted it: only who stood there at that time goes back.
        past = (number for number, gap in self._known.items() if gap.lost_end)
        reached = history.cross(meta.topic_id, position, meta.generation, {*before, *past})
        self._crossed = {*before, *reached.crossed}
        if reached.topic != topic_id:
            if not position:
                raise LogGap(
                    f"topic facts was recreated, and this database of partition {self._partition} has nothing of what "
                    "was counted of the topic before",
                    topic_id=meta.topic_id,
                    position=position,
                    generation=meta.generation,
                )
            raise LogGap(
                "topic facts was recreated, or the cluster is another one",
                topic_id=meta.topic_id,
                position=position,
                generation=meta.generation,
            )
        new = [
            one
            for one in (*history.gaps, *history.elsewhere)
            if (one.webhooks is not None or one.topic == topic_id) and one.number not in self._known
        ]
        if not reached.crossed and not new:
            return Stand(msgspec.structs.replace(meta, crossed=before), position)
        batch = WriteBatch(raw_mode=True)
        for one in new:
            self._known[one.number] = one
            batch.put(layout.gap_name(one.number), encode(one))
        renew = meta.renew or bool(reached.crossed)
        for name, stored in layout.scan(db, b"C"):
            row = campaign_decoder.decode(stored)
            began_ms = _began_ms(db, name[1:])
            numbers = [one.number for one in new if began_ms < one.at_ms + LATE_MS]
            if not numbers and not reached.crossed:
                continue
            renew = True
            row.gaps += [number for number in numbers if number not in row.gaps]
            row.offset = min(row.offset, reached.position)
            row.sections = {section: min(at, reached.position) for section, at in row.sections.items()}
            batch.put(name, encode(row))
        if topic_id != meta.topic_id:
            checkpoints.keep_below(0, batch)
        if reached.position < position:
            _lower(db, reached.position, batch)
            checkpoints.keep_below(reached.position, batch)
        meta = msgspec.structs.replace(
            meta,
            topic_id=topic_id,
            crossed=(*before, *reached.crossed),
            held=(*meta.held, *reached.held),
            renew=renew,
        )
        batch.put(layout.META, encode(meta))
        batch.put(layout.OFFSET, reached.position.to_bytes(8, "big"))
        db.write(batch)
        return Stand(meta, reached.position)


def _began_ms(db: Rdict, campaign: bytes) -> int:
    """When the day of the campaign's first event began, which is not after it was accepted; 0: there is none."""
    day = next(layout.scan_keys(db, b"D" + campaign), None)
    return int.from_bytes(day[-4:], "big") * DAY_MS if day is not None else 0


def _lower(db: Rdict, position: int, batch: WriteBatch) -> None:
    """Offsets of another numbering become ones that this log has reached: above, readers would take what was published
    for older than it is until the log gets there."""
    for letter in (b"D", b"L"):
        for name, stored in layout.scan(db, letter):
            offset, *others = msgspec.msgpack.decode(stored)
            batch.put(name, encode([min(offset, position), *others]))
