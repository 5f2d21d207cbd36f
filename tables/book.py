"""A campaign's names and section rows: what the numbers in its facts stand for, and its sums by row.

Rules:
- A name is kept when the first fact with it comes in (`learn`), under the number that is its hash. Names are written in
  the same WriteBatch as the state, so whoever reads a state finds all of its names.
- `Book` holds all of them, for who looks at everything. Who counts and publishes has a `tables.campaign_book`, whose
  size is bounded; both are read by `tables.section_parts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
from rocksdict import Rdict

from app import breakdown as b
from app import tally
from app.breakdown import AgentRows, PlaceRows, RowKey, row_key, special_agent
from app.errors import UNDECODABLE
from app.facts import CampaignKey, Detail, Entry, decode_detail
from app.keys import text_id
from tables.layout import scan
from tables.link_ends import NO_ENDS, Ends, ends_of
from tables.ranking import Ranking, ranking_of

NAMED: Final = (b.LINK, b.CITY, b.AGENT, b.PROVIDER, b.REASON, b.VARIANT)
"""Sections whose numbers have names of their own; those of the others are parts of these."""
PARTS: Final = {
    b.COUNTRY: b.CITY, b.CLIENT: b.AGENT, b.DEVICE: b.AGENT, b.SYSTEM: b.AGENT, b.BROWSER: b.AGENT,
}  # fmt: skip
"""Section whose names are parts of another one's → that one."""

_AGENT_PARTS: Final = (b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER)
_NO_DETAIL: Final = Detail("")
_json = msgspec.json.Encoder().encode

Name = tuple[int, int, str]
"""(section, number, text)."""


class KnownNames:
    """`app.breakdown.Names`: those that are in memory."""

    def __init__(self, names: Iterable[Name] = ()) -> None:
        self.texts: dict[tuple[int, int], str] = {}
        """(section, number) → text, for every section that has rows."""
        self._agents: dict[int, AgentRows] = {}
        self._proxied: dict[int, AgentRows] = {}
        self._places: dict[int, PlaceRows] = {}
        self._countries: dict[int, int] = {0: 0}
        self._known: dict[int, set[int]] = {section: {0} for section in NAMED}
        for section, number, text in names:
            self._add(section, number, text)

    def agent_rows(self, agent: int) -> AgentRows:
        return self._agents.get(agent, b.AGENT_UNKNOWN)

    def proxied_rows(self, agent: int) -> AgentRows:
        return self._proxied.get(agent, b.AGENT_PROXY)

    def place_rows(self, place: int) -> PlaceRows:
        return self._places.get(place, b.PLACE_UNKNOWN)

    def country(self, place: int) -> int:
        return self._countries.get(place, b.UNKNOWN)

    def text(self, section: int, number: int) -> str | None:
        return self.texts.get((section, number))

    def learn(self, entry: Entry) -> list[Name]:
        """Notes the names of a fact; returns those that are new, with their parts."""
        fact = entry.fact
        known = self._known
        if (
            fact.provider in known[b.PROVIDER]
            and fact.variant in known[b.VARIANT]
            and fact.agent in known[b.AGENT]
            and fact.place in known[b.CITY]
            and fact.link in known[b.LINK]
            and fact.reason in known[b.REASON]
        ):
            return []
        return self._learn(
            entry,
            (
                (b.PROVIDER, fact.provider),
                (b.VARIANT, fact.variant),
                (b.AGENT, fact.agent),
                (b.CITY, fact.place),
                (b.LINK, fact.link),
                (b.REASON, fact.reason),
            ),
        )

    def _learn(self, entry: Entry, numbers: Iterable[tuple[int, int]]) -> list[Name]:
        new: list[Name] = []
        for section, number in numbers:
            if number not in self._known[section] and not self._find(section, number):
                text = text_of(entry, section)
                new.append((section, number, text))
                new += self._add(section, number, text)
        return new

    def rename(self, section: int, number: int, text: str) -> bool:
        """Gives a number another name, whether it has one or not; returns whether it is new."""
        if self.text(section, number) == text:
            return False
        self._add(section, number, text)
        return True

    def _find(self, section: int, number: int) -> bool:
        """Whether there is such a name where this one's names are stored; then it is in memory from now on."""
        return False

    def _add(self, section: int, number: int, text: str) -> list[Name]:
        """Gives the name's parts, as far as they were not known."""
        self._known[section].add(number)
        self.texts[section, number] = text
        if section == b.AGENT:
            return self._add_agent(number, text.split("\0"))
        if section == b.CITY:
            country = text.partition("\0")[0]
            name = text_id(country) if country else b.UNKNOWN
            self._countries[number] = name
            self._places[number] = PlaceRows(row_key(b.COUNTRY, name), row_key(b.CITY, number))
            if country:
                return self._add_part(b.COUNTRY, name, country)
        return []

    def _add_agent(self, number: int, parts: list[str]) -> list[Name]:
        keys, new = [], []
        for section, part in zip(_AGENT_PARTS, parts, strict=False):
            name = text_id(part) if part else b.UNKNOWN
            keys.append(row_key(section, name))
            if part:
                new += self._add_part(section, name, part)
        rows = self._agents[number] = AgentRows(*keys)
        proxy = special_agent(b.PROXY)
        self._proxied[number] = proxy._replace(client=rows.client) if parts[0] else proxy
        return new

    def _add_part(self, section: int, number: int, text: str) -> list[Name]:
        if (section, number) in self.texts:
            return []
        self.texts[section, number] = text
        return [(section, number, text)]


