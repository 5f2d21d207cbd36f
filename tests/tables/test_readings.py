"""A newer reading of an event takes the place of the older one in every number, whatever its time is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from app import facts as f
from app import keys
from app.facts import FactsRecord, encode
from app.state import RecipientState, decode_state, encode_state
from tests.support.facts import ORG, SECRET, START_MS, detail_of, entry
from tests.tables.test_partition import check_sums, database, dump

HOUR_MS = 3_600_000


@pytest.mark.parametrize("moved_ms", [-HOUR_MS, 0, HOUR_MS])
@pytest.mark.parametrize("newer_first", [False, True])
def test_the_newer_reading_counts_and_nothing_of_the_older_one(
    tmp_path: Path, moved_ms: int, newer_first: bool
) -> None:
    old_detail, old_numbers = detail_of(link=1)
    new_detail, new_numbers = detail_of(link=2, place=1)
    old = entry(
        f.CLICKED, START_MS, address="Ann@Example.com", evidence=f.UNTIMED, content=1,
        detail=encode(old_detail), link=old_numbers["link"],
    )  # fmt: skip
    new = entry(
        f.CLICKED, START_MS + moved_ms, address="ann@example.com", evidence=f.UNTIMED, content=9,
        detail=encode(new_detail), link=new_numbers["link"], place=new_numbers["place"], reading=1,
    )  # fmt: skip
    delivered = entry(f.DELIVERED, START_MS + 1, address="ANN@EXAMPLE.COM")
    assert old.fact.identity == new.fact.identity
    copies = [new, old] if newer_first else [old, new]
    for folder, line in ((tmp_path / "both", [delivered, *copies]), (tmp_path / "new", [delivered, new])):
        folder.mkdir()
        base = database(folder)
        for offset, one in enumerate(line):
            record = FactsRecord(
                f.FACTS_VERSION, ORG, "spring", START_MS, [one], keys.secret_fingerprint(SECRET)
            )
            base.apply([(offset, encode(record))])
        base.close()
        check_sums(folder)
    assert dump(tmp_path / "both") == dump(tmp_path / "new")


def test_a_state_from_before_readings_is_of_reading_0() -> None:
    fact = entry(f.CLICKED, START_MS).fact
    before = msgspec.msgpack.encode([1, "a@example.com", [msgspec.structs.astuple(fact)[:-1]], []])
    state = decode_state(before)
    assert state == RecipientState(1, "a@example.com", [fact])
    assert state.facts[0].reading == 0
    assert len(encode_state(state)) <= len(before) + 2  # a byte for each fact, and `erased`
