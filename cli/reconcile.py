"""`reports reconcile [CAMPAIGN]`: sums, index, log and sketches of every partition anew from its recipients, compared.

Works beside a running worker: a partition is read as of one moment, and a batch is never half in it.
Sketches of people must be those of the recipients' facts, register by register. Where an older version counted before
(`layout.COUNTING`), or erased somebody of the campaign (`layout.is_nobody`), they may hold more, and never less.
Exit status: 0 no difference; 1 differences; 3 a database can't be read, is on another machine (unless `--here` asks for
those of this one only), or lacks what reports show: then nobody knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

import click
import msgspec
from rich.console import Console

from app import breakdown as b
from app import tally
from app.breakdown import row_name
from app.contribution import METRICS, NOTHING, LinkClicks, contribution
from app.errors import StateError
from app.facts import CampaignKey, Entry, Fact, Identity, RecipientKey
from app.fold import log_key, place_of
from app.keys import secret_fingerprint
from app.settings import PREFIX
from app.words import number_of
from cli.config import load_settings
from cli.identity import identify
from cli.owned import elsewhere, is_here, owned
from cli.progress import Progress
from cli.verifier.compare import Comparison
from cli.verify import show
from tables import layout
from tables.book import Book
from tables.layout import CampaignRow
from tables.people import PeopleOf
from tables.ranking import entries_of
from tables.reading import PartitionReader
from tables.sketches import Sketch
from tables.sums import Sums

SHOW_EVERY = 5_000

_NAMES_OF = {b.POSITION: b.LINK, b.HOME: b.COUNTRY}
"""Section → the one that the names of its rows belong to, where that is another one."""


@click.command()
@click.argument("campaign", required=False)
@click.option("--here", is_flag=True, help="Only the partitions whose databases are on this machine.")
def command(campaign: str | None, *, here: bool) -> int:
    """Recompute every sum, index and log entry from the recipients and compare; of CAMPAIGN, or of all."""
    settings = identify(load_settings()).settings
    known = owned(settings)
    if not known.owners:
        raise StateError("no worker has owned a partition yet: start `reports aggregate`")
    looked_at = {partition: owner for partition, owner in known.owners.items() if is_here(owner)}
    there = elsewhere(known.owners)
    if not looked_at:
        raise StateError(f"{'; '.join(there)}: run this there")
    result = Comparison()
    recipients = 0
    short = known.unowned()
    if there and not here:
        short.append(f"{'; '.join(there)} (run `reports reconcile --here` on each machine)")
    with Progress("recipients", None) as progress:
        for partition, owner in sorted(looked_at.items()):
            aside = ", which is set aside" if partition in known.aside else ""
            progress.say(f"partition {partition} of {owner.worker}{aside}")
            with PartitionReader(Path(owner.state)) as reader:
                if shortage := known.shortage(partition, reader.fence()):
                    short.append(shortage)
                for done in reconcile(reader, f"partition {partition}", campaign, result, settings.secret):
                    progress.at(recipients + done)
                recipients += done
    Console(stderr=True).print(
        f"{number_of(recipients, 'recipient')} in {number_of(len(looked_at), 'partition')}"
    )
    return show(result, f"not all that was counted is looked at: {'; '.join(short)}" if short else "")


class _Sums(msgspec.Struct):
    """What a campaign's rows must be."""

    patterns: Counter[int] = msgspec.field(default_factory=Counter)
    quarters: dict[int, list[int]] = {}
    overflow: list[int] = msgspec.field(default_factory=lambda: [0] * METRICS)
    as_of_ms: int = -1
    addresses: dict[str, RecipientKey] = {}
    activity: set[tuple[int, RecipientKey]] = msgspec.field(default_factory=set)
    statuses: dict[bytes, bytes] = {}
    """Keys of the index by bits of the pattern → recipient."""
    ends: dict[int, list[int]] = {}
    """Link → first and last click, then those of people; -1: none."""


