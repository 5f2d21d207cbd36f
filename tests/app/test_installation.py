"""What the records of topic `installation` add up to."""

from __future__ import annotations

import hashlib
from unittest.mock import Mock, patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.installation import (
    Gap,
    Generation,
    History,
    Identity,
    LostSeen,
    LostWebhooks,
    Record,
    TopicRecreated,
    Topics,
    again_words,
    encode,
    generation_at,
    histories_of,
    installation_of,
)
from app.notices import TOGETHER_MS, Note, note_of, notices


def identity(word: str) -> Identity:
    return Identity(id=word, secret="5ec", partitions=8, at_ms=1)


def test_without_an_identity_there_is_none() -> None:
    assert installation_of([]) is None
    assert installation_of([(0, encode(Topics(ids={"facts": "x"}, why="start", at_ms=1)))]) is None


def test_a_topic_that_was_made_again_says_so_until_that_is_seen() -> None:
    made = encode(Identity(id="a", secret="s", partitions=2, at_ms=7, again_ms=7))
    found = installation_of([(0, made), (1, encode(identity("b")))])
    assert found is not None
    assert found.again_ms == 7
    assert "accept-gap --webhooks" in again_words(7)
    seen = installation_of([(0, made), (1, encode(LostSeen(at_ms=9)))])
    assert seen is not None
    assert (seen.again_ms, seen.identity.again_ms) == (None, 7)
    old = installation_of([(0, encode(identity("b")))])
    assert old is not None
    assert old.again_ms is None


def test_what_is_lost_behind_webhooks_that_were_lost() -> None:
    """Who finds a loss may end before it commits anything: the next one's is the same, and more."""

    def lost(position: int, to: int, count: int | None = None, topic_before: str = "w") -> LostWebhooks:
        return LostWebhooks(
            partition=0, topic_before=topic_before, position=position, topic="w", to=to, lost=count, at_ms=to
        )

    def found(*records: LostWebhooks) -> list[tuple[int | None, int, int | None]]:
        log = [(n, encode(one)) for n, one in enumerate([identity("a"), *records])]
        installation = installation_of(log)
        assert installation is not None
        gaps = histories_of(log, [5])[5].elsewhere
        webhooks = [one.webhooks for one in gaps if one.webhooks is not None]
        assert [one for one in webhooks if not one.again] == installation.unseen
        assert len({one.number for one in gaps}) == len(gaps)
        assert len(notices([(5, note_of(one)) for one in gaps])) == len(gaps)
        assert sum(note_of(one).lost for one in gaps) == sum(one.lost or 0 for one in webhooks)
        return [(one.position, one.to, one.lost) for one in installation.unseen]

    first, second = (900, 1000, 100), (1000, 2000, 1000)
    assert found(lost(*first)) == found(lost(*first), lost(*first)) == [first]
    both = [first, second]
    assert found(lost(*first), lost(900, 2000, 1100)) == both
    assert found(lost(*first), lost(*second), lost(900, 2000, 1100)) == both, "written once"
    third = [*both, (2000, 2500, 500)]
    assert found(lost(*first), lost(900, 2000, 1100), lost(900, 2500, 1600)) == third
    assert found(lost(*first), lost(*second), lost(900, 2500, 1600)) == third
    noted = msgspec.structs.replace(lost(*first), again=True)
    assert found(noted, lost(900, 2000, 1100)) == [second], "of which only that is news"
    # Of a topic that was recreated, and was trimmed before anything of it was read; of a log that lost its end.
    assert found(lost(7, 0, 3, "v"), lost(7, 4, 3, "v")) == [(7, 0, 3), (0, 4, 4)]
    assert found(lost(50, 0), lost(50, 4)) == [(50, 0, None), (0, 4, 4)]
    assert found(lost(2, 5, 3), lost(5, 2), lost(5, 9, 4)) == [(2, 5, 3), (5, 2, None)], "offsets came again"


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


def test_from_when_on_topic_webhooks_has_what_was_accepted() -> None:
    """By its ids as they were recorded, and by what normalize found lost; that age removes records says nothing."""

    def since(*records: Record) -> int:
        found = installation_of((n, encode(one)) for n, one in enumerate([identity("a"), *records]))
        assert found is not None
        return found.webhooks_from_ms

    def topics(at_ms: int, webhooks: str = "", facts: str = "f") -> Topics:
        ids = {"facts": facts} | ({"webhooks": webhooks} if webhooks else {})
        return Topics(ids=ids, why="start", at_ms=at_ms)

    def lost(before: str, position: int | None, count: int | None) -> LostWebhooks:
        return LostWebhooks(
            partition=0, topic_before=before, position=position, topic="w", to=0, lost=count, at_ms=9
        )

    assert since() == since(topics(5)) == since(topics(5, "w"), topics(6, "w", "g"), topics(7)) == 0
    assert since(topics(5, "v"), topics(6), topics(7, "w"), topics(8, "w")) == 7
    assert since(topics(5, "u"), topics(6, "v"), topics(7, "w")) == 7
    assert since(topics(5, "w"), lost("w", 2, 3)) == since(lost("w", None, None)) == 0
    assert since(lost("v", 2, 3)) == since(lost("v", None, None)) == since(lost("w", 7, None)) == 9


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


