"""The verdicts: each rule, each case that must not fall under it, and the definition in slow words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import facts as f
from app.facts import Fact, Identity
from app.verdicts import (
    DEFAULT_RULES,
    HUMAN,
    PROXY,
    REASONS,
    RULES_VERSION,
    SCANNER,
    SUSPICIOUS,
    Rules,
    judge,
    judge_with_reasons,
    own_reason,
    own_verdict,
    rules_of,
    suspected_unsubscribes,
)
from tests.support.facts import entries

START_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
NO_TIME = f.UNTIMED | f.CLAMPED


def fact(
    kind: int,
    at_ms: int,
    *,
    link: int = 0,
    agent: int = 1,
    network: int = 1,
    evidence: int = 0,
    number: int = 0,
) -> Fact:
    """`at_ms` after `START_MS`; `number` tells apart what is otherwise equal."""
    at_ms += START_MS
    values = repr((kind, at_ms, link, agent, network, evidence, number)).encode()
    return Fact(
        Identity(values), at_ms, kind, evidence, hash(values), link=link, agent=agent, network=network
    )


def in_order(facts: list[Fact]) -> list[Fact]:
    return sorted(facts, key=lambda one: (one.at_ms, one.identity))


def reasons(*facts: Fact, rules: Rules = DEFAULT_RULES) -> list[str]:
    """The codes of opens and clicks, in the order in which the facts are given here."""
    ordered = in_order(list(facts))
    judged = dict(zip((one.identity for one in ordered), judge_with_reasons(ordered, rules), strict=True))
    return [judged[one.identity][1] for one in facts if one.type in (f.OPENED, f.CLICKED)]


def click(at_ms: int, link: int, agent: int = 1, network: int = 1, evidence: int = 0) -> Fact:
    return fact(f.CLICKED, at_ms, link=link, agent=agent, network=network, evidence=evidence)


def opened(at_ms: int, agent: int = 1, network: int = 1, evidence: int = 0) -> Fact:
    return fact(f.OPENED, at_ms, agent=agent, network=network, evidence=evidence)


# By its own evidence.


@pytest.mark.parametrize(
    ("bits", "of_open", "of_click", "code"),
    [
        (0, HUMAN, HUMAN, "nothing"),
        (f.MACHINE, PROXY, SCANNER, "esp_flag"),
        (f.AGENT_PROXY, PROXY, PROXY, "agent_proxy"),
        (f.AGENT_SCANNER, SCANNER, SCANNER, "agent_scanner"),
        (f.NETWORK_PROXY, PROXY, PROXY, "network_proxy"),
        (f.NETWORK_SCANNER, SCANNER, SCANNER, "network_scanner"),
        (f.HIDDEN_LINK, SCANNER, SCANNER, "hidden_link"),
        (f.MACHINE | f.AGENT_PROXY, PROXY, PROXY, "agent_proxy"),
        (f.AGENT_PROXY | f.NETWORK_SCANNER, SCANNER, SCANNER, "network_scanner"),
        (f.NETWORK_PROXY | f.HIDDEN_LINK, SCANNER, SCANNER, "hidden_link"),
        (f.SOFT_BOUNCE | f.EXCLUDED | f.CLAMPED | f.UNTIMED, HUMAN, HUMAN, "nothing"),
        (1 << 40, HUMAN, HUMAN, "nothing"),
    ],
)
def test_a_facts_own_evidence(bits: int, of_open: int, of_click: int, code: str) -> None:
    for kind, verdict in ((f.OPENED, of_open), (f.CLICKED, of_click)):
        one = fact(kind, 0, evidence=bits)
        assert own_verdict(one) == verdict
        assert own_reason(one) == code
        assert judge([one]) == [verdict]
        assert judge_with_reasons([one]) == [(verdict, code)]


def test_what_is_no_open_or_click_is_not_judged() -> None:
    for kind in range(len(f.TYPE_NAMES)):
        one = fact(kind, 0, evidence=f.AGENT_SCANNER)
        if kind not in (f.OPENED, f.CLICKED):
            assert own_verdict(one) == HUMAN
            assert judge([one]) == [HUMAN]
            assert own_reason(one) == ("agent_scanner" if kind == f.UNSUBSCRIBED else "not_judged")


def test_every_reason_has_words() -> None:
    for bits in range(1 << 10):
        for kind in range(len(f.TYPE_NAMES)):
            assert own_reason(fact(kind, 0, evidence=bits)) in REASONS
    assert all(re.fullmatch("[a-z_]+", code) for code in REASONS)


# Bursts.


def test_a_third_link_within_two_seconds_makes_a_burst_of_the_first_two() -> None:
    first, second = click(HOUR_MS, 1), click(HOUR_MS + 900, 2)
    assert reasons(first, second) == ["nothing", "nothing"]
    assert reasons(first, second, click(HOUR_MS + 2_000, 3)) == ["burst"] * 3
    assert reasons(first, second, click(HOUR_MS + 2_001, 3)) == ["nothing"] * 3


def test_a_link_clicked_again_and_again_is_no_burst() -> None:
    assert reasons(*(click(at_ms, 1 + at_ms // 1000) for at_ms in range(0, 2_000, 100))) == ["nothing"] * 20


def test_clicks_of_which_the_esp_gives_no_link_are_not_different_links() -> None:
    unknown = [fact(f.CLICKED, 100 * number, number=number) for number in range(5)]
    assert reasons(*unknown) == ["nothing"] * 5
    assert reasons(*unknown, click(600, 1), click(700, 2), click(800, 3)) == ["burst"] * 8


def test_a_burst_ends() -> None:
    burst = [click(at_ms, 1 + at_ms) for at_ms in (0, 500, 1_000)]
    assert reasons(*burst, click(3_001, 9), click(HOUR_MS, 8)) == ["burst"] * 3 + ["nothing"] * 2


def test_a_long_burst_is_one() -> None:
    assert reasons(*(click(700 * number, number + 1) for number in range(50))) == ["burst"] * 50


def test_opens_of_the_burst_are_the_scanners() -> None:
    burst = [click(at_ms, 1 + at_ms) for at_ms in (1_000, 1_200, 1_400)]
    assert reasons(*burst, opened(0), opened(1_300), opened(1_300, agent=2)) == ["burst"] * 5 + ["nothing"]
    assert reasons(*burst, opened(-601), opened(3_001)) == ["burst"] * 3 + ["nothing"] * 2


@pytest.mark.parametrize(("agent", "network"), [(2, 2), (2, 1), (1, 2), (0, 2), (2, 0)])
def test_a_persons_click_in_the_window_of_a_burst_stays_a_persons(agent: int, network: int) -> None:
    burst = [click(at_ms, 1 + at_ms) for at_ms in (0, 500, 1_000)]
    person = click(700, 77, agent, network), opened(600, agent, network)
    assert reasons(*burst, *person) == ["burst"] * 3 + ["nothing"] * 2


def test_a_scanner_with_many_addresses_or_agents_is_still_one() -> None:
    assert reasons(*(click(500 * n, n, agent=5, network=n) for n in (1, 2, 3))) == ["burst"] * 3
    assert reasons(*(click(500 * n, n, agent=n, network=5) for n in (1, 2, 3))) == ["burst"] * 3
    assert reasons(*(click(500 * n, n, agent=n, network=n) for n in (1, 2, 3))) == ["nothing"] * 3


def test_where_the_esp_gives_neither_agent_nor_network_the_time_alone_tells() -> None:
    assert reasons(*(click(500 * n, n, agent=0, network=0) for n in (1, 2, 3))) == ["burst"] * 3
    # An unknown agent is not "the same agent", nor an unknown network "the same network".
    assert reasons(*(click(500 * n, n, agent=0, network=n) for n in (1, 2, 3))) == ["nothing"] * 3
    assert reasons(*(click(500 * n, n, agent=n, network=0) for n in (1, 2, 3))) == ["nothing"] * 3


@pytest.mark.parametrize("bit", [f.UNTIMED, f.CLAMPED])
def test_a_time_that_the_esp_did_not_give_is_no_evidence(bit: int) -> None:
    assert reasons(*(click(0, link, evidence=bit) for link in range(1, 9))) == ["nothing"] * 8
    burst = [click(0, 1), click(500, 2)]
    assert reasons(*burst, click(400, 3, evidence=bit)) == ["nothing"] * 3
    assert reasons(*burst, click(1_000, 4), click(400, 3, evidence=bit)) == ["burst"] * 3 + ["nothing"]
    assert reasons(fact(f.DELIVERED, 0, evidence=bit), click(500, 1)) == ["nothing"]
    assert reasons(fact(f.DELIVERED, 1), click(500, 1, evidence=bit)) == ["nothing"]
    # An untimed delivery doesn't hide the one with a time.
    assert reasons(fact(f.DELIVERED, 0, evidence=bit), fact(f.DELIVERED, 1), click(500, 1)) == ["too_soon"]


def test_own_evidence_goes_before_a_burst_and_counts_towards_it() -> None:
    burst = [click(0, 1, evidence=f.AGENT_PROXY), click(500, 2, evidence=f.MACHINE), click(900, 3)]
    assert reasons(*burst) == ["agent_proxy", "esp_flag", "burst"]


def test_who_follows_a_hidden_link_is_a_scanner_for_the_seconds_around() -> None:
    trap = click(5_000, 1, evidence=f.HIDDEN_LINK)
    near, person = click(3_000, 2), click(4_999, 2, network=2)
    assert reasons(trap, near, opened(7_000), person) == ["hidden_link", "burst", "burst", "nothing"]
    assert reasons(trap, click(2_999, 2), opened(7_001)) == ["hidden_link", "nothing", "nothing"]


# Sooner after the delivery than a person can be.


@pytest.mark.parametrize(
    ("delivered", "at", "of_click", "of_open"),
    [
        (10_001, 10_001, "nothing", "nothing"),  # the same moment: either order
        (10_001, 9_500, "nothing", "nothing"),  # clocks that disagree
        (10_001, 10_002, "too_soon", "too_soon"),
        (10_001, 11_001, "too_soon", "too_soon"),
        (10_001, 11_002, "too_soon", "nothing"),
        (10_001, 12_001, "too_soon", "nothing"),
        (10_001, 12_002, "nothing", "nothing"),
        # Whole seconds: somewhere between 0 and 2 seconds, between 1 and 3.
        (10_000, 10_000, "nothing", "nothing"),
        (10_000, 11_000, "too_soon", "nothing"),
        (10_000, 12_000, "nothing", "nothing"),
        # One of the two in whole seconds.
        (10_000, 10_900, "nothing", "nothing"),  # delivered at 10.95 perhaps
        (10_000, 11_001, "too_soon", "nothing"),
        (10_500, 11_000, "too_soon", "nothing"),
        (10_500, 12_000, "nothing", "nothing"),  # clicked at 12.9 perhaps
    ],
)
def test_too_soon_after_the_delivery(delivered: int, at: int, of_click: str, of_open: str) -> None:
    delivery = fact(f.DELIVERED, delivered)
    assert reasons(delivery, click(at, 1)) == [of_click]
    assert reasons(delivery, opened(at)) == [of_open]
    assert judge([delivery, click(delivered + 2, 1), opened(delivered + 3)])[1:] == (
        [SCANNER, PROXY] if delivered % 1_000 else [HUMAN, HUMAN]
    )


def test_only_the_first_delivery_counts() -> None:
    assert reasons(fact(f.DELIVERED, 1), fact(f.DELIVERED, 60_001), click(60_500, 1)) == ["nothing"]
    assert reasons(click(500, 1)) == ["nothing"]


def test_own_evidence_and_bursts_go_before_too_soon() -> None:
    delivery = fact(f.DELIVERED, 1)
    assert reasons(delivery, opened(500, evidence=f.AGENT_PROXY)) == ["agent_proxy"]
    assert reasons(delivery, *(click(100 * n, n) for n in (1, 2, 3)), opened(150)) == ["burst"] * 4


# Unsubscriptions.


def suspected(one: Fact, *others: Fact) -> bool:
    ordered = in_order([one, *others])
    assert judge(ordered)[ordered.index(one)] == HUMAN
    return suspected_unsubscribes(ordered)[ordered.index(one)]


def test_an_unsubscription_is_suspected_by_the_same_evidence() -> None:
    burst = [click(at_ms, 1 + at_ms) for at_ms in (0, 500, 1_000)]
    assert not suspected(fact(f.UNSUBSCRIBED, 600))
    assert suspected(fact(f.UNSUBSCRIBED, 600), *burst)
    assert suspected(fact(f.UNSUBSCRIBED, 1_900), *burst)
    assert not suspected(fact(f.UNSUBSCRIBED, 2_001), *burst)
    assert not suspected(fact(f.UNSUBSCRIBED, 600, network=2), *burst)
    assert not suspected(fact(f.UNSUBSCRIBED, 600, evidence=f.UNTIMED), *burst)
    # Most ESPs tell neither agent nor address of it.
    assert suspected(fact(f.UNSUBSCRIBED, 600, agent=0, network=0), *burst)
    assert not suspected(fact(f.UNSUBSCRIBED, 2_001, agent=0, network=0), *burst)
    assert not suspected(fact(f.UNSUBSCRIBED, 600, agent=0, network=0), *burst[:2])


@pytest.mark.parametrize("bit", [1 << number for number in range(10)])
def test_an_unsubscriptions_own_evidence(bit: int) -> None:
    assert suspected(fact(f.UNSUBSCRIBED, 0, evidence=bit)) == bool(bit & SUSPICIOUS)
    assert suspected_unsubscribes([opened(0, evidence=bit)]) == [False]


def test_an_unsubscription_has_its_reason() -> None:
    line = [*(click(n, n) for n in (1, 2, 3)), fact(f.UNSUBSCRIBED, 4)]
    assert judge_with_reasons(line)[3] == (HUMAN, "unsubscribe_in_burst")
    assert judge_with_reasons(line[3:]) == [(HUMAN, "not_judged")]


# Thresholds.


def test_thresholds_of_zero_turn_the_rules_off() -> None:
    off = Rules(burst_links=0, click_after_ms=0, open_after_ms=0)
    line = [fact(f.DELIVERED, 1), *(click(n, n) for n in range(2, 9)), opened(9)]
    assert reasons(*line, rules=off) == ["nothing"] * 8
    assert reasons(click(0, 1, evidence=f.HIDDEN_LINK), click(1, 2), rules=off) == ["hidden_link", "burst"]


def test_thresholds_are_what_they_say() -> None:
    rules = Rules(burst_links=2, burst_ms=100, click_after_ms=5_000, open_after_ms=4_000)
    assert reasons(click(0, 1), click(100, 2), rules=rules) == ["burst"] * 2
    assert reasons(click(0, 1), click(101, 2), rules=rules) == ["nothing"] * 2
    delivery = fact(f.DELIVERED, 1)
    late = [click(5_001, 1), opened(4_001), click(5_102, 1), opened(4_002)]
    assert reasons(delivery, *late, rules=rules) == ["too_soon", "too_soon", "nothing", "nothing"]


def test_rules_of_settings() -> None:
    assert rules_of({}) == DEFAULT_RULES == Rules(RULES_VERSION, 3, 2_000, 2_000, 1_000)
    assert rules_of({"burst_links": 5, "open_after_ms": 0}) == Rules(burst_links=5, open_after_ms=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": 1}, "version: unknown threshold (known: burst_links, burst_ms, "),
        ({"burst": 1}, "burst: unknown threshold"),
        ({"burst_links": 1}, "burst_links: must be at least 2"),
        ({"burst_links": 101}, "burst_links: must be a whole number from 0 to 100"),
        ({"burst_ms": -1}, "burst_ms: must be a whole number from 0 to 60000"),
        ({"burst_ms": 1.5}, "burst_ms: must be a whole number"),
        ({"burst_ms": True}, "burst_ms: must be a whole number"),
        ({"click_after_ms": "2"}, "click_after_ms: must be a whole number"),
        ({"open_after_ms": None}, "open_after_ms: must be a whole number"),
    ],
)
def test_wrong_thresholds(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        rules_of(settings)
    assert "\n" not in str(raised.value)


# The definition, in slow words.


def slow_windows(facts: list[Fact], rules: Rules) -> set[Identity]:
    """Of one actor's facts those that are in a window with enough links or a hidden one."""
    found = set()
    for start in facts:
        window = [one for one in facts if 0 <= one.at_ms - start.at_ms <= rules.burst_ms]
        clicks = [one for one in window if one.type == f.CLICKED]
        links = {one.link for one in clicks if one.link}
        if (0 < rules.burst_links <= len(links)) or any(one.evidence & f.HIDDEN_LINK for one in clicks):
            found |= {one.identity for one in window}
    return found


