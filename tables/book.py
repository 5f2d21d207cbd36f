"""A campaign's names and section rows in memory: what the numbers in its facts stand for, and its sums by row.

Rules:
- A name is kept when the first fact with it comes in (`learn`), under the number that is its hash. Names are written in
  the same WriteBatch as the state, so whoever reads a state finds all of its names.
- A book is loaded whole, by one scan, when its campaign is first touched, and is written through: it may be dropped at
  any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from rocksdict import Rdict

from app import breakdown as b
from app import tally
from app.breakdown import AgentRows, PlaceRows, RowKey, row_key, special_agent
from app.facts import CampaignKey, Detail, Entry, decode_detail
from app.keys import text_id
from tables.layout import scan
from tables.link_ends import Ends, ends_of

NAMED: Final = (b.LINK, b.CITY, b.AGENT, b.PROVIDER, b.REASON, b.VARIANT)
"""Sections whose numbers have names of their own; those of the others are parts of these."""

_AGENT_PARTS: Final = (b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER)
_NO_DETAIL: Final = Detail("")
_json = msgspec.json.Encoder().encode


class Book:
    """`app.breakdown.Names`, and the rows."""

    def __init__(
        self,
        names: Iterable[tuple[int, int, str]] = (),
        rows: Iterable[tuple[RowKey, int]] = (),
        ends: Iterable[tuple[int, Ends]] = (),
    ) -> None:
        """`names`: (section, number, text); `rows`: (key, tally); `ends`: by link."""
        self.rows: dict[RowKey, int] = dict(rows)
        self.ends: dict[int, Ends] = dict(ends)
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

    def section(self, section: int) -> Iterator[tuple[RowKey, int]]:
        for key, value in self.rows.items():
            if key[0] == section:
                yield key, value

    def learn(self, entry: Entry) -> list[tuple[int, int, str]]:
        """Notes the names of a fact; returns those that are new, as (section, number, text)."""
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
        try:
            detail = decode_detail(entry.detail)
        except msgspec.MsgspecError:
            detail = _NO_DETAIL
        agent = (detail.client, detail.device, detail.system, detail.browser)
        new = [
            (section, number, text)
            for section, number, text in (
                (b.PROVIDER, fact.provider, detail.provider or ""),
                (b.VARIANT, fact.variant, _json(detail.variant or {}).decode()),
                (b.AGENT, fact.agent, "\0".join(part or "" for part in agent)),
                (b.CITY, fact.place, f"{detail.country or ''}\0{detail.city or ''}"),
                (b.LINK, fact.link, detail.link or ""),
                (b.REASON, fact.reason, detail.reason or ""),
            )
            if number not in known[section]
        ]
        for section, number, text in new:
            self._add(section, number, text)
        return new

    def rename(self, section: int, number: int, text: str) -> bool:
        """Gives a number another name, whether it has one or not; returns whether it is new."""
        if self.texts.get((section, number)) == text:
            return False
        self._add(section, number, text)
        return True

    def _add(self, section: int, number: int, text: str) -> None:
        self._known[section].add(number)
        self.texts[section, number] = text
        if section == b.AGENT:
            self._add_agent(number, text.split("\0"))
        elif section == b.CITY:
            country = text.partition("\0")[0]
            name = text_id(country) if country else b.UNKNOWN
            self._countries[number] = name
            self._places[number] = PlaceRows(row_key(b.COUNTRY, name), row_key(b.CITY, number))
            if country:
                self.texts[b.COUNTRY, name] = country

    def _add_agent(self, number: int, parts: list[str]) -> None:
        keys = []
        for section, part in zip(_AGENT_PARTS, parts, strict=False):
            name = text_id(part) if part else b.UNKNOWN
            keys.append(row_key(section, name))
            if part:
                self.texts[section, name] = part
        rows = self._agents[number] = AgentRows(*keys)
        proxy = special_agent(b.PROXY)
        self._proxied[number] = proxy._replace(client=rows.client) if parts[0] else proxy


def name_of(text: tuple[int, int, str]) -> bytes:
    """The part of a name's key behind the campaign."""
    return bytes((text[0],)) + text[1].to_bytes(8, "big")


def read_book(db: Rdict, campaign: CampaignKey) -> Book:
    """A campaign's book as the database has it."""
    return Book(
        (
            (name[9], int.from_bytes(name[10:18], "big"), text.decode("utf-8", "surrogatepass"))
            for name, text in scan(db, b"N" + campaign)
        ),
        ((name[9:], tally.from_bytes(value)) for name, value in scan(db, b"R" + campaign)),
        ((int.from_bytes(name[9:], "big"), ends_of(value)) for name, value in scan(db, b"E" + campaign)),
    )
