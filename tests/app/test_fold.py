"""The fold is idempotent and free of order; its bound keeps totals exact."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import contribution as c
from app import facts as f
from app import fold as folding
from app.facts import Entry
from app.fold import LogChanges, empty_state, fold
from app.state import RecipientState, decode_state, encode_state
from app.verdicts import Rules
from tests.support.facts import START_MS, book_of, entries, entry

ALONE = Rules(burst_links=0, burst_ms=0, click_after_ms=0, open_after_ms=0)
"""Every fact judged by its own evidence, as what fell out of the state is."""


def run(batches: list[list[Entry]]) -> tuple[RecipientState, LogChanges]:
    """Folds batches one after another, with a log that is a dict."""
    state = empty_state()
    log: LogChanges = {}
    for batch in batches:
        changes: LogChanges = {}
        fold(state, batch, lambda at_ms, identity: log.get((at_ms, identity)), changes)
        for place, put in changes.items():
            if put is None:
                log.pop(place, None)  # put and deleted within one batch: never stored
            else:
                log[place] = put
    return state, log


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


@settings(max_examples=1000)
@given(st.lists(entries(), max_size=14), st.integers(0, 2**32), st.integers(0, 6))
def test_any_order_and_any_repeats_give_the_same_bytes(
    facts: list[tuple[str, Entry]], seed: int, repeats: int
) -> None:
    line = [one for _, one in facts]
    state, log = run([line])
    again, log_again = run(shuffled(line, seed, repeats))
    assert encode_state(again) == encode_state(state)
    assert log_again == log
    assert c.contribution(again, book_of(line)) == c.contribution(state, book_of(line))


@settings(max_examples=300)
@given(st.lists(entries(steady=True), max_size=40), st.integers(0, 2**32), st.integers(0, 12))
def test_beyond_the_bound_order_and_repeats_do_not_matter_either(
    facts: list[tuple[str, Entry]], seed: int, repeats: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", 2)
        line = [one for _, one in facts]
        state, log = run([line])
        again, log_again = run(shuffled(line, seed, repeats))
        assert encode_state(again) == encode_state(state)
        assert log_again == log
        assert c.contribution(again, book_of(line)) == c.contribution(state, book_of(line))


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

    whole, _ = run([line])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "KEPT", 2)
        bounded, _ = run([line])
        assert totals(bounded) == totals(whole)


def test_ten_thousand_opens_stay_small_and_exact() -> None:
    line = [entry(f.OPENED, START_MS + n * 60_000, number=n) for n in range(10_000)]
    state, log = run([line[i : i + 500] for i in range(0, len(line), 500)])
    assert len(encode_state(state)) < 65_536
    assert len(log) == 10_000
    contributed = c.contribution(state, book_of(line))
    kept = sum(1 for cell in contributed.cells if cell >> 32 == c.OPENS)
    assert kept + dict(contributed.overflow)[c.OPENS] == 10_000
    assert state.facts[0].at_ms == START_MS and state.facts[-1].at_ms == START_MS + 9_999 * 60_000
    # and again, all of them: nothing is counted twice
    before = encode_state(state)
    changes: LogChanges = {}
    assert not fold(state, line, lambda at_ms, identity: log.get((at_ms, identity)), changes)
    assert encode_state(state) == before and not changes


def test_a_copy_with_smaller_content_replaces_and_spells_the_address() -> None:
    first = entry(f.OPENED, START_MS, address="A@example.com", content=5)
    smaller = entry(f.OPENED, START_MS, address="a@Example.com", content=2, place=7)
    state, log = run([[first], [smaller]])
    assert state.address == "a@Example.com"
    assert [fact.place for fact in state.facts] == [7]
    assert list(log.values()) == [smaller]


def test_an_untimed_copy_keeps_the_earliest_arrival() -> None:
    late = entry(f.OPENED, START_MS + 5_000, evidence=f.UNTIMED)
    early = entry(f.OPENED, START_MS, evidence=f.UNTIMED)
    state, log = run([[late], [early], [late]])
    assert [fact.at_ms for fact in state.facts] == [START_MS]
    assert list(log) == [(START_MS, early.fact.identity)]


def test_state_survives_its_bytes() -> None:
    state, _ = run([[entry(f.QUEUED, START_MS), entry(f.CLICKED, START_MS + 9, link=2**63, number=1)]])
    assert decode_state(encode_state(state)) == state
