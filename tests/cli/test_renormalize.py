"""`reports renormalize`: which webhooks it means, what is older than the topic, and what it refuses.

That it heals is shown on a running stack, in `tests/faults/test_foreign.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from app import facts as f
from app.dead import Letter, replay_of
from app.facts import FactsRecord
from app.installation import Identity, Topics
from app.keys import identity, secret_fingerprint
from app.settings import Settings
from app.topics import FACTS, WEBHOOKS, WEBHOOKS_PARTITIONS, Webhook, webhook_headers, webhook_of
from cli import renormalize
from cli.main import run
from cli.renormalize import Asked, _whole_from
from tables.installation import InstallationLog
from tables.log_reader import LogReader, Stretch, headers_of
from tables.origin import topic_ids
from tests.support.facts import ORG, entry
from tests.support.foreign import FOREIGN, foreign
from tests.support.intake import stored
from tests.support.kafka import fresh_topics

CONFIG = """
[orgs.acme]
name = "Acme"
[orgs.acme.sources.news]
esp = "sendgrid"
insecure = true
[orgs.globex]
name = "Globex"
[orgs.globex.sources.news]
esp = "sendgrid"
insecure = true
[orgs.globex.sources.own]
esp = "generic"
"""
NOW_MS = 1_795_000_000_000


def webhook(org: str = "acme", source: str = "news", number: int = 0) -> Webhook:
    return Webhook(
        org=org, source=source, esp="sendgrid", received_at_ms=NOW_MS, headers=(), body=b"[%d]" % number
    )


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports.toml").write_text(CONFIG)
    for name, value in {
        "DATA": str(tmp_path / "data"), "CONFIG": str(tmp_path / "reports.toml"), "KAFKA": "127.0.0.1:9",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"REPORTS_{name}", value)


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "yesterday"], "is no time: say 2026-11-24T10:00:00Z"),
        (["--from", "1h", "--until", "2h"], "--until must be later than --from"),
        (["--from", "1h", "--org", "nobody"], "there is no organisation nobody"),
        (["--from", "1h", "--source", "nothing"], "there is no source nothing"),
        (["--from", "1h", "--source", "news"], "several organisations have a source news"),
        (["--from", "1h", "--source", "own", "--org", "acme"], "there is no source acme/own"),
        (["--from", "1h", "--source", "globex/own", "--org", "acme"], "globex/own is not a source of acme"),
    ],
)
def test_what_is_used_wrongly(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["renormalize", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_copies_are_never_copied_and_filters_hold() -> None:
    every, acme = Asked(from_ms=0), Asked(from_ms=0, org="acme", source="news")
    for one, taken in (
        (webhook(), (True, True)),
        (webhook("globex"), (True, False)),
        (webhook(source="x"), (True, False)),
    ):
        assert (every.takes(one), acme.takes(one)) == taken
        assert not every.takes(msgspec.structs.replace(one, renormalized=True))


def test_the_time_is_that_of_the_record_and_not_kafkas() -> None:
    """Facts carry the same one: what was set aside since then has its webhook among these."""
    asked = Asked(from_ms=NOW_MS, until_ms=NOW_MS + 10)
    imported = msgspec.structs.replace(webhook(), received_at_ms=NOW_MS - 1_000, again_at_ms=NOW_MS + 5)
    assert asked.takes(webhook())
    assert asked.takes(imported)
    for off_ms in (-1, 10):
        assert not asked.takes(msgspec.structs.replace(webhook(), received_at_ms=NOW_MS + off_ms))


def test_a_copy_says_so_in_its_headers_and_a_replay_of_its_dead_letter_is_none() -> None:
    copy = msgspec.structs.replace(webhook(), renormalized=True, again_at_ms=NOW_MS + 5, imported=True)
    assert webhook_of(copy.body, webhook_headers(copy)) == copy
    letter = Letter(
        id=1, at_ms=NOW_MS, webhook=copy, size=3, reason="x", stage="parse", origin="webhooks/0/0"
    )
    assert not replay_of(letter, b"[]", NOW_MS, 100).renormalized


def test_from_when_on_all_webhooks_are_stored() -> None:
    """The oldest record of the partition that has forgotten most; one that was never cut has forgotten nothing."""
    never_cut, empty = Stretch(0, 9), Stretch(0, 0)
    assert _whole_from({0: never_cut, 1: empty}, {0: 50}, NOW_MS) == 0
    assert (
        _whole_from({0: never_cut, 1: Stretch(3, 9), 2: Stretch(4, 5)}, {0: 50, 1: 60, 2: 40}, NOW_MS) == 60
    )
    assert _whole_from({0: Stretch(3, 9), 1: Stretch(7, 7)}, {0: 50}, NOW_MS) == NOW_MS


def test_stretches_of_a_topic(kafka: str, tmp_path: Path) -> None:
    """By the time at which records were stored; what comes meanwhile is not in them."""
    settings = Settings(kafka=kafka, data=tmp_path, partitions=2)
    fresh_topics(settings)
    producer = Producer({"bootstrap.servers": kafka, "log_level": 2})

    def produce(numbers: range) -> None:
        for number in numbers:
            one = webhook(number=number)
            producer.produce(
                WEBHOOKS,
                one.body,
                partition=number % 3,
                headers=webhook_headers(one),  # type: ignore[arg-type]
            )
        assert producer.flush(20) == 0

    produce(range(10))
    with LogReader(kafka) as reader:
        whole = reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS)
        later_ms = max(reader.first_ms(WEBHOOKS, whole).values()) + 60_000

        def bodies(from_ms: int) -> list[bytes]:
            stretches = reader.since(WEBHOOKS, whole, from_ms)
            found = [webhook_of(one.value(), headers_of(one)) for one in reader.read(WEBHOOKS, stretches)]
            return sorted(one.body for one in found)

        every = sorted(b"[%d]" % number for number in range(10))
        assert bodies(0) == every
        produce(range(10, 12))
        assert bodies(0) == every
        assert bodies(later_ms) == []
        assert reader.normalized(WEBHOOKS, WEBHOOKS_PARTITIONS) == dict.fromkeys(
            range(WEBHOOKS_PARTITIONS), 0
        )


@pytest.fixture
def settings(kafka: str, tmp_path: Path, environ: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation of this secret without Redis and with empty topics, on which `run` works."""
    secret = "a secret of more than sixteen characters"
    for name, value in {
        "KAFKA": kafka, "SECRET": secret, "PARTITIONS": "2", "REDIS": "redis://127.0.0.1:9/0",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"REPORTS_{name}", value)
    settings = Settings(kafka=kafka, data=tmp_path, partitions=2, secret=secret.encode())
    fresh_topics(settings)
    InstallationLog(kafka).append(
        Identity(id="aa", secret=secret_fingerprint(settings.secret), partitions=2, at_ms=1)
    )
    return settings


