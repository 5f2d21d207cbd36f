"""SIGHUP over the real roles: none of them dies, and each is on the last good reports.toml and says so."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cli import hangup
from tests.support.stack import TWO_ORGS, Stack

ROLES = ("api", "normalize", "aggregate", "query")
BAD = TWO_ORGS + "\n[orgs.third]\ncolour = 'red'\n"


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("reload") / "stack", PARTITIONS="2") as running:
        running.start_servers()
        yield running


def hang_up(stack: Stack) -> None:
    for role in ROLES:
        stack.signal(role, signal.SIGHUP)


def told(stack: Stack) -> dict[str, dict[str, str]]:
    """Role → code of what is wrong → the message."""
    workers: Any = stack.get("/ops/workers", key=stack.key()).json()["workers"]
    return {
        row["role"]: {one["code"]: one["message"] for one in row["conditions"]}
        for row in workers
        if row["alive"] and row["conditions"]
    }


def count(stack: Stack, campaign: str) -> None:
    """Webhooks are taken, parsed, counted and listed."""
    events: list[dict[str, object]] = [
        {"type": "sent", "campaign": campaign, "recipient": "a@example.com", "at": 1_790_000_000_000}
    ]
    assert stack.post_events(events).status_code == 200
    stack.wait_for(lambda: stack.summary(campaign).get("sent") == 1, 30, campaign)
    path = f"/api/v1/campaigns/{campaign}/recipients"
    stack.wait_for(lambda: stack.get(path, key=stack.key()).status_code == 200, 30, "a list")


def restart(stack: Stack) -> None:
    for role in ROLES:
        stack.kill(role)
        stack.start(role)
    stack.wait_ready()


def webhook(stack: Stack) -> httpx.Response:
    """To the source whose key file goes bad, under no signature."""
    return httpx.post(f"{stack.url}/webhooks/acme/news", content=b"[]", timeout=10, trust_env=False)


def test_a_bad_file_then_a_good_one(stack: Stack) -> None:
    toml = stack.folder / "reports.toml"
    floods: list[subprocess.Popen[bytes]] = []
    for role in ROLES:
        with hangup.held():  # as our own parent starts them
            floods.append(stack.start(role))

    def ready() -> bool:
        for process in floods:  # at each moment of their start
            process.send_signal(signal.SIGHUP)
        return stack.get("/readyz").status_code == 200

    stack.wait_for(ready, 90, "ready")
    count(stack, "before")
    assert told(stack) == {}

    toml.write_text(BAD)
    hang_up(stack)
    stack.wait_for(
        lambda: (
            set(told(stack)) == set(ROLES)
            and all("configuration_refused" in one for one in told(stack).values())
        ),
        30,
        "all say that the file is bad",
    )
    assert all("orgs.third.colour" in one["configuration_refused"] for one in told(stack).values())
    assert "configuration_refused" in str(stack.get("/ops/lag", key=stack.key()).json()["workers"])
    count(stack, "bad")

    restart(stack)
    stack.wait_for(lambda: set(told(stack)) == set(ROLES), 60, "all are there again, and say so")
    count(stack, "again")
    assert all(stack.is_alive(role) for role in ROLES)

    toml.write_text("[settings]\nburst_links = 4\n" + TWO_ORGS.partition("[orgs.globex]")[0])
    hang_up(stack)
    stack.wait_for(
        lambda: (
            {role: set(one) for role, one in told(stack).items()}
            == {role: {"restart_needed"} for role in ROLES}
        ),
        30,
        "the file is taken, its settings wait",
    )
    assert all("burst_links" in one["restart_needed"] for one in told(stack).values())
    globex = stack.key("globex")
    assert stack.get("/ops/lag", key=globex).status_code == 401
    toml.write_text(TWO_ORGS)
    hang_up(stack)
    stack.wait_for(lambda: told(stack) == {}, 30, "nothing is wrong")
    assert stack.get("/ops/lag", key=globex).status_code == 200

    # A bad key file stops nobody either, and one source only; a restart has no last good one to go by.
    key = stack.data / "keys" / "acme-news.pub"
    good = key.read_bytes()
    key.write_text("no key at all")
    hang_up(stack)
    stack.wait_for(lambda: "acme-news.pub" in str(told(stack)), 30, "the file is named")
    assert webhook(stack).status_code == 401  # by the last good one
    count(stack, "bad-key")
    restart(stack)
    stack.wait_for(lambda: "acme-news.pub" in str(told(stack)), 30, "the file is named again")
    assert webhook(stack).status_code == 503
    count(stack, "bad-key-again")
    key.write_bytes(good)
    hang_up(stack)
    stack.wait_for(lambda: told(stack) == {}, 30, "the key is right again")
    assert webhook(stack).status_code == 401
    assert all(stack.is_alive(role) for role in ROLES)


def test_a_first_start_with_a_bad_file_is_refused(stack: Stack) -> None:
    (stack.folder / "reports.toml").write_text(BAD)
    for role in ROLES:
        stack.start(role)
    for role in ROLES:
        assert stack.processes[role].wait(60) == 2
        assert "orgs.third.colour" in (stack.folder / f"{role}.log").read_text()