def slow_bursts(facts: list[Fact], rules: Rules) -> set[Identity]:
    acts = [
        one
        for one in facts
        if one.type in (f.OPENED, f.CLICKED, f.UNSUBSCRIBED) and not one.evidence & NO_TIME
    ]
    nameless = [one for one in acts if one.type == f.UNSUBSCRIBED and not one.agent and not one.network]

    def of(group: list[Fact]) -> set[Identity]:
        found = slow_windows(group, rules)
        for one in nameless:
            if one.identity in slow_windows([*group, *([] if one in group else [one])], rules):
                belongs.add(one.identity)
        return found

    def groups(among: list[Fact], key: Callable[[Fact], object]) -> list[list[Fact]]:
        return [[one for one in among if key(one) == value] for value in {key(one) for one in among}]

    belongs: set[Identity] = set()
    found: set[Identity] = set()
    for group in groups(acts, lambda one: (one.agent, one.network)):
        found |= of(group)
    left = [one for one in acts if one.identity not in found]
    for group in groups([one for one in left if one.agent], lambda one: one.agent):
        found |= of(group)
    for group in groups([one for one in left if one.network], lambda one: one.network):
        found |= of(group)
    return found | belongs


def slow_too_soon(one: Fact, facts: list[Fact], rules: Rules) -> bool:
    deliveries = [
        other.at_ms for other in facts if other.type == f.DELIVERED and not other.evidence & NO_TIME
    ]
    longest_ms = {f.CLICKED: rules.click_after_ms, f.OPENED: rules.open_after_ms}.get(one.type)
    if not deliveries or longest_ms is None or one.evidence & NO_TIME:
        return False
    # The real times that may stand behind those given.
    delivered = range(min(deliveries), min(deliveries) + (1 if min(deliveries) % 1_000 else 1_000))
    done = range(one.at_ms, one.at_ms + (1 if one.at_ms % 1_000 else 1_000))
    surely_after = min(done) > max(delivered)
    return surely_after and max(done) - min(delivered) <= longest_ms


