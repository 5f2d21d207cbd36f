"""`reports reconcile` on a real database: silent where all is right, and naming whatever is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rocksdict import Rdict

from app import breakdown as b
from app.contribution import METRICS
from app.errors import StateError
from app.facts import CLICKED, DELIVERED, FACTS_VERSION, OPENED, Entry, Fact, FactsRecord, encode
from app.keys import campaign_key, identity, recipient_key, secret_fingerprint, text_id
from cli.reconcile import reconcile
from cli.verifier.compare import Comparison
from tables import layout, ranking
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, CampaignRow, Meta
from tables.partition import PartitionDatabase
from tables.ranking import cut_decoder
from tables.reading import PartitionReader
from tests.support.facts import detail_of

SECRET = b"a secret of the tests"
CAMPAIGN = campaign_key(SECRET, "acme", "spring")
AT_MS = 1_790_000_000_000


def entry(number: int, kind: int, at_ms: int, *, link: str | None = None) -> Entry:
    recipient = recipient_key(SECRET, CAMPAIGN, f"r{number}@example.com")
    detail, numbers = detail_of(
        link=1 + number % 2 if kind == CLICKED else 0, place=1, agent=1, provider=1 + number % 2, variant=1
    )
    if link is not None:
        detail = msgspec.structs.replace(detail, link=link)
        numbers["link"] = text_id(link)
    fact = Fact(identity(recipient, kind, str(at_ms)), at_ms, kind, 0, number, **numbers)
    return Entry(recipient, f"r{number}@example.com", fact, encode(detail))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Thirty recipients; one of them opened far more often than a state keeps."""
    entries = [entry(n, DELIVERED, AT_MS + n) for n in range(30)]
    entries += [entry(n, OPENED, AT_MS + n * 1_000_000) for n in range(0, 30, 2)]
    entries += [entry(n, CLICKED, AT_MS + n * 1_000_000) for n in range(0, 30, 5)]
    entries += [entry(1, OPENED, AT_MS + n * 1000) for n in range(260)]
    return counted(tmp_path, entries)


def counted(folder: Path, entries: list[Entry]) -> Path:
    meta = Meta(LAYOUT_VERSION, 0, 1, "topic", secret_fingerprint(SECRET), 0)
    opened = PartitionDatabase(folder / "0", meta, SECRET, RecipientCache(1000))
    for offset, start in enumerate(range(0, len(entries), 50)):
        record = FactsRecord(FACTS_VERSION, "acme", "spring", AT_MS, entries[start : start + 50])
        opened.apply([(offset, encode(record))])
    opened.close()
    return folder / "0"


def differences(path: Path) -> dict[tuple[str, str], int]:
    result = Comparison()
    with PartitionReader(path) as reader:
        assert list(reconcile(reader, "partition 0", None, result, SECRET))[-1] == 30
    return {place: cell.differences for place, cell in result.cells.items() if cell.differences}


def test_no_difference_where_there_is_none(database: Path) -> None:
    assert differences(database) == {}


def test_only_the_campaign_that_was_asked_for(database: Path) -> None:
    result = Comparison()
    with PartitionReader(database) as reader:
        assert list(reconcile(reader, "partition 0", "autumn", result, SECRET)) == [0]
    assert result.cells == {}


def first(db: Rdict, prefix: bytes) -> tuple[bytes, bytes]:
    name, value = next(iter(db.items(from_key=prefix)))
    assert isinstance(name, bytes)
    assert name.startswith(prefix)
    return name, value


def wrong_pattern(db: Rdict) -> None:
    name = layout.campaign_name(CAMPAIGN)
    row = campaign_row(db)
    row.patterns[max(row.patterns)] += 1
    db.put(name, encode(row))


def campaign_row(db: Rdict) -> CampaignRow:
    stored = db.get(layout.campaign_name(CAMPAIGN))
    assert stored is not None
    return msgspec.msgpack.decode(stored, type=CampaignRow)


def wrong_total(db: Rdict) -> None:
    name = layout.campaign_name(CAMPAIGN)
    row = campaign_row(db)
    row.totals = [count + 1 for count in row.totals]
    assert len(row.totals) == METRICS
    db.put(name, encode(row))


def lost_day(db: Rdict) -> None:
    db.delete(first(db, b"D" + CAMPAIGN)[0])


def lost_address(db: Rdict) -> None:
    index = db.get_column_family(layout.INDEX)
    index.delete(first(index, b"A" + CAMPAIGN)[0])


def old_activity(db: Rdict) -> None:
    index = db.get_column_family(layout.INDEX)
    name, value = first(index, b"T" + CAMPAIGN)
    index.put(name[:9] + (1).to_bytes(8, "big") + name[17:], value)


def lost_row(db: Rdict) -> None:
    db.delete(first(db, b"R" + CAMPAIGN + bytes((b.CITY,)))[0])


def lost_name(db: Rdict) -> None:
    db.delete(first(db, b"N" + CAMPAIGN + bytes((b.LINK,)))[0])


