"""Opens a partition's database at its assignment: it is made new, rebuilt or gone on with."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.generations import Generations
from agents.log_checks import LogEnds, check_counted, check_position
from app.errors import LogGap
from app.installation import LOST_END, History
from app.verdicts import Rules
from tables.cache import RecipientCache
from tables.checkpoints import goes_on_at
from tables.completeness import Lost
from tables.layout import Meta
from tables.partition import PartitionDatabase
from tables.rebuilds import Request

log = logging.getLogger(__name__)

_SAY_EVERY = 100_000


class Where(NamedTuple):
    """What is known of a partition's log at its assignment."""

    topic_id: str
    ends: LogEnds
    history: History
    generations: Generations
    read: Callable[[int], bytes | None]
    """Offset → the record's value."""
    lost: Lost | None = None
    """What the log lost of what reports show, by Redis."""

    @property
    def lacks(self) -> str:
        """What the log no longer has of what was counted (`History.lacks`)."""
        known = self.history.lacks(self.topic_id, self.ends.start)
        return known or (LOST_END if self.lost is not None else "")


def open_database(
    path: Path,
    expected: Meta,
    secret: bytes,
    cache: RecipientCache,
    where: Where,
    request: Request,
    say: Callable[[float], object] = lambda _: None,
) -> PartitionDatabase:
    """`request`: the last one for a rebuild; one that the database hasn't answered, or has begun to, is answered first.
    `say`: told how much of a rebuild is done, 0 to 1, the last time when it is.

    Blocks. Raises what `PartitionDatabase` raises, LogGap where the log is not the one that the database was counted
    from, and TryLater where Kafka gives no generation."""
    partition, generations = expected.partition, where.generations

    def opened(meta: Meta, above: int = 0) -> PartitionDatabase:
        return PartitionDatabase(
            path, meta, secret, cache,
            lambda: generations.take(
                partition,
                above,
                answers=meta.rebuilt,
                crossed=where.history.cross(where.history.origin(where.topic_id), 0).crossed,
            ),
            where.history,
        )  # fmt: skip

    database = opened(expected)
    try:
        if database.unrecorded_gaps(where.history):
            where = where._replace(history=generations.record(partition, database.unrecorded_gaps))
        _check_log(database, where)
        meta = database.meta
        asked = bool(request.id) and meta.rebuilt != request.id
        if asked and request.from_log and not _is_due(request, partition, where):
            asked = False
            database.note_answered(request.id)
            meta = database.meta
        again = (asked and request.from_log) or (_has_foreign(database) and not where.lacks)
        if again:
            pass
        elif asked or meta.rebuilding:
            # Without a request it goes on by the rules that the unfinished one had.
            rules = expected.rules if request.id else meta.rules
            generation = generations.take(
                partition, meta.generation, crossed=meta.crossed, held=meta.held, answers=request.id
            )
            _rebuild(database, rules, request.id, generation, say)
        elif (
            meta.renew
            # Or topic `installation`, which says what would be crossed again, doesn't know it.
            or not {*meta.crossed} <= {*where.history.crossed}
            or not {*meta.held} <= {*where.history.held}
            or generations.is_passed(partition, meta.generation)
        ):
            database.take_generation(
                generations.take(partition, meta.generation, crossed=meta.crossed, held=meta.held)
            )
    except BaseException:
        database.close()
        raise
    if again:
        database.close()
        remove_folder(path)
        log.info("partition %d is counted again from the log", partition)
        rules = expected.rules if asked else meta.rules
        return opened(msgspec.structs.replace(expected, rebuilt=request.id, rules=rules), meta.generation)
    if database.meta.rules != expected.rules:
        log.warning(
            "partition %d goes on with the verdict rules that it was counted by; `reports rebuild` applies the "
            "settings' to its history",
            partition,
        )
    return database


def _check_log(database: PartitionDatabase, where: Where) -> None:
    """Raises LogGap where the log isn't the one that the database was counted from, or lost what only another one has
    counted. To be called before anything of the database is removed."""
    partition, path = database.partition, str(database.path)
    back = goes_on_at(database.checkpoints.all, *where.ends, where.read)
    try:
        check_position(partition, path, database.next_offset, where.ends, back)
        ends = [gap for gap in where.history.gaps if gap.lost_end and gap.topic == where.topic_id]
        settled = [gap.position for gap in ends if gap.counted or gap.number in database.meta.crossed]
        lost = [Lost(gap.position, gap.to) for gap in ends if not gap.counted]
        if where.lost is not None:
            lost.append(where.lost)
        for one in lost:
            if one.position > max(settled, default=0):
                check_counted(partition, path, database.next_offset, one)
    except LogGap as gap:
        gap.topic_id, gap.generation = where.topic_id, database.generation
        raise


def remove_folder(path: Path) -> None:
    """Removes a database. Half of one that is left by a kill is under another name, and goes with the next."""
    gone = path.with_name(f".{path.name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone)


def _is_due(request: Request, partition: int, where: Where) -> bool:
    """Whether a request to count again from the log is still to be answered, and can be."""
    if request.id in where.history.answered:
        # By the database before this one, which is an older copy.
        return False
    if where.lacks:
        log.warning(
            "partition %d is not counted again from the log: it would lack %s", partition, where.lacks
        )
        return False
    return True


def _has_foreign(database: PartitionDatabase) -> bool:
    """Whether facts of another secret were counted. Looked at once, where an earlier version has counted."""
    if database.foreign.is_checked:
        return False
    where = f"partition {database.partition}"
    log.info("%s: looking for recipients that another secret has keyed", where)
    found = database.foreign.has_counted_any(
        lambda done: log.info("%s: %d recipients looked at", where, done) if done % _SAY_EVERY == 0 else None
    )
    if found:
        log.warning("%s has counted facts that another secret has keyed", where)
    else:
        database.foreign.note_checked()
    return found


def _rebuild(
    database: PartitionDatabase, rules: Rules, request: str, generation: int, say: Callable[[float], object]
) -> None:
    log.info("partition %d is rebuilt from its recipients", database.partition)
    total = max(1, database.recipients())

    def at(done: int) -> None:
        say(min(done / total, 0.99))

    say(0.0)
    database.rebuild(rules, request, generation, at)
    say(1.0)
