"""Who may go on, make an installation or adopt one: the whole table."""

from __future__ import annotations

import string
from itertools import product

import pytest

from app import facts as f
from app.facts import Entry, Fact, FactsRecord, RecipientKey
from app.facts import Identity as FactIdentity
from app.identity import REFUSALS, Databases, Decision, Evidence, Host, decide, yields_key
from app.installation import Identity
from app.keys import campaign_key, recipient_key

HERE = Identity(id="1", secret="5ec", partitions=8, at_ms=1)


@pytest.mark.parametrize(
    ("secret", "partitions", "expected"),
    [
        ("5ec", 8, Decision.SERVE),
        ("5ec", 9, Decision.OTHER_PARTITIONS),
        ("0ther", 8, Decision.OTHER_SECRET),
        ("0ther", 9, Decision.OTHER_SECRET),
        (None, 8, Decision.NO_SECRET),
        (None, 9, Decision.NO_SECRET),
    ],
)
def test_where_there_is_an_identity_it_alone_decides(
    secret: str | None, partitions: int, expected: Decision
) -> None:
    host = Host(secret=secret, partitions=partitions)
    assert decide(host, HERE) is expected
    for facts, databases in product((False, True), Databases):
        assert decide(host, HERE, Evidence(facts=facts, databases=databases, ours=1)) is expected


@pytest.mark.parametrize(
    ("secret", "facts", "databases", "ours", "foreign", "expected"),
    [
        # A new cluster: with a secret, or with one that is made for it.
        (None, False, Databases.NONE, 0, 0, Decision.MAKE),
        ("5ec", False, Databases.NONE, 0, 0, Decision.MAKE),
        # Databases of another cluster are those who count's to refuse.
        ("5ec", False, Databases.OTHER_TOPIC, 0, 0, Decision.MAKE),
        ("5ec", False, Databases.MATCH, 0, 0, Decision.MAKE),
        # Databases whose secret isn't here: it was lost, or another one is set.
        (None, False, Databases.OTHER_SECRET, 0, 0, Decision.OTHER_DATABASES),
        ("5ec", False, Databases.OTHER_SECRET, 0, 0, Decision.OTHER_DATABASES),
        ("5ec", True, Databases.OTHER_SECRET, 9, 0, Decision.OTHER_DATABASES),
        # A cluster from before: databases go before keys, whatever foreign facts are there.
        ("5ec", True, Databases.MATCH, 9, 0, Decision.ADOPT),
        ("5ec", True, Databases.MATCH, 1, 9, Decision.ADOPT),
        ("5ec", True, Databases.OTHER_TOPIC, 9, 0, Decision.OTHER_CLUSTER),
        # Without databases the keys of most facts do.
        ("5ec", True, Databases.NONE, 9, 0, Decision.ADOPT),
        ("5ec", True, Databases.NONE, 5, 4, Decision.ADOPT),
        ("5ec", True, Databases.NONE, 5, 5, Decision.OTHER_KEYS),
        ("5ec", True, Databases.NONE, 0, 9, Decision.OTHER_KEYS),
        ("5ec", True, Databases.NONE, 0, 0, Decision.ADOPT),
        # A secret is never made where facts were keyed by one.
        (None, True, Databases.NONE, 0, 0, Decision.UNPROVEN),
        (None, True, Databases.NONE, 0, 9, Decision.UNPROVEN),
    ],
)
def test_where_there_is_none(
    secret: str | None, facts: bool, databases: Databases, ours: int, foreign: int, expected: Decision
) -> None:
    evidence = Evidence(facts=facts, databases=databases, ours=ours, foreign=foreign)
    assert decide(Host(secret=secret, partitions=8), None, evidence) is expected


def test_each_refusal_says_what_is_wrong_and_a_way_out() -> None:
    assert set(REFUSALS) == set(Decision) - {Decision.SERVE, Decision.MAKE, Decision.ADOPT}
    for text in REFUSALS.values():
        named = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        assert "kafka" in named or "databases" in named
        assert "set REPORTS_" in text
        assert "\n" not in text


SECRET = b"a secret of the tests"


def entry(secret: bytes, address: str, spelled: str) -> Entry:
    key = recipient_key(secret, campaign_key(secret, "acme", "spring"), address)
    return Entry(key, spelled, Fact(FactIdentity(b"i" * 16), 1, f.OPENED, 0, 0), b"")


def record(*entries: Entry) -> FactsRecord:
    return FactsRecord(f.FACTS_VERSION, "acme", "spring", 1, list(entries))


def test_a_secret_yields_the_keys_of_its_facts_however_an_address_is_spelled() -> None:
    one = entry(SECRET, "ann@example.com", " Ann@Example.com")
    assert yields_key(SECRET, record(one), one) is True
    assert yields_key(b"another secret", record(one), one) is False


@pytest.mark.parametrize("address", ["", "erased", "nobody"])
def test_what_carries_no_address_does_not_tell(address: str) -> None:
    odd = Entry(RecipientKey(b"r" * 16), address, Fact(FactIdentity(b"i" * 16), 1, f.OPENED, 0, 0), b"")
    assert yields_key(SECRET, record(odd), odd) is None