def reconcile(
    reader: PartitionReader, where: str, campaign: str | None, result: Comparison, secret: bytes
) -> Iterator[int]:
    """Compares one partition; gives the number of recipients done, now and then and at the end. Raises StateError."""
    done = 0
    rules = reader.rules()
    meta = reader.meta()
    if meta is not None and meta.secret != secret_fingerprint(secret):
        raise StateError(
            f"{where} was counted with another {PREFIX}SECRET: set that of the workers, or {PREFIX}DATA to their "
            "data folder"
        )
    for key, row in list(reader.campaigns()):
        if campaign is not None and row.campaign != campaign:
            continue
        sums = _Sums()
        kept: dict[RecipientKey, dict[tuple[int, Identity], Fact]] = {}
        fallen: dict[RecipientKey, int] = {}
        people = PeopleOf(key, row.org, secret)
        book = reader.book(key)
        rows = Sums()
        clicks: set[bytes] = set()
        for _, recipient, state in reader.recipients(key):
            adds = contribution(state, book, rules)
            rows.move(NOTHING, adds)
            clicks |= layout.click_names(key, recipient, adds.clicks)
            kept[recipient] = {log_key(fact): fact for fact in state.facts}
            people.add(recipient, state)
            fallen[recipient] = sum(count for _, _, count in state.overflow)
            if adds.last_at_ms >= 0:
                sums.patterns[adds.pattern] += 1
                address = layout.indexed_address(state, recipient)
                sums.addresses[address] = recipient
                sums.statuses |= _statuses(key, address, adds.pattern, recipient)
                sums.activity.add((adds.last_at_ms, recipient))
            for cell in adds.cells:
                counts = sums.quarters.setdefault(cell & 0xFFFFFFFF, [0] * METRICS)
                counts[cell >> 32] += 1
            for metric, count in adds.overflow:
                sums.overflow[metric] += count
            for clicked in adds.clicks:
                _widen(sums.ends.setdefault(clicked.link, [-1, -1, -1, -1]), clicked)
            sums.as_of_ms = max(sums.as_of_ms, adds.last_at_ms)
            done += 1
            if done % SHOW_EVERY == 0:
                yield done
        name = f"{where}, {row.org}/{row.campaign}"
        _compare_sums(reader, key, row, sums, name, result)
        result.mappings(
            "sums",
            "rows",
            name,
            _hex({key: value for key, value in rows.rows.items() if value}),
            _hex(book.rows),
        )
        _compare_cuts(reader, key, row, book, name, result)
        stored = {found for letter in (b"K", b"F") for found, _ in reader.index(letter + key)}
        result.same("index", "clicks", f"{name}, missing", 0, len(clicks - stored))
        result.same("index", "clicks", f"{name}, left behind", 0, len(stored - clicks))
        result.mappings(
            "sums", "link ends", name, sums.ends, {link: [*ends] for link, ends in book.ends.items()}
        )
        nameless = sorted(number for number in _named(book) - book.texts.keys() if number[1] > b.OVERFLOW)
        result.same("sums", "names", f"{name}, numbers without a name", [], nameless)
        indexed = dict(reader.index(b"S" + key))
        result.mappings("index", "statuses", name, _hex(sums.statuses), _hex(indexed))
        beyond = _compare_log(reader, key, kept, fallen, name, result)
        if reader.knows_fallen(key):
            wanted = {(entry.recipient, place_of(entry.fact)) for entry in beyond}
            found = set(reader.fallen(key))
            result.same("index", "overflow", f"{name}, missing", 0, len(wanted - found))
            result.same("index", "overflow", f"{name}, left behind", 0, len(found - wanted))
        for entry in beyond:
            people.add_fallen(entry)
        _compare_people(reader, key, people, name, result)
    yield done


def _compare_cuts(
    reader: PartitionReader, key: CampaignKey, row: CampaignRow, book: Book, name: str, result: Comparison
) -> None:
    """What is kept beside the rows of sections that have very many."""
    for section, cut, index in reader.cuts(key, row):
        where = f"{name}, section {section}"
        total, numbers = book.ranking(section).sums()
        result.same("sums", "rows", f"{where}, all together", total, tally.from_bytes(cut.total))
        result.same("sums", "rows", f"{where}, how many", numbers, cut.numbers)
        wanted = entries_of(section, dict(book.section(section)), cut.floors)
        result.same("index", "first rows", f"{where}, missing", 0, len(wanted - index))
        result.same("index", "first rows", f"{where}, left behind", 0, len(index - wanted))


def _hex(rows: Mapping[bytes, object]) -> dict[str, object]:
    return {key.hex(): value for key, value in rows.items()}


