"""A database whose column families are not of one time is told, however it came to be so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app import facts as f
from app.facts import FactsRecord, encode
from app.keys import recipient_partition, secret_fingerprint
from app.verdicts import DEFAULT_RULES
from tables.broken import is_database_error
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.reading import PartitionReader
from tests.support.facts import CAMPAIGN, ORG, SECRET, START_MS, entry

FINGERPRINT = secret_fingerprint(SECRET)
STEP = 9


def opened(path: Path) -> PartitionDatabase:
    meta = Meta(LAYOUT_VERSION, 0, 1, "topic", FINGERPRINT, 1, DEFAULT_RULES)
    return PartitionDatabase(path, meta, SECRET, RecipientCache(1_000))


def record(number: int) -> bytes:
    facts = [entry(f.OPENED, START_MS + number, address=f"p{number + n}@example.com") for n in range(5)]
    assert all(recipient_partition(one.recipient, 1) == 0 for one in facts)
    return encode(FactsRecord(f.FACTS_VERSION, ORG, CAMPAIGN, START_MS, facts, FINGERPRINT))


def contents(path: Path) -> list[tuple[str, bytes, bytes]]:
    with PartitionReader(path) as reader:
        return list(reader.everything())


def test_a_manifest_cut_short_is_refused_or_counts_on_from_an_older_time(tmp_path: Path) -> None:
    log = [(number, record(number)) for number in range(3)]
    database = opened(tmp_path / "p0")
    for one in log:
        database.apply([one])
        for family in (database._db, database._recipients, database._log, database._index):
            family.flush()
    database.close()
    expected = contents(tmp_path / "p0")
    (manifest,) = (tmp_path / "p0").glob("MANIFEST-*")
    refused = torn = 0
    for size in range(0, manifest.stat().st_size + 1, STEP):
        path = tmp_path / "cut" / "p0"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tmp_path / "p0", path)
        os.truncate(path / manifest.name, size)
        try:
            database = opened(path)
        except Exception as error:
            if not is_database_error(error):
                raise
            refused += 1
            torn += "are not of one time" in str(error)
            continue
        for one in log[database.next_offset :]:
            database.apply([one])
        database.close()
        assert contents(path) == expected, f"cut to {size} bytes"
    assert refused > torn > 0
