"""A large campaign's numbers as its workers publish them: ten million recipients, 1,000 links, 1,000 cities, 90 days.

The views are written as a worker writes them, with made-up numbers: what readers of them cost depends on the rows and
hours, not on how they were counted. Interest fades by a power law, links and cities share by another.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from app import breakdown as b
from app import contribution as c
from app.breakdown import row_key
from app.facts import CampaignKey
from app.keys import text_id
from app.summary import GROUP_EVENTS, group_tally
from app.tally import pack
from tables.book import Book
from tables.link_ends import Ends
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.view_writer import Call, Update, ViewWriter
from tables.views import Fence, SummaryPart

LINKS: Final = 1_000
CITIES: Final = 1_000
DAYS: Final = 90
FIRST_DAY: Final = 1_790_000_000_000 // 86_400_000


_CLICK: Final = pack([0, 0, 0, 1])
"""One click of a person, in the fields of a row."""


class Campaign(NamedTuple):
    key: CampaignKey
    org: str
    name: str


class Numbers:
    """One partition's share of a campaign, and its growth."""

    def __init__(self, recipients: int, chance: random.Random) -> None:
        events = _Events(recipients, chance)
        self._chance = chance
        self.summary = summary_of(recipients)
        self.days = {FIRST_DAY + day: part for day in range(DAYS) if (part := events.day(FIRST_DAY + day))}
        self.names, self.rows, self.ends = _sections(events, chance, recipients)
        self._of = {
            section: [key for key in self.rows if key[0] == section]
            for section in (b.LINK, b.CITY, b.CLIENT, b.DEVICE)
        }

    def grow(self) -> None:
        """Ten opens with a click each: links, cities, clients, the last hours and the totals move."""
        for _ in range(10):
            for section in (b.LINK, b.CITY, b.CLIENT, b.DEVICE):
                self.rows[self._chance.choice(self._of[section])] += _CLICK
            hours = self.days[max(self.days)]
            counts = hours[self._chance.choice(list(hours))]
            for metric in (c.OPENS, c.CLICKS):
                counts[metric] += 1
                self.summary.totals[metric] += 1

    def share(self, writer: ViewWriter, who: Campaign, partition: int, fence: Fence) -> list[Call]:
        """All of it as of `fence`, to be published."""
        update = Update(key=who.key, org=who.org, campaign=who.name, summary=self.summary, days=self.days)
        book = Book(self.names, self.rows.items(), self.ends.items())
        parts = {section: pack_part(section_part(book, section)) for section in PUBLISHED}
        sections = [(who.key, who.org, who.name, parts)]
        return [
            *writer.encode(partition, fence, [update]),
            *writer.encode_sections(partition, fence, sections),
        ]


def summary_of(recipients: int) -> SummaryPart:
    patterns = {
        (c.SENT | c.QUEUED | c.DELIVERED | bits) & ~(number << 20): recipients // 60
        for number, bits in enumerate(range(0, 60 << 5, 1 << 5))
    }
    totals = [
        recipients,
        recipients // 3,
        recipients // 4,
        recipients // 10,
        recipients // 12,
        *([recipients // 9] * 6),
    ]
    return SummaryPart((FIRST_DAY + DAYS) * 86_400_000 - 1, patterns, totals, [0] * c.METRICS)


def _weights(number: int, exponent: float) -> list[float]:
    """Shares of a whole by a power law, the largest first: so links are clicked, and so interest fades."""
    raw = [(place + 1) ** -exponent for place in range(number)]
    return [weight / sum(raw) for weight in raw]


FADING: Final = _weights(DAYS * 96, 1.2)
LINK_SHARES: Final = _weights(LINKS, 1.0)
CITY_SHARES: Final = _weights(CITIES, 1.0)
CLIENT_SHARES: Final = _weights(60, 1.5)


class _Events:
    """What one partition's recipients did in all, and how that falls on parts of it, with chance."""

    def __init__(self, recipients: int, chance: random.Random) -> None:
        self._chance = chance
        self.opens = (recipients * 3 // 10, recipients * 3 // 10, recipients // 50)
        self.clicks = (recipients * 8 // 100, 0, recipients * 3 // 100)
        self.opened = (recipients // 2, recipients // 4)
        self.clicked = (recipients // 12, recipients // 16)

    def of(self, whole: int, share: float) -> int:
        mean = whole * share
        return max(0, round(self._chance.gauss(mean, mean**0.5)))

    def row(self, share: float, *, opens: bool) -> int:
        """An engagement row; links and positions have clicks alone."""
        wholes = (*(self.opens if opens else (0, 0, 0)), *self.clicks)
        people = (*(self.opened if opens else (0, 0)), *self.clicked)
        return pack(self.of(whole, share) for whole in (*wholes, *people))

    def day(self, day: int) -> dict[int, list[int]]:
        first = (day - FIRST_DAY) * 96
        found = {}
        for place in range(first, first + 96):
            share = FADING[place]
            wholes = (0, *self.opened, *self.clicked, *self.opens, *self.clicks)
            counts = [self.of(whole, share) for whole in wholes]
            if any(counts):
                found[FIRST_DAY * 96 + place] = counts
        return found


def _sections(
    events: _Events, chance: random.Random, recipients: int
) -> tuple[list[tuple[int, int, str]], dict[bytes, int], dict[int, Ends]]:
    """Names, rows and ends, as a book takes them."""
    names: list[tuple[int, int, str]] = []
    rows: dict[bytes, int] = {}
    ends: dict[int, Ends] = {}

    def named(section: int, text: str) -> int:
        number = text_id(text)
        names.append((section, number, text))
        return number

    for n, share in enumerate(LINK_SHARES):
        link = named(
            b.LINK, f"https://shop.example.com/catalogue/spring-sale/product-{n:04d}?utm_campaign=spring"
        )
        rows[row_key(b.LINK, link)] = events.row(share, opens=False)
        rows[row_key(b.POSITION, link, n + 1)] = events.row(share, opens=False)
        ends[link] = Ends(*sorted(FIRST_DAY * 86_400_000 + chance.randrange(10**9) for _ in range(4)))
    for n, share in enumerate(CITY_SHARES):
        country = f"{'ABCDEFGH'[n % 8]}{'ABCDEFGH'[n // 8 % 8]}"
        rows[row_key(b.CITY, named(b.CITY, f"{country}\0City {n}"))] = events.row(share, opens=True)
    book = Book(names)
    for place in [number for section, number, _ in names if section == b.CITY]:
        rows[book.place_rows(place).country] = events.row(1 / 64, opens=True)
    for n, share in enumerate(CLIENT_SHARES):
        for section in (b.CLIENT, b.DEVICE, b.SYSTEM, b.BROWSER):
            rows[row_key(section, text_id(f"{section} {n}"))] = events.row(share, opens=True)
    group = group_tally(c.SENT | c.DELIVERED | c.OPENED) * recipients + (pack([9] * 6) << 40 * GROUP_EVENTS)
    for n in range(40):
        provider = named(b.PROVIDER, f"Provider {n}")
        rows[row_key(b.PROVIDER, provider)] = group
        for m in range(5):
            reason = named(b.REASON, f"550 5.1.{m} reason {n}")
            rows[row_key(b.REASON, provider, reason)] = chance.randint(1, 999)
    for n in range(18):
        rows[row_key(b.VARIANT, named(b.VARIANT, f'{{"content":"{n % 3}","subject":"{n // 3}"}}'))] = group
    return names, rows, ends
