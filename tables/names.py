"""Names of a campaign as they are needed: what the numbers in facts stand for, looked up once each.

A number is a hash of its text, so a name never changes, and it is the same in every partition: one `NameBook` serves
all partitions of a campaign, for as long as anyone reads it.
"""

from __future__ import annotations

from collections.abc import Iterable

from app import breakdown as b
from app.facts import CampaignKey, Fact
from tables.book import KnownNames
from tables.lookups import PagedReader


class NameBook(KnownNames):
    """Filled by `know`."""

    def __init__(self, campaign: CampaignKey) -> None:
        super().__init__()
        self._campaign = campaign

    def know(self, reader: PagedReader, facts: Iterable[Fact]) -> None:
        """Looks up what isn't known yet of a partition's facts; to be called before they are shown or judged."""
        known = self._known
        links, agents, places = known[b.LINK], known[b.AGENT], known[b.CITY]
        providers, reasons, variants = known[b.PROVIDER], known[b.REASON], known[b.VARIANT]
        missing: set[tuple[int, int]] = set()
        for fact in facts:
            if fact.link not in links:
                missing.add((b.LINK, fact.link))
            if fact.agent not in agents:
                missing.add((b.AGENT, fact.agent))
            if fact.place not in places:
                missing.add((b.CITY, fact.place))
            if fact.provider not in providers:
                missing.add((b.PROVIDER, fact.provider))
            if fact.reason not in reasons:
                missing.add((b.REASON, fact.reason))
            if fact.variant not in variants:
                missing.add((b.VARIANT, fact.variant))
        if missing:
            asked = sorted(missing)
            for (section, number), text in zip(asked, reader.names(self._campaign, asked), strict=True):
                if text is not None:
                    self._add(section, number, text)