def text_of(entry: Entry, section: int) -> str:
    """What a fact's detail says about one of its numbers."""
    try:
        detail = decode_detail(entry.detail)
    except UNDECODABLE:
        detail = _NO_DETAIL
    if section == b.VARIANT:
        return _json(detail.variant or {}).decode()
    if section == b.AGENT:
        agent = (detail.client, detail.device, detail.system, detail.browser)
        return "\0".join(part or "" for part in agent)
    if section == b.CITY:
        return f"{detail.country or ''}\0{detail.city or ''}"
    if section == b.LINK:
        return detail.link or ""
    return (detail.provider if section == b.PROVIDER else detail.reason) or ""


class Book(KnownNames):
    """All names and all rows."""

    def __init__(
        self,
        names: Iterable[Name] = (),
        rows: Iterable[tuple[RowKey, int]] = (),
        ends: Iterable[tuple[int, Ends]] = (),
    ) -> None:
        """`rows`: (key, tally); `ends`: by link."""
        super().__init__(names)
        self.rows: dict[RowKey, int] = dict(rows)
        self.ends: dict[int, Ends] = dict(ends)

    def section(self, section: int) -> Iterator[tuple[RowKey, int]]:
        for key, value in self.rows.items():
            if key[0] == section:
                yield key, value

    def ranking(self, section: int) -> Ranking:
        return ranking_of(section, self.section(section))

    def names_of(self, section: int, keys: Sequence[RowKey]) -> list[str | None]:
        """The names of rows, None where a row has none of its own."""
        return [self.texts.get(name) if (name := named(section, key)) else None for key in keys]

    def ends_of(self, links: Sequence[int]) -> list[Ends]:
        return [self.ends.get(link, NO_ENDS) for link in links]

    def smallest_links(self, most: int) -> list[tuple[RowKey, int]]:
        """The links with the smallest numbers, and their tallies."""
        return list(islice(sorted(self.section(b.LINK)), most))


def named(section: int, key: RowKey) -> tuple[int, int] | None:
    """Under which (section, number) the name of a row stands; None where it has none of its own."""
    if section == b.POSITION or section == b.TYPE:
        return None
    number = int.from_bytes(key[9:17] if section == b.REASON else key[1:9], "big")
    return b.COUNTRY if section == b.HOME else section, number


def name_of(text: Name) -> bytes:
    """The part of a name's key behind the campaign."""
    return bytes((text[0],)) + text[1].to_bytes(8, "big")


def read_book(db: Rdict, campaign: CampaignKey) -> Book:
    """A campaign's book as the database has it, whole."""
    return Book(
        (
            (name[9], int.from_bytes(name[10:18], "big"), text.decode("utf-8", "surrogatepass"))
            for name, text in scan(db, b"N" + campaign)
        ),
        ((name[9:], tally.from_bytes(value)) for name, value in scan(db, b"R" + campaign)),
        ((int.from_bytes(name[9:], "big"), ends_of(value)) for name, value in scan(db, b"E" + campaign)),
    )