def wrong_end(db: Rdict) -> None:
    name, value = first(db, b"E" + CAMPAIGN)
    db.put(name, value[:8] + (1).to_bytes(8, "big") + value[16:])


def lost_end(db: Rdict) -> None:
    db.delete(first(db, b"E" + CAMPAIGN)[0])


def lost_click(db: Rdict) -> None:
    index = db.get_column_family(layout.INDEX)
    index.delete(first(index, b"F" + CAMPAIGN)[0])


def lost_status(db: Rdict) -> None:
    index = db.get_column_family(layout.INDEX)
    index.delete(first(index, b"S" + CAMPAIGN)[0])


def old_status(db: Rdict) -> None:
    index = db.get_column_family(layout.INDEX)
    name, value = first(index, b"S" + CAMPAIGN)
    index.put(name[:10] + b"z" + name[11:], value)


def lost_entry(db: Rdict) -> None:
    log = db.get_column_family(layout.LOG)
    log.delete(first(log, CAMPAIGN)[0])


def lost_state(db: Rdict) -> None:
    """As if a recipient had been forgotten: the sums, the indexes and the log still know of it."""
    recipients = db.get_column_family(layout.RECIPIENTS)
    names = [name for name, value in recipients.items() if b"r29@" in value]
    assert len(names) == 1
    recipients.put(names[0], recipients.get(first(recipients, CAMPAIGN)[0]))


def lost_sketch(db: Rdict) -> None:
    db.delete(first(db, b"h" + CAMPAIGN)[0])


def one_too_many(db: Rdict) -> None:
    name, value = first(db, b"h" + CAMPAIGN)
    db.put(name, value + bytes(8))


def one_too_few(db: Rdict) -> None:
    """As if a person had been erased before they were counted."""
    (name, value), *_ = [pair for pair in layout.scan(db, b"h" + CAMPAIGN) if len(pair[1]) > 8]
    db.put(name, value[8:])


def lost_fallen(db: Rdict) -> None:
    db.delete(first(db, b"O" + CAMPAIGN)[0])


def wrong_fallen(db: Rdict) -> None:
    name, value = first(db, b"O" + CAMPAIGN)
    db.put(name, value[:2] + bytes(8))


def lost_rank(db: Rdict) -> None:
    db.delete(first(db, b"W" + CAMPAIGN)[0])


def old_rank(db: Rdict) -> None:
    name, value = first(db, b"W" + CAMPAIGN)
    db.put(name[:12] + b"\x01" + name[13:], value)


def wrong_total_of_rows(db: Rdict) -> None:
    name, value = first(db, b"Q" + CAMPAIGN)
    cut = cut_decoder.decode(value)
    cut.total = b"\x01"
    db.put(name, encode(cut))


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lost_rank, ("index", "first rows")),
        (old_rank, ("index", "first rows")),
        (wrong_total_of_rows, ("sums", "rows")),
    ],
)
def test_a_difference_is_seen_where_there_are_very_many_rows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Rdict], None],
    place: tuple[str, str],
) -> None:
    monkeypatch.setattr(ranking, "LIMITS", {})
    monkeypatch.setattr(ranking, "DEFAULT_LIMIT", 3)
    path = counted(
        tmp_path, [entry(n, CLICKED, AT_MS + n, link=f"https://example.com/{n}") for n in range(30)]
    )
    assert differences(path) == {}
    db = layout.open_database(path)
    spoil(db)
    db.close()
    assert differences(path)[place] >= 1


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lost_sketch, ("sketches", "people")),
        (one_too_many, ("sketches", "people")),
        (one_too_few, ("sketches", "people")),
        (lost_fallen, ("index", "overflow")),
        (wrong_fallen, ("index", "overflow")),
        (wrong_pattern, ("sums", "patterns")),
        (wrong_total, ("sums", "totals")),
        (lost_day, ("sums", "quarters")),
        (lost_address, ("index", "addresses")),
        (old_activity, ("index", "activity")),
        (lost_row, ("sums", "rows")),
        (lost_name, ("sums", "names")),
        (wrong_end, ("sums", "link ends")),
        (lost_end, ("sums", "link ends")),
        (lost_click, ("index", "clicks")),
        (lost_status, ("index", "statuses")),
        (old_status, ("index", "statuses")),
        (lost_entry, ("log", "entries")),
        (lost_state, ("log", "entries")),
    ],
)
def test_a_difference_is_seen(database: Path, spoil: Callable[[Rdict], None], place: tuple[str, str]) -> None:
    db = layout.open_database(database)
    spoil(db)
    db.close()
    assert differences(database)[place] >= 1


def test_another_secret_is_said_and_compares_nothing(database: Path) -> None:
    with (
        PartitionReader(database) as reader,
        pytest.raises(StateError, match="partition 0 was counted with another REPORTS_SECRET"),
    ):
        list(reconcile(reader, "partition 0", None, Comparison(), b"another"))
