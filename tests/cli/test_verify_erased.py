"""The verifier knows who was erased: no false alarm, whenever it was, and a difference is still seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app import facts as f
from app import keys
from app.facts import Entry, Identity
from app.summary import Count
from cli.traffic.ledger import FactLine
from cli.verifier import answers, erasures, stored, verification
from cli.verifier.compare import Comparison
from cli.verifier.events import Entry as Logged
from cli.verifier.ledger import Ledger
from cli.verifier.stored import Database, Owner
from tests.cli.test_verify import LABELS, FakePages
from tests.support.databases import Databases, databases
from tests.support.databases_view import view
from tests.support.facts import CAMPAIGN, KEY, ORG, SECRET
from tests.support.oracle import LINKS, REASONS, entry_of
from tests.support.oracle import campaigns as world_of

Recipients = list[list[tuple[FactLine, int]]]
COUNTS: tuple[Count, ...] = ("all", "people")


def key_of(who: str) -> bytes:
    return keys.recipient_key(SECRET, KEY, who)


def personal(line: FactLine) -> FactLine:
    """A link and a reason that tell who it was."""
    link = f"https://example.com/?who={line.recipient.replace('@', '%40')}"
    return replace(
        line,
        link=link if line.link == LINKS[2] else line.link,
        reason=f"no mailbox {line.recipient}" if line.reason == REASONS[2] else line.reason,
    )


def entries_of(lines: list[tuple[FactLine, int]]) -> list[Entry]:
    made = []
    for number, (line, signs) in enumerate(lines):
        entry = entry_of(line, signs, number)
        recipient = keys.recipient_key(SECRET, KEY, line.recipient)
        identity = Identity(number.to_bytes(8, "big") + recipient[:8])
        made.append(replace(entry, recipient=recipient, fact=replace(entry.fact, identity=identity)))
    return made


def ledger_of(recipients: Recipients, erased: set[bytes]) -> Ledger:
    facts = {lines[0][0].recipient: [line for line, _ in lines] for lines in recipients}
    ledger = Ledger(facts={(ORG, CAMPAIGN): facts}, fields={(ORG, CAMPAIGN): LABELS.fields})
    ledger.erased = erasures.of_ledger(ledger, erased, SECRET)
    return ledger


def count(world: Databases, recipients: Recipients, gone: list[str], seed: int) -> None:
    """Facts and erasures in any order."""
    chance = Random(seed)
    steps: list[Callable[[], None]] = []
    for lines in recipients:
        entries = entries_of(lines)
        chance.shuffle(entries)
        cut = chance.randint(0, len(entries))
        for part in (entries[:cut], entries[cut:]):
            steps.append(lambda part=part: world.write(part))  # type: ignore[misc]
    steps += [lambda who=who: world.erase(who) for who in gone]  # type: ignore[misc]
    chance.shuffle(steps)
    for step in steps:
        step()


def read(world: Databases) -> Database:
    owned = {partition: Owner("worker", str(base.path)) for partition, base in world.databases.items()}
    return stored.read_databases(owned, {p: base.next_offset for p, base in world.databases.items()})


def compare(world: Databases, ledger: Ledger, database: Database) -> dict[str, int]:
    """Place → differences, of the places that have some."""
    result = Comparison()
    wanted = {campaign: verification.expect(ledger, campaign) for campaign in ledger.campaigns()}
    verification.compare_database(result, ledger, wanted, database)
    shown = view(world, CAMPAIGN)
    shown.labels = LABELS
    rows = {(ORG, CAMPAIGN): stored.rows_of_view(shown)}
    verification.compare_views(result, wanted, {(ORG, CAMPAIGN): shown}, rows)
    answers.compare_pages(result, ledger, wanted, ORG, FakePages(shown), "Europe/Berlin")
    found: Counter[str] = Counter()
    for (place, _), cell in result.cells.items():
        found[place] += cell.differences
    return {place: number for place, number in found.items() if number}


@settings(max_examples=25, deadline=None)
@given(world_of(), st.sets(st.integers(0, 4)), st.integers(0, 2**32))
def test_no_difference_whenever_somebody_is_erased(
    recipients: Recipients, places: set[int], seed: int
) -> None:
    recipients = [[(personal(line), signs) for line, signs in lines] for lines in recipients]
    gone = [lines[0][0].recipient for place, lines in enumerate(recipients) if place in places]
    with databases() as world:
        count(world, recipients, gone, seed)
        ledger = ledger_of(recipients, {key_of(who) for who in gone})
        assert len(ledger.erased.get((ORG, CAMPAIGN), {})) == len(gone)
        assert compare(world, ledger, read(world)) == {}


def people() -> Recipients:
    """Six who clicked, each by a link of their own."""
    found: Recipients = []
    for number in range(6):
        who = f"r{number}@example.com"
        line = FactLine(
            request=1, id="", org=ORG, esp="generic", campaign=CAMPAIGN, type="clicked", recipient=who,
            at=1_774_700_000_000 + number * 1_000_000, reported="", link=f"https://example.com/?who={who}",
            ip="192.0.2.1", user_agent="b", client="Outlook", device="desktop", system="Windows",
            provider="Gmail", verdict="human",
        )  # fmt: skip
        found.append([(line, 0)])
    return found


def still_named(logged: Counter[Logged], who: str) -> None:
    (entry,) = [entry for entry in logged if entry.recipient == who]
    del logged[entry]
    logged[entry._replace(recipient="r1@example.com")] = 1


def still_where(logged: Counter[Logged], who: str) -> None:
    (entry,) = [entry for entry in logged if entry.recipient == who]
    del logged[entry]
    logged[entry._replace(ip="192.0.2.1")] = 1


@pytest.mark.parametrize("spoil", [still_named, still_where])
def test_what_an_erasure_left_in_the_log_is_seen(spoil: Callable[[Counter[Logged], str], None]) -> None:
    recipients = people()
    with databases() as world:
        count(world, recipients, ["r1@example.com"], 1)
        ledger = ledger_of(recipients, {key_of("r1@example.com")})
        database = read(world)
        spoil(database.log[ORG, CAMPAIGN], erasures.nobody(key_of("r1@example.com")))
        assert set(compare(world, ledger, database)) == {verification.LOG}


def test_who_was_erased_without_a_record_and_who_was_not_despite_of_one_is_seen() -> None:
    recipients = people()
    with databases() as world:
        count(world, recipients, ["r1@example.com"], 1)
        database = read(world)
        places = {verification.STATES, verification.LOG, verification.SUMS, verification.REDIS}
        for erased in (set[bytes](), {key_of("r1@example.com"), key_of("r2@example.com")}):
            assert set(compare(world, ledger_of(recipients, erased), database)) >= places


def test_a_lost_fact_of_an_erased_person_is_seen() -> None:
    recipients = people()
    with databases() as world:
        count(world, recipients, ["r1@example.com"], 1)
        line, signs = recipients[1][0]
        recipients[1].append((replace(line, at=line.at + 1), signs))
        ledger = ledger_of(recipients, {key_of("r1@example.com")})
        assert verification.STATES in compare(world, ledger, read(world))


def test_names_are_hidden_however_the_address_is_written() -> None:
    for text in ("https://example.com/?who=A@Example.com", "https://example.com/?who=a%40example.com"):
        assert erasures.tells(text, "a@example.com")
    assert not erasures.tells("https://example.com/?who=b@example.com", "a@example.com")
    assert not erasures.tells(None, "a@example.com")
    assert f.encode(f.ErasedRecord(1, ORG, CAMPAIGN, 0, []))[1:3] == b"\xa1e"
