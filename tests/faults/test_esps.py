"""Every ESP's own retries against an API that can't store, or isn't there: nothing is lost and nothing counts twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import pytest
from confluent_kafka import Producer

from api.webhooks import kept_headers
from app.esps import ESPS
from app.topics import WEBHOOKS, Webhook, webhook_headers
from cli.traffic.client import address_of
from cli.traffic.esps import WRITERS
from cli.traffic.ledger import AcceptedLine, LedgerWriter, encode_line
from cli.traffic.requests import Target
from cli.traffic.targets import access_of
from tests.faults.test_kafka import revive
from tests.support.processes import ROOT
from tests.support.simulators import (
    NO_ANSWER,
    POLICIES,
    Simulator,
    requests_of,
    scaled,
    signed_now,
    with_new_ids,
)
from tests.support.stack import Stack

DAY_MS = 24 * 3600 * 1000
EVENTS = 60
"""Of each ESP."""
FLAPPING_HORIZON_S = 20.0
FLAPPING_UP_S = 21.0
"""Longer than all pauses of an ESP together: of what began in one break the last attempt is before the next one."""
RESENDS = 46
"""As often was one event of SendGrid's seen."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config = (ROOT / "examples" / "all-esps.toml").read_text()
    with Stack(tmp_path_factory.mktemp("stack"), config=config) as running:
        running.start_all()
        yield running


@pytest.fixture(scope="module")
def targets(stack: Stack) -> dict[str, Target]:
    (access,) = access_of(*stack.configuration(), ())
    return {target.esp: target for target in access.targets}


def test_every_esp_has_a_policy_and_a_writer() -> None:
    assert set(POLICIES) == set(WRITERS) == set(ESPS)


@pytest.mark.parametrize("esp", POLICIES)
def test_what_we_answer_when_busy_makes_it_come_again(esp: str) -> None:
    policy, busy = POLICIES[esp], ESPS[esp].busy
    assert busy.status not in policy.final and not policy.is_taken(busy.status)
    assert policy.is_taken(200)
    assert sum(scaled(policy, 60.0)) >= 59.9


# Every ESP's traffic, as it is sent


