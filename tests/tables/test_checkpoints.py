"""A log that lost its end and grew again is told by its records, and where it went another way is found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tables.checkpoints import CLOSE, Checkpoint, goes_on_at, kept

LONGEST = 300


@given(
    batches=st.lists(st.integers(1, LONGEST), min_size=1, max_size=80),
    share=st.floats(0, 1),
    grown=st.integers(0, 3 * LONGEST),
    trimmed=st.floats(0, 1),
)
def test_where_a_log_goes_another_way(batches: list[int], share: float, grown: int, trimmed: float) -> None:
    """`share`: how much of what was read the log keeps; `trimmed`: how much of that is removed at its begin."""
    older: list[Checkpoint] = []
    read = 0
    for batch in batches:
        read += batch
        last = Checkpoint.of(read - 1, b"read %d" % (read - 1))
        older = kept(older, last)
    checkpoints = older if last in older else [*older, last]
    assert len(checkpoints) < 40
    cut = int(read * share)
    start, end = int(cut * trimmed), cut + grown

    def value(offset: int) -> bytes | None:
        assert start <= offset < end
        return b"read %d" % offset if offset < cut else b"another %d" % offset

    back = goes_on_at(checkpoints, start, end, value)
    if cut == read:
        assert back is None
        return
    assert back is not None
    assert start <= back <= max(cut, start), "nothing is skipped"
    assert read - back <= 2 * (read - cut) + 4 * max(CLOSE, LONGEST) or back == start


def test_nothing_to_compare() -> None:
    def none(offset: int) -> bytes | None:
        raise AssertionError(offset)

    assert goes_on_at([], 0, 9, none) is None
    assert goes_on_at([Checkpoint.of(3, b"x")], 4, 9, none) is None, "trimmed: nobody can tell"


def test_what_was_read_before_it_was_noticed() -> None:
    """The newest agrees, and one before it does not."""
    log = {4: b"same", 8: b"another", 10: b"new"}
    found = [Checkpoint.of(4, b"same"), Checkpoint.of(8, b"lost"), Checkpoint.of(10, b"new")]
    assert goes_on_at(found, 0, 11, log.get) == 5
    assert goes_on_at(found[1:], 0, 11, log.get) == 0