def _statuses(
    campaign: CampaignKey, address: str, pattern: int, recipient: RecipientKey
) -> dict[bytes, bytes]:
    bits = (1 << place for place in range(pattern.bit_length()))
    return {
        layout.bit_name(campaign, bit, address): recipient
        for bit in bits
        if pattern & bit and layout.INDEXED_BITS & bit
    }


def _widen(ends: list[int], clicked: LinkClicks) -> None:
    pairs = (
        (clicked.first_at_ms, clicked.last_at_ms),
        (clicked.people_first_at_ms, clicked.people_last_at_ms),
    )
    for place, (first, last) in zip((0, 2), pairs, strict=True):
        if first >= 0:
            ends[place] = min(first, ends[place]) if ends[place] >= 0 else first
            ends[place + 1] = max(last, ends[place + 1])


def _named(book: Book) -> set[tuple[int, int]]:
    """(section of the name, number) of all that stands in the keys of rows."""
    found: set[tuple[int, int]] = set()
    for key in book.rows:
        section, first, second = row_name(key)
        if section == b.REASON:
            found |= {(b.PROVIDER, first), (b.REASON, second)}
        elif section != b.TYPE:
            found.add((_NAMES_OF.get(section, section), first))
    return found


def _compare_sums(
    reader: PartitionReader, key: CampaignKey, row: CampaignRow, sums: _Sums, name: str, result: Comparison
) -> None:
    patterns = {pattern: count for pattern, count in row.patterns.items() if count}
    result.mappings("sums", "patterns", name, sums.patterns, patterns)
    result.mappings("sums", "quarters", name, sums.quarters, dict(reader.quarters(key)))
    columns = [sum(counts[metric] for counts in sums.quarters.values()) for metric in range(METRICS)]
    totals = [count + beyond for count, beyond in zip(columns, sums.overflow, strict=True)]
    result.same("sums", "totals", name, totals, row.totals)
    result.same("sums", "overflow", name, sums.overflow, row.overflow)
    result.same("sums", "as_of", name, sums.as_of_ms, row.as_of_ms)
    result.mappings("index", "addresses", name, sums.addresses, dict(reader.addresses(key)))
    stored = set(reader.activity(key))
    result.same("index", "activity", f"{name}, missing", 0, len(sums.activity - stored))
    result.same("index", "activity", f"{name}, left behind", 0, len(stored - sums.activity))


def _compare_log(
    reader: PartitionReader,
    key: CampaignKey,
    kept: dict[RecipientKey, dict[tuple[int, Identity], Fact]],
    fallen: dict[RecipientKey, int],
    name: str,
    result: Comparison,
) -> list[Entry]:
    """Every kept fact is in the log, and every entry of the log is kept or among those that fell out of the state,
    which it gives."""
    beyond: list[Entry] = []
    wrong = unknown = 0
    for entry in reader.log(key):
        facts = kept.get(entry.recipient)
        if facts is None:
            unknown += 1
            continue
        fact = facts.pop((entry.fact.at_ms, entry.fact.identity), None)
        if fact is None:
            beyond.append(entry)
        elif fact != entry.fact:
            wrong += 1
    result.same("log", "entries", f"{name}, of recipients without a state", 0, unknown)
    result.same("log", "entries", f"{name}, other than the kept fact", 0, wrong)
    result.same(
        "log", "entries", f"{name}, kept facts without one", 0, sum(len(facts) for facts in kept.values())
    )
    found = Counter(entry.recipient for entry in beyond)
    differing = {who for who in fallen if fallen[who] != found[who]}
    result.same("log", "entries", f"{name}, recipients with another number of entries", 0, len(differing))
    return beyond


def _compare_people(
    reader: PartitionReader, key: CampaignKey, people: PeopleOf, name: str, result: Comparison
) -> None:
    expected, found = people.sketches(), reader.sketches(key)
    if not (reader.is_exact() and people.everybody):
        for place, sketch in found.items():
            # What stands there beside them is right too.
            expected.setdefault(place, Sketch()).merge(sketch)
    wanted = {place.hex(): _told(sketch) for place, sketch in expected.items()}
    result.mappings("sketches", "people", name, wanted, {p.hex(): _told(s) for p, s in found.items()})


def _told(sketch: Sketch) -> str:
    """Tells any two sketches apart."""
    return f"{sketch.count()} people ({blake2b(sketch.encode(), digest_size=8).hexdigest()})"
