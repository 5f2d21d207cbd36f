"""Two organisations with the same campaigns and recipients at the same time: no byte crosses."""

from __future__ import annotations

import time

import httpx

from tests.support.stack import Stack


def test_the_same_campaign_and_the_same_people_twice(stack: Stack) -> None:
    ledger = stack.folder / "both.ledger"
    done = stack.run(
        "load", "--org", "acme", "--org", "globex", "--campaign", "shared", "--events", "6000", "--rate", "0",
        "--ledger", str(ledger), "--seed", "9",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    stack.assert_verified(ledger)
    # What one of the two gets then moves its own numbers and no others.
    before = {org: stack.summary("shared", org) for org in ("acme", "globex")}
    event: dict[str, object] = {
        "type": "opened", "campaign": "shared", "recipient": "one-more@example.com", "at": time.time_ns() // 1_000_000,
    }  # fmt: skip
    assert stack.post_events([event], "acme").status_code == 200
    stack.wait_for(lambda: stack.summary("shared", "acme") != before["acme"], 20, "the event")
    opens = before["acme"]["total_opens"]
    assert isinstance(opens, int)
    assert stack.summary("shared", "acme")["total_opens"] == opens + 1
    assert stack.summary("shared", "globex") == before["globex"]


def test_another_organisations_campaign_is_not_there(stack: Stack) -> None:
    event: dict[str, object] = {
        "type": "opened", "campaign": "only-globex", "recipient": "r1@example.com", "at": time.time_ns() // 1_000_000,
    }  # fmt: skip
    assert stack.post_events([event], "globex").status_code == 200
    stack.wait_for(lambda: stack.summary("only-globex", "globex").get("opened") == 1, 20, "the event")
    for section in ("summary", "timeline", "report", "live"):
        path = f"/api/v1/campaigns/only-globex/{section}"
        answer = stack.get(path, key=stack.key("acme"))
        assert answer.status_code == 404
        assert b"globex" not in answer.content.replace(b"only-globex", b"")
    listed = stack.get("/api/v1/campaigns", key=stack.key("acme"), limit="500").json()
    assert "only-globex" not in {item["campaign"] for item in listed["items"]}
    assert stack.get("/api/v1/campaigns/only-globex/summary").status_code == 401


def test_a_stream_carries_nothing_of_the_other_organisation(stack: Stack) -> None:
    events: dict[str, list[dict[str, object]]] = {
        org: [
            {
                "type": "opened",
                "campaign": "crossing",
                "recipient": f"{org}{n}@example.com",
                "at": 1_790_000_000_000,
            }
            for n in range(count)
        ]
        for org, count in (("acme", 3), ("globex", 50))
    }
    assert stack.post_events(events["acme"], "acme").status_code == 200
    stack.wait_for(lambda: stack.summary("crossing", "acme").get("opened") == 3, 20, "acme's events")
    seen = []
    with httpx.stream(
        "GET",
        f"{stack.url}/api/v1/campaigns/crossing/live",
        headers={"authorization": f"Bearer {stack.key('acme')}"},
        timeout=httpx.Timeout(2.0),
        trust_env=False,
        verify=False,
    ) as answer:
        assert stack.post_events(events["globex"], "globex").status_code == 200
        stack.wait_for(lambda: stack.summary("crossing", "globex").get("opened") == 50, 20, "globex's events")
        try:
            for line in answer.iter_lines():
                seen.append(line)
        except httpx.ReadTimeout:
            pass
    assert any(line == "event: snapshot" for line in seen)
    assert "50" not in {word for line in seen for word in line.replace(",", " ").replace(":", " ").split()}
    assert stack.summary("crossing", "acme")["opened"] == 3
