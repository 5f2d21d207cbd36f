"""People erased while the worker is behind, and after: every number as before, and no false alarm."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from cli.traffic.ledger import AcceptedLine, FactLine, encode_line
from tests.support.stack import Stack

CAMPAIGNS = ("spring", "autumn")
PEOPLE = [f"Person.{number}@example.com" for number in range(40)]
START_MS = 1_793_527_200_000


class Sent:
    """What was sent, and its ledger."""

    def __init__(self, stack: Stack, ledger: Path) -> None:
        self._stack = stack
        self.ledger = ledger
        self._requests = 0

    def post(self, lines: list[FactLine]) -> None:
        answer = self._stack.post_events([event_of(line) for line in lines])
        assert (answer.status_code, answer.json()["refused"]) == (200, [])
        self._requests += 1
        with self.ledger.open("ab") as file:
            for line in lines:
                file.write(encode_line(replace(line, request=self._requests)) + b"\n")
            file.write(
                encode_line(AcceptedLine(request=self._requests, status=200, tries=1, at=START_MS)) + b"\n"
            )


def event_of(line: FactLine) -> dict[str, object]:
    names = (
        "type",
        "campaign",
        "recipient",
        "link",
        "position",
        "ip",
        "country",
        "city",
        "reason",
        "bounce",
        "provider",
        "variant",
    )
    given = {name: getattr(line, name) for name in names}
    return {name: value for name, value in given.items() if value is not None} | {"at": line.reported}


def line_of(kind: str, who: str, campaign: str, after_ms: int, **more: Any) -> FactLine:
    at = START_MS + PEOPLE.index(who) * 400_000 + after_ms
    reported = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
    return FactLine(
        request=0, id="", org="acme", esp="generic", campaign=campaign, type=kind, recipient=who, at=at,
        reported=reported, provider="Gmail", variant={"subject": "A"}, **more,
    )  # fmt: skip


def mail(who: str, campaign: str) -> list[FactLine]:
    return [line_of("delivered", who, campaign, 0)]


def acts(who: str, campaign: str) -> list[FactLine]:
    """Links and reasons with the address in them, too."""
    human: dict[str, Any] = {
        "verdict": "human", "ip": "192.0.2.77", "country": "DE", "city": "Berlin",
    }  # fmt: skip
    return [
        line_of("opened", who, campaign, 60_000, **human),
        line_of("clicked", who, campaign, 70_000, link="https://example.com/shared", position=1, **human),
        line_of("clicked", who, campaign, 80_000, link=f"https://example.com/?who={who}", **human),
        line_of("deferred", who, campaign, 90_000, reason=f"mailbox of {who} is full"),
    ]


def erase(stack: Stack, people: list[str]) -> None:
    for who in people:
        answer = httpx.post(
            f"{stack.url}/api/v1/erasures",
            json={"recipient": who.upper()},
            headers={"authorization": f"Bearer {stack.key()}"},
            timeout=10,
            trust_env=False,
            verify=False,
        )
        assert (answer.status_code, answer.json()) == (200, {"campaigns": len(CAMPAIGNS)})


def assert_all_is_told(stack: Stack, sent: Sent, erased: int) -> None:
    stack.assert_verified(sent.ledger)
    uniques: dict[str, Any] = {}

    def known() -> bool:
        answer = httpx.get(
            f"{stack.url}/api/v1/uniques",
            params={"campaign": CAMPAIGNS},
            headers={"authorization": f"Bearer {stack.key()}"},
            timeout=10,
            trust_env=False,
            verify=False,
        )
        if answer.status_code == 200:
            uniques.update(answer.json()["uniques"])
        return bool(uniques)

    stack.wait_for(known, 30, "the query process")
    told = (uniques["opened"], uniques["clicked"], uniques["standard_error_percent"])
    assert told == (len(PEOPLE), len(PEOPLE), 0)
    answer = stack.get(f"/api/v1/campaigns/{CAMPAIGNS[0]}/recipients", key=stack.key(), limit="500")
    assert [item["recipient"] for item in answer.json()["items"]].count(None) == erased


@pytest.mark.long
def test_erased_while_the_worker_is_behind_and_after(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        stack.start_servers()
        stack.start("api")
        stack.start("normalize")
        stack.start("run", "aggregate")
        stack.start("query")
        stack.wait_ready()
        sent = Sent(stack, tmp_path / "ledger")
        for campaign in CAMPAIGNS:
            sent.post([line for who in PEOPLE for line in mail(who, campaign)])
        for campaign in CAMPAIGNS:
            stack.wait_for(
                lambda campaign=campaign: stack.summary(campaign).get("sent") == len(PEOPLE),  # type: ignore[misc]
                60,
                "the first facts",
            )
        stack.stop("run")
        sent.post([line for who in PEOPLE[:20] for line in acts(who, CAMPAIGNS[0])])
        erase(stack, PEOPLE[:10])
        sent.post([line for who in PEOPLE[20:] for line in acts(who, CAMPAIGNS[0])])
        sent.post([line for who in PEOPLE for line in acts(who, CAMPAIGNS[1])])
        stack.start("run", "aggregate")
        assert_all_is_told(stack, sent, 10)
        erase(stack, PEOPLE[10:15])
        done = stack.run("rebuild", "--from-log")
        assert done.returncode == 0, done.stdout
        assert_all_is_told(stack, sent, 15)
        # A lost fact of an erased person is a difference, as one of anybody else would be.
        lost = replace(line_of("opened", PEOPLE[0], CAMPAIGNS[0], 5_000, verdict="human"), request=1)
        with sent.ledger.open("ab") as file:
            file.write(encode_line(lost) + b"\n")
        assert stack.run("verify", str(sent.ledger)).returncode == 1