def keyed_by_theirs(accepted_ms: int, *addresses: str, provable: bool = True) -> bytes:
    """A record as a host with another secret wrote it."""
    line = []
    for address in addresses:
        one = foreign(entry(f.OPENED, accepted_ms, address=address, detail=f.encode(f.Detail("generic"))))
        if provable:
            proven = identity(one.recipient, f.OPENED, str(accepted_ms), "", "", "")
            one = msgspec.structs.replace(one, fact=msgspec.structs.replace(one.fact, identity=proven))
        line.append(one)
    theirs = secret_fingerprint(FOREIGN)
    return f.encode(FactsRecord(f.FACTS_VERSION, ORG, "spring", accepted_ms, line, theirs))


def write_facts(settings: Settings, partition: int, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka, "log_level": 2})
    for value in values:
        producer.produce(FACTS, value, partition=partition)
    assert producer.flush(20) == 0


def facts_of(settings: Settings) -> list[tuple[int, FactsRecord]]:
    """(partition, record), of our secret only."""
    found = [(partition, f.decode_record(value)) for partition, value, _ in stored(settings.kafka, FACTS, 2)]
    ours = secret_fingerprint(settings.secret)
    return [(p, one) for p, one in found if isinstance(one, FactsRecord) and one.secret == ours]


