"""The fold is idempotent and free of order; its bound keeps totals exact."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import contribution as c
from app import facts as f
from app import fold as folding
from app.facts import Entry
from app.state import RecipientState, decode_state, encode_state
from app.verdicts import Rules
from tests.support.facts import START_MS, book_of, entries, entry
from tests.support.folding import Folded, by_definition, state_of

ALONE = Rules(burst_links=0, burst_ms=0, click_after_ms=0, open_after_ms=0)
"""Every fact judged by its own evidence, as what fell out of the state is."""


def shuffled(facts: list[Entry], seed: int, repeats: int) -> list[list[Entry]]:
    """The same facts in another order, some again, cut into batches anywhere."""
    chance = random.Random(seed)
    line = facts + chance.choices(facts, k=repeats) if facts else []
    chance.shuffle(line)
    batches: list[list[Entry]] = []
    while line:
        size = chance.randint(1, 6)
        batches.append(line[:size])
        line = line[size:]
    return batches


@pytest.mark.parametrize("kept", [200, 3, 2, 1])
@settings(max_examples=400)
@given(line=st.lists(entries(few=True), max_size=40), seed=st.integers(0, 2**32), repeats=st.integers(0, 12))
def test_any_order_and_any_repeats_give_what_the_definition_says(
    kept: int, line: list[tuple[str, Entry]], seed: int, repeats: int
) -> None:
    """Copies with another time or other evidence among them: they move facts that fell out, and the ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", kept)
        facts = [one for _, one in line]
        folded = Folded(shuffled(facts, seed, repeats))
        assert folded.everything() == by_definition(facts)


@settings(max_examples=300)
@given(st.lists(entries(), max_size=40))
def test_totals_are_exact_beyond_the_bound(facts: list[tuple[str, Entry]]) -> None:
    line = [one for _, one in facts]

    def totals(state: RecipientState) -> tuple[int, list[int]]:
        contributed = c.contribution(state, book_of(line), ALONE)
        counts = [0] * c.METRICS
        for cell in contributed.cells:
            counts[cell >> 32] += 1
        for metric, count in contributed.overflow:
            counts[metric] += count
        return contributed.pattern, counts

    whole = state_of(line)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", 2)
        bounded = state_of(line)
        assert totals(bounded) == totals(whole)


def test_ten_thousand_opens_stay_small_and_exact() -> None:
    line = [entry(f.OPENED, START_MS + n * 60_000, number=n) for n in range(10_000)]
    folded = Folded(line[i : i + 500] for i in range(0, len(line), 500))
    state = folded.state
    assert len(encode_state(state)) < 65_536
    assert len(folded.log) == 10_000
    contributed = c.contribution(state, book_of(line))
    kept = sum(1 for cell in contributed.cells if cell >> 32 == c.OPENS)
    assert kept + dict(contributed.overflow)[c.OPENS] == 10_000
    assert state.facts[0].at_ms == START_MS and state.facts[-1].at_ms == START_MS + 9_999 * 60_000
    # and again, all of them: nothing is counted twice
    before = encode_state(state)
    assert folded.add(line) is None
    assert encode_state(state) == before


def test_a_copy_with_smaller_content_replaces_and_spells_the_address() -> None:
    first = entry(f.OPENED, START_MS, address="A@example.com", content=5)
    smaller = entry(f.OPENED, START_MS, address="a@Example.com", content=2, place=7)
    folded = Folded([[first], [smaller]])
    state = folded.state
    assert state.address == "a@Example.com"
    assert [fact.place for fact in state.facts] == [7]
    assert list(folded.log.values()) == [smaller]


def test_an_untimed_copy_keeps_the_earliest_arrival() -> None:
    late = entry(f.OPENED, START_MS + 5_000, evidence=f.UNTIMED)
    early = entry(f.OPENED, START_MS, evidence=f.UNTIMED)
    folded = Folded([[late], [early], [late]])
    assert [fact.at_ms for fact in folded.state.facts] == [START_MS]
    assert list(folded.log) == [(START_MS, early.fact.identity)]


def test_state_survives_its_bytes() -> None:
    state = state_of([entry(f.QUEUED, START_MS), entry(f.CLICKED, START_MS + 9, link=2**63, number=1)])
    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize("later_ms", [-7_000, 7_000])
@pytest.mark.parametrize("number", [0, 150, 400])
def test_a_clamped_resend_of_any_of_very_many_counts_once(later_ms: int, number: int) -> None:
    """The event's clock is ahead: each time it comes it is set to the time of arrival."""
    line = [entry(f.OPENED, START_MS + n * 60_000, number=n, evidence=f.CLAMPED) for n in range(401)]
    again = entry(f.OPENED, line[number].fact.at_ms + later_ms, number=number, evidence=f.CLAMPED)
    folded = Folded([line, [again]])
    state = folded.state
    assert len(state.facts) + sum(count for _, _, count in state.overflow) == 401
    assert len(folded.log) == 401
    assert folded.everything() == by_definition([*line, again])


def test_the_last_one_that_fell_out_comes_back_when_the_last_one_moves_away() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", 2)
        line = [entry(f.OPENED, START_MS + n * 60_000, number=n, evidence=f.CLAMPED) for n in range(12)]
        moved = entry(f.OPENED, START_MS - 1, number=11, evidence=f.CLAMPED)
        machine = entry(f.OPENED, START_MS - 2, number=0, evidence=f.CLAMPED | f.MACHINE)
        folded = Folded([line, [moved], [machine]])
        assert folded.everything() == by_definition([*line, moved, machine])
        assert folded.state.facts[-1].at_ms == START_MS + 10 * 60_000


def test_of_an_erased_person_the_bytes_keep_who_it_was_and_others_bytes_are_as_ever() -> None:
    state = state_of([entry(f.OPENED, START_MS)])
    plain = encode_state(state)
    assert plain == msgspec.msgpack.encode([1, state.address, state.facts, [], False])
    state.erased, state.person = True, 2**64 - 1
    assert decode_state(encode_state(state)) == state
    assert decode_state(plain).person == 0