def history(*records: Record, partition: int = 0) -> History:
    return histories_of(list(enumerate(map(encode, records))), [partition])[partition]


def topics(facts: str) -> Topics:
    return Topics(ids={"facts": facts}, why="made", at_ms=1)


def counted(partition: int = 0, crossed: tuple[int, ...] = (), held: tuple[int, ...] = ()) -> Generation:
    return Generation(partition=partition, above=0, worker="w", at_ms=1, crossed=crossed, held=held)


def gap(before: str, position: int, topic: str, to: int, *, partition: int = 0, above: int = 0) -> Gap:
    return Gap(
        partition=partition,
        topic_before=before,
        position=position,
        topic=topic,
        to=to,
        end=to,
        above=above,
        at_ms=9,
    )


def test_a_host_that_knows_another_id_says_so_once() -> None:
    first = encode(Identity(id="b", secret="s", partitions=2, at_ms=5))
    said = encode(TopicRecreated(before="a", at_ms=7))
    found = installation_of(enumerate([first, said]))
    assert found is not None
    assert (found.identity.id, found.again_ms, found.webhooks_from_ms) == ("b", 7, 7)
    seen = [first, said, encode(LostSeen(at_ms=8)), encode(TopicRecreated(before="a", at_ms=9))]
    assert (found := installation_of(enumerate(seen))) is not None
    assert found.again_ms is None
    other = installation_of(enumerate([*seen, encode(TopicRecreated(before="c", at_ms=10))]))
    assert other is not None
    assert other.again_ms == 10


def test_a_whole_log_can_be_counted_again() -> None:
    assert history(topics("a"), counted()).lacks("a", 0) == ""
    assert history(topics("a"), counted()).lacks("a", 3) == "what is older than offset 3"


def test_a_recreated_topic_lacks_what_was_counted_of_the_one_before() -> None:
    """Whether it was accepted for this partition, for another one, or not yet; where nothing was counted, nothing is
    missing."""
    accepted = gap("a", 5, "b", 0)
    for records in (
        (topics("a"), counted()),
        (topics("a"), counted(), topics("b"), accepted),
        (topics("a"), counted(), topics("b"), gap("a", 5, "b", 0, partition=1)),
    ):
        assert history(*records).origin("b") == "a"
        assert history(*records).lacks("b", 0) == "what was counted of the topic before it was recreated"
    assert history(topics("a"), counted(partition=1)).lacks("b", 0) == ""
    assert history(topics("a"), counted(), accepted).cross("a", 5)[:3] == ("b", 0, (accepted.number,))
    assert history(topics("a"), counted(), accepted).cross("a", 4).topic == "a", "it would lose one more"


EARLIER = msgspec.json.decode(
    b'{"type":"identity","id":"b","secret":"s","partitions":2,"at_ms":5,"again_ms":null,"format":1}',
    type=Identity,
)
"""As an earlier version wrote it, where it adopted an installation, and where it made one."""


@pytest.mark.parametrize(
    "began",
    [
        Identity(id="b", secret="s", partitions=2, at_ms=5, adopted=True),
        EARLIER,
        Identity(id="b", secret="s", partitions=2, at_ms=5, again_ms=5),
        TopicRecreated(before="a", at_ms=7),
    ],
    ids=["adopted", "of an earlier version", "made again", "made again under another id"],
)
def test_databases_may_be_older_than_the_topic(began: Record) -> None:
    assert history(began, topics("a"), LostSeen(at_ms=8)).origin("b") == "a"
    assert history(began, topics("a")).lacks("b", 0)
    assert history(began, topics("a")).lacks("a", 0) == ""


def test_what_an_earlier_version_made_has_no_database_that_is_not_recorded() -> None:
    """Of a partition that has a record of one: its first would be taken for its second."""
    adopted = msgspec.structs.replace(EARLIER, adopted=True)
    assert history(EARLIER, counted()).generations == history(EARLIER).generations == 1
    assert history(adopted, counted()).generations == 2


def test_an_installation_that_was_made_new_lacks_nothing() -> None:
    made = Identity(id="b", secret="s", partitions=2, at_ms=5, adopted=False)
    late = Identity(id="c", secret="s", partitions=2, at_ms=6, adopted=True)
    assert history(made, late, topics("a")).lacks("b", 0) == ""
    assert history(made, late, topics("a")).generations == 0
    assert b'"adopted":false' in encode(made), "what isn't said is of an earlier version"