def test_what_another_host_reads_meanwhile_is_said_and_ends_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on with its secret: what it makes of the copies has the accepted time of the first ones."""
    accepted_ms = time.time_ns() // 1_000_000 - 60_000
    write_facts(settings, 1, *[keyed_by_theirs(accepted_ms, "a@example.com")] * 3)

    def read_by_the_other_host(*_: object) -> None:
        write_facts(settings, 1, keyed_by_theirs(accepted_ms, "a@example.com", "b@example.com"))

    with monkeypatch.context() as patch:
        patch.setattr(renormalize, "_wait_for_normalize", read_by_the_other_host)
        assert run(["renormalize", "--from", "1h"]) == 1
    told = capsys.readouterr().err
    assert "2 facts of another secret came while this ran" in told
    assert "stop the host with that secret, then run this again" in told
    # So the databases know which is which.
    ends = {partition: one.renormalized_below for partition, one in facts_of(settings)}
    assert ends == {0: 0, 1: 3}
    # As it says.
    assert run(["renormalize", "--from", "1h"]) == 0
    assert "came while this ran" not in capsys.readouterr().err
    assert [one.renormalized_below for partition, one in facts_of(settings) if partition == 1] == [3, 5]


@pytest.mark.parametrize("ahead_ms", [4_000, 3_600_000, 90 * 24 * 3_600_000])
def test_a_clock_that_was_ahead_when_webhooks_were_accepted(
    settings: Settings, ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers' earliest time is by that clock, and Kafka has stored nothing since."""
    accepted_ms = time.time_ns() // 1_000_000 + ahead_ms
    sent = [
        msgspec.structs.replace(webhook(number=number), received_at_ms=accepted_ms + number)
        for number in range(4)
    ]
    producer = Producer({"bootstrap.servers": settings.kafka, "log_level": 2})
    for one in sent:
        producer.produce(WEBHOOKS, one.body, headers=webhook_headers(one))  # type: ignore[arg-type]
    assert producer.flush(20) == 0
    monkeypatch.setattr(renormalize, "_wait_for_normalize", lambda *_: None)
    monkeypatch.setattr("cli.foreign_told.earliest", lambda _: accepted_ms + 1)
    assert run(["renormalize"]) == 0
    kept = [
        webhook_of(value, headers)
        for _, value, headers in stored(settings.kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    ]
    assert sorted(one.body for one in kept if one.renormalized) == [b"[1]", b"[2]", b"[3]"]


@pytest.mark.parametrize("noted", ["noted", "not yet", "nobody knows yet"])
def test_what_was_accepted_before_topic_webhooks_was_recreated_is_read_from_facts(
    settings: Settings, noted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noted by normalize or not yet, also where topic `installation` was recreated with it: such a topic begins at 0,
    like one that has forgotten nothing."""
    log = InstallationLog(settings.kafka)
    now_ms = time.time_ns() // 1_000_000
    ids = topic_ids(settings.kafka, (WEBHOOKS, FACTS))
    read = {} if noted == "nobody knows yet" else {WEBHOOKS: "another"}
    log.append(Topics(ids={FACTS: ids[FACTS], **read}, why="made", at_ms=now_ms - 3_600_000))
    if noted == "noted":
        log.append(Topics(ids=ids, why="recreated", at_ms=now_ms))
    accepted_ms = now_ms - 60_000
    write_facts(settings, 0, keyed_by_theirs(accepted_ms, "a@example.com"))
    assert run(["renormalize", "--from", "1h"]) == 0
    assert "1 fact of another secret keyed anew from the log" in capsys.readouterr().err
    keyed = [one for _, record in facts_of(settings) for one in record.entries]
    assert [one.address for one in keyed] == ["a@example.com"]
    # What can't be proved is named, and the condition stays: no record ends it.
    ended = sum(record.renormalized_from_ms is not None for _, record in facts_of(settings))
    write_facts(settings, 0, keyed_by_theirs(accepted_ms, "b@example.com", provable=False))
    assert run(["renormalize", "--from", "1h"]) == 1
    assert "lost: 1 fact of acme, campaign spring" in capsys.readouterr().out
    assert sum(record.renormalized_from_ms is not None for _, record in facts_of(settings)) == ended == 2


def test_with_another_secret_than_the_installations_it_does_nothing(
    kafka: str,
    tmp_path: Path,
    environ: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REPORTS_KAFKA", kafka)
    monkeypatch.setenv("REPORTS_SECRET", "a secret of more than sixteen characters")
    monkeypatch.setenv("REPORTS_PARTITIONS", "2")
    fresh_topics(Settings(kafka=kafka, data=tmp_path, partitions=2))
    InstallationLog(kafka).append(
        Identity(id="aa", secret="another", partitions=2, at_ms=time.time_ns() // 1_000_000)
    )
    assert run(["renormalize", "--from", "1h"]) == 3
    assert "REPORTS_SECRET is not the secret of installation aa" in capsys.readouterr().err
    assert stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS) == []
