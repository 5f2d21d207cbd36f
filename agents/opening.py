"""Opens a partition's database at its assignment: it is made new, rebuilt or gone on with."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from agents.generations import Generations
from app.verdicts import Rules
from tables.cache import RecipientCache
from tables.layout import Meta
from tables.partition import PartitionDatabase
from tables.rebuilds import Request

log = logging.getLogger(__name__)


def open_database(
    path: Path,
    expected: Meta,
    secret: bytes,
    cache: RecipientCache,
    generations: Generations,
    request: Request,
    say: Callable[[float], object] = lambda _: None,
) -> PartitionDatabase:
    """`request`: the last one for a rebuild; one that the database hasn't answered, or has begun to, is answered first.
    `say`: told how much of a rebuild is done, 0 to 1, the last time when it is.

    Blocks. Raises what `PartitionDatabase` raises, and TryLater where Kafka gives no generation."""
    partition = expected.partition

    def opened(meta: Meta, above: int = 0) -> PartitionDatabase:
        return PartitionDatabase(path, meta, secret, cache, lambda: generations.take(partition, above))

    database = opened(expected)
    meta = database.meta
    asked = bool(request.id) and meta.rebuilt != request.id
    if asked and request.from_log:
        database.close()
        shutil.rmtree(path)
        log.info("partition %d is counted again from the log", partition)
        return opened(msgspec.structs.replace(expected, rebuilt=request.id), meta.generation)
    try:
        if asked or meta.rebuilding:
            # Without a request it goes on by the rules that the unfinished one had.
            rules = expected.rules if request.id else meta.rules
            _rebuild(database, rules, request.id, generations.take(partition, meta.generation), say)
        elif generations.is_passed(partition, meta.generation):
            database.take_generation(generations.take(partition, meta.generation))
    except BaseException:
        database.close()
        raise
    if database.meta.rules != expected.rules:
        log.warning(
            "partition %d goes on with the verdict rules that it was counted by; `reports rebuild` applies the "
            "settings' to its history",
            partition,
        )
    return database


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