def slow(facts: list[Fact], rules: Rules) -> dict[Identity, tuple[int, str]]:
    bursts = slow_bursts(facts, rules)
    judged = {}
    for one in facts:
        verdict, code = own_verdict(one), own_reason(one)
        if one.type == f.UNSUBSCRIBED and code == "not_judged" and one.identity in bursts:
            code = "unsubscribe_in_burst"
        elif one.type in (f.OPENED, f.CLICKED) and verdict == HUMAN:
            if one.identity in bursts:
                verdict, code = SCANNER, "burst"
            elif slow_too_soon(one, facts, rules):
                verdict, code = (PROXY if one.type == f.OPENED else SCANNER), "too_soon"
        judged[one.identity] = verdict, code
    return judged


BITS = (0, 0, 0, 0, f.MACHINE, f.AGENT_PROXY, f.HIDDEN_LINK, f.UNTIMED, f.CLAMPED, f.EXCLUDED)
TIMES = st.one_of(
    st.integers(0, 8).map(lambda number: number * 1_000),
    st.integers(0, 30).map(lambda number: number * 333),
    st.integers(0, 12).map(lambda number: number * 500 + 1),
)
FACTS = st.builds(
    fact,
    st.sampled_from((f.DELIVERED, f.OPENED, f.CLICKED, f.CLICKED, f.CLICKED, f.UNSUBSCRIBED, f.SENT)),
    TIMES,
    link=st.integers(0, 4),
    agent=st.integers(0, 2),
    network=st.integers(0, 2),
    evidence=st.sampled_from(BITS),
)
LINES = st.lists(FACTS, max_size=14, unique_by=lambda one: one.identity)
RULES = st.one_of(
    st.just(DEFAULT_RULES),
    st.builds(
        Rules,
        burst_links=st.sampled_from((0, 2, 3, 4)),
        burst_ms=st.sampled_from((0, 500, 2_000, 5_000)),
        click_after_ms=st.sampled_from((0, 1_000, 3_000)),
        open_after_ms=st.sampled_from((0, 2_000, 4_000)),
    ),
)


