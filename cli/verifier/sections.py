"""The sections that are made of rows, all together: what a ledger demands, compared with JSON and with stored rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from cli.traffic.ledger import FactLine
from cli.verifier import clients, engagement, links, places, providers, summary, variants
from cli.verifier.compare import Comparison
from cli.verifier.engagement import NOT_PROVIDED, Name, Rows, quoted
from cli.verifier.links import Links
from cli.verifier.providers import Groups, Reasons
from cli.verifier.rules import Counted
from cli.verifier.shown import Json
from cli.verifier.stored_rows import StoredRows, engagement_of, group_of
from cli.verifier.variants import Labels

NAMES: Final = ("links", "places", "clients", "providers", "variants")
_SECTION_OF: Final = {
    "link": "links", "position": "links", "country": "places", "city": "places", "client": "clients",
    "device": "clients", "system": "clients", "browser": "clients", "provider": "providers",
    "reason": "providers", "variant": "variants", "home": "home countries", "type": "types",
}  # fmt: skip


class Sections(msgspec.Struct):
    links: Links
    places: dict[str, Rows]
    clients: dict[str, Rows]
    providers: Groups
    reasons: Reasons
    variants: Groups
    homes: Groups
    """Country → the recipients that were first seen there."""
    types: Counter[str]
    """Of all facts, those of excluded addresses too: what the event log's filter counts."""
    labels: Labels


def expect(counted: list[Counted], facts: Mapping[str, list[FactLine]], labels: Labels) -> Sections:
    by_provider, reasons = providers.of_recipients(counted)
    homes: Groups = {}
    for recipient in counted:
        homes.setdefault(quoted(recipient.country or "") or NOT_PROVIDED, []).append(recipient)
    return Sections(
        links=links.of_recipients(counted),
        places=places.of_recipients(counted),
        clients=clients.of_recipients(counted),
        providers=by_provider,
        reasons=reasons,
        variants=variants.of_recipients(counted),
        homes=homes,
        types=Counter(fact.type for lines in facts.values() for fact in lines),
        labels=labels,
    )


def compare_json(
    result: Comparison,
    place: str,
    what: str,
    wanted: Sections,
    document: Json,
    count: str,
    names: Iterable[str],
) -> None:
    """`document`: with these sections under their names."""
    for name in names:
        section = document[name]
        if name == "links":
            links.compare(result, place, what, wanted.links, section, count)
        elif name == "places":
            places.compare(result, place, what, wanted.places, section, count)
        elif name == "clients":
            clients.compare(result, place, what, wanted.clients, section, count)
        elif name == "providers":
            providers.compare(result, place, what, wanted.providers, wanted.reasons, section)
        elif name == "variants":
            variants.compare(result, place, what, wanted.variants, wanted.labels, section, count)


def compare_stored(result: Comparison, place: str, what: str, wanted: Sections, found: StoredRows) -> None:
    """Every row, the last one too, in full."""
    engaged = {
        "link": wanted.links.rows,
        "position": wanted.links.positions,
        **wanted.places,
        **wanted.clients,
    }
    for section, rows in engaged.items():
        stored = {name: engagement_of(tally) for name, tally in found.rows.get(section, {}).items()}
        _compare(result, place, section, what, rows, stored)
    for section, groups in (
        ("provider", wanted.providers),
        ("variant", wanted.variants),
        ("home", wanted.homes),
    ):
        for count in summary.COUNTS:
            tallies = found.rows.get(section, {})
            numbers = {name: group_of(tally, count) for name, tally in tallies.items()}
            expected: dict[Name, object] = {
                (name,): _group(recipients, count) for name, recipients in groups.items()
            }
            _compare(result, place, section, f"{what} {count}", expected, numbers)
    _compare(result, place, "reason", what, wanted.reasons, found.rows.get("reason", {}))
    types: dict[Name, object] = {(kind,): n for kind, n in wanted.types.items()}
    _compare(result, place, "type", what, types, found.rows.get("type", {}))
    result.mappings(place, "links", f"{what} ends", wanted.links.ends, found.ends)


def _compare(
    result: Comparison,
    place: str,
    section: str,
    what: str,
    wanted: Mapping[Name, object],
    found: Mapping[Name, object],
) -> None:
    left, right = engagement.plain(wanted), engagement.plain(found)
    result.mappings(place, _SECTION_OF[section], f"{what} {section}", left, right)


def _group(recipients: list[Counted], count: str) -> summary.Numbers:
    numbers = summary.of_recipients(recipients, count)
    shown: summary.Numbers = {name: value for name, value in numbers.items() if not name.endswith("_rate")}
    return shown | {"recipients": len(recipients)}
