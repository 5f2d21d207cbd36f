"""The rows of the report's sections: what a recipient adds to each link, place, client, provider and variant.

A row's key is 17 bytes: the section, and two numbers of 8 bytes (`TextId`s, or one of the `Special` ones). Its value is
a tally (`app.tally`). There are two kinds of rows:
- `ENGAGEMENT` rows (links, positions, countries, cities, clients, devices, systems, browsers): the fields of `E_…`.
- `GROUP` rows (providers, variants, home countries): the whole summary of the recipients in the group, field by field
  in the order of `app.summary.GROUP_FIELDS`.
The numbers of sections and fields are on disk: they never change; new ones go to the end.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, Protocol

from app.tally import one
from app.verdicts import HUMAN

RowKey = bytes

# Sections.
LINK: Final = 1
POSITION: Final = 2
"""Of a link: (link, position)."""
COUNTRY: Final = 3
CITY: Final = 4
"""By `Fact.place`: country and city."""
CLIENT: Final = 5
DEVICE: Final = 6
SYSTEM: Final = 7
BROWSER: Final = 8
PROVIDER: Final = 9
REASON: Final = 10
"""Of a provider's bounces: (provider, reason); one field, the bounced recipients."""
VARIANT: Final = 11
HOME: Final = 12
"""By the recipient's own country (the first one known), which the recipients table filters by."""
TYPE: Final = 13
"""By type of fact: one field, the entries of the event log, excluded ones included."""
AGENT: Final = 14
"""Only of names: client, device, system and browser together (`Fact.agent`)."""

ENGAGEMENT_SECTIONS: Final = (LINK, POSITION, COUNTRY, CITY, CLIENT, DEVICE, SYSTEM, BROWSER)
GROUP_SECTIONS: Final = (PROVIDER, VARIANT, HOME)

# Numbers that stand in a row's key in place of a text's.
NOT_PROVIDED: Final = 0
"""The ESP doesn't say."""
PROXY: Final = 1
"""A mailbox provider's proxy or a scanner did it: where and with what the person reads isn't known."""
UNKNOWN: Final = 2
"""The ESP gives an address or an agent, and nothing is known about it."""
OVERFLOW: Final = 3
"""Facts beyond a recipient's bound, whose fields are no longer kept."""
SPECIAL_NAMES: Final = {
    NOT_PROVIDED: "not provided by the ESP",
    PROXY: "proxy",
    UNKNOWN: "unknown",
    OVERFLOW: "overflow",
}

OTHER: Final = "other"
"""The name of the row that sums up those that are not shown."""
_NO_NAMES: Final = frozenset((*SPECIAL_NAMES.values(), OTHER))

# Fields of an engagement row: events by verdict, then recipients.
E_OPENS: Final = 0
E_CLICKS: Final = 3
E_OPENED: Final = 6
E_OPENED_PEOPLE: Final = 7
E_CLICKED: Final = 8
E_CLICKED_PEOPLE: Final = 9
E_FIELDS: Final = 10

# What one event adds to its row (index: verdict), and which recipients' fields it makes 1.
OPEN_UNITS: Final = tuple(one(E_OPENS + verdict) for verdict in range(3))
CLICK_UNITS: Final = tuple(one(E_CLICKS + verdict) for verdict in range(3))
OPEN_PRESENCE: Final = tuple(
    one(E_OPENED) | (one(E_OPENED_PEOPLE) if verdict == HUMAN else 0) for verdict in range(3)
)
CLICK_PRESENCE: Final = tuple(
    one(E_CLICKED) | (one(E_CLICKED_PEOPLE) if verdict == HUMAN else 0) for verdict in range(3)
)


_key_bytes = Struct(">BQQ").pack


def row_key(section: int, a: int, b: int = 0) -> RowKey:
    return _key_bytes(section, a, b)


class RowName(NamedTuple):
    section: int
    a: int
    b: int


def row_name(key: RowKey) -> RowName:
    return RowName(key[0], int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:17], "big"))


def said(name: str) -> str:
    """A name as the report shows it: one that reads like what stands in place of a name is put in quotes."""
    return f'"{name}"' if name.strip('"') in _NO_NAMES else name


def meant(shown: str) -> str:
    """The other way."""
    quoted = len(shown) > 2 and shown[0] == shown[-1] == '"' and shown.strip('"') in _NO_NAMES
    return shown[1:-1] if quoted else shown


class AgentRows(NamedTuple):
    """The rows that an open or click with this agent belongs to."""

    client: RowKey
    device: RowKey
    system: RowKey
    browser: RowKey


class PlaceRows(NamedTuple):
    country: RowKey
    city: RowKey


class Names(Protocol):
    """What the numbers in facts stand for. A number is a hash of its text, so what stands behind it never changes."""

    def agent_rows(self, agent: int) -> AgentRows: ...

    def proxied_rows(self, agent: int) -> AgentRows:
        """Where it was a mailbox provider's proxy: its client counts, the rest is the proxy's."""
        ...

    def place_rows(self, place: int) -> PlaceRows: ...

    def country(self, place: int) -> int: ...


def special_agent(number: int) -> AgentRows:
    return AgentRows(*(row_key(section, number) for section in (CLIENT, DEVICE, SYSTEM, BROWSER)))


def special_place(number: int) -> PlaceRows:
    return PlaceRows(row_key(COUNTRY, number), row_key(CITY, number))


AGENT_NOT_PROVIDED: Final = special_agent(NOT_PROVIDED)
AGENT_PROXY: Final = special_agent(PROXY)
AGENT_UNKNOWN: Final = special_agent(UNKNOWN)
AGENT_OVERFLOW: Final = special_agent(OVERFLOW)
PLACE_NOT_PROVIDED: Final = special_place(NOT_PROVIDED)
PLACE_PROXY: Final = special_place(PROXY)
PLACE_UNKNOWN: Final = special_place(UNKNOWN)
PLACE_OVERFLOW: Final = special_place(OVERFLOW)
