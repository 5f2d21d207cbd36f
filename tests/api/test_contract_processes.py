"""Rows of the HTTP contract (`test_contract.py`) whose test looks behind the answer: at what becomes of a request, and
at the memory, the CPU time and the log of the API's own process."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from app import facts as f
from app.esps import ESPS
from app.organisations import Source
from app.topics import DEAD, FACTS, MAX_EVENTS, webhook_of
from tests.support import locks, samples
from tests.support.intake import stored
from tests.support.processes import wait_until
from tests.support.stack import Stack

# Amazon's certificate would have to be fetched from outside.
LOCAL = sorted(set(ESPS) - {"amazon_ses"})
LIMIT = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("contract")
    with Stack(folder, config=locks.configuration(folder, LOCAL)) as running:
        running.start_all()
        yield running


def post(stack: Stack, esp: str, found: locks.Request, **more: str) -> httpx.Response:
    # As bytes: a client would refuse to send what is not ASCII.
    headers = [(name.encode(), value.encode("latin-1")) for name, value in {**found.headers, **more}.items()]
    address = f"{stack.url}/webhooks/acme/{esp}"
    return httpx.post(address, content=found.body, headers=headers, timeout=20, trust_env=False, verify=False)


def opened(number: int, campaign: str) -> dict[str, object]:
    return {
        "email": f"p{number}@example.com",
        "event": "open",
        "timestamp": 1_790_000_000 + number,
        "campaign_id": campaign,
        "useragent": "Mozilla/5.0",
    }


def signed(events: list[dict[str, object]] | bytes) -> locks.Request:
    return locks.request("sendgrid", events if isinstance(events, bytes) else json.dumps(events).encode())


def wait_opened(stack: Stack, campaign: str, count: int) -> None:
    stack.wait_for(lambda: stack.summary(campaign).get("opened") == count, 20, f"{count} opened")


Letter = tuple[bytes, dict[str, str]]
"""Body and headers."""


class DeadLetters:
    """Reads topic `webhooks.dead` on and on."""

    def __init__(self, kafka: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "contract",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 8 * 1024 * 1024,
                "log_level": 2,
            }
        )
        self._consumer.assign([TopicPartition(DEAD, 0, 0)])
        self._found: list[Letter] = []

    def read(self, within_s: float = 0.5) -> list[Letter]:
        for message in self._consumer.consume(500, within_s):
            assert message.error() is None, message.error()
            pairs = cast("list[tuple[str, bytes]]", message.headers() or [])
            body = webhook_of(message.value() or b"", pairs).body
            self._found.append((body, {name: text.decode() for name, text in pairs}))
        return self._found

    def wait(self, wanted: Callable[[Letter], bool], count: int = 1) -> list[Letter]:
        """Those that are meant, once there are so many; there must not be more."""
        wait_until(lambda: len(list(filter(wanted, self.read()))) >= count, 30, f"{count} dead letters")
        found = list(filter(wanted, self.read()))
        assert len(found) == count, [headers for _, headers in found]
        return found

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture(scope="module")
def dead(stack: Stack) -> Iterator[DeadLetters]:
    reader = DeadLetters(stack.kafka)
    yield reader
    reader.close()


def api_pid(stack: Stack) -> int:
    return stack.processes["api"].pid


def peak_bytes(pid: int) -> int:
    """The most memory that it had since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(pid: int) -> int:
    """Gives what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


async def send_without_end(stack: Stack, head: bytes, more: bytes) -> int:
    """Gives how many bytes went out before the connection was closed."""
    host, _, port = stack.http.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head)
    sent = 0
    try:
        while sent < 1 << 28:
            writer.write(more)
            await asyncio.wait_for(writer.drain(), 10)
            sent += len(more)
    except ConnectionError:
        pass
    writer.close()
    return sent


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_row_06_a_replay(stack: Stack) -> None:
    events = [opened(number, "replayed") for number in range(5)]
    found = signed(events)
    assert post(stack, "sendgrid", found).status_code == 200
    wait_opened(stack, "replayed", 5)
    first = stack.summary("replayed")
    for again in (found, found, signed(events), signed(events[::-1])):
        assert post(stack, "sendgrid", again).status_code == 200
    assert post(stack, "sendgrid", signed([opened(0, "replayed-behind")])).status_code == 200
    wait_opened(stack, "replayed-behind", 1)
    time.sleep(0.5)
    assert stack.summary("replayed") == first


async def test_row_08_too_large(stack: Stack) -> None:
    pid = api_pid(stack)
    head = b"POST /webhooks/acme/sendgrid HTTP/1.1\r\nHost: x\r\n"
    host, _, port = stack.http.rpartition(":")

    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
    answer = await asyncio.wait_for(reader.read(), 10)  # to its end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"error":"too_large"' in answer
    writer.close()

    before = forget_peak(pid)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = await send_without_end(stack, head + b"Transfer-Encoding: chunked\r\n\r\n", chunk)
    assert sent < LIMIT + (8 << 20), "the limit, and what lies in the sockets' buffers"
    assert peak_bytes(pid) - before < 2 * LIMIT

    just = await asyncio.to_thread(post, stack, "sendgrid", signed(b" " * LIMIT))
    over = await asyncio.to_thread(post, stack, "sendgrid", signed(b" " * (LIMIT + 1)))
    assert (just.status_code, over.status_code) == (200, 413)
    for size, status in ((4 * LIMIT, 200), (4 * LIMIT + 1, 413)):
        wire = signed(gzip.compress(bytes(size), 1))
        wire.headers["Content-Encoding"] = "gzip"
        answered = await asyncio.to_thread(post, stack, "sendgrid", wire)
        assert answered.status_code == status, size


def test_row_08_a_header_without_end(stack: Stack) -> None:
    """Not in the table, but the same: what comes before the body has a bound too."""

    head = b"POST /webhooks/acme/sendgrid HTTP/1.1\r\nHost: x\r\nX-Signature: "
    before = forget_peak(api_pid(stack))
    assert asyncio.run(send_without_end(stack, head, b"x" * 0x10000)) < 16 << 20
    assert peak_bytes(api_pid(stack)) - before < 8 << 20


def test_row_08_too_many_events(stack: Stack, dead: DeadLetters) -> None:
    events = [opened(number, "many") for number in range(MAX_EVENTS + 3)]
    assert post(stack, "sendgrid", signed(events)).status_code == 200, "counted behind the log"
    wait_opened(stack, "many", MAX_EVENTS)
    ((raw, headers),) = dead.wait(lambda letter: b'"many"' in letter[0])
    assert str(MAX_EVENTS) in headers["reason"]
    assert [event["email"] for event in json.loads(raw)] == [event["email"] for event in events[MAX_EVENTS:]]


def test_row_09_encodings(stack: Stack) -> None:
    bomb = gzip.compress(bytes(100 * 1024 * 1024))
    nested = gzip.compress(gzip.compress(b"[]"))
    pid = api_pid(stack)
    began_s = time.process_time()
    gzip.decompress(bomb)
    whole_s = time.process_time() - began_s
    for body, encoding, status, share_of_whole in (
        (bomb, "gzip", 413, 0.5),
        (b"[]", "br", 415, 0.1),
        (b"[]", "zstd", 415, 0.1),
        (nested, "gzip, gzip", 415, 0.1),
        (b"[]", "x" * 1_000, 415, 0.1),
    ):
        found = signed(body)
        post(stack, "sendgrid", found, **{"Content-Encoding": encoding})
        before = forget_peak(pid)
        shares = []
        for _ in range(3):
            used_s = cpu_s(pid)
            for _ in range(10):
                answer = post(stack, "sendgrid", found, **{"Content-Encoding": encoding})
                assert answer.status_code == status
            shares.append((cpu_s(pid) - used_s) / 10)
        # A request's share; the clock's ticks are 10 ms, and what else the process does meanwhile is in it.
        assert min(shares) < share_of_whole * whole_s, encoding[:20]
        assert peak_bytes(pid) - before < 2 * LIMIT
    assert post(stack, "sendgrid", locks.Request({}, bomb), **{"Content-Encoding": "gzip"}).status_code == 401


UNREADABLE = {
    "broken JSON": b'[{"email":"a@example.com"',
    "deep nesting": b'[{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}]",
    "brackets without end": b"[" * 100_000,
    "NaN": b'[{"email":"a@example.com","event":"open","timestamp":NaN}]',
    "a number of 5,000 digits": b'[{"email":"a@example.com","timestamp":' + b"7" * 5_000 + b"}]",
    "bad UTF-8": b'[{"email":"\xff\xfe@example.com","event":"open"}]',
    "a lone surrogate": b'[{"email":"\\ud800@example.com","event":"open"}]',
    "a name twice": b'[{"email":"a@example.com","email":"b@example.com","event":"open"}]',
    "nothing": b"",
}


def test_row_10_bodies_that_cannot_be_read(stack: Stack, dead: DeadLetters) -> None:
    for name, body in UNREADABLE.items():
        assert post(stack, "sendgrid", locks.Request({}, body)).status_code == 401, name
        answer = post(stack, "sendgrid", signed(body))
        assert (answer.status_code, answer.content) == (200, b""), name
    # One event alone is cut out of its list, byte for byte; a body that is no list is kept as a whole.
    inner = {name: body.removeprefix(b"[").removesuffix(b"]") for name, body in UNREADABLE.items()}
    kept = {name: {body, inner[name], b"[" + inner[name] + b"]"} for name, body in UNREADABLE.items()}
    found = dead.wait(lambda letter: letter[0] in set().union(*kept.values()), len(UNREADABLE))
    for name in UNREADABLE:
        ((raw, headers),) = [letter for letter in found if letter[0] in kept[name]]
        assert inner[name] in raw, name
        assert headers["reason"], name
        assert headers["origin"].startswith("webhooks/"), name


@pytest.fixture(scope="module")
def unreadable_of_every_esp(stack: Stack, dead: DeadLetters) -> tuple[dict[str, locks.Request], list[Letter]]:
    """What each ESP was said to send, and what became of all of them."""
    before = len(dead.read())
    sent = {}
    for esp in LOCAL:
        bad = {"mailgun": b'{"recipient":[]}', "unisender_go": b"7"}.get(esp, b'{"\xff' + esp.encode())
        sent[esp] = locks.request(esp, bad)
        assert post(stack, esp, sent[esp]).status_code == 200, esp
    return sent, dead.wait(lambda letter: True, before + len(LOCAL))[before:]


@pytest.mark.parametrize("esp", LOCAL)
def test_row_10_of_any_esp(
    stack: Stack, unreadable_of_every_esp: tuple[dict[str, locks.Request], list[Letter]], esp: str
) -> None:
    """Where the signature is in the body, its envelope has to be readable: what cannot be read is not signed."""
    sent, letters = unreadable_of_every_esp
    ((_, headers),) = [letter for letter in letters if letter[1]["source"] == esp]
    assert headers["reason"]
    if esp in ("mailgun", "unisender_go"):
        assert post(stack, esp, locks.Request({}, sent[esp].body[:-9])).status_code == 401


def test_row_11_one_bad_event_of_a_thousand(stack: Stack, dead: DeadLetters) -> None:
    events = [opened(number, "thousand") for number in range(1_000)]
    events[500]["email"] = ["not", "a", "text"]
    assert post(stack, "sendgrid", signed(events)).status_code == 200
    wait_opened(stack, "thousand", 999)
    ((raw, headers),) = dead.wait(lambda letter: b'"thousand"' in letter[0])
    assert (headers["index"], headers["reason"]) == ("500", "no recipient")
    assert json.loads(raw) == [events[500]]


def test_row_12_an_unknown_type(stack: Stack, dead: DeadLetters) -> None:
    event = {**opened(0, "odd"), "event": "read_aloud"}
    assert post(stack, "sendgrid", signed([event, opened(1, "odd")])).status_code == 200
    wait_opened(stack, "odd", 1)
    assert not [letter for letter in dead.read() if b"read_aloud" in letter[0]]
    records = [f.decode_record(value) for _, value, _ in stored(stack.kafka, FACTS, 8)]
    entries = [
        entry
        for record in records
        if isinstance(record, f.FactsRecord) and record.campaign == "odd"
        for entry in record.entries
    ]
    unknown = [entry for entry in entries if entry.fact.type == f.UNKNOWN]
    assert len(entries) == 2
    assert len(unknown) == 1
    assert b"read_aloud" in unknown[0].detail


def test_row_27_logs(stack: Stack) -> None:
    evil = "\x1b[31mp@example.com\r\n{forged}"
    events: list[dict[str, object]] = [
        {**opened(0, "logged"), "event": evil, "reason": evil, "x": evil},
        {"email": [evil]},
    ]
    for number in range(3):
        post(stack, "sendgrid", signed(events), **{"User-Agent": "x\x85\x9b31m", "X-Y": "p@example.com"})
        post(stack, "sendgrid", locks.Request({"User-Agent": "\x9b31m"}, json.dumps(events).encode()))
        for path in (
            "/webhooks/acme/%1b%0d%0a",
            "/%1b%5b31m?key=looked-for",
            "/api/v1/campaigns/p@example.com/live",
        ):
            httpx.get(stack.url + path, timeout=5, trust_env=False, verify=False)
        key = {"Authorization": "Bearer looked-for"}
        httpx.get(
            f"{stack.url}/api/v1/campaigns?token=looked-for-{number}",
            headers=key,
            timeout=5,
            trust_env=False,
            verify=False,
        )
    wait_until_normalized = signed([opened(1, "logged")])
    assert post(stack, "sendgrid", wait_until_normalized).status_code == 200
    wait_opened(stack, "logged", 1)
    secrets = [secret for esp in LOCAL for secret in _secrets(locks.source(esp))]
    for role in ("api", "normalize", "aggregate"):
        text = (stack.folder / f"{role}.log").read_text("utf-8")
        lines = text.splitlines()
        for line in lines:
            assert line.startswith("listening on http://") or isinstance(json.loads(line), dict), line
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
        assert "@example.com" not in text, "no addresses"
        assert "looked-for" not in text, "no addresses' queries, no headers"
        assert "forged" not in text, "no bodies"
        assert not [secret for secret in secrets if secret in text]


def _secrets(source: Source) -> list[str]:
    return [secret.decode() for secret in (*source.secrets, *source.basic, *source.bearer)]


def test_every_esp_s_sample_is_counted_or_dead(stack: Stack) -> None:
    """That the sources of these tests are good ones: each takes a request as its ESP sends it."""
    for esp in LOCAL:
        found = locks.request(
            esp, next(body for body in samples.all_samples(esp) if samples.events(esp, body))
        )
        assert post(stack, esp, found).status_code == 200, esp
