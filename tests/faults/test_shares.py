"""Shared links on the running stack: killed APIs, an emptied Redis, no worker, a frozen and a killed Kafka."""

from __future__ import annotations

import signal
import time
from typing import Any

import httpx

from api.share_log import FRESH_S
from tests.support.stack import Stack


def make(stack: Stack) -> Any:
    answer = httpx.post(
        f"{stack.url}/api/v1/campaigns/fault/shares",
        json={"expires": int((time.time() + 3_600) * 1000)},
        headers={"authorization": f"Bearer {stack.key()}"},
        timeout=5,
        trust_env=False,
        verify=False,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def revoke(stack: Stack, share: Any) -> None:
    """Asks again while Kafka has only just come back, as a client does that is told so."""

    def revoked() -> bool:
        answer = httpx.delete(
            f"{stack.url}/api/v1/campaigns/fault/shares/{share['id']}",
            headers={"authorization": f"Bearer {stack.key()}"},
            timeout=5,
            trust_env=False,
            verify=False,
        )
        assert answer.status_code in (204, 503), answer.text
        return answer.status_code == 204

    stack.wait_for(revoked, 20, "the revocation")


def opened(stack: Stack, share: Any) -> tuple[int, str]:
    """Status, and the code or how many were sent: of the link's exchange, else of the report."""
    with httpx.Client(base_url=stack.url, timeout=5, trust_env=False, verify=False) as client:
        answer = client.post("/api/v1/shared", json={"token": share["url"].partition("#")[2]})
        if answer.status_code == 200:
            answer = client.get(answer.json()["path"] + "/summary")
        document = answer.json()
        return answer.status_code, document.get("error") or str(document["summary"]["sent"])


def test_links_and_their_ends_survive_everything(stack: Stack) -> None:
    event = {"type": "sent", "campaign": "fault", "recipient": "a@example.com", "at": int(time.time() * 1000)}
    assert stack.post_events([event]).status_code == 200
    stack.wait_for(lambda: stack.summary("fault").get("sent") == 1, 20, "the campaign")
    held, gone = make(stack), make(stack)
    revoke(stack, gone)

    with stack.redis_client() as client:
        client.flushall()
    stack.kill("api")
    stack.start("api")
    stack.wait_ready()
    stack.wait_for(lambda: opened(stack, held) == (200, "1"), 20, "the link")
    assert opened(stack, gone) == (401, "link_ended")

    stack.kill("aggregate")
    late = make(stack)
    assert opened(stack, late) == (200, "1")
    revoke(stack, late)
    assert opened(stack, late) == (401, "link_ended"), "no worker has to come to it"
    stack.start("aggregate")

    stack.signal("kafka", signal.SIGSTOP)
    try:
        stack.wait_for(
            lambda: opened(stack, held) == (503, "try_later"), FRESH_S + 5, "the end of what is known"
        )
    finally:
        stack.signal("kafka", signal.SIGCONT)
    stack.wait_for(lambda: opened(stack, held) == (200, "1"), 20, "the link after Kafka was frozen")

    stack.kill("kafka")
    stack.start("kafka")
    stack.wait_for_port(stack.kafka_port, timeout_s=60)
    stack.wait_for(lambda: opened(stack, held) == (200, "1"), 60, "the link after Kafka was killed")
    assert opened(stack, gone) == (401, "link_ended")
    revoke(stack, held)
    assert opened(stack, held) == (401, "link_ended")
