"""The verifier: independent of the engine, agreeing with it on everything, and seeing a difference wherever one is."""

from __future__ import annotations

import ast
from collections import Counter
from functools import partial
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import TimeoutError as RedisTimeoutError

from app import facts as f
from app.contribution import METRICS
from app.experiment import RATES
from app.experiment import experiment as experiment_of
from app.experiment import heatmap as engine_heatmap
from app.facts import AGENT_SCANNER
from app.report import FRESH, report_document
from app.summary import Count
from app.summary import summary as engine_summary
from app.timeline import timeline as engine_timeline
from app.variants import Asked
from app.variants import variants as engine_variants
from cli import verify
from cli.progress import Progress
from cli.streams import Streams
from cli.traffic.ledger import AcceptedLine, FactLine, LabelsLine, PoisonLine, encode_line
from cli.verifier import (
    answers,
    campaigns,
    events,
    experiment,
    heatmap,
    rules,
    sections,
    stored,
    stored_rows,
    summary,
    timeline,
    verification,
)
from cli.verifier.compare import Comparison
from cli.verifier.ledger import Ledger, read_ledger
from cli.verifier.shown import Json, Pages
from cli.verifier.stored import Database
from cli.verifier.stored_rows import StoredRows
from cli.verifier.variants import text_of
from tables.broken import is_database_error
from tables.views import Labels, View
from tests.support.databases import Databases
from tests.support.facts import entry
from tests.support.oracle import CAMPAIGN, START_MS, Engine
from tests.support.oracle import campaigns as world

VERIFIER = Path(verification.__file__).parent
FORBIDDEN = (
    "app.state",
    "app.fold",
    "app.contribution",
    "app.verdicts",
    "app.bursts",
    "app.breakdown",
    "app.sections",
    "app.variants",
    "app.erasure",
    "app.experiment",
    "app.summary",
    "app.timeline",
    "app.report",
    "app.user_agents",
)
COUNTS: tuple[Count, ...] = ("all", "people")
HOUR_MS = 3_600_000
LABELS = Labels("Spring", None, {"subject": {"A": "Hello"}})
VARIANTS = (
    {"subject": "A"},
    {"subject": "B", "content": "1"},
    {"subject": "A", "content": "2"},
    {"subject": "B"},
)

# Independence


