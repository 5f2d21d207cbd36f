"""A/B tests: intervals and p-values as scipy has them, words that do not depend on order, cells that add up."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import contribution as c
from app.experiment import (
    DEFAULT_RATE,
    LEVEL,
    LOWER_IS_BETTER,
    RATES,
    UNTESTED,
    Counts,
    Row,
    Verdict,
    counts_of,
    experiment,
    heatmap,
    holm,
    intervals,
    percent,
    verdicts,
    wilson,
)
from app.shapes import Summary
from app.summary import summary

counts = st.integers(0, 5_000).flatmap(
    lambda total: st.builds(Counts, having=st.integers(0, total), total=st.just(total))
)
several = st.lists(counts, max_size=8)

_PATTERNS = (
    c.SENT | c.DELIVERED,
    c.SENT | c.BOUNCED,
    c.SENT | c.DELIVERED | c.OPENED,
    c.SENT | c.DELIVERED | c.OPENED | c.CLICKED | c.OPENED_PEOPLE | c.CLICKED_PEOPLE,
    c.SENT | c.DELIVERED | c.CLICKED,
    c.SENT | c.DELIVERED | c.UNSUBSCRIBED | c.COMPLAINED,
)


def summary_of(numbers: list[int]) -> Summary:
    return summary(dict(zip(_PATTERNS, numbers, strict=True)), [0] * c.METRICS, "all")


summaries = st.lists(st.integers(0, 900), min_size=len(_PATTERNS), max_size=len(_PATTERNS)).map(summary_of)
fields = st.dictionaries(
    st.sampled_from(["subject", "content", "sender"]), st.sampled_from(["A", "B", "C"]), max_size=3
)
rows = st.lists(st.tuples(fields, summaries), max_size=9)


def row(variant: dict[str, str], sent: int, clicked: int) -> Row:
    return variant, summary_of([sent - clicked, 0, 0, 0, clicked, 0])


@given(summaries)
@settings(max_examples=30, deadline=None)
def test_rates_are_those_of_the_summary(document: Mapping[str, object]) -> None:
    assert {name for name in document if name.endswith("_rate")} == set(RATES)
    for rate in RATES:
        assert percent(counts_of(document, rate)) == document[rate]


@given(several)
@settings(max_examples=100, deadline=None)
def test_an_interval_holds_its_rate(given_counts: list[Counts]) -> None:
    for one, interval in zip(given_counts, wilson(given_counts), strict=True):
        rate = percent(one)
        if rate is None:
            assert interval is None
        else:
            assert interval is not None
            assert 0 <= interval[0] <= rate <= interval[1] <= 100
            assert interval[0] < interval[1]


@pytest.mark.parametrize(
    "one", [(0, 1), (1, 1), (0, 50), (50, 50), (410, 1_000), (3, 2_000_000), (1_999_999, 2_000_000)]
)
def test_intervals_are_those_of_scipy(one: tuple[int, int]) -> None:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    expected = binomtest(*one).proportion_ci(method="wilson")
    (interval,) = wilson([Counts(*one)])
    assert interval == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-9, abs=1e-12)


def test_what_is_no_proportion_has_no_interval_and_no_words() -> None:
    # 20 opened, 30 clicked.
    document = summary_of([50, 0, 10, 10, 20, 0])
    (found,) = intervals([document])
    assert found["click_to_open_rate"] is None
    assert found["openers_who_clicked_rate"] is not None
    (only,) = rows_of(experiment([({"a": "1"}, document)], "click_to_open_rate"))
    assert only["verdict"] is None
    (cell,) = cells_of(heatmap([({"a": "1"}, document)], "a", "b", "click_to_open_rate"))
    assert (cell["rate"], cell["interval"], cell["verdict"]) == (150.0, None, None)
    assert set(intervals([summary_of([0] * 6)])[0].values()) == {None}


def rows_of(document: Mapping[str, object]) -> list[dict[str, Any]]:
    found = document["rows"]
    assert isinstance(found, list)
    return found


def cells_of(document: Mapping[str, object]) -> list[dict[str, Any]]:
    found = document["cells"]
    assert isinstance(found, list)
    return found


EARLY, NONE = "too early to tell", "no difference seen"


@pytest.mark.parametrize(
    ("given_counts", "expected"),
    [
        ([], []),
        ([(0, 0)], [EARLY]),
        ([(500, 1_000)], [EARLY]),  # nothing to compare it with
        ([(0, 0), (0, 0)], [EARLY, EARLY]),
        ([(50, 99), (0, 99)], [EARLY, EARLY]),  # a difference, but of too few
        ([(50, 100), (10, 100)], ["better", "worse"]),
        ([(100, 1_000), (105, 1_000)], [EARLY, EARLY]),  # a fifth more could hide
        ([(10_000, 100_000), (10_050, 100_000)], [NONE, NONE]),
        ([(0, 100_000), (0, 100_000)], [EARLY, EARLY]),
        ([(9_000, 9_000), (9_000, 9_000)], [NONE, NONE]),
        ([(100, 1_000), (160, 1_000), (0, 0)], ["worse", "better", EARLY]),
        ([(300, 1_000), (310, 1_000), (100, 1_000)], ["better", "better", "worse"]),
        ([(300, 1_000), (10, 30), (100, 1_000)], ["better", EARLY, "worse"]),
        ([(0, 5_000), (8, 5_000)], ["worse", "better"]),  # Fisher: 0.0078
        ([(0, 5_000), (5, 5_000)], [EARLY, EARLY]),  # Fisher: 0.062, chi-square would say 0.025
        ([(9, 154), (11, 462)], ["better", "worse"]),  # just 5 are expected, chi-square: 0.036
    ],
)
def test_words(given_counts: list[tuple[int, int]], expected: list[str]) -> None:
    assert verdicts([Counts(*one) for one in given_counts]) == expected


@given(several)
@settings(max_examples=60, deadline=None)
def test_the_tests_are_those_of_scipy(given_counts: list[Counts]) -> None:
    """With two variants, the words are what scipy's own test of their table says, at the level."""
    from scipy.stats import chi2_contingency, fisher_exact
    from scipy.stats.contingency import expected_freq  # type: ignore[import-untyped]

    for one, other in pairwise(given_counts):
        table = [[one.having, one.total - one.having], [other.having, other.total - other.having]]
        large = min(one.total, other.total) >= 100 and 0 < one.having + other.having < one.total + other.total
        if large and expected_freq(table).min() >= 5:
            differs = chi2_contingency(table, correction=False).pvalue < LEVEL
        else:
            differs = large and fisher_exact(table).pvalue < LEVEL
        assert ("better" in verdicts([one, other])) == differs


