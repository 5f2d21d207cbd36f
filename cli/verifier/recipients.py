"""The recipients: which facts of each are kept, as (type, time), against the states in RocksDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cli.traffic.ledger import FactLine

Kept = Counter[tuple[str, int]]


def of_ledger(recipients: Mapping[str, list[FactLine]], erased: Mapping[str, str]) -> dict[str, Kept]:
    """Address as compared, or what stands in its place → (type, ms) of every fact; excluded addresses too, they are
    kept and counted nowhere."""
    return {
        erased.get(who, who): Counter((fact.type, fact.at) for fact in facts)
        for who, facts in recipients.items()
    }


def of_stored(states: Iterable[tuple[str, Sequence[tuple[str, int]]]]) -> dict[str, Kept]:
    """The same from states: (address as spelled, its facts)."""
    found: dict[str, Kept] = {}
    for address, facts in states:
        who = address.strip().lower()
        if who in found:
            who += " (a second state)"
        found[who] = Counter(facts)
    return found
