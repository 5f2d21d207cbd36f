"""The section `places`: opens and clicks by country and by city.

The ESP's own place first, else the one that the installation's database knows of the address (`Ledger.locate` has put
it where the ESP gave none). A machine's place is no person's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cli.verifier import engagement
from cli.verifier.compare import Comparison
from cli.verifier.engagement import NOT_PROVIDED, PROXY, UNKNOWN, Name, Rows, quoted
from cli.verifier.rules import Act, Counted
from cli.verifier.shown import Json
from cli.verifier.verdicts import network_of


def of_recipients(recipients: Iterable[Counted]) -> dict[str, Rows]:
    recipients = list(recipients)
    return {
        "country": engagement.rows_of(recipients, lambda act: place_of(act)[:1]),
        "city": engagement.rows_of(recipients, place_of),
    }


def place_of(act: Act) -> Name:
    """Country and city, the city empty where only the country is known."""
    fact = act.fact
    if act.verdict != "human":
        return PROXY, PROXY
    if fact.country:
        return quoted(fact.country), quoted(fact.city or "")
    return (UNKNOWN, UNKNOWN) if network_of(fact) else (NOT_PROVIDED, NOT_PROVIDED)


def compare(
    result: Comparison, place: str, what: str, wanted: Mapping[str, Rows], section: object, count: str
) -> None:
    shown = msgspec.convert(section, dict[str, list[Json]])
    for field, rows, names in (
        ("countries", wanted["country"], ("country",)),
        ("cities", wanted["city"], ("country", "city")),
    ):
        table = engagement.table(rows, count)
        engagement.compare_table(result, place, "places", f"{what} {field}", table, shown[field], names)
