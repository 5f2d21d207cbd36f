"""Sketches: a function of the set of hashes alone, exact while small, and within their error when large."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hyperloglog import HyperLogLog  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tables.sketches import REGISTERS, SPARSE, STANDARD_ERROR_PERCENT, Sketch, Union, sparse


def people(number: int, seed: int = 1) -> list[int]:
    hashes: list[int] = np.random.default_rng(seed).integers(0, 1 << 64, number, dtype=np.uint64).tolist()
    return hashes


def sketch_of(hashes: list[int]) -> Sketch:
    sketch = Sketch()
    sketch.add(hashes)
    return sketch


PEOPLE = people(4_000)
EDGES = [0, 1, (1 << 64) - 1, 1 << 63, REGISTERS - 1, REGISTERS]

# Parts of a set around the border between sparse and dense: any slices, and any few.
slices = st.tuples(st.integers(0, len(PEOPLE)), st.integers(0, len(PEOPLE))).map(
    lambda ends: PEOPLE[min(ends) : max(ends)]
)
few = st.lists(st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from(EDGES + PEOPLE[:9])), max_size=60)
parts = st.lists(st.one_of(slices, few), max_size=6)


@given(parts)
@settings(max_examples=60, deadline=None)
def test_bytes_depend_on_the_set_alone(given_parts: list[list[int]]) -> None:
    everyone = sorted({person for part in given_parts for person in part})
    expected = sketch_of(everyone).encode()

    one_by_one = Sketch()
    for person in reversed(everyone):
        one_by_one.add([person])
    in_parts, merged, doubled, union = Sketch(), Sketch(), Sketch(), Union()
    for part in given_parts:
        in_parts.add(part)
        merged.merge(sketch_of(part))
        doubled.add(part + part)
        doubled = Sketch.decode(doubled.encode())
        union.add(sketch_of(part).encode())
    assert one_by_one.encode() == expected
    assert in_parts.encode() == expected
    assert merged.encode() == expected
    assert doubled.encode() == expected
    assert (union.count(), union.exact) == (in_parts.count(), in_parts.exact)
    assert in_parts.exact == (len(everyone) <= SPARSE)


@given(slices, st.one_of(slices, few))
@settings(max_examples=60, deadline=None)
def test_a_change_is_told(before: list[int], more: list[int]) -> None:
    for act in ("add", "merge"):
        sketch = sketch_of(before)
        encoded = sketch.encode()
        changed = sketch.add(more) if act == "add" else sketch.merge(sketch_of(more))
        assert changed == (sketch.encode() != encoded)
        assert not (sketch.add(more) or sketch.merge(sketch_of(more)) or sketch.merge(sketch))


@pytest.mark.parametrize("number", [0, 1, 48, 49, SPARSE - 1, SPARSE])
def test_few_are_exact(number: int) -> None:
    sketch = sketch_of(PEOPLE[:number])
    assert (sketch.exact, sketch.count(), len(sketch.encode())) == (True, number, 2 + 8 * number)


def test_one_more_is_an_estimate_and_stays_one() -> None:
    sketch = sketch_of(PEOPLE[: SPARSE + 1])
    assert not sketch.exact
    assert len(sketch.encode()) == 2 + REGISTERS
    assert sketch.count() == pytest.approx(SPARSE + 1, rel=0.03)
    again = Sketch.decode(sketch.encode())
    assert (again.encode(), again.count()) == (sketch.encode(), sketch.count())


def test_registers_are_those_of_the_library() -> None:
    """The library's own rule for a register, one hash at a time, and its own estimate of them."""
    counter = HyperLogLog(0.00813)
    assert counter.p == 14
    for person in PEOPLE + EDGES:
        place, rest = person % REGISTERS, person // REGISTERS
        counter.M[place] = max(counter.M[place], 50 - rest.bit_length() + 1)
    for sketch in (sketch_of(PEOPLE + EDGES), Sketch()):
        for person in PEOPLE + EDGES:
            sketch.add([person])
        assert sketch.encode()[2:] == counter.M.astype(np.uint8).tobytes()
        assert sketch.count() == round(counter.card())


def test_the_error_promised_is_that_of_the_registers() -> None:
    assert pytest.approx(104 / math.sqrt(REGISTERS), abs=0.005) == STANDARD_ERROR_PERCENT


def test_a_union_folds_what_it_collects() -> None:
    """More than it keeps pending, first with few different people, then with many."""
    union = Union()
    for start in range(300):
        union.add(sketch_of(PEOPLE[start : start + 1_200]).encode())
    assert (union.exact, union.count()) == (True, 1_499)
    for start in range(0, 2_800, 10):
        union.add(sketch_of(PEOPLE[start : start + 1_200]).encode())
    assert not union.exact
    assert union.count() == sketch_of(PEOPLE[:3_990]).count()


def test_hashes_in_any_order_with_repeats_beside_sketches() -> None:
    for others in (0, 5, 3_000):
        for asked_between in (False, True):
            union = Union()
            union.add(sparse(np.array(PEOPLE[9::-1] + PEOPLE[:3], "<u8").tobytes()))
            if asked_between:
                assert union.count() == 10
            union.add(sketch_of(PEOPLE[10 : 10 + others]).encode())
            assert union.count() == sketch_of(PEOPLE[: 10 + others]).count()
            assert union.encode() == sketch_of(PEOPLE[: 10 + others]).encode()


@pytest.mark.parametrize("number", [0, 3, SPARSE, SPARSE + 1, 3_000])
def test_a_union_is_encoded_as_one_sketch_of_all(number: int) -> None:
    union = Union()
    for start in range(0, number, 700):
        union.add(sketch_of(PEOPLE[start : min(start + 900, number)]).encode())
    assert union.encode() == sketch_of(PEOPLE[:number]).encode()
    again = Union()
    again.add(union.encode())
    assert (again.exact, again.count()) == (union.exact, union.count())


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x01",
        b"\x00\x00",
        b"\x02\x00" + bytes(8),
        b"\x01\x02",
        b"\x01\x00" + bytes(7),
        b"\x01\x00" + bytes(8 * SPARSE + 8),
        b"\x01\x01" + bytes(REGISTERS - 1),
    ],
)
def test_other_bytes_are_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="sketch"):
        Sketch.decode(encoded)
    with pytest.raises(ValueError, match="sketch"):
        Union().add(encoded)


def test_windows_of_a_million_people_are_within_the_error() -> None:
    """100 random windows over the quarter hours of four campaigns: the root mean square of the relative errors."""
    chance = np.random.default_rng(5)
    errors = []
    for campaign in range(4):
        everyone = np.array(people(1_000_000, seed=campaign), np.uint64)
        # Most come in the first hours, and everyone comes again once, at any time.
        first = np.minimum(chance.exponential(40.0, len(everyone)).astype(np.int16), 199)
        again = chance.integers(0, 200, len(everyone), np.int16)
        hashes, at = np.concatenate((everyone, everyone)), np.concatenate((first, again))
        order = np.argsort(at, kind="stable")
        hashes, starts = hashes[order], np.searchsorted(at[order], np.arange(201))
        quarters = [
            sketch_of(hashes[start:end].tolist()).encode() for start, end in pairwise(starts.tolist())
        ]
        for _ in range(25):
            begin, end = sorted(chance.choice(201, 2, replace=False).tolist())
            exact = np.count_nonzero((first >= begin) & (first < end) | (again >= begin) & (again < end))
            union = Union()
            for encoded in quarters[begin:end]:
                union.add(encoded)
            errors.append(union.count() / exact - 1)
    assert 100 * math.sqrt(sum(error * error for error in errors) / len(errors)) < 0.9
