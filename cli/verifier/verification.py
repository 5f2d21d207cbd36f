"""What a ledger demands of each campaign, compared with what RocksDB and Redis hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cli.verifier import campaigns, events, recipients, sections, summary, timeline
from cli.verifier.compare import Comparison
from cli.verifier.erasures import named
from cli.verifier.ledger import Campaign, Ledger
from cli.verifier.rules import Counted, count_recipient
from cli.verifier.stored import Database
from cli.verifier.stored_rows import StoredRows
from cli.verifier.verdicts import USUAL, Thresholds
from tables.views import View

STATES: Final = "RocksDB recipients"
SUMS: Final = "RocksDB sums"
LOG: Final = "RocksDB log"
REDIS: Final = "Redis view"


class Expected(msgspec.Struct):
    """What the ledger demands of one campaign."""

    campaign: Campaign
    counted: list[Counted]
    numbers: dict[str, summary.Numbers]
    quarters: dict[str, timeline.Quarters]
    sections: sections.Sections
    as_of_ms: int


def expect(ledger: Ledger, campaign: Campaign, limits: Thresholds = USUAL) -> Expected:
    """`limits`: of the installation's verdicts."""
    people = named(ledger.counted(campaign), ledger.erased.get(campaign, {}))
    counted = [count_recipient(facts, limits) for facts in people.values()]
    facts = ledger.facts.get(campaign, {})
    return Expected(
        campaign=campaign,
        counted=counted,
        numbers={count: summary.of_recipients(counted, count) for count in summary.COUNTS},
        quarters={count: timeline.of_recipients(counted, count) for count in summary.COUNTS},
        sections=sections.expect(counted, facts, ledger.fields.get(campaign, {})),
        as_of_ms=campaigns.newest_at(counted),
    )


def compare_database(
    result: Comparison, ledger: Ledger, wanted: Mapping[Campaign, Expected], found: Database
) -> None:
    for trouble in found.troubles:
        result.failed(SUMS, "offsets", trouble)
    for campaign in sorted(wanted):
        name = "/".join(campaign)
        facts, erased = ledger.facts.get(campaign, {}), ledger.erased.get(campaign, {})
        kept = recipients.of_stored(found.recipients.get(campaign, []))
        result.mappings(STATES, "facts", name, recipients.of_ledger(facts, erased), kept)
        logged = {str(entry): times for entry, times in found.log.get(campaign, {}).items()}
        entries = {str(entry): times for entry, times in events.of_ledger(facts, erased).items()}
        result.mappings(LOG, "events", name, entries, logged)
        sums = found.sums.get(campaign)
        if sums is None:
            result.failed(SUMS, "summary", f"{name}: not there")
            continue
        expected = wanted[campaign]
        _stored(result, SUMS, expected, sums.patterns, sums.totals, sums.quarters, sums.as_of_ms)
        rows = found.rows.get(campaign, StoredRows())
        sections.compare_stored(result, SUMS, name, expected.sections, rows)


def compare_views(
    result: Comparison,
    wanted: Mapping[Campaign, Expected],
    found: Mapping[Campaign, View | None],
    rows: Mapping[Campaign, StoredRows],
) -> None:
    for campaign, expected in wanted.items():
        view = found.get(campaign)
        if view is None or view.quarters is None or not view.complete:
            result.failed(REDIS, "summary", f"{'/'.join(campaign)}: not there or not complete")
            continue
        _stored(result, REDIS, expected, view.patterns, view.totals, view.quarters, view.as_of_ms)
        sections.compare_stored(result, REDIS, "/".join(campaign), expected.sections, rows[campaign])


def _stored(
    result: Comparison,
    place: str,
    expected: Expected,
    patterns: Mapping[int, int],
    totals: list[int],
    quarters: Mapping[int, list[int]],
    as_of_ms: int,
) -> None:
    name = "/".join(expected.campaign)
    for count in summary.COUNTS:
        numbers = summary.of_patterns(patterns, totals, count)
        result.mappings(place, "summary", f"{name} {count}", expected.numbers[count], numbers)
        rows = timeline.of_stored(quarters, count)
        result.mappings(place, "timeline", f"{name} {count}", expected.quarters[count], rows)
    result.same(place, "as_of", name, expected.as_of_ms, as_of_ms)
