"""`reports renormalize`: which webhooks it means, what is older than the topic, and what it refuses.

That it heals is shown on a running stack, in `tests/faults/test_foreign.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from app.dead import Letter, replay_of
from app.installation import Identity
from app.settings import Settings
from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS, Webhook, webhook_headers, webhook_of
from cli.log_reader import LogReader, Stretch, headers_of
from cli.main import run
from cli.renormalize import Asked, _whole_from
from tables.installation import InstallationLog
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
        between_ms = max(reader.first_ms(WEBHOOKS, whole).values()) + 60_000

        def bodies(from_ms: int, until_ms: int | None) -> list[bytes]:
            stretches = reader.between(WEBHOOKS, whole, from_ms, until_ms)
            found = [webhook_of(one.value(), headers_of(one)) for one in reader.read(WEBHOOKS, stretches)]
            return sorted(one.body for one in found)

        every = sorted(b"[%d]" % number for number in range(10))
        assert bodies(0, None) == every
        produce(range(10, 12))
        assert bodies(0, None) == every
        assert bodies(0, between_ms) == every
        assert bodies(between_ms, None) == bodies(0, 1) == []
        assert reader.normalized(WEBHOOKS, WEBHOOKS_PARTITIONS) == dict.fromkeys(
            range(WEBHOOKS_PARTITIONS), 0
        )


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
