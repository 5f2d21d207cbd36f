"""A rebuild by other rules is what counting by them from the start would have been, also when it was cut off."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app.verdicts import Rules
from tables import partition
from tables.rebuilds import NONE, Request, read_request, write_request
from tests.support.facts import START_MS, detail_of, entries, entry
from tests.tables.test_partition import (
    ADDRESSES,
    CAMPAIGNS,
    META,
    Lines,
    count,
    database,
    dump,
    record,
    records,
)

EAGER = Rules(burst_links=2, burst_ms=60_000, click_after_ms=60_000, open_after_ms=60_000)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(entries(addresses=ADDRESSES, campaigns=CAMPAIGNS), max_size=25),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_a_rebuild_is_a_count_by_the_new_rules(lines: Lines, seed: int, cut_off: bool) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        count(Path(one), records(lines, seed), seed)
        base = database(Path(one))
        if cut_off:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(partition, "REBUILT_TOGETHER", 1)
                with pytest.raises(RuntimeError):
                    base.rebuild(EAGER, "first", 2, _fail)
            base.close()
            base = database(Path(one))
            assert base.meta.rebuilding
        base.rebuild(EAGER, "request", 7, lambda _: None)
        assert (base.meta.rules, base.meta.rebuilding, base.meta.rebuilt) == (EAGER, False, "request")
        assert base.generation == 7
        base.close()
        meta = msgspec.structs.replace(META, rules=EAGER)
        anew = database(Path(other), meta=meta)
        for offset, value in enumerate(records(lines, seed)):
            anew.apply([(offset, value)])
        anew.close()
        assert dump(Path(one)) == dump(Path(other))


def _fail(_: int) -> None:
    raise RuntimeError


def test_the_rules_of_a_database_stay_until_a_rebuild(tmp_path: Path) -> None:
    """Two links within a minute: people by the rules it was made with, a burst by the others."""
    line = [
        entry(
            f.CLICKED, START_MS + n * 1_000, number=n, detail=f.encode(detail_of(link=n + 1)[0]),
            link=detail_of(link=n + 1)[1]["link"], agent=7, network=9,
        )
        for n in range(2)
    ]  # fmt: skip
    database(tmp_path).close()
    other = database(tmp_path, meta=msgspec.structs.replace(META, rules=EAGER))
    other.apply([(0, record("spring", line))])
    before = dump(tmp_path)
    other.rebuild(EAGER, "request", 2, lambda _: None)
    other.close()
    assert dump(tmp_path)["quarters"] != before["quarters"]


def test_requests(tmp_path: Path) -> None:
    assert read_request(tmp_path) == NONE
    write_request(tmp_path, Request("one", from_log=True))
    assert read_request(tmp_path) == Request("one", from_log=True)


@pytest.mark.parametrize("damaged", [b"nothing", b"", b"\xff\xfe{garbage", b"[]", b'{"id": 3}'])
def test_a_damaged_request_is_named_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes
) -> None:
    (tmp_path / "rebuild.json").write_bytes(damaged)
    for _ in range(2):
        assert read_request(tmp_path) == NONE
    (line,) = caplog.messages
    assert str(tmp_path / "rebuild.json") in line and "ask for it again" in line
