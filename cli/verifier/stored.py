"""What RocksDB and Redis hold, read at the partition's owner and without a word to the engine."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
from redis.asyncio import Redis

from app.facts import TYPE_NAMES, decode_detail
from app.keys import campaign_key
from app.settings import Settings
from cli.verifier.erasures import nobody
from cli.verifier.events import Entry
from cli.verifier.ledger import Campaign
from cli.verifier.stored_rows import REASON, SECTIONS, SHARED_NAMES, StoredRows
from cli.verifier.variants import text_of
from tables.book import Book
from tables.reading import PartitionReader
from tables.views import View, ViewReader

OWNERS: Final = "cr:owners"
CATCH_UP_S: Final = 10.0


class Owner(msgspec.Struct):
    """Who owns a partition, and the folder of its database."""

    worker: str
    state: str


class Sums(msgspec.Struct):
    """One campaign's stored sums over all partitions."""

    patterns: Counter[int]
    totals: list[int]
    quarters: dict[int, list[int]]
    as_of_ms: int = -1


class Database(msgspec.Struct):
    """All partitions' databases together."""

    recipients: dict[Campaign, list[tuple[str, list[tuple[str, int]]]]] = {}
    """(address, facts as (type, ms))."""
    sums: dict[Campaign, Sums] = {}
    rows: dict[Campaign, StoredRows] = {}
    log: dict[Campaign, Counter[Entry]] = {}
    troubles: list[str] = []


async def owners(redis: Redis) -> dict[int, Owner]:
    stored = await redis.hgetall(OWNERS)
    return {int(partition): msgspec.json.decode(text, type=Owner) for partition, text in stored.items()}


def read_databases(owned: dict[int, Owner], ends: dict[int, int]) -> Database:
    """`ends`: partition → up to where it must be counted. Raises RocksDB's errors: what isn't read is no difference."""
    database = Database()
    for partition, end in sorted(ends.items()):
        owner = owned.get(partition)
        if owner is None:
            if end:
                database.troubles.append(f"partition {partition} has no owner")
            continue
        try:
            _read(Path(owner.state), partition, end, database)
        except (ValueError, LookupError) as error:
            database.troubles.append(f"partition {partition} of {owner.worker}: {error}")
    return database


def _read(path: Path, partition: int, end: int, database: Database) -> None:
    with PartitionReader(path) as reader:
        deadline = time.monotonic() + CATCH_UP_S
        while (offset := reader.fence().offset) < end and time.monotonic() < deadline:
            time.sleep(0.05)
            reader.catch_up()
        if offset < end:  # above it other traffic goes on: this ledger's campaigns are its own
            database.troubles.append(f"partition {partition}: counted up to {offset}, the log ends at {end}")
        names: dict[bytes, Campaign] = {}
        for key, row in reader.campaigns():
            campaign = names[key] = (row.org, row.campaign)
            sums = database.sums.setdefault(campaign, Sums(Counter(), [0] * len(row.totals), {}))
            sums.patterns.update(row.patterns)
            sums.totals = [a + b for a, b in zip(sums.totals, row.totals, strict=True)]
            sums.as_of_ms = max(sums.as_of_ms, row.as_of_ms)
            for quarter, counts in reader.quarters(key):
                before = sums.quarters.get(quarter, [0] * len(counts))
                sums.quarters[quarter] = [a + b for a, b in zip(before, counts, strict=True)]
            add_book(database.rows.setdefault(campaign, StoredRows()), reader.book(key))
            log = database.log.setdefault(campaign, Counter())
            for logged in reader.log(key):
                detail = decode_detail(logged.detail)
                fact = logged.fact
                log[
                    Entry(
                        logged.address.strip().lower() or nobody(logged.recipient), TYPE_NAMES[fact.type],
                        fact.at_ms, detail.link, fact.position, detail.ip, detail.user_agent, detail.reason,
                        (detail.client, detail.device, detail.system, detail.browser),
                        (detail.country, detail.city), detail.provider, text_of(detail.variant),
                    )
                ] += 1  # fmt: skip
        for key, whose, state in reader.recipients():
            facts = [(TYPE_NAMES[fact.type], fact.at_ms) for fact in state.facts]
            if facts:  # of who was erased before their first event nothing came yet
                found = database.recipients.setdefault(names[key], [])
                found.append((state.address or nobody(whose), facts))


def add_book(rows: StoredRows, book: Book) -> None:
    """One partition's rows of a campaign."""
    for section in SECTIONS:
        found = [
            (int.from_bytes(name[1:9], "big"), int.from_bytes(name[9:], "big"), tally)
            for name, tally in book.section(section)
        ]
        rows.add(section, found, book.texts)
    rows.add_ends(book.ends.items(), book.texts)


def rows_of_view(view: View) -> StoredRows:
    """What Redis holds of a campaign's sections; `view` loaded with all of them."""
    stored = StoredRows()
    found = view.sections or {}
    texts: dict[tuple[int, int], str] = {}
    for section, rows in found.items():
        for (a, b), text in rows.names.items():
            texts[SHARED_NAMES.get(section, section), b if section == REASON else a] = text
    for section, rows in found.items():
        stored.add(section, [(a, b, tally) for (a, b), tally in rows.tallies.items()], texts)
        stored.add_ends(rows.ends.items(), texts)
    return stored


async def read_views(
    redis: Redis, settings: Settings, campaigns: list[Campaign]
) -> dict[Campaign, View | None]:
    reader = ViewReader(redis, settings.partitions)
    epoch = await reader.epoch()
    return {
        (org, name): await reader.load(
            campaign_key(settings.secret, org, name), epoch=epoch, hours=True, sections=tuple(SECTIONS)
        )
        for org, name in campaigns
    }
