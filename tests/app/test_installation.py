"""What the records of topic `installation` add up to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.installation import (
    Generation,
    Identity,
    Topics,
    encode,
    generation_at,
    installation_of,
)


def identity(word: str) -> Identity:
    return Identity(id=word, secret="5ec", partitions=8, at_ms=1)


def test_without_an_identity_there_is_none() -> None:
    assert installation_of([]) is None
    assert installation_of([(0, encode(Topics(ids={"facts": "x"}, why="start", at_ms=1)))]) is None


def test_the_first_identity_and_the_last_topics_win() -> None:
    log = [
        (0, encode(identity("a"))),
        (1, b"of a newer version"),
        (2, encode(identity("b"))),
        (3, encode(Topics(ids={"facts": "x"}, why="start", at_ms=1))),
        (4, encode(Topics(ids={"facts": "y"}, why="accept-gap", at_ms=2))),
    ]
    found = installation_of(log)
    assert found is not None
    assert found.identity.id == "a"
    assert found.topics is not None
    assert found.topics.ids == {"facts": "y"}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=20))
def test_every_generation_is_above_all_earlier_ones_of_its_partition(asked: list[tuple[int, int]]) -> None:
    """Each is asked for with what is known from the log, and what a folder or Redis says besides."""
    log = [(0, encode(identity("a")))]
    given: dict[int, int] = {}
    for partition, known in asked:
        before = installation_of(log)
        assert before is not None
        above = max(known, before.generations.get(partition, 0))
        record = Generation(partition=partition, above=above, worker="w", at_ms=1)
        generation = generation_at(len(log), above)
        log.append((len(log), encode(record)))
        assert generation > max(given.get(partition, 0), known)
        given[partition] = generation
    after = installation_of(log)
    assert after is not None
    assert after.generations == given
