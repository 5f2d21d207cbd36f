"""Mixed campaigns of every ESP, counted in any order and with any repeats, show the same bytes everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from app.facts import Entry
from app.filters import EventFilter, RecipientFilter
from app.items import recipient_item
from app.keys import campaign_key
from app.normalize import normalize
from app.report import FRESH, report_document
from app.summary import Count
from app.timeline import timeline
from app.topics import Webhook
from app.user_agents import look_up_agent
from cli.config import load_configuration
from cli.keys import Missing
from cli.traffic import plans
from cli.traffic.esps import WRITERS
from cli.traffic.requests import Mixture, RequestMaker, Senders
from cli.traffic.schedule import Rhythm
from cli.traffic.targets import access_of
from tables import exports
from tables.exports import Asked
from tables.sorting import Sorter
from tests.support.databases import Databases, databases, names_of
from tests.support.databases_view import view
from tests.support.facts import CAMPAIGN, ORG, SECRET
from tests.support.processes import ROOT, environment

NOW_MS = 1_790_000_000_000
CAMPAIGNS = ("spring", "flash-sale")
FACTS = 360
COUNTS: tuple[Count, ...] = ("all", "people")
ORDERS = 60
MANY_ORDERS = 1_000
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/New_York": ("2026-03-08T07:00Z", "2026-11-01T06:00Z"),
    "Australia/Lord_Howe": ("2026-04-04T15:00Z", "2026-10-03T15:30Z"),
    # No changes there: the days of Berlin's, with hours that begin at :45 and :30.
    "Asia/Kathmandu": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "Asia/Kolkata": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
}
ZONES = tuple(CHANGES)


@cache
def mixed(folder: Path) -> dict[str, list[Entry]]:
    """Campaign → its entries out of webhooks of all ESPs, duplicates and copies with new ids among them."""
    found: dict[str, list[Entry]] = {}
    settings, organisations = load_configuration(
        environment(folder, config=str(ROOT / "examples" / "all-esps.toml")), missing=Missing.MAKE
    )
    (access,) = access_of(settings, organisations, ())
    organisation = organisations.by_id[ORG]
    sources = {source.esp: source for source in organisation.sources.values()}
    rng = Random(11)
    senders = Senders([access.targets])
    rhythm = Rhythm(until_ms=NOW_MS, seed_share=0.01, tells=senders.tells)
    known = plans.finite(plans.past(CAMPAIGNS, FACTS * 3 // 10, NOW_MS), rhythm, rng, FACTS)
    maker = RequestMaker(senders, Mixture(batch=20, poison_share=0, duplicate_share=0.2, run="t-"), rng)
    requests = [request for _, happening in known for request in maker.add(happening)]
    for request in [*requests, *maker.flush()]:
        target = request.target
        headers, body = WRITERS[target.esp].sign(target.credentials, request.body, NOW_MS // 1000)
        source = sources[target.esp]
        webhook = Webhook(
            org=ORG, source=source.name, esp=target.esp, received_at_ms=NOW_MS,
            headers=tuple(headers.items()), body=body,
        )  # fmt: skip
        made = normalize(webhook, source, organisation, SECRET, 1, look_up_agent, lambda ip: None)
        assert not made.dead
        for _, record in made.records:
            found.setdefault(record.campaign, []).extend(record.entries)
    return found


def shown(world: Databases, campaign: str) -> Iterator[bytes]:
    """The whole report, the table of recipients and both files, as bytes."""
    key = campaign_key(SECRET, ORG, campaign)
    numbers = view(world, campaign)
    with world.moments() as moments, contextlib.closing(Sorter(None, 1 << 20, 100)) as sorter:
        for count in COUNTS:
            yield msgspec.json.encode(
                report_document(numbers, freshness=FRESH, count=count, timezone="Europe/Berlin")
            )
            table = []
            for moment in moments.values():
                names = names_of(moment, key)
                table += [
                    recipient_item(state, names, count, moment.rules())
                    for _, _, state in moment.recipients(key)
                ]
            yield msgspec.json.encode(sorted(table, key=lambda item: str(item["recipient"])))
            for asked in (
                Asked(campaign=key, recipients=RecipientFilter(), count=count),
                Asked(campaign=key, events=EventFilter(), count=count),
            ):
                rows = exports.rows_of(asked)
                blocks = exports.records(asked, moments, sorter)
                yield "".join(text for block in blocks if block for text in rows(block)).encode()


def counted(lines: Sequence[tuple[str, Entry]], chance: Random) -> list[bytes]:
    with databases() as world:
        position = 0
        while position < len(lines):
            campaign = lines[position][0]
            end = position + chance.randint(1, 60)
            batch = [entry for name, entry in lines[position:end] if name == campaign]
            others = [entry for name, entry in lines[position:end] if name != campaign]
            other = next(name for name in CAMPAIGNS if name != campaign)
            world.write(batch, campaign)
            world.write(others, other)
            position = end
        return [text for campaign in CAMPAIGNS for text in shown(world, campaign)]


def check(folder: Path, seeds: range) -> None:
    lines = [(campaign, entry) for campaign, entries in mixed(folder).items() for entry in entries]
    expected = counted(lines, Random(0))
    assert all(len(text) > 1_000 for text in expected)
    for seed in seeds:
        chance = Random(seed)
        again = lines + chance.choices(lines, k=chance.randint(0, len(lines)))
        chance.shuffle(again)
        assert counted(again, chance) == expected, f"order {seed}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_any_order_and_any_repeats_show_the_same_bytes(folder: Path) -> None:
    check(folder, range(1, 1 + ORDERS))


@pytest.mark.parametrize("zone", ZONES)
def test_hours_add_up_to_the_summary_when_the_clocks_change(folder: Path, zone: str) -> None:
    """The same campaigns sent within two days of either change of the clocks."""
    for change in CHANGES[zone]:
        begin_ms = int(datetime.fromisoformat(change).timestamp() * 1000) - 86_400_000
        lines = [entry for entries in mixed(folder).values() for entry in entries]
        oldest = min(entry.fact.at_ms for entry in lines)
        moved = [
            replace(entry, fact=replace(entry.fact, at_ms=entry.fact.at_ms - oldest + begin_ms))
            for entry in lines
        ]
        with databases() as world:
            world.write(moved)
            numbers = view(world, CAMPAIGN)
        for count in COUNTS:
            report: Any = report_document(numbers, freshness=FRESH, count=count, timezone=zone)
            hours = timeline(
                numbers.quarters or {}, numbers.overflow, timezone=zone, count=count, unit="hour"
            )
            for rows in (report["timeline"]["rows"], cast(list[dict[str, Any]], hours["rows"])):
                for name in ("sent", "opened", "clicked", "total_opens", "total_clicks"):
                    assert sum(row[name] for row in rows) == report["summary"][name], (change, count, name)
            assert report["summary"]["total_opens"] == sum(
                row["opens"] for row in report["places"]["countries"]
            )


@pytest.mark.long
def test_a_thousand_orders_show_the_same_bytes(folder: Path) -> None:
    check(folder, range(1, 1 + MANY_ORDERS))