@pytest.mark.parametrize("path", sorted(VERIFIER.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_of_the_engine_is_imported_and_modules_are_short(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
    assert not imported & set(FORBIDDEN)
    assert not {name for name in imported if name.startswith(("agents", "api"))}
    assert len(path.read_text().splitlines()) <= 150


# The definitions, against the engine's

Recipients = list[list[tuple[FactLine, int]]]


@settings(max_examples=200, deadline=None)
@given(world())
def test_both_say_the_same_of_any_recipients(recipients: Recipients) -> None:
    sums = Engine(recipients).sums
    counted = [rules.count_recipient([line for line, _ in lines]) for lines in recipients]
    for count in COUNTS:
        expected = summary.of_recipients(counted, count)
        assert expected == summary.of_json(engine_summary(sums.patterns, sums.totals, count))
        assert expected == summary.of_patterns(sums.patterns, sums.totals, count)
        quarters = timeline.of_recipients(counted, count)
        assert quarters == timeline.of_stored(sums.quarters, count)
        for zone in answers.ZONES:
            shown = engine_timeline(
                sums.quarters,
                [0] * METRICS,
                timezone=zone,
                count=count,
                unit="hour",
            )
            rows = msgspec.convert(shown["rows"], list[Json])
            assert timeline.by_hour(quarters, ZoneInfo(zone)) == timeline.of_json(rows)
            assert timeline.holes(rows) == []
    assert campaigns.newest_at(counted) == sums.as_of_ms


@settings(max_examples=200, deadline=None)
@given(world())
def test_both_say_the_same_of_any_sections(recipients: Recipients) -> None:
    engine = Engine(recipients)
    view = engine.view(LABELS)
    facts = {lines[0][0].recipient: [line for line, _ in lines] for lines in recipients}
    counted = [rules.count_recipient(lines) for lines in facts.values()]
    expected = sections.expect(counted, facts, LABELS.fields)
    result = Comparison()
    sections.compare_stored(result, "Redis", "spring", expected, stored.rows_of_view(view))
    rows = StoredRows()
    for book in engine.books:
        stored.add_book(rows, book)
    sections.compare_stored(result, "RocksDB", "spring", expected, rows)
    for count in COUNTS:
        document = report_document(view, freshness=FRESH, count=count, timezone="UTC")
        plain = msgspec.json.decode(msgspec.json.encode(document), type=Json)
        sections.compare_json(result, "JSON", f"spring {count}", expected, plain, count, sections.NAMES)
    told = [text for cell in result.cells.values() for text in cell.told]
    assert told == []


shares = st.integers(0, 300).flatmap(
    lambda whole: st.tuples(st.integers(0, whole), st.just(whole), st.sampled_from((1, 1, 10, 100)))
)


@settings(max_examples=300, deadline=None)
@given(st.lists(shares, max_size=6), st.sampled_from(sorted(RATES)))
def test_both_say_the_same_of_any_variants(found: list[tuple[int, int, int]], rate: str) -> None:
    over, under = RATES[rate]
    numbers = []
    for part, whole, times in found:
        each: summary.Numbers = dict.fromkeys((name for pair in RATES.values() for name in pair), 0)
        numbers.append(each | {over: part * times, under: whole * times})
    rows = experiment_of([({}, each) for each in numbers], rate)["rows"]
    assert experiment.words(numbers, rate) == [row["verdict"] for row in rows]
    for each, row in zip(numbers, rows, strict=True):
        ends, shown = experiment.intervals(each)[rate], row["interval"][rate]
        assert (ends is None) == (shown is None)
        assert ends is None or ends == pytest.approx(shown, abs=1e-8)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(shares, *[st.sampled_from((None, "A", "B", "é"))] * 3), max_size=12),
    st.sampled_from(sorted(RATES)),
)
def test_both_say_the_same_of_any_heatmap(
    found: list[tuple[tuple[int, int, int], str | None, str | None, str | None]], rate: str
) -> None:
    over, under = RATES[rate]
    numbers: dict[str, summary.Numbers] = {}
    for (part, whole, times), *values in found:
        named = zip(("subject", "content", "sender"), values, strict=True)
        if variant := {field: value for field, value in named if value is not None}:
            each: summary.Numbers = dict.fromkeys((name for pair in RATES.values() for name in pair), 0)
            numbers[text_of(variant)] = each | {over: part * times, under: whole * times}
    rows = [(msgspec.json.decode(text, type=dict[str, str]), each) for text, each in numbers.items()]
    for fields in (("subject", "content"), ("sender", "subject")):
        section = msgspec.json.decode(msgspec.json.encode(engine_heatmap(rows, *fields, rate)), type=Json)
        result = Comparison()
        heatmap.compare(result, "JSON", "spring", numbers, section, fields, rate)
        told = [text for cell in result.cells.values() for text in cell.told]
        assert told == []


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([(9, 99), (1, 99)], ["too early to tell", "too early to tell"]),
        ([(400, 1_000), (300, 1_000)], ["better", "worse"]),
        ([(5_000, 9_000), (5_001, 9_000)], ["no difference seen", "no difference seen"]),
        # Just 5 are expected: chi-square's p is 0.036, Fisher's would be 0.061.
        ([(9, 154), (11, 462)], ["better", "worse"]),
    ],
)
def test_words(shares: list[tuple[int, int]], words: list[str]) -> None:
    numbers: list[summary.Numbers] = [
        {"clicked": part, "sent": whole, "opened": whole} for part, whole in shares
    ]
    assert experiment.words(numbers, "click_rate") == words
    assert experiment.words(numbers, "click_to_open_rate") == [None, None]
    opposite = {"better": "worse", "worse": "better"}
    bounced: list[summary.Numbers] = [{"bounced": part, "sent": whole} for part, whole in shares]
    assert experiment.words(bounced, "bounce_rate") == [opposite.get(word, word) for word in words]


