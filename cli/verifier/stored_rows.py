"""Rows of the sections as RocksDB and Redis hold them, with the words that their numbers stand for.

The layout is written down a second time: the numbers of sections and fields are on disk and never change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from app.facts import TYPE_NAMES
from cli.verifier.engagement import FIELDS, NOT_PROVIDED, PROXY, UNKNOWN, Name, Row, quoted
from cli.verifier.erasures import ERASED
from cli.verifier.summary import Numbers
from cli.verifier.variants import text_of

SECTIONS: Final = {
    1: "link", 2: "position", 3: "country", 4: "city", 5: "client", 6: "device", 7: "system", 8: "browser",
    9: "provider", 10: "reason", 11: "variant", 12: "home", 13: "type",
}  # fmt: skip
_LINK, _POSITION, _COUNTRY, _CITY, _PROVIDER, REASON, _VARIANT, _HOME, _TYPE = 1, 2, 3, 4, 9, 10, 11, 12, 13
SHARED_NAMES: Final = {_HOME: _COUNTRY}
"""Section → the one that its names are of."""
_SPECIAL: Final = (NOT_PROVIDED, PROXY, UNKNOWN, "overflow")
_BITS: Final = 40

_GROUP: Final = (
    "recipients", "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed",
    "unsubscribed_suspected", "deferred", "rejected", "failed", "sent_inferred", "delivered_inferred",
    "bounced_after_delivery", "clicked_without_open", "openers_who_clicked",
)  # fmt: skip
_GROUP_PEOPLE: Final = ("opened", "clicked", "clicked_without_open", "openers_who_clicked")

Texts = Mapping[tuple[int, int], str]
"""(section, number) → text."""


class StoredRows(msgspec.Struct):
    """One campaign's, of all partitions together."""

    rows: dict[str, dict[Name, int]] = {}
    """Section → name → tally."""
    ends: dict[str, tuple[int, int, int, int]] = {}
    """Link → first and last click, then those of people; -1: none."""

    def add(self, section: int, rows: Iterable[tuple[int, int, int]], texts: Texts) -> None:
        """`rows`: (the key's two numbers, tally)."""
        known = self.rows.setdefault(SECTIONS[section], {})
        for a, b, tally in rows:
            name = name_of(section, a, b, texts)
            known[name] = known.get(name, 0) + tally

    def add_ends(self, ends: Iterable[tuple[int, tuple[int, int, int, int]]], texts: Texts) -> None:
        for number, found in ends:
            if found[0] < 0:
                continue
            link = _text(_LINK, number, texts)
            old = self.ends.get(link, (-1, -1, -1, -1))
            pairs = list(zip(old, found, strict=True))
            first, last, first_people, last_people = (
                [at for at in pair if at >= 0] or [-1] for pair in pairs
            )
            self.ends[link] = (min(first), max(last), min(first_people), max(last_people))


def name_of(section: int, a: int, b: int, texts: Texts) -> Name:
    if section == _TYPE:
        return (TYPE_NAMES[a],)
    if section == _POSITION:
        return _text(_LINK, a, texts), str(b)
    if section == REASON:
        return _text(_PROVIDER, a, texts), _text(REASON, b, texts)
    text = _text(SHARED_NAMES.get(section, section), a, texts)
    if section == _CITY:
        country, found, city = _raw(_CITY, a, texts).partition("\0")
        return (quoted(country), quoted(city)) if found else (text, text)
    if section == _VARIANT:
        return ("" if a == 0 else text_of(json.loads(text)),)
    return (text,)


def _text(section: int, number: int, texts: Texts) -> str:
    if number < len(_SPECIAL):
        return _SPECIAL[number]
    name = _raw(section, number, texts)
    if section == _LINK and name == ERASED:
        return f"{ERASED} {number:016x}"
    return name if section in (_LINK, _VARIANT) else quoted(name)


def _raw(section: int, number: int, texts: Texts) -> str:
    return texts.get((section, number)) or f"no name of {number}"


def _fields(tally: int, count: int) -> list[int]:
    return [tally >> _BITS * place & (1 << _BITS) - 1 for place in range(count)]


def engagement_of(tally: int) -> Row:
    return dict(zip(FIELDS, _fields(tally, len(FIELDS)), strict=True))


def group_of(tally: int, count: str) -> Numbers:
    """A group's numbers under `all` or `people`, without the rates."""
    fields = _fields(tally, len(_GROUP) + len(_GROUP_PEOPLE) + 6)
    numbers: Numbers = dict(zip(_GROUP, fields, strict=False))
    events = fields[-6:]
    if count == "people":
        numbers |= zip(_GROUP_PEOPLE, fields[len(_GROUP) :], strict=False)
    for kind, found in (("opens", events[:3]), ("clicks", events[3:])):
        numbers[f"total_{kind}"] = found[0] if count == "people" else sum(found)
        for verdict, number in zip(("human", "proxy", "scanner"), found, strict=True):
            numbers[f"{kind}_by_verdict.{verdict}"] = number
    return numbers
