"""Topic `installation` on a real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import TryLater
from app.installation import Identity
from app.settings import Settings
from tables import installation
from tables.installation import InstallationLog
from tests.support.kafka import fresh_topics


def test_what_is_appended_is_read_and_generations_rise(kafka: str, tmp_path: Path) -> None:
    fresh_topics(Settings(kafka=kafka, partitions=2, data=tmp_path))
    log = InstallationLog(kafka)
    assert log.read() is None
    first, second = (Identity(id=word, secret="5ec", partitions=2, at_ms=1) for word in "ab")
    assert [log.append(first), log.append(second)] == [0, 1]
    given = [log.next_generation(0, "w", now_ms=1), log.next_generation(0, "w", known=40, now_ms=2)]
    given.append(log.next_generation(0, "w", now_ms=3))
    assert given == sorted(set(given))
    assert given[1] > 40
    found = log.read()
    assert found is not None
    assert (found.identity, found.generations) == (first, {0: given[-1]})


def test_without_kafka_it_says_which_address_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "ASK_S", 0.2)
    with pytest.raises(TryLater, match=r"127\.0\.0\.1:9"):
        InstallationLog("127.0.0.1:9").read()
