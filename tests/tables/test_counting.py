"""Any batches of facts, moved copies, resends and erasures, with rebuilds and restarts, are one batch of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from msgspec.structs import replace

from app import breakdown as b
from app import facts as f
from app import fold as folding
from app import keys
from app.facts import Entry
from cli.reconcile import reconcile
from cli.verifier.compare import Comparison
from tables import people_writer, sketches
from tables.reading import PartitionReader
from tests.support.facts import LINKS, SECRET, entries
from tests.tables.test_partition import (
    ADDRESSES,
    CAMPAIGNS,
    check_sums,
    database,
    dump,
    erasure,
    record,
)

TELLING = f"https://example.com/?who={ADDRESSES[0]}"
"""A link with an address in it, which others follow too."""


def telling(line: tuple[str, Entry]) -> tuple[str, Entry]:
    campaign, entry = line
    detail = f.decode_detail(entry.detail)
    if detail.link != LINKS[2]:
        return line
    fact = replace(entry.fact, link=keys.text_id(TELLING))
    return campaign, replace(entry, fact=fact, detail=f.encode(replace(detail, link=TELLING)))


GONE, STAYS = ADDRESSES[:2]
one = entries(addresses=(GONE, GONE, STAYS), campaigns=("spring", "spring", "autumn"), few=True).map(telling)
facts = st.lists(one, min_size=4, max_size=30)
erasures = st.lists(st.tuples(st.sampled_from(CAMPAIGNS), st.sampled_from((GONE, STAYS))), max_size=1)


def shown(folder: Path) -> Mapping[str, object]:
    """What is stored, and the names that the report shows."""
    with PartitionReader(folder / "p0") as reader:
        names = []
        for key, _ in reader.campaigns():
            texts = reader.book(key).texts
            used = {(b.LINK, entry.fact.link) for entry in reader.log(key)}
            names.append((key, {number: texts.get((section, number)) for section, number in used}))
    return {"names": names, **dump(folder)}


class Counting(RuleBasedStateMachine):
    @initialize(few=st.sampled_from([1, 1_500]), kept=st.sampled_from([2, 200]))
    def open(self, few: int, kept: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(folding, "KEPT", kept)
        self.patch.setattr(sketches, "SPARSE", few)
        self.patch.setattr(sketches, "SURELY_DENSE", 2 * few)
        self.patch.setattr(people_writer, "TAIL", min(few, people_writer.TAIL))
        self.folder = Path(tempfile.mkdtemp(prefix="campaign-reports-test-"))
        self.base = database(self.folder / "one", cache=1)
        self.lines: list[tuple[str, Entry]] = []
        self.erased: set[tuple[str, str]] = set()

    @rule(line=facts, gone=erasures, erasures_first=st.booleans())
    def count(self, line: list[tuple[str, Entry]], gone: list[tuple[str, str]], erasures_first: bool) -> None:
        self.lines += line
        self.erased.update(gone)
        self.apply(line, gone, erasures_first)

    @rule(share=st.integers(1, 4))
    def resend(self, share: int) -> None:
        self.apply(self.lines[::share], [], False)

    def apply(self, line: list[tuple[str, Entry]], gone: list[tuple[str, str]], erasures_first: bool) -> None:
        values = [record(campaign, [entry]) for campaign, entry in line]
        made = [erasure(*one) for one in gone]
        values = [*made, *values] if erasures_first else [*values, *made]
        self.base.apply(list(enumerate(values, self.base.next_offset)))

    @rule()
    def rebuild(self) -> None:
        self.base.rebuild(self.base.meta.rules, "request", self.base.generation + 1, lambda _: None)

    @rule()
    def reopen(self) -> None:
        self.base.close()
        self.base = database(self.folder / "one", cache=1)

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        self.base.close()
        try:
            self.compare()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def compare(self) -> None:
        whole = database(self.folder / "other")
        ordered = sorted(self.lines, key=lambda line: (line[1].fact.at_ms, line[1].fact.identity))
        values = [record(campaign, [entry]) for campaign, entry in ordered]
        values += [erasure(*one) for one in sorted(self.erased)]
        whole.apply(list(enumerate(values)))
        whole.close()
        assert shown(self.folder / "one") == shown(self.folder / "other")
        check_sums(self.folder / "one")
        result = Comparison()
        with PartitionReader(self.folder / "one" / "p0") as reader:
            list(reconcile(reader, "partition 0", None, result, SECRET))
        assert [text for cell in result.cells.values() for text in cell.told] == []


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Counting,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_history_is_one_batch() -> None:
    run(40, 6)


@pytest.mark.long
def test_any_long_history_is_one_batch() -> None:
    run(200, 20)
