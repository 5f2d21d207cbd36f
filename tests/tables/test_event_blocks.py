"""What nothing about the same time speaks to is judged by its own evidence, wherever blocks begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app.facts import Entry, Fact, encode
from app.verdicts import Rules, judge_with_reasons, own_reason, own_verdict
from tables import event_blocks
from tables.event_blocks import blocks
from tests.support.facts import START_MS, entry

RULES = Rules()
_KINDS = (f.OPENED, f.CLICKED, f.CLICKED, f.DELIVERED, f.UNSUBSCRIBED, f.SENT)

acts = st.lists(
    st.builds(
        lambda kind, at, who, evidence, link, number: entry(
            kind, START_MS + at, address=f"{who}@example.com", evidence=evidence, link=link, number=number, agent=7,
        ),
        st.sampled_from(_KINDS),
        st.integers(0, 40).map(lambda step: step * 250) | st.integers(0, 100_000),
        st.sampled_from("abc"),
        st.sampled_from((0, 0, 0, f.HIDDEN_LINK, f.AGENT_PROXY, f.UNTIMED)),
        st.integers(1, 4),
        st.integers(0, 3),
    ),
    max_size=40,
)  # fmt: skip


def order(one: Entry) -> tuple[int, bytes]:
    return one.fact.at_ms, one.fact.identity


@settings(deadline=None, max_examples=300)
@given(
    made=acts,
    size=st.integers(1, 5),
    ahead=st.sampled_from((1, 2, 16)),
    descending=st.booleans(),
    window=st.none() | st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
)
def test_no_is_certain(
    made: list[Entry], size: int, ahead: int, descending: bool, window: tuple[int, int] | None
) -> None:
    log = sorted({one.fact.identity: one for one in made}.values(), key=order)
    by_recipient: dict[bytes, list[Fact]] = {}
    for one in log:
        by_recipient.setdefault(one.recipient, []).append(one.fact)
    judged = {
        fact.identity: verdict
        for facts in by_recipient.values()
        for fact, verdict in zip(facts, judge_with_reasons(facts, RULES), strict=True)
    }
    seen = [
        one
        for one in (log[::-1] if descending else log)
        if window is None or min(window) <= one.fact.at_ms - START_MS < max(window)
    ]
    stored = [[encode(one) for one in seen[first : first + size]] for first in range(0, len(seen), size)]
    found: list[Entry] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_blocks, "AHEAD", ahead)
        for block in blocks([*stored, []], RULES, descending=descending, whole=window is None):
            for one in block.entries:
                found.append(one)
                fact = one.fact
                if fact.type in (f.OPENED, f.CLICKED) and not block.may_be_judged_by_others(one):
                    assert judged[fact.identity] == (own_verdict(fact), own_reason(fact))
    assert found == seen


def asked_about(log: list[Entry], size: int) -> list[Entry]:
    """Of which opens and clicks the state has to be looked up."""
    stored = [[encode(one) for one in log[first : first + size]] for first in range(0, len(log), size)]
    return [
        one
        for block in blocks(stored, RULES, descending=False, whole=True)
        for one in block.entries
        if block.may_be_judged_by_others(one)
    ]


def test_hardly_any_state_is_looked_up() -> None:
    """A mailing of 20 a second, opened a minute later, and a scanner among the recipients."""
    log = []
    for number in range(2_000):
        at_ms, address = START_MS + number * 50, f"r{number}@example.com"
        log += [
            entry(f.DELIVERED, at_ms, address=address),
            entry(f.OPENED, at_ms + 60_000, address=address),
            entry(f.CLICKED, at_ms + 90_000, address=address, link=1),
        ]
    scanner = [
        entry(f.CLICKED, START_MS + 30_000 + step * 300, address="s@example.com", link=step)
        for step in range(3)
    ]
    log = sorted([*log, *scanner], key=order)
    assert asked_about(log, 100) == scanner


def test_what_happens_at_once_is_looked_up() -> None:
    """So much within seconds that it isn't read ahead, nor remembered."""
    log = [
        entry(f.OPENED, START_MS + number // 100, address=f"r{number}@example.com") for number in range(5_000)
    ]
    assert len(asked_about(log, 10)) > 4_000


def test_an_empty_block_is_handed_on_at_once() -> None:
    """While nothing matches, the export says that it goes on."""
    lists = [[], [encode(entry(f.OPENED, START_MS))], [], []]
    handed_on = [len(block.entries) for block in blocks(lists, RULES, descending=False, whole=True)]
    assert handed_on == [0, 0, 0, 1]