@given(LINES, RULES)
@example([click(n, n, evidence=f.HIDDEN_LINK) for n in (1, 2)], Rules(burst_links=0))
def test_the_fast_way_gives_what_the_definition_says(line: list[Fact], rules: Rules) -> None:
    ordered = in_order(line)
    expected = slow(line, rules)
    judged = judge_with_reasons(ordered, rules)
    assert judged == [expected[one.identity] for one in ordered]
    assert judge(ordered, rules) == [verdict for verdict, _ in judged]
    assert suspected_unsubscribes(ordered, rules) == [
        one.type == f.UNSUBSCRIBED and code != "not_judged"
        for one, (_, code) in zip(ordered, judged, strict=True)
    ]
    assert all(code in REASONS for _, code in judged)


@given(LINES, st.randoms(use_true_random=False))
def test_equal_times_have_no_order(line: list[Fact], random: object) -> None:
    """What stands first among facts of the same time changes nothing."""
    ordered = in_order(line)
    shuffled = list(line)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    shuffled.sort(key=lambda one: one.at_ms)
    by_identity = dict(zip((one.identity for one in ordered), judge(ordered), strict=True))
    assert judge(shuffled) == [by_identity[one.identity] for one in shuffled]


@given(st.lists(entries(), max_size=12))
def test_any_facts_get_verdicts(line: list[tuple[str, f.Entry]]) -> None:
    facts = in_order([entry.fact for _, entry in line])
    for one, verdict in zip(facts, judge(facts), strict=True):
        assert verdict in (HUMAN, PROXY, SCANNER)
        assert verdict == HUMAN or one.type in (f.OPENED, f.CLICKED)
        assert verdict >= own_verdict(one)


def test_hundreds_of_clicks_are_judged_at_once() -> None:
    line = [click(number // 4, 1 + number % 90, number % 3, number % 5) for number in range(600)]
    nameless = [fact(f.UNSUBSCRIBED, n, agent=0, network=0, number=n) for n in range(150)]
    facts = in_order(line + nameless)
    assert set(judge(in_order(line))) == {SCANNER}
    assert suspected_unsubscribes(facts).count(True) == 150


def test_the_report_s_document_names_every_reason() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    assert [code for code in REASONS if f"`{code}`" not in text] == ["not_judged"]
