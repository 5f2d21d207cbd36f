"""A parser that makes something else of what it could read before raises its reading."""

from __future__ import annotations

import msgspec
import pytest

from app import esps
from app.esps import ESPS
from app.normalize import READING
from tests.support.readings import changed, stored, table
from tests.support.samples import all_samples, normalized


def test_what_is_read_otherwise_has_a_higher_reading() -> None:
    before, now = stored(), table()
    assert not (bad := changed(before, now)), (
        f"{', '.join(bad)}: read otherwise than before. Raise `reading` in the ESP's module, or READING in "
        "app/normalize.py where that changed, then `python -m tests.support.readings`"
    )
    assert now == before, "samples or readings are new: `python -m tests.support.readings`"


@pytest.mark.parametrize("esp", sorted(ESPS))
def test_a_raised_reading_changes_nothing_else_of_a_fact(esp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its identity nor what differs between copies: it is the same fact, read again."""
    (body, *_) = all_samples(esp)
    before = normalized(esp, body)
    raised = msgspec.structs.replace(ESPS[esp], reading=ESPS[esp].reading + 2)
    monkeypatch.setitem(esps.ESPS, esp, raised)
    after = normalized(esp, body)
    assert [target for target, _ in after.records] == [target for target, _ in before.records]
    for (_, old), (_, new) in zip(before.records, after.records, strict=True):
        assert [entry.fact.reading for entry in new.entries] == [READING + raised.reading] * len(new.entries)
        assert [
            msgspec.structs.replace(
                entry, fact=msgspec.structs.replace(entry.fact, reading=READING + ESPS[esp].reading - 2)
            )
            for entry in new.entries
        ] == old.entries
