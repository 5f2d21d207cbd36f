"""A campaign's databases of all partitions, as workers make them, in a folder of their own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from app import facts as f
from app import keys
from app.facts import CampaignKey, Entry, ErasedRecord, FactsRecord, LogRecord, encode
from app.keys import recipient_partition, secret_fingerprint
from app.verdicts import DEFAULT_RULES, Rules
from tables.book import Book
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.moments import Moment, small_cache
from tables.partition import PartitionDatabase
from tests.support.facts import CAMPAIGN, KEY, ORG, SECRET, START_MS

PARTITIONS = 3


class Databases:
    def __init__(self, folder: Path, rules: Rules = DEFAULT_RULES) -> None:
        self.folder = folder
        cache = RecipientCache(1_000)
        self.databases = {
            partition: PartitionDatabase(
                folder / f"p{partition}",
                Meta(LAYOUT_VERSION, partition, PARTITIONS, "topic", secret_fingerprint(SECRET), 1, rules),
                SECRET,
                cache,
            )
            for partition in range(PARTITIONS)
        }

    def write(self, line: Sequence[Entry], campaign: str = CAMPAIGN) -> None:
        for partition, database in self.databases.items():
            own = [one for one in line if recipient_partition(one.recipient, PARTITIONS) == partition]
            if own:
                self.apply(
                    database,
                    FactsRecord(f.FACTS_VERSION, ORG, campaign, START_MS, own, secret_fingerprint(SECRET)),
                )

    def erase(self, address: str) -> None:
        recipient = keys.recipient_key(SECRET, KEY, keys.normalise_address(address))
        database = self.databases[recipient_partition(recipient, PARTITIONS)]
        self.apply(
            database,
            ErasedRecord(f.FACTS_VERSION, ORG, CAMPAIGN, START_MS, [recipient], secret_fingerprint(SECRET)),
        )

    def apply(self, database: PartitionDatabase, record: LogRecord) -> None:
        database.apply([(database.next_offset, encode(record))])

    @contextlib.contextmanager
    def moments(self) -> Iterator[dict[int, Moment]]:
        cache = small_cache()
        opened = {partition: Moment(self.folder / f"p{partition}", cache) for partition in range(PARTITIONS)}
        try:
            yield opened
        finally:
            for moment in opened.values():
                moment.close()

    def close(self) -> None:
        for database in self.databases.values():
            database.close()


@contextlib.contextmanager
def databases(rules: Rules = DEFAULT_RULES) -> Iterator[Databases]:
    folder = Path(tempfile.mkdtemp(prefix="campaign-reports-test-"))
    world = Databases(folder, rules)
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)


class Names(Book):
    def text(self, section: int, number: int) -> str | None:
        return self.texts.get((section, number))


def names_of(moment: Moment, campaign: CampaignKey) -> Names:
    return Names(
        (section, number, text)
        for section in (1, 4, 9, 10, 11, 14)
        for number, text in moment.names_of(campaign, section)
    )