def test_what_is_played_of_all_esps_is_what_is_counted(stack: Stack) -> None:
    ledger = stack.folder / "mixed.ledger"
    done = stack.run(
        "load", "--events", "6000", "--rate", "0", "--poison", "0.01", "--duplicates", "0.05", "--seed", "5",
        "--ledger", str(ledger),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    stack.assert_verified(ledger)


@pytest.mark.long
@pytest.mark.parametrize("esp", sorted(WRITERS))
def test_what_is_played_of_an_esp_is_what_is_counted(stack: Stack, esp: str) -> None:
    ledger = stack.folder / f"{esp}.ledger"
    done = stack.run(
        "load", "--esp", esp, "--events", "10000", "--rate", "0", "--seed", "6", "--ledger", str(ledger)
    )
    assert done.returncode == 0, done.stdout
    stack.assert_verified(ledger)


# Away for a while


@contextlib.asynccontextmanager
async def sending(
    stack: Stack, targets: dict[str, Target], campaign: str, *, spread_s: float, horizon_s: float, events: int
) -> AsyncIterator[list[Simulator]]:
    """Every ESP at once; leaving it waits until each has said all or given up."""
    with LedgerWriter(stack.folder / f"{campaign}.ledger") as ledger:
        simulators = []
        async with asyncio.TaskGroup() as tasks:
            for number, (esp, target) in enumerate(sorted(targets.items())):
                found = Simulator(POLICIES[esp], address_of(stack.url), ledger, horizon_s=horizon_s)
                simulators.append(found)
                requests = requests_of(
                    target,
                    campaign,
                    events=events,
                    batch=3,
                    first_request=number * 1_000_000,
                    start_ms=time.time_ns() // 1_000_000 - DAY_MS,
                )
                tasks.create_task(found.run(requests, spread_s))
            yield simulators


def check(
    simulators: list[Simulator], may_be: Callable[[str], set[int]], must_be: Callable[[str], int]
) -> None:
    """Everything was taken; every ESP saw the answers that it may see, and the one that it must."""
    print()
    for simulator in simulators:
        esp = simulator.policy.esp
        answers = Counter(status for each in simulator.deliveries for status in each.answers)
        most = max(len(each.answers) for each in simulator.deliveries)
        print(f"{esp:13} {len(simulator.deliveries)} requests, at most {most} attempts, {dict(answers)}")
        lost = [each.answers for each in simulator.deliveries if not each.taken]
        assert not lost, f"{esp} gave up: {lost[:3]}"
        assert set(answers) <= may_be(esp), esp
        assert answers[must_be(esp)], esp


@pytest.mark.parametrize(
    ("how", "down_s"),
    [
        pytest.param("paused", 8.0, id="paused-8s"),
        pytest.param("stopped", 30.0, id="stopped-30s", marks=pytest.mark.long),
    ],
)
async def test_kafka_away_under_every_esps_retries(
    stack: Stack, targets: dict[str, Target], how: str, down_s: float
) -> None:
    """The patience of each ESP is twice the outage: for SNS, at 30 s, that is its own minute."""
    campaign = f"kafka-{how}"
    async with sending(
        stack, targets, campaign, spread_s=down_s + 4, horizon_s=2 * down_s, events=EVENTS
    ) as simulators:
        await asyncio.sleep(2)
        if how == "paused":
            stack.signal("kafka", signal.SIGSTOP)
            await asyncio.sleep(down_s)
            stack.signal("kafka", signal.SIGCONT)
        else:
            await asyncio.to_thread(stack.kill, "kafka")
            await asyncio.sleep(down_s)
            stack.start("kafka")
    check(simulators, lambda esp: {200, ESPS[esp].busy.status}, lambda esp: ESPS[esp].busy.status)
    revive(stack)
    stack.assert_verified(stack.folder / f"{campaign}.ledger")


@pytest.mark.parametrize(
    "seconds", [pytest.param(12.0, id="12s"), pytest.param(600.0, id="10min", marks=pytest.mark.long)]
)
async def test_an_api_that_comes_and_goes(stack: Stack, targets: dict[str, Target], seconds: float) -> None:
    """Killed and stopped in turns: a refused connection is no answer, and nobody is told an error."""
    campaign = f"flapping-{seconds:.0f}"
    async with sending(
        stack, targets, campaign, spread_s=seconds, horizon_s=FLAPPING_HORIZON_S, events=int(5 * seconds)
    ) as simulators:
        until = time.monotonic() + seconds
        await asyncio.sleep(1.0)
        for number in itertools.count(1):
            await asyncio.to_thread(stack.kill if number % 2 else stack.stop, "api")
            await asyncio.sleep(1.0)
            stack.start("api")
            await asyncio.to_thread(stack.wait_ready)
            if number > 1 and time.monotonic() >= until:
                break
            await asyncio.sleep(FLAPPING_UP_S)
    check(simulators, lambda esp: {200, ESPS[esp].busy.status, NO_ANSWER}, lambda esp: NO_ANSWER)
    stack.assert_verified(stack.folder / f"{campaign}.ledger")


# Again and again


def test_resent_up_to_46_times_over_days(stack: Stack, targets: dict[str, Target]) -> None:
    """Into the log as the API would have put it there on different days, in any order."""
    random = Random(11)
    now_ms = time.time_ns() // 1_000_000
    webhooks: list[Webhook] = []
    ledger = stack.folder / "again.ledger"
    with LedgerWriter(ledger) as lines:
        for number, (esp, target) in enumerate(sorted(targets.items())):
            requests = requests_of(
                target,
                "again",
                events=12,
                batch=3,
                first_request=number * 1_000_000,
                start_ms=now_ms - 5 * DAY_MS,
            )
            for order, request in enumerate(requests):
                lines.write(request.lines)
                line = AcceptedLine(request=request.number, status=200, tries=1, at=now_ms)
                lines.write(encode_line(line) + b"\n")
                for copy in range(RESENDS if order == 0 else random.randint(1, RESENDS)):
                    headers, body = signed_now(target, with_new_ids(request, f"again{copy}"))
                    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                    webhooks.append(
                        Webhook(
                            org=target.org,
                            source=target.path.rpartition("/")[2] if esp != "generic" else "generic",
                            esp=esp,
                            received_at_ms=now_ms - random.randrange(3 * DAY_MS),
                            headers=kept_headers(raw, ESPS[esp]),
                            body=body,
                        )
                    )
    random.shuffle(webhooks)
    print(f"{len(webhooks)} webhooks")
    _produce(stack, webhooks)
    stack.assert_verified(ledger)


def _produce(stack: Stack, webhooks: list[Webhook]) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka, "enable.idempotence": True, "log_level": 2})
    for webhook in webhooks:
        producer.produce(WEBHOOKS, webhook.body, headers=dict(webhook_headers(webhook)))
        producer.poll(0)
    assert producer.flush(30) == 0
