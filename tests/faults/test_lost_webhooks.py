"""Accepted webhooks that leave topic `webhooks` before normalize reads them: said where people look, for good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from app.topics import INSTALLATION, WEBHOOKS, WEBHOOKS_PARTITIONS
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings
from tests.support.kafka import delete_topics
from tests.support.stack import Stack


def sent(first: int, count: int) -> list[dict[str, object]]:
    return [
        {
            "type": "sent",
            "campaign": "spring",
            "recipient": f"p{number}@example.com",
            "at": "2026-11-01T10:00:00Z",
            "id": f"{number}",
        }
        for number in range(first, first + count)
    ]


def post(stack: Stack, first: int, count: int, each: int) -> None:
    for begin in range(first, first + count, each):
        assert stack.post_events(sent(begin, each)).status_code == 200


def report(stack: Stack) -> dict[str, Any]:
    answer = stack.get("/api/v1/campaigns/spring/summary", key=stack.key())
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return found


def lost(stack: Stack) -> list[dict[str, Any]]:
    """The condition, as each worker that parses says it."""
    answer = stack.get("/ops/workers", key=stack.key())
    workers = answer.json()["workers"] if answer.status_code == 200 else []
    return [one for worker in workers for one in worker["conditions"] if one["code"] == "lost_webhooks"]


def notices(stack: Stack) -> list[str]:
    return [one["message"] for one in report(stack).get("notices", []) if one["code"] == "lost_webhooks"]


def settled(stack: Stack, count: int, noticed: int) -> None:
    stack.wait_for(lambda: stack.summary("spring").get("sent") == count, 60, f"{count} are counted")
    stack.wait_for(lambda: len(notices(stack)) == noticed, 60, f"{noticed} notices")
    stack.wait_for(lambda: not report(stack)["stale"], 30, "not stale")


def trim(stack: Stack) -> None:
    """All of the topic, as retention would."""
    admin = AdminClient(client_settings(stack.kafka, "test"))
    asked = admin.delete_records([TopicPartition(WEBHOOKS, p, -1) for p in range(WEBHOOKS_PARTITIONS)])
    for future in asked.values():
        future.result(10)


def test_webhooks_that_are_gone_before_they_are_read(tmp_path: Path) -> None:
    with Stack(tmp_path, PARTITIONS="2") as stack:
        stack.start_all()
        post(stack, 0, 20, 5)
        settled(stack, 20, 0)
        assert lost(stack) == []
        stack.stop("normalize")
        post(stack, 1_000, 300, 10)
        trim(stack)
        stack.start("normalize")
        # With nothing more coming in.
        stack.wait_for(lambda: len(lost(stack)) == 1, 90, "it is said")
        assert lost(stack)[0]["count"] == 30
        assert "webhooks were lost before they were read" in (tmp_path / "normalize.log").read_text()
        settled(stack, 20, 1)
        (said,) = notices(stack)
        assert said.startswith("30 webhooks of this installation were accepted and lost")
        post(stack, 20, 20, 5)
        settled(stack, 40, 1)


@pytest.mark.long
def test_a_topic_that_is_recreated_and_what_was_acknowledged(tmp_path: Path) -> None:
    with Stack(tmp_path, PARTITIONS="2") as stack:
        stack.start_all()
        post(stack, 0, 40, 5)
        settled(stack, 40, 0)
        stack.stop("normalize")
        post(stack, 2_000, 50, 10)
        stack.wait_for(lambda: report(stack)["stale"] or report(stack)["lag_ms"] > 0, 30, "the lag is seen")
        delete_topics(stack.kafka, (WEBHOOKS,))
        stack.install()
        stack.wait_for(lambda: stack.post_events(sent(40, 10)).status_code == 200, 60, "taken again")
        stack.start("normalize")
        stack.wait_for(lambda: len(lost(stack)) == 1, 90, "it is said")
        assert "the topic was recreated" in lost(stack)[0]["message"]
        settled(stack, 50, 1)
        done = stack.run("accept-gap", "--webhooks", "--yes")
        assert done.returncode == 0, done.stdout
        stack.wait_for(lambda: lost(stack) == [], 30, "the condition ends")
        for role in ("normalize", "aggregate", "api"):
            stack.kill(role)
            stack.start(role)
        stack.wait_ready()
        settled(stack, 50, 1)
        assert lost(stack) == []


ROLES = ("api", "normalize", "aggregate", "query")


def restart_kafka(stack: Stack, change: Callable[[Path], object]) -> None:
    """Without the roles; `change` is given its data folder while it is down."""
    for role in ROLES:
        if stack.is_alive(role):
            stack.stop(role)
    stack.stop("kafka", 60)
    change(stack.data / "kafka")
    stack.start("kafka")
    stack.wait_for_port(stack.kafka_port, timeout_s=180)


def start(stack: Stack, *roles: str) -> None:
    for role in roles:
        stack.start(role)
    stack.wait_ready()


@pytest.mark.long
@pytest.mark.parametrize("all_read", [True, False], ids=["all was read", "some was not read"])
def test_a_log_that_loses_its_end_and_grows_again(tmp_path: Path, all_read: bool) -> None:
    """The broker's webhooks are those of an older copy, its facts are there. What came in then stood below the
    position: it was accepted and never read, and nothing was said."""
    copy = tmp_path / "copy"
    with Stack(tmp_path, PARTITIONS="2") as stack:
        stack.start_all()
        post(stack, 0, 40, 2)
        settled(stack, 40, 0)
        restart_kafka(stack, lambda kafka: shutil.copytree(kafka, copy))
        start(stack, *ROLES)
        post(stack, 40, 40, 2)
        settled(stack, 80, 0)
        if not all_read:
            stack.stop("normalize")
            post(stack, 5_000, 20, 2)
            stack.wait_for(lambda: report(stack)["lag_ms"] > 0, 30, "the ends are noted")

        def restore(kafka: Path) -> None:
            logs = [one for one in kafka.rglob("webhooks-*") if one.is_dir()]
            assert len(logs) == WEBHOOKS_PARTITIONS
            for one in logs:
                shutil.rmtree(one)
                shutil.copytree(copy / one.relative_to(kafka), one)

        restart_kafka(stack, restore)
        start(stack, "api", "aggregate", "query")
        post(stack, 1_000, 120, 2)
        start(stack, "normalize")
        settled(stack, 200, 1)
        stack.wait_for(lambda: len(lost(stack)) == 1, 30, "it is said")
        assert "the log lost its end" in lost(stack)[0]["message"]
        installation = InstallationLog(stack.kafka).read()
        assert installation is not None
        found = {one.partition: one for one in installation.lost}
        assert all(one.lost is None and one.position is not None for one in found.values())
        assert any(one.position > one.to > 0 for one in found.values() if one.position is not None), (
            "not all of it is read again"
        )
        assert stack.run("accept-gap", "--webhooks", "--yes").returncode == 0
        stack.wait_for(lambda: lost(stack) == [], 30, "the condition ends")
        stack.stop("normalize")
        start(stack, "normalize")
        post(stack, 2_000, 20, 2)
        settled(stack, 220, 1)
        assert lost(stack) == []


@pytest.mark.long
def test_both_topics_that_know_of_it_are_recreated(tmp_path: Path) -> None:
    """`webhooks` and `installation`: only Redis still knows what was read."""
    with Stack(tmp_path, PARTITIONS="2") as stack:
        stack.start_all()
        post(stack, 0, 20, 5)
        settled(stack, 20, 0)
        stack.stop("normalize")
        post(stack, 2_000, 50, 10)
        stack.wait_for(lambda: report(stack)["stale"] or report(stack)["lag_ms"] > 0, 30, "the lag is seen")
        stack.stop("aggregate")  # it would end without topic `installation`, and its parent start it again
        delete_topics(stack.kafka, (WEBHOOKS, INSTALLATION))
        stack.start("normalize")
        stack.start("aggregate")
        stack.wait_for(lambda: stack.post_events(sent(20, 10)).status_code == 200, 60, "taken again")
        stack.wait_for(lambda: len(lost(stack)) == 1, 90, "it is said")
        assert lost(stack)[0]["count"] == 5
        settled(stack, 30, 1)
        (said,) = notices(stack)
        assert said.startswith("5 webhooks of this installation were accepted and lost")
        done = stack.run("accept-gap", "--webhooks", "--yes")
        assert done.returncode == 0, done.stdout
        stack.wait_for(lambda: lost(stack) == [], 30, "the condition ends")
        settled(stack, 30, 1)
