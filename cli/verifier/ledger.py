"""Reads a ledger: which facts must be counted, each once.

Rules (the report's definition of identity, a second time):
- Two lines are one fact when organisation, campaign, recipient (trimmed, lower-cased) and type are equal and so is the
  sender's own id where there is one; else the time as reported, link, address and user agent.
- Only facts of accepted requests count. A request without its `accepted` line may have come through or not: such a
  ledger proves nothing, and `unsure` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from app.errors import UNDECODABLE
from cli.traffic.ledger import AcceptedLine, FactLine, LabelsLine, Line, PoisonLine

Campaign = tuple[str, str]
"""Organisation and name."""

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Ledger(msgspec.Struct):
    facts: dict[Campaign, dict[str, list[FactLine]]] = {}
    """Campaign → recipient as compared → its facts, each once; addresses that are excluded are among them."""
    labels: dict[Campaign, str] = {}
    fields: dict[Campaign, dict[str, dict[str, str]]] = {}
    """Labels of the A/B fields."""
    erased: dict[Campaign, dict[str, str]] = {}
    """Campaign → recipient as compared → what stands in the place of an erased one (`erasures`)."""
    poison: dict[str, int] = {}
    """Where (`body`, `event`, `refused`) → how many."""
    lines: int = 0
    fact_count: int = 0
    duplicates: int = 0
    unsure: int = 0
    """Requests that were never accepted."""

    def counted(self, campaign: Campaign) -> dict[str, list[FactLine]]:
        """A campaign's recipients without those that its organisation excludes."""
        return {who: facts for who, facts in self.facts.get(campaign, {}).items() if not facts[0].excluded}

    def locate(self, look_up: Callable[[str], tuple[str, str | None] | None]) -> None:
        """Gives facts with an address and no place of the ESP's the one that the installation's database knows."""
        for recipients in self.facts.values():
            for facts in recipients.values():
                for fact in facts:
                    if fact.ip and not fact.country and (place := look_up(fact.ip)):
                        fact.country, fact.city = place

    def campaigns(self) -> list[Campaign]:
        return sorted(self.facts)


def read_ledger(path: Path) -> Ledger:
    """Raises ValueError, with the line's number, for what is no ledger."""
    ledger = Ledger()
    accepted: set[int] = set()
    requests: set[int] = set()
    for line in _lines(path):  # once for what was accepted: the line about it comes after the facts
        if isinstance(line, AcceptedLine):
            accepted.add(line.request)
        elif not isinstance(line, LabelsLine):
            requests.add(line.request)
    seen: set[tuple[object, ...]] = set()
    for line in _lines(path):
        ledger.lines += 1
        if isinstance(line, LabelsLine):
            ledger.labels[line.org, line.campaign] = line.name
            ledger.fields[line.org, line.campaign] = line.fields or {}
        elif isinstance(line, PoisonLine):
            if line.request in accepted:
                ledger.poison[line.where] = ledger.poison.get(line.where, 0) + 1
        elif isinstance(line, FactLine) and line.request in accepted:
            identity = identity_of(line)
            if identity in seen:
                ledger.duplicates += 1
                continue
            seen.add(identity)
            ledger.fact_count += 1
            recipients = ledger.facts.setdefault((line.org, line.campaign), {})
            recipients.setdefault(address_of(line), []).append(line)
    ledger.unsure = len(requests - accepted)
    return ledger


def address_of(line: FactLine) -> str:
    return line.recipient.strip().lower()


def identity_of(line: FactLine) -> tuple[object, ...]:
    whose = (line.org, line.campaign, address_of(line), line.type)
    if line.event_id is not None:
        return (*whose, line.event_id)
    return (*whose, line.reported, line.link, line.ip, line.user_agent)


def _lines(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                return  # the writer was killed in the middle of its last line
            try:
                yield _decoder.decode(text)
            except UNDECODABLE as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
