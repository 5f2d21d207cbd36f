"""What cannot be understood becomes a dead letter with its reason and origin; everything around it counts."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from app.topics import DEAD
from cli.traffic.esps.sendgrid import Signer
from cli.traffic.ledger import PoisonLine
from cli.verifier.ledger import _lines
from tests.support.stack import Stack

BAD = {
    "bad UTF-8": b'{"email": "\xff\xfe@example.com", "event": "open", "timestamp": 1700000000}',
    "deep nesting": b'{"email": "d@example.com", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "NaN": b'{"email": "n@example.com", "event": "open", "timestamp": NaN}',
    "a number of 5,000 digits": b'{"email": "b@example.com", "event": "open", "timestamp": '
    + b"7" * 5000
    + b"}",
    "a field of 2 MB": b'{"email": "m@example.com", "event": "open", "timestamp": 1700000000, "x": "'
    + b"y" * 2_000_000
    + b'"}',
    "a lone surrogate": b'{"email": "\\ud800@example.com", "event": "open", "timestamp": 1700000000}',
}
GOOD = b'{"email": "%s@example.com", "event": "open", "timestamp": 1700000000, "campaign_id": "around"}'


def dead_letters(stack: Stack) -> list[tuple[dict[str, str], bytes]]:
    """(headers, value) of all of them."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "test", "enable.auto.commit": False,
                         "fetch.message.max.bytes": 10_000_000})  # fmt: skip
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(DEAD, 0), timeout=10)
        consumer.assign([TopicPartition(DEAD, 0, 0)])
        found: list[tuple[dict[str, str], bytes]] = []
        deadline = time.monotonic() + 20
        while len(found) < end and time.monotonic() < deadline:
            for message in consumer.consume(100, 1.0):
                assert message.error() is None
                pairs: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
                headers = {name: value.decode() for name, value in pairs.items()}
                found.append((headers, bytes(message.value() or b"")))
        assert len(found) == end
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("name", BAD)
def test_one_bad_event_between_two_good_ones(stack: Stack, name: str) -> None:
    slug = "".join(letter for letter in name if letter.isalnum()).lower()
    body = b"[" + GOOD % f"{slug}1".encode() + b"," + BAD[name] + b"," + GOOD % f"{slug}2".encode() + b"]"
    before = len(dead_letters(stack))
    opened = int(str(stack.summary("around").get("opened", 0)))
    signer = Signer((stack.data / "keys" / "acme-news.key").read_bytes())
    answer = httpx.post(
        f"{stack.url}/webhooks/acme/news",
        content=body,
        headers=signer.headers(body, int(time.time())),
        timeout=10,
        trust_env=False,
        verify=False,
    )
    assert (answer.status_code, answer.content) == (200, b"")
    stack.wait_for(lambda: stack.summary("around").get("opened") == opened + 2, 20, "the good ones")
    new = dead_letters(stack)[before:]
    assert len(new) == 1
    headers, value = new[0]
    assert headers["reason"]
    assert headers["stage"] == "event"
    assert headers["origin"].startswith("webhooks/")
    assert headers["index"] == "1"
    assert len(value) <= len(BAD[name]) + 2


def test_one_request_in_a_hundred_is_broken(stack: Stack) -> None:
    ledger = stack.folder / "poison.ledger"
    before = len(dead_letters(stack))
    done = stack.run(
        "load", "--campaign", "poisoned", "--events", "8000", "--rate", "0", "--batch", "20", "--poison", "0.05",
        "--ledger", str(ledger), "--seed", "8",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    stack.assert_verified(ledger)
    meant = [line for line in _lines(ledger) if isinstance(line, PoisonLine) and line.where != "refused"]
    assert len(meant) >= 10
    new = dead_letters(stack)[before:]
    assert len(new) == len(meant)
    assert all(json.loads(headers["headers"]) is not None for headers, _ in new)
