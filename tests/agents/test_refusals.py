"""What a worker refuses to start or go on with: one clear line, a status that isn't zero, and nothing lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition

from agents.set_aside import SET_ASIDE
from app.topics import WEBHOOKS
from tables.conditions import Condition
from tables.presence import WORKERS, conditions_of, refused_name
from tables.redis_names import sync_client
from tables.views import PARTITIONS, fence_of
from tests.support.counting import World
from tests.support.processes import reports, wait_until


@pytest.fixture
def world(tmp_path: Path, kafka: str, redis_db: str) -> World:
    made = World(tmp_path, kafka, redis_db)
    made.fill()
    return made


def refuses(world: World, words: str, *, role: str = "aggregate", timeout_s: float = 90) -> str:
    """Runs a worker that must end by itself, and gives its complaint."""
    output = world.folder / "refused.log"
    with reports([role], world.environ, output) as worker:
        status = worker.wait(timeout_s)
    lines = [line for line in output.read_text().splitlines() if line.startswith("reports: ")]
    assert status not in (0, 1, -9), output.read_text()
    assert len(lines) == 1, output.read_text()
    assert words in lines[0]
    assert "Traceback" not in output.read_text()
    return lines[0]


def test_another_number_of_partitions(world: World) -> None:
    world.environ["REPORTS_PARTITIONS"] = "3"
    refuses(world, "REPORTS_PARTITIONS")


@pytest.mark.parametrize("role", ["aggregate", "normalize"])
def test_a_session_timeout_that_the_broker_refuses(world: World, role: str) -> None:
    world.environ["REPORTS_SESSION_TIMEOUT_S"] = "1"
    refuses(world, "REPORTS_SESSION_TIMEOUT_S", role=role)


def test_an_unknown_setting(world: World) -> None:
    world.environ["REPORTS_PARTITION"] = "8"
    refuses(world, "REPORTS_PARTITION")


def test_a_state_folder_that_is_a_file(world: World) -> None:
    """It is told until the worker runs."""
    name = refused_name("aggregate").encode()
    with sync_client(world.settings.redis, world.settings.installation, timeout_s=2) as client:
        client.hset(WORKERS, "another version's", "?")
        world.state.write_text("not a folder")
        refuses(world, "can't be written to")
        (told,) = conditions(world)
        assert told.code == "role_refused" and "can't be written to" in told.message
        assert name in client.hkeys(WORKERS)
        world.state.unlink()
        with reports(["aggregate"], world.environ, world.folder / "running.log"):
            wait_until(lambda: name not in client.hkeys(WORKERS), 90, "it runs")


def test_a_missing_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents import log_checks
    from app.errors import StateError

    monkeypatch.setattr("aiokafka.codec.has_zstd", lambda: False)
    with pytest.raises(StateError, match="zstd"):
        log_checks.check_codecs()


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


def test_one_partition_is_set_aside_and_comes_back_while_the_worker_runs(world: World) -> None:
    """The process as a whole: no restart, no stall, the others are read on, and what was left in the log is counted."""
    with reports(["aggregate"], world.environ, world.folder / "first.log"):
        wait_until(lambda: stands(world) == {0: 5, 1: 5}, 60, "counting")
    broken = world.state / "p0" / "CURRENT"
    manifest = broken.read_text()
    broken.write_text("MANIFEST-000000\n")
    world.fill(begin=5)
    log = world.folder / "second.log"
    with reports(["aggregate"], world.environ, log) as worker:
        wait_until(lambda: stands(world) == {0: 5, 1: 10}, 60, "the other partition goes on")
        wait_until(lambda: bool(conditions(world)), 10, "it is said")
        (said,) = conditions(world)
        assert (said.code, said.partition) == (SET_ASIDE, 0)
        assert "is broken" in said.message
        broken.write_text(manifest)
        wait_until(lambda: stands(world) == {0: 10, 1: 10}, 30, "it comes back by itself")
        world.fill(begin=10)
        wait_until(lambda: stands(world) == {0: 15, 1: 15}, 30, "and goes on")
        wait_until(lambda: not conditions(world), 10, "nothing is wrong any more")
        assert worker.poll() is None, log.read_text()


def test_a_gap_is_accepted_while_the_worker_runs(world: World) -> None:
    with reports(["aggregate"], world.environ, world.folder / "first.log"):
        wait_until(lambda: stands(world) == {0: 5, 1: 5}, 60, "counting")
    world.fill(begin=5)
    world.trim(0, 8)
    with reports(["aggregate"], world.environ, world.folder / "second.log") as worker:
        wait_until(lambda: any(one.gap for one in conditions(world)), 60, "the gap is said")
        output = world.folder / "accepted.log"
        with reports(["accept-gap", "0", "--yes"], world.environ, output) as command:
            assert command.wait(60) == 0, output.read_text()
        assert "offsets 5 to 7 (3 records" in output.read_text()
        wait_until(lambda: stands(world) == {0: 10, 1: 10}, 10, "it goes on")
        assert worker.poll() is None


def stands(world: World) -> dict[int, int]:
    """How far readers can see each partition."""
    with sync_client(world.settings.redis, world.settings.installation, timeout_s=2) as client:
        stored: dict[bytes, bytes] = client.hgetall(PARTITIONS)
    return {int(p): fence.offset for p, text in stored.items() if (fence := fence_of(text)) is not None}


def conditions(world: World) -> list[Condition]:
    with sync_client(world.settings.redis, world.settings.installation, timeout_s=2) as client:
        stored: dict[bytes, bytes] = client.hgetall(WORKERS)
    return conditions_of(stored, int(time.time() * 1000))
