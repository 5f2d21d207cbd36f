"""A database that an older version wrote opens, keeps its numbers, and is mended as facts come in or by a rebuild."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from app import facts as f
from app import fold as folding
from app import keys
from app.facts import Entry
from app.state import decode_state, encode_state
from cli.reconcile import reconcile
from cli.verifier.compare import Comparison
from tables import layout, people
from tables.layout import COUNTING
from tables.reading import PartitionReader
from tests.support.facts import KEY, SECRET, START_MS, entry
from tests.tables.test_partition import META, database, dump, erasure, record

MANY = 30
WHO = "r0@example.com"


def opens(address: str = WHO, *, later_ms: int = 0) -> list[Entry]:
    """Of a clock that is ahead: set to the time of arrival."""
    return [
        entry(f.OPENED, START_MS + n * 60_000 + later_ms, address=address, number=n, evidence=f.CLAMPED)
        for n in range(MANY)
    ]


def make_older(folder: Path, *, erased_in_time: bool = True) -> None:
    """What version 0 of `Meta.counting` didn't have: the keys of fallen facts, and who an erased one was."""
    db = layout.open_database(folder / "p0")
    for name in list(layout.scan_keys(db, b"O")):
        db.delete(name)
    stored = db.get(layout.META)
    assert stored is not None
    fields = layout.Meta.__struct_fields__.index("counting")
    db.put(layout.META, msgspec.msgpack.encode(msgspec.msgpack.decode(stored)[:fields]))
    recipients = db.get_column_family(layout.RECIPIENTS)
    for name, value in list(layout.scan(recipients, b"")):
        state = decode_state(value)
        state.person = 0
        recipients.put(name, encode_state(state))
    if not erased_in_time:
        for letter in (b"H", b"h"):
            for name in list(layout.scan_keys(db, letter)):
                db.delete(name)
    recipients.close()
    db.close()


def differences(folder: Path) -> list[str]:
    result = Comparison()
    with PartitionReader(folder / "p0") as reader:
        list(reconcile(reader, "partition 0", None, result, SECRET))
    return [text for cell in result.cells.values() for text in cell.told]


def persons(folder: Path, quarter: int = START_MS // 900_000) -> int:
    with PartitionReader(folder / "p0") as reader:
        name = people.sketch_name(KEY, people.kind_of(f.OPENED, False), people.QUARTER, quarter)
        found = reader.sketches(KEY).get(name)
    return found.count() if found is not None else 0


@pytest.fixture(autouse=True)
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "KEPT", 5)


@pytest.mark.parametrize("address", [WHO, "another@example.com"])
def test_facts_that_fell_out_before_count_once(tmp_path: Path, address: str) -> None:
    """Also where the first one that is asked for is of another recipient, whose facts fall out only now."""
    base = database(tmp_path)
    base.apply([(0, record("spring", opens())), (1, record("spring", opens(address)))])
    base.close()
    before = dump(tmp_path)
    make_older(tmp_path)
    base = database(tmp_path)
    assert base.meta == msgspec.structs.replace(META, counting=0)
    base.close()
    assert dump(tmp_path) == before | {"fallen": [(KEY, [])]}
    assert differences(tmp_path) == []
    base = database(tmp_path)
    base.apply([(2, record("spring", opens(address, later_ms=7_000)))])
    base.apply([(3, record("spring", opens(later_ms=7_000)))])
    base.close()
    assert dump(tmp_path) == before
    assert differences(tmp_path) == []


def test_a_rebuild_leaves_nothing_to_mend(tmp_path: Path) -> None:
    base = database(tmp_path)
    base.apply([(0, record("spring", opens()))])
    base.close()
    before = dump(tmp_path)
    make_older(tmp_path, erased_in_time=False)
    assert differences(tmp_path), "nobody stands in the sketches"
    base = database(tmp_path)
    base.rebuild(base.meta.rules, "request", base.generation + 1, lambda _: None)
    assert base.meta.counting == COUNTING
    base.apply([(1, record("spring", opens(later_ms=7_000)))])
    base.close()
    assert dump(tmp_path) == before
    assert differences(tmp_path) == []


def test_who_was_erased_before_is_never_lost_and_counts_again_with_their_next_event(tmp_path: Path) -> None:
    base = database(tmp_path)
    line = [*opens(), *opens("b@example.com")]
    base.apply([(0, record("spring", line)), (1, erasure("spring", WHO))])
    base.close()
    make_older(tmp_path)
    base = database(tmp_path)
    base.rebuild(base.meta.rules, "request", base.generation + 1, lambda _: None)
    base.close()
    assert persons(tmp_path) == 2, "only the old sketch knows who it was"
    assert differences(tmp_path) == []
    make_older(tmp_path, erased_in_time=False)
    base = database(tmp_path)
    base.rebuild(base.meta.rules, "again", base.generation + 1, lambda _: None)
    assert persons(tmp_path) == 1, "nobody knows who it was"
    assert differences(tmp_path) == []
    base.apply([(2, record("spring", [entry(f.DELIVERED, START_MS, address=WHO)]))])
    base.close()
    assert persons(tmp_path) == 2
    assert differences(tmp_path) == []
    with PartitionReader(tmp_path / "p0") as reader:
        gone = [state for _, _, state in reader.recipients(KEY) if state.erased]
    assert [state.person for state in gone] == [keys.person_id(SECRET, "acme", WHO)]
