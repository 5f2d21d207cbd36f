"""The section `providers`: mailbox providers by what came of their mail, and why it bounced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from cli.verifier.compare import Comparison
from cli.verifier.engagement import MOST, NOT_PROVIDED, OTHER, Name, quoted
from cli.verifier.rules import Counted
from cli.verifier.shown import Json

NUMBERS: Final = ("sent", "delivered", "bounced", "deferred", "complained")

Groups = dict[str, list[Counted]]
"""Provider → its recipients."""
Reasons = Counter[Name]
"""(provider, reason) → recipients that count as bounced."""


def of_recipients(recipients: Iterable[Counted]) -> tuple[Groups, Reasons]:
    groups: Groups = {}
    reasons: Reasons = Counter()
    for recipient in recipients:
        provider = quoted(recipient.provider or "") or NOT_PROVIDED
        groups.setdefault(provider, []).append(recipient)
        if "bounced" in recipient.flags:
            reasons[provider, quoted(recipient.reason or "") or NOT_PROVIDED] += 1
    return groups, reasons


def compare(
    result: Comparison, place: str, what: str, groups: Groups, reasons: Reasons, section: object
) -> None:
    shown = msgspec.convert(msgspec.convert(section, Json)["rows"], list[Json])
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))
    frequent = set(sorted(reasons, key=lambda pair: (-reasons[pair], pair[1]))[:MOST])
    wanted: dict[str, Json] = {}
    for name in names[:MOST]:
        why: Counter[str] = Counter()
        for pair, recipients in reasons.items():
            if pair[0] == name:
                why[pair[1] if pair in frequent else OTHER] += recipients
        wanted[name] = {**_numbers(groups[name]), "reasons": dict(why)}
    if len(names) > MOST:
        rest = _numbers([recipient for name in names[MOST:] for recipient in groups[name]])
        wanted[OTHER] = {**rest, "reasons": {OTHER: rest["bounced"]} if rest["bounced"] else {}}
    found = {str(row["provider"]): {key: row[key] for key in (*NUMBERS, "reasons")} for row in shown}
    result.same(place, "providers", f"{what}, order", list(wanted), [row["provider"] for row in shown])
    result.mappings(place, "providers", what, wanted, found)


def _numbers(recipients: list[Counted]) -> dict[str, int]:
    return {name: sum(name in recipient.flags for recipient in recipients) for name in NUMBERS}
