"""The list of campaigns: which there are, when something last happened in each, what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from cli.verifier.ledger import Campaign, Ledger
from cli.verifier.rules import Counted


def newest_at(recipients: Iterable[Counted]) -> int:
    """`as_of`, in ms; -1 where nothing is counted."""
    return max((recipient.newest_at for recipient in recipients), default=-1)


def of_ledger(ledger: Ledger, org: str) -> set[str]:
    """Names of the organisation's campaigns."""
    names = {name for owner, name in ledger.facts if owner == org}
    return names | {name for owner, name in ledger.labels if owner == org}


def label_of(ledger: Ledger, campaign: Campaign) -> str | None:
    return ledger.labels.get(campaign)


def is_newest_first(shown: list[str], newest: dict[str, int]) -> bool:
    """Whether campaigns with known times stand in falling order of them."""
    times = [newest[name] for name in shown if name in newest]
    return all(earlier >= later for earlier, later in pairwise(times))
