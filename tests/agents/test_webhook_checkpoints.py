"""What is kept of the records that were read finds any end that the log loses while nobody reads."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agents.log_checks import LogEnds
from agents.webhook_checkpoints import MOST, WebhookCheckpoints, parts_at
from tables.checkpoints import CLOSE
from tables.webhook_positions import Trail, trail_fields, trails_of

COUNT = st.integers(1, 3 * CLOSE)


class Log(list[bytes]):
    """Of one partition; no two records that were ever in it are the same."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def grow(self, count: int) -> None:
        self.extend(b"%d" % next(self._numbers) for _ in range(count))

    def parts(self, trail: Trail) -> int | None:
        return parts_at(trail, LogEnds(0, len(self)), lambda offset: self[offset])


@given(st.lists(st.tuples(COUNT, st.booleans(), st.booleans()), min_size=1, max_size=50), COUNT, COUNT)
def test_an_end_that_is_lost_is_found(steps: list[tuple[int, bool, bool]], lost: int, grown: int) -> None:
    """`steps`: how many records are read then, whether that is the end for a while, and whether it is compared."""
    log, checkpoints, position = Log(), WebhookCheckpoints(), 0
    checkpoints.begin(0, Trail(), 0, parted=False)

    def read(count: int) -> None:
        nonlocal position
        log.grow(max(0, position + count - len(log)))
        position += count
        checkpoints.read(0, position - 1, log[position - 1])
        checkpoints.trails()

    def compare() -> int | None:
        trails = checkpoints.trails()
        found = log.parts(trails[0])
        checkpoints.agreed(trails, {0} if found is not None else ())
        return found

    for count, stands, compared in steps:
        read(count)
        if stands:
            checkpoints.trails()
        if compared:
            assert compare() is None
    checkpoints.trails()
    del log[max(0, position - lost) :]
    left = len(log)
    log.grow(grown + lost)  # past the position
    for count, *_ in steps:
        read(count)
    found = compare()
    assert found is not None
    assert found <= left
    if left >= 4 * CLOSE:
        assert found > 0, "not all of it is read once more"
    checkpoints.trails()
    assert compare() == found, "as long as nobody goes back"
    # Who goes back to it has the log's own records from then on.
    trail = checkpoints.trails()[0]
    checkpoints.begin(0, trail, found, parted=True)
    assert not checkpoints.fields("t"), "what Redis has says it until the log was compared once more"
    position = found
    read(1)
    assert compare() is None
    stored = {str(name).encode(): bytes(text) for name, text in checkpoints.fields("t").items()}  # type: ignore[arg-type]
    assert trails_of(stored, "t") == checkpoints.trails()
    assert not trails_of(stored, "another")


def test_what_is_kept_is_bounded() -> None:
    log, checkpoints = Log(), WebhookCheckpoints()
    checkpoints.begin(0, Trail(), 0, parted=False)
    log.grow(100_000)
    for offset in range(0, len(log), 100):
        checkpoints.read(0, offset, log[offset])
        checkpoints.trails()
        checkpoints.trails()
    trails = checkpoints.trails()
    assert len(trails[0].since) == MOST
    assert log.parts(trails[0]) is None
    checkpoints.agreed(trails, ())
    (trail,) = checkpoints.trails().values()
    assert len(trail.agreed) + len(trail.since) < 2 * MOST
    assert trail.read_to == 99_901
    assert len(str(trail_fields("t", {0: trail}))) < 2_000


def test_a_trail_of_another_version_is_none() -> None:
    assert (
        trails_of({b"c:0": b"t:{}", b"c:1": b"t:[[],[[5]]]", b"c:x": b"t:[[],[]]", b"p:0": b"t:5"}, "t") == {}
    )
