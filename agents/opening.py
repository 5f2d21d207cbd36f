"""Opens a partition's database at its assignment: it is made new, rebuilt or gone on with."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Final

import msgspec

from agents.generations import Generations
from app.verdicts import Rules
from tables.cache import RecipientCache
from tables.layout import Meta
from tables.partition import PartitionDatabase
from tables.rebuilds import Request

log = logging.getLogger(__name__)

_SAY_EVERY: Final = 100_000


def open_database(
    path: Path,
    expected: Meta,
    secret: bytes,
    cache: RecipientCache,
    generations: Generations,
    request: Request,
) -> PartitionDatabase:
    """`request`: the last one for a rebuild; one that the database hasn't answered, or has begun to, is answered first.

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
            _rebuild(database, rules=rules, request=request.id, generations=generations)
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


def _rebuild(database: PartitionDatabase, *, rules: Rules, request: str, generations: Generations) -> None:
    partition = database.partition
    log.info("partition %d is rebuilt from its recipients", partition)

    def say(done: int) -> None:
        if done % _SAY_EVERY == 0:
            log.info("partition %d: %d recipients rebuilt", partition, done)

    database.rebuild(rules, request, generations.take(partition, database.generation), say)