@pytest.mark.parametrize("count", COUNTS)
def test_both_say_the_same_where_there_are_more_rows_than_are_shown(count: Count) -> None:
    recipients: Recipients = []
    for number in range(1010):
        few = number % 300
        verdict, signs = ("human", 0) if number % 3 else ("scanner", AGENT_SCANNER)
        mail = line(
            recipient=f"r{number}@example.com", provider=f"p{few}", variant={"field": str(few)}, user_agent="a",
            country=f"c{few}", city=f"t{few}", client=f"m{few}", browser=f"b{few}", verdict=verdict,
        )  # fmt: skip
        change = partial(msgspec.structs.replace, mail)
        click = change(type="clicked", link=f"https://example.com/{number}", position=1)
        bounce = change(type="bounced", bounce="hard", reason=f"why {few}", verdict=None)
        recipients.append([(click, signs), (change(type="opened"), signs), (bounce, 0)])
    engine = Engine(recipients)
    facts = {lines[0][0].recipient: [each for each, _ in lines] for lines in recipients}
    expected = sections.expect([rules.count_recipient(lines) for lines in facts.values()], facts, {})
    result = Comparison()
    document = report_document(engine.view(Labels()), freshness=FRESH, count=count, timezone="UTC")
    plain = msgspec.json.decode(msgspec.json.encode(document), type=Json)
    sections.compare_json(result, "JSON", "spring", expected, plain, count, sections.NAMES)
    assert [text for cell in result.cells.values() for text in cell.told] == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4 * 24 * 3), min_size=1, max_size=20))
def test_hours_of_the_shift_by_half_an_hour(offsets: list[int]) -> None:
    """Lord Howe, 5 April 2026, 02:00 becomes 01:30."""
    first = 1_775_260_800_000 // timeline.QUARTER_MS
    stored = {first + offset: [1] + [0] * (METRICS - 1) for offset in offsets}
    shown = engine_timeline(stored, [0] * METRICS, timezone="Australia/Lord_Howe", count="all", unit="hour")
    rows = msgspec.convert(shown["rows"], list[Json])
    expected = timeline.by_hour(timeline.of_stored(stored, "all"), ZoneInfo("Australia/Lord_Howe"))
    assert expected == timeline.of_json(rows)


# The ledger


