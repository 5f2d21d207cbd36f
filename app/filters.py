"""The filters of the recipients table and of the event log: which recipients, which facts.

Rules:
- A status is the summary's number of that name: it holds for exactly the recipients that the number counts, under the
  count that was asked for. The four that are no numbers of the summary are sums over the same patterns.
- A filter of one thing that the report counts has a number (`recipients_by_status`, `row_of`); several together have
  none, since the report doesn't count combinations.
- What a recipient is, is decided by the contribution. `may_match` looks at the facts only, and is wrong in one
  direction: it never says no to a recipient that matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from app import breakdown as b
from app import contribution as c
from app import facts as f
from app.breakdown import RowKey, row_key
from app.contribution import Contribution
from app.errors import UNDECODABLE
from app.keys import text_id
from app.state import RecipientState
from app.summary import GROUP_FIELDS, Count, group_tally
from app.tally import field_of

_NUMBERS: Final = (
    "sent", "delivered", "deferred", "bounced", "rejected", "failed", "complained", "unsubscribed", "opened", "clicked",
)  # fmt: skip
STATUSES: Final = (*_NUMBERS, "not_opened", "not_clicked", "inactive", "scanner")
_PLACES: Final = {field: place for place, field in enumerate(GROUP_FIELDS)}
_OPENED: Final[Mapping[Count, int]] = {"all": c.OPENED, "people": c.OPENED_PEOPLE}
_CLICKED: Final[Mapping[Count, int]] = {"all": c.CLICKED, "people": c.CLICKED_PEOPLE}

# What a recipient must have a fact of, to have the status; under `people` a part of it.
_TYPES: Final = {
    "deferred": f.DEFERRED,
    "bounced": f.BOUNCED,
    "rejected": f.REJECTED,
    "failed": f.FAILED,
    "complained": f.COMPLAINED,
    "unsubscribed": f.UNSUBSCRIBED,
    "opened": f.OPENED,
    "clicked": f.CLICKED,
}
# What nobody with the status has a fact of, where every event counts.
_NONE_OF: Final = {
    "not_opened": frozenset((f.OPENED,)),
    "not_clicked": frozenset((f.CLICKED,)),
    "inactive": frozenset((f.OPENED, f.CLICKED, f.COMPLAINED, f.UNSUBSCRIBED)),
}
BITS: Final = {
    "deferred": c.DEFERRED,
    "bounced": c.BOUNCED,
    "rejected": c.REJECTED,
    "failed": c.FAILED,
    "complained": c.COMPLAINED,
    "unsubscribed": c.UNSUBSCRIBED,
    "clicked": c.CLICKED,
    "scanner": c.SCANNED,
}
"""Status → a bit that every recipient with it has, where that is a bit of few (`tables.layout.INDEXED_BITS`)."""


class RecipientFilter(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What all must hold. Empty: every recipient that counts."""

    status: str | None = None
    """One of `STATUSES`."""
    variant: tuple[tuple[str, str], ...] = ()
    """(field, value) of the recipient's variant, in order of the fields."""
    link: int | None = None
    """`TextId` of a link that they clicked (a person did, under `people`)."""
    country: str | None = None
    """The recipient's own country, or one of `breakdown.SPECIAL_NAMES`."""
    search: str | None = None
    """The start of the normalised address, or `@` and the start of its domain."""

    @property
    def parts(self) -> int:
        """How many things are asked for."""
        asked = (self.status, self.link, self.country, self.search)
        return sum(value is not None for value in asked) + len(self.variant)