def test_two_variants_are_one_comparison_and_more_are_corrected() -> None:
    # p = 0.030 for two; among four (three alike) it is not enough any more.
    pair = [Counts(200, 1_000), Counts(241, 1_000)]
    assert verdicts(pair) == ["worse", "better"]
    assert "better" not in verdicts(
        [Counts(200, 1_000), Counts(200, 1_000), Counts(200, 1_000), Counts(232, 1_000)]
    )


def test_fewer_complaints_are_better() -> None:
    pair = [Counts(10, 1_000), Counts(50, 1_000)]
    assert verdicts(pair, lower_is_better=True) == ["better", "worse"]
    assert set(RATES) > LOWER_IS_BETTER
    assert set(RATES) > UNTESTED


@given(several.filter(bool), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_words_do_not_depend_on_order(given_counts: list[Counts], chance: random.Random) -> None:
    words = verdicts(given_counts)
    assert set(words) <= set(get_args(Verdict))
    order = list(range(len(given_counts)))
    chance.shuffle(order)
    assert verdicts([given_counts[place] for place in order]) == [words[place] for place in order]
    opposite = {"better": "worse", "worse": "better"}
    assert verdicts(given_counts, lower_is_better=True) == [opposite.get(word, word) for word in words]


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm(values: list[float]) -> None:
    corrected = holm(values)
    assert all(
        min(value, 1.0) <= more <= min(1.0, len(values) * value)
        for value, more in zip(values, corrected, strict=True)
    )
    assert sorted(values) == [
        values[place] for place in sorted(range(len(values)), key=lambda p: (corrected[p], values[p]))
    ]


def test_holm_as_in_its_books() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_without_a_difference_one_is_seldom_found() -> None:
    """Six equal variants, 400 times: at least one wrong word in at most 5 % of them, and what chance adds to it."""
    import numpy as np

    draws = np.random.default_rng(3).binomial(2_000, 0.05, (400, 6)).tolist()
    wrong = sum(
        any(w in ("better", "worse") for w in verdicts([Counts(k, 2_000) for k in ks])) for ks in draws
    )
    assert wrong <= 400 * LEVEL + 3 * (400 * LEVEL * (1 - LEVEL)) ** 0.5


@given(rows)
@settings(max_examples=60, deadline=None)
def test_cells_add_up_to_the_rows(given_rows: list[Row]) -> None:
    for rate in RATES:
        document = heatmap(given_rows, "subject", "content", rate)
        cells = cells_of(document)
        expected = [counts_of(document, rate) for _, document in given_rows]
        assert sum(cell["numerator"] for cell in cells) == sum(one.having for one in expected)
        assert sum(cell["denominator"] for cell in cells) == sum(one.total for one in expected)
        assert sum(cell["recipients"] for cell in cells) == sum(
            counts_of(d, "open_rate").total for _, d in given_rows
        )
        assert {(cell["x"], cell["y"]) for cell in cells} == {
            (variant.get("subject"), variant.get("content")) for variant, _ in given_rows
        }
        # A chosen value of the third field and all its others are everything.
        parts = [
            heatmap([r for r in given_rows if r[0].get("sender") is None], "subject", "content", rate),
            *(heatmap(given_rows, "subject", "content", rate, {"sender": value}) for value in "ABC"),
        ]
        numerators = [cell["numerator"] for part in parts for cell in cells_of(part)]
        assert sum(numerators) == sum(cell["numerator"] for cell in cells)
        assert heatmap(given_rows[::-1], "subject", "content", rate) == document


def test_three_subjects_by_two_contents_are_six_cells() -> None:
    given_rows = [
        row({"subject": subject, "content": content, "sender": sender}, 1_000, 10 * n)
        for n, (subject, content, sender) in enumerate(
            (s, t, u) for s in ("A", "B", "C") for t in ("long", "short") for u in ("Ann", "Bob")
        )
    ]
    document = heatmap(given_rows, "subject", "content", "click_rate")
    assert (document["x"], document["y"]) == (["A", "B", "C"], ["long", "short"])
    assert len(cells_of(document)) == 6
    first = cells_of(document)[0]
    assert {
        name: first[name] for name in ("x", "y", "recipients", "numerator", "denominator", "rate", "verdict")
    } == {
        "x": "A",
        "y": "long",
        "recipients": 2_000,
        "numerator": 10,
        "denominator": 2_000,
        "rate": 0.5,
        "verdict": "worse",
    }
    assert first["interval"][0] < 0.5 < first["interval"][1]
    chosen = cells_of(heatmap(given_rows, "subject", "content", "click_rate", {"sender": "Bob"}))
    assert [cell["numerator"] for cell in chosen] == [10, 30, 50, 70, 90, 110]
    assert heatmap(given_rows, "subject", "content", "click_rate", {"sender": "Eve"})["cells"] == []


def test_variants_without_a_field_have_a_place_of_their_own() -> None:
    document = heatmap([row({"a": "1"}, 10, 1), row({"a": "1", "b": "2"}, 10, 2)], "a", "b", "click_rate")
    assert (document["x"], document["y"]) == (["1"], ["2", None])
    assert [(cell["x"], cell["y"], cell["numerator"]) for cell in cells_of(document)] == [
        ("1", "2", 2),
        ("1", None, 1),
    ]


def test_wrong_questions() -> None:
    with pytest.raises(ValueError, match="two different"):
        heatmap([], "a", "a", "open_rate")
    for ask in (experiment, lambda given_rows, rate: heatmap(given_rows, "a", "b", rate)):
        with pytest.raises(KeyError):
            ask([row({"a": "1"}, 10, 1)], "sent")


def test_an_experiment_names_its_method() -> None:
    document = experiment([row({"subject": "A"}, 1_000, 20), row({"subject": "B"}, 1_000, 60)])
    assert document["rate"] == DEFAULT_RATE
    assert [r["verdict"] for r in rows_of(document)] == ["worse", "better"]
    assert rows_of(document)[0]["variant"] == {"subject": "A"}
    assert set(rows_of(document)[0]["interval"]) == set(RATES)
    assert document["method"] == {
        "interval": "Wilson, 95 %",
        "test": "Pearson's chi-square of two proportions, Fisher's exact test where an expected count is below 5",
        "compared_with": "all other variants together",
        "correction": "Holm",
        "level_percent": 5.0,
        "minimum_recipients": 100,
        "relevant_difference_percent": 20.0,
        "power_percent": 80.0,
    }


def test_200_rows_take_little_time() -> None:
    given_rows = [row({"subject": str(n)}, 10_000, 200 + n % 40) for n in range(200)]
    experiment(given_rows)
    took_s = []
    for _ in range(5):  # a collection of garbage may come in between
        began = time.process_time()
        experiment(given_rows)
        took_s.append(time.process_time() - began)
    assert min(took_s) < 0.2  # 10 ms on an idle machine


def test_nothing_of_scipy_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys; from app.experiment import *; wilson([Counts(1, 2)]); verdicts([Counts(1, 2)]); "
        "sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