def line(**changes: object) -> FactLine:
    plain = FactLine(
        request=1, id="e1", org="acme", esp="sendgrid", campaign="spring", type="opened",
        recipient="R1@example.com ", at=START_MS, reported=str(START_MS // 1000), ip="192.0.2.1", user_agent="x",
        verdict="human",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def written(path: Path, *lines: object) -> Ledger:
    path.write_bytes(b"".join(encode_line(each) + b"\n" for each in lines))
    return read_ledger(path)


ACCEPTED = AcceptedLine(request=1, status=200, tries=1, at=0)


def test_a_fact_counts_once_however_often_it_was_sent(tmp_path: Path) -> None:
    again = line(id="e9", recipient="r1@EXAMPLE.com", duplicate=True)
    later = line(reported=str(START_MS // 1000 + 1))
    ledger = written(tmp_path / "l", line(), again, later, ACCEPTED)
    assert (ledger.fact_count, ledger.duplicates) == (2, 1)
    assert list(ledger.facts[CAMPAIGN]) == ["r1@example.com"]


def test_the_senders_own_id_is_the_identity(tmp_path: Path) -> None:
    ledger = written(
        tmp_path / "l", line(event_id="1"), line(event_id="2"), line(event_id="1", ip=None), ACCEPTED
    )
    assert (ledger.fact_count, ledger.duplicates) == (2, 1)


def test_what_was_not_accepted_is_not_demanded_but_said(tmp_path: Path) -> None:
    poison = PoisonLine(request=1, org="acme", what="NaN", where="body")
    labels = LabelsLine(org="acme", campaign="spring", name="Spring")
    ledger = written(tmp_path / "l", labels, poison, line(), ACCEPTED, line(request=2, reported="9"))
    assert (ledger.fact_count, ledger.unsure, ledger.poison) == (1, 1, {"body": 1})
    assert ledger.labels == {CAMPAIGN: "Spring"}


def test_half_a_last_line_is_left_out_and_any_other_nonsense_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_bytes(encode_line(line()) + b"\n" + encode_line(ACCEPTED) + b'\n{"line":"fa')
    assert read_ledger(path).fact_count == 1
    path.write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="line 1"):
        read_ledger(path)


# A difference, wherever it is


def people() -> list[list[FactLine]]:
    found = []
    for number in range(20):
        who = f"r{number}@example.com"
        mail = line(recipient=who, provider="Gmail", variant=VARIANTS[number % len(VARIANTS)])
        plain = partial(msgspec.structs.replace, mail, ip=None, user_agent=None, verdict=None)
        act = partial(
            msgspec.structs.replace, mail, at=START_MS + number * HOUR_MS, country="DE", client="Outlook",
            device="desktop", system="Windows", browser="Firefox", city="Berlin" if number % 3 else None,
        )  # fmt: skip
        lines = [plain(type="delivered", at=START_MS)]
        if number % 2:
            lines.append(act())
        if number % 5 == 0:
            lines.append(act(type="clicked", link="https://example.com/", position=1 + number // 10))
        if number == 7:
            lines = [plain(type="bounced", at=START_MS, bounce="hard", reason="no such user")]
        found.append(lines)
    return found


class Right:
    """All places as they must be."""

    def __init__(self) -> None:
        self.people = people()
        self.ledger = Ledger(
            facts={CAMPAIGN: {lines[0].recipient: lines for lines in self.people}},
            labels={CAMPAIGN: "Spring"},
            fields={CAMPAIGN: LABELS.fields},
        )
        self.wanted = {CAMPAIGN: verification.expect(self.ledger, CAMPAIGN)}
        engine = Engine([[(each, 0) for each in lines] for lines in self.people])
        self.sums = engine.sums
        self.rows = StoredRows()
        for book in engine.books:
            stored.add_book(self.rows, book)
        self.database = Database(
            recipients={
                CAMPAIGN: [
                    (lines[0].recipient, [(each.type, each.at) for each in lines]) for lines in self.people
                ]
            },
            sums={CAMPAIGN: self.sums},
            rows={CAMPAIGN: self.rows},
            log={CAMPAIGN: events.of_ledger(self.ledger.facts[CAMPAIGN], {})},
        )
        self.view = engine.view(LABELS)
        self.pages = FakePages(engine.view(LABELS))

    def compare(self) -> dict[str, int]:
        """Place → differences, of the places that have some."""
        result = Comparison()
        verification.compare_database(result, self.ledger, self.wanted, self.database)
        rows = {CAMPAIGN: stored.rows_of_view(self.view)}
        verification.compare_views(result, self.wanted, {CAMPAIGN: self.view}, rows)
        answers.compare_pages(result, self.ledger, self.wanted, "acme", self.pages, "Europe/Berlin")
        found: Counter[str] = Counter()
        for (place, _), cell in result.cells.items():
            found[place] += cell.differences
        assert sum(cell.compared for cell in result.cells.values()) > 200
        return {place: count for place, count in found.items() if count}


class FakePages(Pages):
    """The API's answers out of a view, by the engine's own functions."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.spoil: dict[str, dict[str, object]] = {}

    def _document(self, kind: str, count: Count, zone: str) -> Json:
        document = report_document(self.view, freshness=FRESH, count=count, timezone=zone)
        if kind == "timeline":
            assert self.view.quarters is not None
            document["timeline"] = engine_timeline(
                self.view.quarters, self.view.overflow, timezone=zone, count=count, unit="hour"
            )
        plain = msgspec.json.decode(msgspec.json.encode(document), type=Json)
        spoiled = self.spoil.get(kind)
        if spoiled is not None:
            plain = msgspec.json.decode(msgspec.json.encode(plain | spoiled), type=Json)
        return plain

    def _variants(self, count: Count, rate: str, fields: tuple[str, str] | None) -> Json:
        assert self.view.sections is not None
        section = engine_variants(self.view.sections, LABELS.fields, count, Asked(rate, fields))
        document = {"variants": section} | self.spoil.get(rate, {})
        return msgspec.json.decode(msgspec.json.encode(document), type=Json)

    def campaigns(self) -> list[Json]:
        return [self._document("list", "all", "UTC")]

    def section(self, campaign: str, name: str, **parameters: str) -> Json:
        if "rate" in parameters:
            fields = (parameters["x"], parameters["y"]) if "x" in parameters else None
            return self._variants(count_of(parameters), parameters["rate"], fields)
        return self._document(name, count_of(parameters), parameters.get("timezone", "Europe/Berlin"))

    def snapshot(self, campaign: str, **parameters: str) -> Json:
        return self._document("live", count_of(parameters), "Europe/Berlin")


def count_of(parameters: dict[str, str]) -> Count:
    return "people" if parameters["count"] == "people" else "all"


def test_no_difference_where_there_is_none() -> None:
    assert Right().compare() == {}


def test_a_recipients_lost_fact_is_seen() -> None:
    right = Right()
    right.database.recipients[CAMPAIGN][3][1].pop()
    assert right.compare() == {verification.STATES: 1}


def test_a_recipient_that_stands_twice_is_seen() -> None:
    right = Right()
    right.database.recipients[CAMPAIGN].append(right.database.recipients[CAMPAIGN][0])
    assert right.compare() == {verification.STATES: 1}


def test_a_fact_counted_twice_in_the_sums_is_seen() -> None:
    right = Right()
    right.sums.totals[5] += 1
    assert set(right.compare()) == {verification.SUMS}


def test_a_recipient_in_the_wrong_hour_is_seen() -> None:
    right = Right()
    quarter = min(right.sums.quarters)
    right.sums.quarters[quarter + 4] = right.sums.quarters.pop(quarter)
    assert set(right.compare()) == {verification.SUMS}


def test_an_entry_that_the_log_has_twice_is_seen() -> None:
    right = Right()
    right.database.log[CAMPAIGN][next(iter(right.database.log[CAMPAIGN]))] += 1
    assert right.compare() == {verification.LOG: 1}


def test_a_partition_that_is_behind_is_seen() -> None:
    right = Right()
    right.database.troubles.append("partition 0: counted up to 3, the log ends at 4")
    assert right.compare() == {verification.SUMS: 1}


def test_a_database_that_can_t_be_read_is_no_difference(tmp_path: Path) -> None:
    """What is missing then says nothing: the command ends with RocksDB's words, the way out and status 3."""
    databases = Databases(tmp_path)
    databases.write([entry(f.OPENED, START_MS + n, address=f"p{n}@example.com") for n in range(30)])
    for database in databases.databases.values():
        database.close()
    owned = {p: stored.Owner("worker", str(tmp_path / f"p{p}")) for p in databases.databases}
    stored.read_databases(owned, dict.fromkeys(owned, 0))
    (tmp_path / "p1" / "CURRENT").unlink()
    with pytest.raises(Exception, match=r"/p1/CURRENT") as raised:
        stored.read_databases(owned, dict.fromkeys(owned, 0))
    assert is_database_error(raised.value)


class NoRedis:
    """Streams whose Redis doesn't answer at first."""

    kafka, redis = "kafka:1", "redis://redis:2"

    def __init__(self) -> None:
        self.errors = [RedisTimeoutError("no answer")] * 3

    async def all(self) -> list[object]:
        if self.errors:
            raise self.errors.pop()
        return []


async def test_why_it_waits_is_said_at_once_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "POLL_S", 0)
    with Progress("records", None) as progress:
        assert await verify.wait_for_no_lag(cast(Streams, NoRedis()), 60, progress) == []
    said = capsys.readouterr().err
    assert said.count("waiting: Redis at redis:2") == 1


def test_an_old_view_is_seen() -> None:
    right = Right()
    pattern = max(right.view.patterns)
    right.view.patterns[pattern] -= 1
    assert set(right.compare()) == {verification.REDIS}


def test_a_view_that_is_not_complete_is_seen() -> None:
    right = Right()
    right.view.complete = False
    assert right.compare() == {verification.REDIS: 1}


@pytest.mark.parametrize(
    ("kind", "place"),
    [("summary", answers.JSON), ("timeline", answers.JSON), ("list", answers.JSON), ("live", answers.STREAM)],
)
def test_a_wrong_answer_is_seen(kind: str, place: str) -> None:
    right = Right()
    document = right.pages._document("none", "all", "Europe/Berlin")
    numbers = msgspec.convert(document["summary"], Json)
    section = msgspec.convert(document["timeline"], Json)
    rows = msgspec.convert(section["rows"], list[Json])
    rows[0]["sent"] = 1
    right.pages.spoil[kind] = {
        "summary": numbers | {"opened": 11},
        "timeline": section | {"rows": rows},
    }
    assert set(right.compare()) == {place}


@pytest.mark.parametrize(
    ("section", "rows", "spoil"),
    [
        ("links", "rows", {"total_clicks": 99}),
        ("links", "rows", {"unique_clicks": 99}),
        ("links", "rows", {"share": 99.0}),
        ("links", "rows", {"first_at": None}),
        ("links", "rows", {"last_at": "2026-01-01T00:00:00.000Z"}),
        ("links", "rows", {"positions": []}),
        ("links", "rows", {"id": "0"}),
        ("links", "rows", {"top_clickers": [{"recipient": "r1@example.com", "clicks": 1}]}),
        ("places", "countries", {"opened": 99}),
        ("places", "cities", {"city": "Atlantis"}),
        ("clients", "clients", {"opens": 99}),
        ("clients", "devices", {"device": "toaster"}),
        ("clients", "systems", {"clicks": 99}),
        ("clients", "browsers", {"clicked": 99}),
        ("providers", "rows", {"delivered": 99}),
        ("providers", "rows", {"reasons": {"why": 1}}),
        ("variants", "rows", {"recipients": 99}),
        ("variants", "rows", {"variant": {"subject": "Z"}}),
        ("variants", "rows", {"interval": {"click_rate": [1.0, 2.0]}}),
        ("variants", "rows", {"interval": {}}),
        ("variants", "rows", {"verdict": "better"}),
        ("variants", "rows", {"verdict": None}),
    ],
)
@pytest.mark.parametrize(
    ("kind", "place"), [("one", answers.JSON), ("report", answers.JSON), ("live", answers.STREAM)]
)
def test_a_wrong_row_is_seen(section: str, rows: str, spoil: Json, kind: str, place: str) -> None:
    right = Right()
    document = right.pages._document("none", "all", "Europe/Berlin")
    value = msgspec.convert(document[section], Json)
    found = msgspec.convert(value[rows], list[Json])
    found[0] |= spoil
    right.pages.spoil[section if kind == "one" else kind] = {section: value | {rows: found}}
    assert set(right.compare()) == {place}


@pytest.mark.parametrize(
    "spoil",
    [{}, {"recipients": 99}, {"numerator": 99}, {"denominator": 99}, {"rate": 99.5}, {"interval": [1.0, 2.0]},
     {"verdict": "better"}, {"x": "Z"}],
)  # fmt: skip
def test_a_wrong_cell_of_the_heatmap_is_seen(spoil: Json) -> None:
    right = Right()
    section = right.pages._variants("all", "bounce_rate", ("content", "subject"))["variants"]
    shown = msgspec.convert(section, Json)
    cells = msgspec.convert(msgspec.convert(shown["heatmap"], Json)["cells"], list[Json])
    assert len(cells) == 4
    cells[0] |= spoil
    heatmaps = msgspec.convert(shown["heatmap"], Json) | {"cells": cells}
    right.pages.spoil["bounce_rate"] = {"variants": shown | {"heatmap": heatmaps}}
    assert set(right.compare()) == ({answers.JSON} if spoil else set())


@pytest.mark.parametrize("spoil", [{"rate": "click_rate"}, {"rows": []}])
def test_a_wrong_word_about_another_rate_is_seen(spoil: Json) -> None:
    right = Right()
    assert right.view.sections is not None
    section = engine_variants(right.view.sections, LABELS.fields, "all", Asked("bounce_rate"))
    right.pages.spoil["bounce_rate"] = {"variants": section | spoil}
    assert set(right.compare()) == {answers.JSON}


@pytest.mark.parametrize("section", stored_rows.SECTIONS.values())
def test_a_row_that_is_wrong_in_the_database_is_seen(section: str) -> None:
    right = Right()
    tallies = right.rows.rows[section]
    tallies[next(iter(tallies))] += 1
    assert set(right.compare()) == {verification.SUMS}


def test_a_row_of_nobody_a_lost_row_and_a_wrong_click_are_seen() -> None:
    right = Right()
    right.rows.rows["city"]["XX", "Nowhere"] = 1
    right.rows.rows["device"].popitem()
    right.rows.ends["https://example.com/"] = (1, 2, 3, 4)
    assert right.compare() == {verification.SUMS: 3}


@pytest.mark.parametrize("section", stored_rows.SECTIONS)
def test_a_row_that_is_wrong_in_redis_is_seen(section: int) -> None:
    right = Right()
    assert right.view.sections is not None
    tallies = right.view.sections[section].tallies
    tallies[next(iter(tallies))] += 1
    assert set(right.compare()) == {verification.REDIS}


def test_a_hole_in_the_hours_is_seen() -> None:
    right = Right()
    document = right.pages._document("none", "all", "Europe/Berlin")
    section = msgspec.convert(document["timeline"], Json)
    rows = msgspec.convert(section["rows"], list[Json])
    empty = next(row for row in rows if not any(value for name, value in row.items() if name != "start"))
    rows.remove(empty)
    assert timeline.holes(rows)
