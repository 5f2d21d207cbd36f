"""What a worker refuses to start or go on with: one clear line, a status that isn't zero, and nothing lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from app import facts as f
from app import keys
from app.facts import FactsRecord, encode
from app.settings import Settings
from app.topics import FACTS, WEBHOOKS
from cli.config import load_settings
from cli.identity import identify
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.reading import PartitionReader
from tests.support.facts import ORG, START_MS, entry
from tests.support.kafka import fresh_topics
from tests.support.processes import environment, reports, wait_until

PARTITIONS = 2


class World:
    """A data folder, a worker's environment, and a topic with some facts in it."""

    def __init__(self, folder: Path, kafka: str, redis_url: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        # A short session: the members of the test before are gone sooner.
        self.environ = environment(
            folder, kafka=kafka, redis=redis_url, partitions=str(PARTITIONS), session_timeout_s="6"
        )
        self.settings: Settings = load_settings(self.environ)
        self.kafka = kafka

    def begin(self) -> None:
        """A new cluster, and this folder's installation on it."""
        fresh_topics(self.settings)
        self.settings = identify(self.settings).settings
        self.fill()

    def fill(self, count: int = 5) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "log_level": 2})
        for number in range(count):
            line = [entry(f.OPENED, START_MS + number, number=number)]
            for partition in range(PARTITIONS):
                value = encode(FactsRecord(f.FACTS_VERSION, ORG, "spring", START_MS, line))
                producer.produce(FACTS, value, partition=partition)
        assert producer.flush(10) == 0

    def offset(self, partition: int = 0) -> int:
        with PartitionReader(self.state / f"p{partition}") as reader:
            return reader.fence().offset

    def count(self, upto: int) -> None:
        """Runs a worker until everything is counted."""
        with reports(["aggregate"], self.environ, self.folder / "first.log"):

            def counted() -> bool:
                try:
                    return all(self.offset(number) == upto for number in range(PARTITIONS))
                except Exception:  # noqa: BLE001  # rocksdict has no other: the database is being made this moment
                    return False

            wait_until(counted, 60, "counting")

    def refuses(self, words: str, *, role: str = "aggregate", timeout_s: float = 90) -> str:
        """Runs a worker that must end by itself, and gives its complaint."""
        output = self.folder / "refused.log"
        with reports([role], self.environ, output) as worker:
            status = worker.wait(timeout_s)
        lines = [line for line in output.read_text().splitlines() if line.startswith("reports: ")]
        assert status not in (0, 1, -9), output.read_text()
        assert len(lines) == 1, output.read_text()
        assert words in lines[0]
        assert "Traceback" not in output.read_text()
        return lines[0]


@pytest.fixture
def world(tmp_path: Path, kafka: str, redis_db: str) -> World:
    made = World(tmp_path, kafka, redis_db)
    made.begin()
    return made


def test_a_trimmed_log(world: World) -> None:
    world.count(5)
    world.fill(5)
    admin = AdminClient({"bootstrap.servers": world.kafka, "log_level": 2})
    for future in admin.delete_records([TopicPartition(FACTS, 0, 8)]).values():
        future.result(10)
    line = world.refuses("offset 5 is to be counted next but the log starts at 8")
    assert "restore" in line
    assert world.offset() == 5


def test_a_database_ahead_of_the_log(world: World) -> None:
    world.count(5)
    topic_id = _topic_id(world)
    meta = Meta(LAYOUT_VERSION, 0, PARTITIONS, topic_id, keys.secret_fingerprint(world.settings.secret), 1)
    base = PartitionDatabase(world.state / "p0", meta, world.settings.secret, RecipientCache(10))
    value = encode(FactsRecord(f.FACTS_VERSION, ORG, "spring", START_MS, []))
    base.apply([(offset, value) for offset in range(5, 9)])
    base.close()
    world.refuses("has counted up to offset 9 but the log ends at 5")
    assert world.offset() == 9


def _topic_id(world: World) -> str:
    from agents.log_checks import LogInspector

    return LogInspector(world.kafka).topic_id(FACTS)


def test_a_topic_made_anew(world: World) -> None:
    world.count(5)
    fresh_topics(world.settings)
    world.fill(7)
    world.refuses("topic facts was made anew")
    assert world.offset() == 5


def test_another_number_of_partitions(world: World) -> None:
    world.environ["REPORTS_PARTITIONS"] = "3"
    world.refuses("REPORTS_PARTITIONS")


def test_another_secret(world: World) -> None:
    world.count(5)
    world.environ["REPORTS_SECRET"] = "another secret of sixteen characters"
    world.refuses("REPORTS_SECRET")


@pytest.mark.parametrize("role", ["aggregate", "normalize"])
def test_a_session_timeout_that_the_broker_refuses(world: World, role: str) -> None:
    world.environ["REPORTS_SESSION_TIMEOUT_S"] = "1"
    world.refuses("REPORTS_SESSION_TIMEOUT_S", role=role)


def test_a_broken_database(world: World) -> None:
    world.count(5)
    (world.state / "p0" / "CURRENT").write_text("MANIFEST-000000\n")
    line = world.refuses("p0 can't be opened")
    assert "remove it to count the partition again" in line


def test_a_removed_database_is_counted_again(world: World) -> None:
    world.count(5)
    shutil.rmtree(world.state / "p0")
    world.count(5)


def test_an_unknown_setting(world: World) -> None:
    world.environ["REPORTS_PARTITION"] = "8"
    world.refuses("REPORTS_PARTITION")


def test_a_state_folder_that_is_a_file(world: World) -> None:
    world.state.write_text("not a folder")
    world.refuses("can't be written to")


def test_a_missing_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents import log_checks
    from app.errors import StateError

    monkeypatch.setattr("aiokafka.codec.has_zstd", lambda: False)
    with pytest.raises(StateError, match="zstd"):
        log_checks.check_codecs()


def test_a_record_that_is_none_stops_and_names_its_place(world: World) -> None:
    producer = Producer({"bootstrap.servers": world.kafka, "log_level": 2})
    producer.produce(FACTS, b"\xc1 no record of ours", partition=0)
    assert producer.flush(10) == 0
    line = world.refuses("offset 5")
    assert "partition 0" in line
    time.sleep(0.1)
    assert world.offset() == 5 or world.offset() == 0


def test_a_foreign_record_in_webhooks_is_a_dead_letter(world: World) -> None:
    from app.topics import DEAD

    producer = Producer({"bootstrap.servers": world.kafka, "log_level": 2})
    producer.produce(WEBHOOKS, b"no headers", partition=0)
    assert producer.flush(10) == 0
    from confluent_kafka import Consumer

    with reports(["normalize"], world.environ, world.folder / "normalize.log"):
        reader = Consumer({"bootstrap.servers": world.kafka, "group.id": "none", "enable.auto.commit": False})
        try:
            wait_until(
                lambda: reader.get_watermark_offsets(TopicPartition(DEAD, 0), 5)[1] == 1, 30, "a dead letter"
            )
        finally:
            reader.close()
