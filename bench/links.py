"""A campaign whose every mail has links of its own: what counting it loses to them, and what clicks alone lose."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from app import facts as f
from app import keys
from app.facts import Detail, Entry, Fact, FactsRecord, encode
from app.settings import Settings
from bench.facts import fold_alone
from bench.figure import Figure
from bench.traffic import TARGET, normalised
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase

FEW, MANY = 20, 100_000
RECIPIENTS = 50_000
CLICKS = 3
FACTS = int(os.environ.get("BENCH_FACTS", "200_000"))
"""Of each mailing: a twentieth of them clicks a link that nobody else has."""
PER_RECORD = 1_000
START_MS = 1_790_000_000_000
SECRET = b"secret of the benchmark"
FINGERPRINT = keys.secret_fingerprint(SECRET)
CAMPAIGN = keys.campaign_key(SECRET, "acme", "links")


def run(folder: Path) -> list[Figure]:
    # Each twice, in turn: the machine is not the same from minute to minute.
    rates: dict[int, list[float]] = {FEW: [], MANY: []}
    for turn in range(2):
        for links, found in rates.items():
            found.append(_rate(folder / f"{links}-{turn}", links))
    few, many = max(rates[FEW]), max(rates[MANY])
    usual, own = _mailings(folder)
    return [
        Figure(
            what="facts of a mailing whose every recipient has links of their own, of the rate with the same for all",
            value=100 * own / usual,
            unit="%",
            goal=90,
            note=f"{own:,.0f} and {usual:,.0f} facts/s in one process",
        ),
        Figure(
            what=f"clicks on {MANY:,} different links, of the rate with {FEW}",
            value=100 * many / few,
            unit="%",
            goal=80,
            note=f"{many:,.0f} and {few:,.0f} clicks/s in one process",
        ),
    ]


def _mailings(folder: Path) -> tuple[float, float]:
    """Facts a second of the generator's traffic with the links it has, and with a parameter in each that is the
    recipient's own. Each twice, in turn."""
    settings = Settings(data=folder, secret=SECRET)
    found = []
    for target in (TARGET, msgspec.structs.replace(TARGET, personal="u")):
        found.append(list(normalised(settings, FACTS, target=target)))
    rates: list[list[float]] = [[], []]
    for turn in range(2):
        for number, records in enumerate(found):
            rates[number].append(fold_alone(settings, folder / f"mailing-{number}-{turn}", records))
    usual, own = map(max, rates)
    return usual, own


def _rate(folder: Path, links: int) -> float:
    made = list(_records(links))
    meta = Meta(LAYOUT_VERSION, 0, 1, "bench", FINGERPRINT, 1)
    database = PartitionDatabase(folder, meta, SECRET, RecipientCache(20_000))
    began = time.monotonic()
    for offset, record in enumerate(made):
        database.apply([(offset, record)])
    seconds = time.monotonic() - began
    database.close()
    return RECIPIENTS * CLICKS / seconds


def _records(links: int) -> Iterator[bytes]:
    chance = random.Random(1)
    details = [(link := f"https://shop.example.com/{n}", keys.text_id(link)) for n in range(links)]
    waiting: list[Entry] = []
    for number in range(RECIPIENTS):
        address = f"r{number}@example.com"
        recipient = keys.recipient_key(SECRET, CAMPAIGN, address)
        for click in range(CLICKS):
            link, numbered = details[chance.randrange(links)]
            at_ms = START_MS + number * 50 + click * 60_000
            identity = keys.identity(recipient, f.CLICKED, str(at_ms))
            fact = Fact(identity, at_ms, f.CLICKED, 0, number, link=numbered)
            waiting.append(Entry(recipient, address, fact, encode(Detail("generic", link=link))))
        if len(waiting) >= PER_RECORD:
            yield encode(FactsRecord(f.FACTS_VERSION, "acme", "links", START_MS, waiting, FINGERPRINT))
            waiting = []
    yield encode(FactsRecord(f.FACTS_VERSION, "acme", "links", START_MS, waiting, FINGERPRINT))
