"""An installation of the first version that was once started with another secret: told, never counted, and healed.

What that version left is made here: its records, and its databases that counted them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from agents.log_checks import LogInspector
from app.facts import FactsRecord
from app.keys import secret_fingerprint
from app.normalize import find_source, normalize
from app.topics import FACTS, NORMALIZE_GROUP, WEBHOOKS, WEBHOOKS_PARTITIONS, Webhook, webhook_of
from app.user_agents import look_up_agent
from tables.cache import RecipientCache
from tables.foreign import CODE, REASON
from tables.layout import LAYOUT_VERSION, Meta
from tables.log_reader import LogReader, headers_of
from tables.partition import PartitionDatabase
from tests.faults.test_redis import load
from tests.support.foreign import FOREIGN, first_facts, first_version
from tests.support.stack import Stack

EVENTS = 600


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(Path(tmp_path_factory.mktemp("stack"))) as made:
        made.start_servers()
        made.start("api")
        made.wait_ready()
        yield made


def keyed(stack: Stack, webhooks: list[Webhook], secret: bytes) -> list[tuple[int, FactsRecord]]:
    settings, organisations = stack.configuration()
    records = []
    for webhook in webhooks:
        found = find_source(organisations, webhook.org, webhook.source)
        assert found is not None
        made = normalize(
            webhook, found[1], found[0], secret, settings.partitions, look_up_agent, lambda ip: None
        )
        records += made.records
    return records


def write(stack: Stack, records: list[tuple[int, FactsRecord]]) -> None:
    """As the first version did: without a fingerprint."""
    producer = Producer({"bootstrap.servers": stack.kafka, "log_level": 2})
    for partition, record in records:
        value = first_facts(record.entries, record.campaign, record.org, record.accepted_at_ms)
        producer.produce(FACTS, value, partition=partition)
    assert producer.flush(20) == 0


def stored_webhooks(stack: Stack) -> list[Webhook]:
    with LogReader(stack.kafka) as reader:
        stretches = reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS)
        return [webhook_of(one.value(), headers_of(one)) for one in reader.read(WEBHOOKS, stretches)]


def skip_webhooks(stack: Stack) -> None:
    """Normalize is done with all that is there."""
    with LogReader(stack.kafka) as reader:
        ends = {
            number: stretch.end for number, stretch in reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS).items()
        }
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": NORMALIZE_GROUP})
    places = [TopicPartition(WEBHOOKS, number, end) for number, end in ends.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def count_as_the_first_version(stack: Stack) -> None:
    settings, _ = stack.configuration()
    topic_id = LogInspector(stack.kafka).topic_id(FACTS)
    with first_version(), LogReader(stack.kafka) as reader:
        stretches = reader.whole(FACTS, settings.partitions)
        for partition, stretch in stretches.items():
            meta = Meta(
                LAYOUT_VERSION,
                partition,
                settings.partitions,
                topic_id,
                secret_fingerprint(settings.secret),
                1,
            )
            folder = stack.data / "state"
            folder.mkdir(parents=True, exist_ok=True)
            database = PartitionDatabase(folder / f"p{partition}", meta, settings.secret, RecipientCache(100))
            database.apply(
                (one.offset() or 0, one.value() or b"") for one in reader.read(FACTS, {partition: stretch})
            )
            database.close()


def start_workers(stack: Stack) -> None:
    """Where they don't run yet."""
    for name, arguments in (("normalize", ()), ("run", ("aggregate",)), ("query", ())):
        if not stack.is_alive(name):
            stack.start(name, *arguments)


def conditions(stack: Stack) -> list[dict[str, Any]]:
    answer = stack.get("/ops/workers", key=stack.key())
    workers = answer.json()["workers"] if answer.status_code == 200 else []
    return [one for worker in workers for one in worker["conditions"] if one["code"] == CODE]


def staleness(stack: Stack, campaign: str) -> tuple[object, object]:
    answer = stack.get(f"/api/v1/campaigns/{campaign}/summary", key=stack.key()).json()
    return answer.get("stale"), answer.get("reason")


def assert_settled(stack: Stack, campaign: str) -> None:
    stack.wait_for(lambda: staleness(stack, campaign) == (False, None), 60, "nothing is stale any more")
    assert conditions(stack) == []


