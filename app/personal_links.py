"""Links that are personal: each recipient has their own, so that a report has as many rows as clickers.

Counting bears that, but nobody reads such a report. Where it is a query parameter that differs, `strip_query` of the
source takes it out; this finds which.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import unquote

MANY: Final = 1_000
"""Links of one partition from which on they may be personal."""
PER_LINK: Final = 1.2
"""Recipients who clicked each link, on average: more, and the links are not their own."""
_NEARLY_ALL: Final = 0.9
_SAMPLE: Final = 20
"""Fewer links tell nothing."""


def look_personal(links: int, clickers: int) -> bool:
    """`clickers`: of each link its recipients, added up."""
    return links >= MANY and clickers <= PER_LINK * links


def personal_parameters(links: Collection[str]) -> tuple[str, ...]:
    """The names of query parameters whose values differ nearly from link to link, where the links are fewer without.

    Those of a sample of links that look personal; empty where no parameter makes them so."""
    values: dict[str, set[str]] = {}
    places: dict[str, int] = {}
    for link in links:
        for name, value in _parameters(link):
            values.setdefault(name, set()).add(value)
            places[name] = places.get(name, 0) + 1
    found = {
        name
        for name, number in places.items()
        if number >= _SAMPLE and len(values[name]) >= _NEARLY_ALL * number
    }
    if not found:
        return ()
    stripped = {_without(link, found) for link in links}
    return tuple(sorted(found)) if len(stripped) <= len(set(links)) / 2 else ()


def _parameters(link: str) -> list[tuple[str, str]]:
    """(name, value) as `app.source_rules` takes them out, a name that stands twice with both values together."""
    query = link.partition("#")[0].partition("?")[2]
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            found[unquote(name)] = found.get(unquote(name), "") + "&" + value
    return list(found.items())


def _without(link: str, names: Collection[str]) -> str:
    head, mark, fragment = link.partition("#")
    base, _, query = head.partition("?")
    kept = [part for part in query.split("&") if unquote(part.partition("=")[0]) not in names]
    return base + "?" + "&".join(kept) + mark + fragment
