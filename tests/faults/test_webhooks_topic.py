"""Topic `webhooks` deleted under running roles and traffic: it is named and made again by itself, what was accepted and
not read is named as lost. Following what is said leads back to a report that is right."""

from __future__ import annotations

import re
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS
from cli.topics import ensure_topics
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings
from tests.faults.test_advice import conditions, opened, told
from tests.support.kafka import delete_topics
from tests.support.processes import wait_until
from tests.support.stack import Stack

ROLES = ("api", "normalize", "aggregate")


class Sender(threading.Thread):
    """Sends one event after the other, and notes which were taken."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self.stopping = threading.Event()
        self.taken: list[int] = []
        self.refusals: list[httpx.Response] = []
        self.sent = 0

    def run(self) -> None:
        number = 0
        while not self.stopping.wait(0.002):
            answer = self._stack.post_events(opened(number, 1))
            if answer.status_code == 200:
                self.taken.append(number)
            else:
                self.refusals.append(answer)
            number += 1
            self.sent = number

    def resend(self) -> None:
        """All of them: what was refused may have been stored a moment later."""
        for number in range(self.sent):
            wait_until(partial(self._takes, number), 30, "it is taken")

    def _takes(self, number: int) -> bool:
        return self._stack.post_events(opened(number, 1)).status_code == 200


@pytest.mark.long
@pytest.mark.parametrize("remade", ["by normalize", "at once by an operator", "at once with 3 partitions"])
def test_webhooks_deleted_under_running_roles(tmp_path: Path, remade: str) -> None:
    with Stack(tmp_path, PARTITIONS="2", SESSION_TIMEOUT_S="6") as stack:
        stack.start_servers()
        for role in ROLES:
            stack.start(role)
        stack.wait_ready()
        client = AdminClient(client_settings(stack.kafka, "test"))
        before = client.list_topics(timeout=10).topics
        assert len(before[WEBHOOKS].partitions) == WEBHOOKS_PARTITIONS
        sender = Sender(stack)
        sender.start()

        def going() -> bool:
            """As their parent does, what has ended is started again."""
            for role in ROLES:
                if not stack.is_alive(role):
                    stack.start(role)
            return True

        def counted() -> int:
            return int(str(stack.summary("spring").get("opened", 0)))

        stack.wait_for(lambda: counted() > 50, 60, "counted")
        stack.kill("normalize")  # so that something is lost for sure
        ahead = len(sender.taken) + 100
        stack.wait_for(lambda: len(sender.taken) > ahead, 60, "more is taken")
        stack.start("normalize")
        stack.wait_for(lambda: counted() > ahead, 60, "normalize reads")
        delete_topics(stack.kafka, (WEBHOOKS,))
        if remade == "by normalize":
            stack.wait_for(
                lambda: "topic webhooks is not there" in stack.get("/readyz").text,
                30,
                "/readyz names the topic",
            )
            lag = stack.get("/ops/lag", key=stack.key()).json()
            assert "topic webhooks is not there" in lag["trouble"]
            assert "normalize starts again" in lag["trouble"]
            assert told(stack)["stale"]
        elif remade == "at once by an operator":
            ensure_topics(stack.install())
        else:
            for made in client.create_topics([NewTopic(WEBHOOKS, 3, 1)]).values():
                made.result(10)

        def again() -> bool:
            topic = client.list_topics(timeout=10).topics.get(WEBHOOKS)
            return going() and topic is not None and len(topic.partitions) == WEBHOOKS_PARTITIONS

        stack.wait_for(again, 60, "the topic is there as designed")
        since = len(sender.taken)
        stack.wait_for(lambda: going() and len(sender.taken) > since + 50, 60, "webhooks are taken again")
        sender.stopping.set()
        sender.join(30)
        # Nobody was kept waiting, nor told an end.
        assert {answer.status_code for answer in sender.refusals} <= {503}
        assert all(answer.elapsed.total_seconds() < 3 for answer in sender.refusals)
        stack.wait_for(
            lambda: going() and stack.get("/ops/lag", key=stack.key()).json()["lag"] == {"webhooks": 0, "facts": 0}
            and not told(stack)["stale"],
            90, "no lag",
        )  # fmt: skip
        missing = len(sender.taken) - counted()
        installation = InstallationLog(stack.kafka).read()
        assert installation is not None
        named = sum(one.lost or 0 for one in installation.lost)
        assert named >= missing, "what was accepted and not read is named as lost"
        said = [one for one in conditions(stack) if one["code"] == "lost_webhooks"]
        assert bool(said) == bool(installation.lost)
        if said:
            stack.wait_for(
                lambda: {one["code"] for one in told(stack)["notices"]} == {"lost_webhooks"}, 30, "the notice"
            )
            # As the condition says.
            assert re.search("Have their senders send them again", said[0]["message"])
            assert stack.run("accept-gap", "--webhooks", "--yes").returncode == 0
        sender.resend()
        stack.wait_for(lambda: counted() == sender.sent, 60, "each is counted once")
        # What somebody else made has the broker's defaults: that is said as well, with the command that corrects it.
        others = {"topic_retention", "topic_settings"} if "3 partitions" in remade else set[str]()
        stack.wait_for(
            lambda: {one["code"] for one in conditions(stack)} <= others, 30, "nothing is wrong any more"
        )