def test_a_start_with_another_secret_is_healed(stack: Stack) -> None:
    ledger = load(stack, "healed", EVENTS)
    settings, _ = stack.configuration()
    webhooks = stored_webhooks(stack)
    # The host with the wrong secret read all of it, ours a part, too.
    write(stack, keyed(stack, webhooks, FOREIGN))
    write(stack, keyed(stack, webhooks[: len(webhooks) // 4], settings.secret))
    skip_webhooks(stack)
    count_as_the_first_version(stack)
    began = time.monotonic()
    start_workers(stack)
    stack.wait_for(lambda: bool(conditions(stack)), 60, "the condition")
    stack.wait_for(lambda: staleness(stack, "healed") == (True, REASON), 30, "the reason")
    print(f"foreign facts are left out and told after {time.monotonic() - began:.1f} s")
    (condition,) = conditions(stack)
    assert "`reports renormalize` reads" in condition["message"]
    foreign = sum(len(record.entries) for _, record in keyed(stack, webhooks, FOREIGN))
    stack.wait_for(
        lambda: conditions(stack)[0]["message"].startswith(f"{foreign} facts of 1 campaign,"), 30, "all facts"
    )
    done = stack.run("renormalize")  # as it says
    assert done.returncode == 0, done.stdout
    assert f"{len(webhooks)} webhooks read again" in done.stdout
    assert "still set aside" not in done.stdout
    assert_settled(stack, "healed")
    stack.assert_verified(ledger)
    summary = stack.summary("healed")
    assert summary["sent"]
    # Copies are not copied, and change nothing.
    done = stack.run("renormalize", "--from", "2h")
    assert done.returncode == 0, done.stdout
    assert f"{len(webhooks)} webhooks read again" in done.stdout
    assert_settled(stack, "healed")
    assert stack.summary("healed") == summary


def test_what_the_topic_no_longer_has_is_keyed_anew_or_named_as_lost(stack: Stack) -> None:
    settings, _ = stack.configuration()
    now_ms = time.time_ns() // 1_000_000
    received_ms = now_ms - 2 * 3_600_000
    events = [
        {"type": kind, "campaign": "older", "recipient": f"r{number}@example.com", "at": at}
        for number in range(10)
        for kind, at in (("delivered", received_ms - 60_000), ("opened", received_ms - 1_000))
    ]
    # A clock that was set right: what time it said is not in the log.
    ahead: dict[str, object] = {"type": "clicked", "campaign": "older", "recipient": "r1@example.com"}
    events += [ahead | {"at": now_ms + 86_400_000, "link": "https://example.com/"}]
    events += [ahead | {"at": now_ms + 86_400_001, "link": "https://example.com/b"}]

    def webhook(part: list[dict[str, object]]) -> Webhook:
        return Webhook(
            org="acme", source="app", esp="generic", received_at_ms=received_ms, headers=(),
            body=msgspec.json.encode({"events": part}),
        )  # fmt: skip

    start_workers(stack)
    before = stack.summary("healed")
    write(stack, keyed(stack, [webhook(events)], FOREIGN))
    # Of the two that can't be proved one was read by our host, too: it is not lost. So is one of the others.
    write(stack, keyed(stack, [webhook(events[:1] + events[-1:])], settings.secret))
    admin = AdminClient({"bootstrap.servers": stack.kafka, "log_level": 2})
    gone = [TopicPartition(WEBHOOKS, number, -1) for number in range(WEBHOOKS_PARTITIONS)]
    for future in admin.delete_records(gone).values():
        future.result(10)
    stack.wait_for(lambda: bool(conditions(stack)), 30, "the condition")
    done = stack.run("renormalize", "--from", "3h")
    assert done.returncode == 1, done.stdout
    assert "may be gone from topic webhooks" in done.stdout
    # The webhooks of the test before are gone now, too: its facts are keyed anew, and are the ones that were counted.
    assert "of another secret keyed anew" in done.stdout
    lost = [line for line in done.stdout.splitlines() if line.startswith("lost:")]
    assert lost == ["lost: 1 fact of acme, campaign older"]
    stack.wait_for(lambda: stack.summary("older").get("opened") == 10, 30, "the opens")
    assert conditions(stack)
    done = stack.run("renormalize", "--from", "3h", "--accept-lost")
    assert done.returncode == 0, done.stdout
    assert_settled(stack, "older")
    summary = stack.summary("older")
    assert [summary[name] for name in ("delivered", "total_opens", "total_clicks")] == [10, 10, 1]
    assert stack.summary("healed") == before
    assert stack.run("reconcile").returncode == 0


@pytest.mark.long
def test_counted_again_from_the_log_it_is_the_same(stack: Stack) -> None:
    before = {name: stack.summary(name) for name in ("healed", "older")}
    done = stack.run("rebuild", "--from-log")
    assert done.returncode == 0, done.stdout
    for name, summary in before.items():
        assert_settled(stack, name)
        assert stack.summary(name) == summary
    assert stack.run("reconcile").returncode == 0