def test_each_record_is_looked_at_once() -> None:
    """Its number was computed for each partition, at each use; and each of the lost was compared with all others."""

    def work(losses: int) -> tuple[int, int]:
        log = [
            *(
                LostWebhooks(partition=0, topic_before="w", position=n, topic="w", to=n + 1, lost=1, at_ms=n)
                for n in range(losses)
            ),
            *(gap("a", n, "a", n + 1, partition=n % 8) for n in range(losses)),
        ]
        place = Mock(side_effect=LostWebhooks.__dict__["place"].fget)
        with (
            patch("app.installation.hashlib.blake2b", wraps=hashlib.blake2b) as hashed,
            patch.object(LostWebhooks, "place", property(lambda one: place(one))),
        ):
            found = histories_of(list(enumerate(map(encode, log))), range(8))
            for one in found.values():
                for _ in range(2):
                    assert len({gap.number for gap in (*one.gaps, *one.elsewhere)}) == 2 * losses
        return hashed.call_count, place.call_count

    hashed, looked = work(20)
    assert hashed == 40
    assert work(40) == (80, 2 * looked)


def test_a_gap_has_the_same_number_in_whatever_topic_it_stands() -> None:
    accepted, webhooks = gap("a", 5, "b", 0), LostWebhooks(
        partition=3, topic_before="w", position=2, topic="w", to=5, lost=3, at_ms=9
    )  # fmt: skip
    once = history(accepted, webhooks)
    again = history(topics("a"), counted(), accepted, webhooks, msgspec.structs.replace(webhooks, at_ms=99))
    assert [one.number for one in (*once.gaps, *once.elsewhere)] == [
        one.number for one in (*again.gaps, *again.elsewhere)
    ]
    others = [
        gap("a", 5, "b", 0, partition=1),
        gap("a", 6, "b", 0),
        msgspec.structs.replace(accepted, at_ms=10),
    ]
    assert len({one.number for one in (accepted, *once.elsewhere, *others)}) == 5


def test_an_empty_database_crosses_what_was_accepted_for_it_or_the_last_one_had_crossed() -> None:
    accepted = gap("a", 0, "a", 7, above=4)
    assert history(counted(), accepted).cross("a", 0, 4).position == 7
    assert history(counted(), accepted).cross("a", 0, 5).position == 0
    assert history(counted(), accepted, counted(crossed=(accepted.number,))).cross("a", 0, 9).position == 7
    # An earlier version wrote the offset of the gap's record.
    assert history(counted(), accepted, counted(crossed=(1,))).cross("a", 0, 9).position == 7
    assert history(counted(), accepted, counted(crossed=(1,))).lacks("a", 7) == ""
    assert history(counted(), accepted, counted(crossed=(1,)), counted()).lacks("a", 7)


def test_a_log_that_lost_its_end_is_not_whole() -> None:
    """Counted again it would lack that; one that had counted it crosses the gap once, and lacks nothing."""
    lost = gap("a", 10, "a", 8)
    found = history(topics("a"), counted(), lost)
    assert found.lacks("a", 0) == "what was counted before the log lost its end"
    assert found.cross("a", 10, 1)[:3] == ("a", 8, (lost.number,))
    assert found.cross("a", 10, 1, known=(lost.number,))[:3] == ("a", 10, ())
    assert "and stay so" in notices([(0, note_of(lost))])[0]["message"]
    assert "may be missing" in notices([(0, note_of(lost, crossed=False))])[0]["message"]


def test_what_several_partitions_lost_together_is_one_notice() -> None:
    def trimmed(lost: int, at_ms: int, before_ms: int | None = None) -> Note:
        return Note(at_ms, "trimmed", lost, before_ms)

    found = notices(
        [
            (3, trimmed(2, 1_000_000, 900_000)),
            (1, trimmed(5, 1_030_000)),
            (2, trimmed(1, 1_030_000 + TOGETHER_MS + 1)),
            (1, Note(1_000_000, "recreated", 0, None)),
            (1, trimmed(1, 1_000_001)),
        ]
    )
    said = [(one["partition"], one["message"].partition(" were")[0].partition(" was")[0]) for one in found]
    assert said == [
        (1, "the event log (partition 1)"),
        (1, "8 records of the event log (partitions 1, 3)"),
        (2, "1 record of the event log (partition 2)"),
    ]
    assert "before 1970-01-01T00:17:10" in found[1]["message"], "the latest: what is lost is older"


def test_what_a_database_had_counted_behind_the_begin_of_a_gap_is_in_no_log() -> None:
    """One that is empty accepted it; one that was away has counted what others lack, and crosses it, too."""
    trimmed, recreated = gap("a", 0, "a", 3, above=1), gap("a", 0, "b", 0, above=1)
    for accepted, topic, start, lack in (
        (trimmed, "a", 3, "what is older than offset 3"),
        (recreated, "b", 0, "what was counted of the topic before it was recreated"),
    ):
        known = history(topics("a"), counted(), accepted)
        empty, whole = known.cross("a", 0, 1), known.cross("a", 2, 1)
        assert empty.crossed == whole.crossed == (accepted.number,)
        assert (empty.held, whole.held) == ((), (accepted.number,))
        again = history(topics("a"), counted(), accepted, counted(crossed=empty.crossed))
        assert again.lacks(topic, start) == ""
        back = history(topics("a"), counted(), accepted, counted(crossed=whole.crossed, held=whole.held))
        assert back.lacks(topic, start) == lack