class EventFilter(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    type: int | None = None
    recipient: bytes | None = None
    """The recipient's key."""
    link: int | None = None
    """Its clicks, as its row in the report counts them; other facts that name it are none."""
    verdict: int | None = None
    """Of opens and clicks; other facts have none."""
    variant: tuple[tuple[str, str], ...] = ()
    """(field, value) of the event's own variant."""
    from_ms: int | None = None
    to_ms: int | None = None
    """Before this time."""

    @property
    def parts(self) -> int:
        asked = (self.type, self.recipient, self.link, self.verdict, self.from_ms, self.to_ms)
        return sum(value is not None for value in asked) + len(self.variant)

    @property
    def one_thing(self) -> bool:
        """Whether it asks for one thing: both ends of a time are one."""
        return self.parts == 1 or (self.parts == 2 and None not in (self.from_ms, self.to_ms))


class Names(b.Names, Protocol):
    def text(self, section: int, number: int) -> str | None:
        """What a number in a fact stands for."""
        ...


@lru_cache(maxsize=64)
def status_test(status: str, count: Count) -> Callable[[int], bool]:
    """Whether recipients with a pattern have the status. Raises KeyError for a word that is none."""
    opened, clicked = _OPENED[count], _CLICKED[count]
    without = {
        "not_opened": opened,
        "not_clicked": clicked,
        "inactive": opened | clicked | c.COMPLAINED | c.UNSUBSCRIBED,
    }
    if status in without:
        bits = without[status]
        return lambda pattern: bool(pattern & c.SENT) and not pattern & bits
    if status == "scanner":
        return lambda pattern: bool(pattern & c.SCANNED)
    place = _PLACES.get((status, count), _PLACES[status, "all"])
    return lambda pattern: bool(field_of(group_tally(pattern), place))


def recipients_by_status(patterns: Mapping[int, int], status: str | None, count: Count) -> int:
    """Recipients by pattern → how many have the status; None: all that count."""
    if status is None:
        return sum(patterns.values())
    test = status_test(status, count)
    return sum(recipients for pattern, recipients in patterns.items() if test(pattern))


def home_number(country: str) -> int:
    """The number of a country, as the report shows it, in rows of section HOME."""
    special = next((number for number, name in b.SPECIAL_NAMES.items() if name == country), None)
    return text_id(b.meant(country)) if special is None else special


def has_variant(text: str | None, wanted: tuple[tuple[str, str], ...]) -> bool:
    """`text`: the name of a variant, the JSON of its fields."""
    if not text:
        return False
    fields = _decode_variant(text)
    return all(fields.get(name) == value for name, value in wanted)


@lru_cache(maxsize=4_096)
def _decode_variant(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except UNDECODABLE:
        return {}


def link_row(link: int) -> RowKey:
    return row_key(b.LINK, link)


def link_recipients(tally: int, count: Count) -> int:
    """A link's row → how many clicked it."""
    return field_of(tally, b.E_CLICKED_PEOPLE if count == "people" else b.E_CLICKED)


class RecipientTest:
    """A filter with all that deciding needs; made once per request."""

    def __init__(self, wanted: RecipientFilter, count: Count, names: Names) -> None:
        self._names = names
        self._people = count == "people"
        self._pattern = status_test(wanted.status, count) if wanted.status is not None else None
        self._type = _TYPES.get(wanted.status or "")
        self._none_of = _NONE_OF.get(wanted.status or "") if count == "all" else None
        self._variant = wanted.variant
        self._variants: dict[int, bool] = {0: False}
        self._link = wanted.link
        self.holding = b"" if wanted.link is None else f.encode(wanted.link)
        """Stands in the bytes of every state that matches: most others need not be decoded."""
        self._home = row_key(b.HOME, home_number(wanted.country)) if wanted.country is not None else None
        self._home_number = home_number(wanted.country) if wanted.country is not None else 0
        self._countries: dict[int, bool] = {0: False}
        search = wanted.search or ""
        self._start = "" if search.startswith("@") else search
        self._domain = search[1:] if search.startswith("@") else ""
        self.asks_names = bool(wanted.variant) or wanted.country is not None
        """Whether `may_match` needs the names of a state's facts to be known."""

    def address_matches(self, address: str) -> bool:
        """`address` as the index by address has it. An erased person's is no address and matches no search."""
        if self._domain:
            _, at, domain = address.rpartition("@")
            return bool(at) and domain.startswith(self._domain)
        return not self._start or ("@" in address and address.startswith(self._start))

    def may_match(self, state: RecipientState) -> bool:
        """Cheap: by the facts alone. False is certain."""
        facts = state.facts
        if self._type is not None:
            kind = self._type
            if not any(fact.type == kind for fact in facts):
                return False
        if self._none_of is not None:
            none_of = self._none_of
            if any(fact.type in none_of and not fact.evidence & f.EXCLUDED for fact in facts):
                return False
        if self._link is not None:
            link = self._link
            if not any(fact.link == link for fact in facts):
                return False
        if self._variant and not any(map(self._is_variant, {fact.variant for fact in facts})):
            return False
        # What stands in place of a country is no place that could be looked for.
        return self._home_number <= b.OVERFLOW or any(map(self._is_home, {fact.place for fact in facts}))

    def matches(self, contributed: Contribution) -> bool:
        """Whether a recipient matches, but for their address."""
        if contributed.last_at_ms < 0:
            return False
        if self._pattern is not None and not self._pattern(contributed.pattern):
            return False
        if self._variant and not self._is_variant(int.from_bytes(contributed.groups[1][1:9], "big")):
            return False
        if self._home is not None and contributed.groups[2] != self._home:
            return False
        return self._link is None or any(
            one.link == self._link and (one.people if self._people else one.clicks)
            for one in contributed.clicks
        )

    def _is_variant(self, number: int) -> bool:
        found = self._variants.get(number)
        if found is None:
            found = has_variant(self._names.text(b.VARIANT, number), self._variant)
            self._variants[number] = found
        return found

    def _is_home(self, place: int) -> bool:
        found = self._countries.get(place)
        if found is None:
            found = self._countries[place] = self._names.country(place) == self._home_number
        return found


class EventTest:
    """The same for facts, but for the verdict: that needs the recipient's other facts."""

    def __init__(self, wanted: EventFilter, names: Names) -> None:
        self._names = names
        self._type = wanted.type
        self._link = wanted.link
        self.holding = wanted.recipient or (b"" if wanted.link is None else f.encode(wanted.link))
        """Stands in the bytes of every entry that matches: most others need not be decoded."""
        self._judged = wanted.verdict is not None
        self._variant = wanted.variant
        self._variants: dict[int, bool] = {0: False}

    def may_match(self, fact: f.Fact) -> bool:
        """Whether a fact matches; where a verdict is wanted, whether it has one."""
        if self._type is not None and fact.type != self._type:
            return False
        if self._link is not None and (fact.link != self._link or fact.type != f.CLICKED):
            return False
        if self._judged and fact.type not in (f.OPENED, f.CLICKED):
            return False
        return not self._variant or self._is_variant(fact.variant)

    def _is_variant(self, number: int) -> bool:
        found = self._variants.get(number)
        if found is None:
            found = has_variant(self._names.text(b.VARIANT, number), self._variant)
            self._variants[number] = found
        return found
