"""The HTTP contract, row by row, against a running API on a real socket.

"own" is `test_row_NN_…`: here, over the API in this process, where it is the answer that counts; in
`test_contract_processes.py` where it is what becomes of the request, memory, CPU time or the log.

| row | what | test |
|---|---|---|
| 1 | valid signature | own |
| 2 | no signature | own |
| 3 | wrong signature | own |
| 4 | unknown address | own |
| 5 | outside of the window | own |
| 6 | replay | own |
| 7 | a token used again | own |
| 8 | too large | own, test_webhooks.py::test_slow_senders_are_refused_and_nobody_else_notices |
| 9 | encodings | own |
| 10 | bodies that can't be read | own |
| 11 | one bad event of a thousand | own |
| 12 | unknown type | own |
| 13 | Kafka takes nothing | own, test_producer.py::test_a_frozen_broker_costs_two_seconds_and_is_found_again |
| 14 | a source's limit | own |
| 15 | HEAD and GET | own |
| 16 | a topic of somebody else | own |
| 17 | a certificate of somebody else | own |
| 18 | keys, sessions, other tenants | own |
| 19 | ids in paths | own |
| 20 | tokens in the query | own, test_tickets.py::test_it_opens_one_stream_once, \
test_tickets.py::test_it_is_bound_to_its_campaign_and_organisation |
| 21 | streams whose key ends | own |
| 22 | two tenants, one campaign id | test_live.py::test_two_organisations_with_the_same_campaign |
| 23 | streams of a foreign page | own, test_auth.py::test_what_changes_something_needs_our_own_page |
| 24 | control characters in events | own |
| 25 | what people wrote is text | own, web/test_pages.py::test_hostile_texts_are_text |
| 26 | CSV | own |
| 27 | logs | own |
| 28 | errors | own |
| 29 | the client's address | own; nothing looks at it: there are no lists of addresses |
| 30 | outgoing requests | own, test_webhook_checks.py::test_no_webhook_of_any_esp_makes_us_connect_to_anybody, \
test_certificates.py::test_any_other_answer_is_try_later_and_no_redirect_is_followed |
| 31 | secrets and configuration | own |
| 32 | versions | own; `pip-audit` asks a service of others, so it is no test |
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import csv
import importlib.metadata
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition
from redis.asyncio import Redis

from api import live as live_module
from api.auth import COOKIE, SESSION_S
from api.certificates import Certificates
from api.confirmations import Confirmations
from api.outgoing import Outgoing
from api.tickets import TICKET_S
from app.errors import RejectRequest, TryLater
from app.esps import ESPS
from app.organisations import Organisations, Source
from app.settings import Settings
from app.topics import (
    WEBHOOKS,
    WEBHOOKS_PARTITIONS,
    KafkaHeaders,
    Webhook,
    webhook_of,
)
from tables.views import Labels
from tests.api.reading import START_MS, event, reading
from tests.api.serving import ORGANISATIONS, PARTITIONS, Api, bearer, serving
from tests.support import locks, samples
from tests.support.intake import stored
from tests.support.kafka import fresh_topics
from tests.support.processes import ROOT
from tests.support.sns import CERTIFICATE_URL, NOW, OTHER_TOPIC, body, confirmation, envelope, headers
from tests.support.sockets import loopback_only

HERE = Path(__file__).parent
SPRING = "/api/v1/campaigns/spring"
SETTINGS = Settings(partitions=PARTITIONS)

every_esp = pytest.mark.parametrize("esp", sorted(ESPS))


# That every row is there


def table() -> dict[int, str]:
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (.+) \|$", __doc__ or "", re.MULTILINE)
    return {int(number): where for number, where in rows}


def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_all_32_rows_have_a_test() -> None:
    rows = table()
    assert sorted(rows) == list(range(1, 33))
    ours = functions_of(Path(__file__)) | functions_of(HERE / "test_contract_processes.py")
    for number, where in rows.items():
        own = [name for name in ours if name.startswith(f"test_row_{number:02}_")]
        assert bool(own) == where.startswith("own"), number
        elsewhere = re.findall(r"((?:web/)?test_\w+\.py)::(test_\w+)", where)
        assert own or elsewhere, number
        for file, name in elsewhere:
            path = HERE.parent / file if "/" in file else HERE / file
            assert name in functions_of(path), f"row {number}: {file}::{name}"


# The API in this process


class Remembering:
    """A producer that stores nothing but remembers, or refuses."""

    def __init__(self) -> None:
        self.stored: list[Webhook] = []
        self.busy = False

    async def send(
        self,
        topic: str,
        value: bytes,
        found: KafkaHeaders,
        partition: int | None = None,
        key: bytes | None = None,
    ) -> None:
        if self.busy:
            raise TryLater(2)
        self.stored.append(webhook_of(value, found))

    async def close(self) -> None:
        pass


SOURCES = [locks.source(esp) for esp in sorted(ESPS)]


def organisations(*more: Source) -> Organisations:
    """`acme` with a source of each ESP, named as it, and `globex` as in `serving`."""
    acme = ORGANISATIONS.by_id["acme"]
    found = msgspec.structs.replace(acme, sources={source.name: source for source in [*SOURCES, *more]})
    return Organisations({**ORGANISATIONS.by_id, "acme": found})


class Outside:
    """What is asked of others: nothing but Amazon's certificate is answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(locks.SNS.pem))

    def outgoing(self) -> Outgoing:
        return Outgoing(httpx.MockTransport(self.answer))


@contextlib.asynccontextmanager
async def running(
    redis_url: str, *more: Source, kafka: str = "127.0.0.1:9", **settings: Any
) -> AsyncIterator[Api]:
    """With sources of every ESP; what they ask of others is answered by `api.outside`."""
    async with serving(redis_url, kafka=kafka, organisations=organisations(*more), **settings) as api:
        outside = Outside()
        api.context.certificates = Certificates(outside.outgoing(), NOW.timestamp)
        api.context.confirmations = Confirmations(outside.outgoing())
        vars(api)["outside"] = outside
        yield api


@pytest.fixture
async def remembering() -> Remembering:
    return Remembering()


@pytest.fixture
async def api(redis_db: str, remembering: Remembering) -> AsyncIterator[Api]:
    async with running(redis_db, producer=remembering) as found:
        await found.worker.publish("spring", sent=3)
        yield found


async def post(api: Api, source: str, found: locks.Request, **more: str) -> httpx.Response:
    return await api.http.post(
        f"/webhooks/acme/{source}", content=found.body, headers={**found.headers, **more}, timeout=20
    )


def first_sample(esp: str) -> bytes:
    """The first one that holds an event."""
    return next(found for found in samples.all_samples(esp) if samples.events(esp, found))


# Taking webhooks


async def test_row_01_a_valid_signature(redis_db: str, kafka: str) -> None:
    fresh_topics(msgspec.structs.replace(SETTINGS, kafka=kafka))
    reader = Consumer({"bootstrap.servers": kafka, "group.id": "contract", "log_level": 2})

    def count() -> int:
        pairs = [
            reader.get_watermark_offsets(TopicPartition(WEBHOOKS, partition), timeout=10)
            for partition in range(WEBHOOKS_PARTITIONS)
        ]
        return sum(high - low for low, high in pairs)

    async with running(redis_db, kafka=kafka) as api:
        # A topic that is a moment old may take longer for its first record than an answer may: its sender asks again.
        while (
            await post(api, "generic", locks.request("generic", first_sample("generic")))
        ).status_code == 503:
            pass
        before = await asyncio.to_thread(count)
        for number, esp in enumerate(sorted(ESPS)):
            found = locks.request(esp, first_sample(esp))
            answer = await post(api, esp, found)
            assert (answer.status_code, answer.content) == (200, b""), esp
            assert await asyncio.to_thread(count) == before + number + 1, (
                f"{esp}: stored before it was answered"
            )
    reader.close()
    kept = [webhook_of(value, found) for _, value, found in stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)]
    assert sorted(webhook.esp for webhook in kept) == sorted([*ESPS, *["generic"] * before])
    assert not [
        name for webhook in kept for name, _ in webhook.headers if "auth" in name or "signature" in name
    ]


@every_esp
async def test_row_02_no_signature(api: Api, remembering: Remembering, esp: str) -> None:
    answer = await api.http.post(f"/webhooks/acme/{esp}", content=b"{}")
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    basic = bool(locks.source(esp).basic)
    assert answer.headers["www-authenticate"].startswith("Basic realm=" if basic else "Webhook")
    assert remembering.stored == []
    answer = await api.http.get(f"{SPRING}/summary")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_row_02_sns_is_asked_for_its_password(redis_db: str) -> None:
    source = msgspec.structs.replace(locks.source("amazon_ses"), name="locked", basic=(b"user:word",))
    async with running(redis_db, source) as api:
        answer = await post(api, "locked", locks.request("amazon_ses", b"{}"))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic realm=")


def wrong_values(good: bytes) -> dict[str, bytes]:
    return {
        "cut short": good[:-5].rstrip(),
        "another": good[:-4] + (b"AAAA" if good[-4:] != b"AAAA" else b"BBBB"),
        "not ASCII": "é".encode() * 20,
        "no base64": b"!" + good[1:],
        "empty": b"",
        "a megabyte": b"A" * 1_000_000,
    }


@every_esp
async def test_row_03_a_wrong_signature(api: Api, remembering: Remembering, esp: str) -> None:
    found = locks.request(esp, first_sample(esp))
    said = set()
    names = [name for name in found.headers if name.lower() not in ("content-type", "user-agent")]
    for name in names:
        for what, value in wrong_values(found.headers[name].encode()).items():
            wire = [(key.encode(), value if key == name else v.encode()) for key, v in found.headers.items()]
            answer = await api.http.post(
                f"/webhooks/acme/{esp}", content=found.body, headers=wire, timeout=20
            )
            forbidden = esp == "amazon_ses" and answer.status_code == 403
            assert answer.status_code == 401 or forbidden, (name, what)
            said.add(answer.content)
    for broken in (found.body[:-1], b"", b"{", b"\xff" * 20):
        if names and locks.source(esp).secrets:
            answer = await post(api, esp, locks.Request(found.headers, broken))
            assert answer.status_code == 401
            said.add(answer.content)
    assert remembering.stored == []
    assert len(said) <= 1 + (esp == "amazon_ses"), "one text for every reason"


async def test_row_03_how_near_it_was_does_not_show_in_the_time(api: Api) -> None:
    """The shortest of many times, so that a busy machine doesn't matter."""
    found = locks.request("mailersend", b"{}" + b" " * 60_000)
    good = found.headers["Signature"]
    kinds = {
        "near": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "far": ("0" if good[0] != "0" else "1") + good[1:],
    }
    shortest = dict.fromkeys(kinds, 1.0)
    for _ in range(40):
        for kind, value in kinds.items():
            began = time.perf_counter()
            answer = await post(api, "mailersend", found, Signature=value)
            shortest[kind] = min(shortest[kind], time.perf_counter() - began)
            assert answer.status_code == 401
    assert abs(shortest["near"] - shortest["far"]) < 0.002


async def test_row_04_an_unknown_address(api: Api, remembering: Remembering) -> None:
    answers = set()
    for address in (
        "acme/nothing",
        "nobody/sendgrid",
        "globex/sendgrid",
        "acme",
        "acme/sendgrid/x",
        "",
        "acme/",
    ):
        answer = await api.http.post(f"/webhooks/{address}", content=b"{}")
        answers.add((answer.status_code, answer.content, tuple(sorted(answer.headers))))
    ((status, content, _),) = answers
    assert status == 404
    assert json.loads(content)["error"] == "not_found"


async def test_row_05_outside_of_the_window(api: Api, remembering: Remembering) -> None:
    for age_s, status in ((0, 200), (290, 200), (-290, 200), (310, 401), (-310, 401), (86_400, 401)):
        found = locks.request("resend", first_sample("resend"), int(time.time()) - age_s)
        assert (await post(api, "resend", found)).status_code == status, age_s
    assert len(remembering.stored) == 3


async def test_row_07_a_token_used_again(redis_db: str, api: Api, remembering: Remembering) -> None:
    found = locks.request("mailgun", samples.sample("mailgun", "opened"))
    other = locks.Request({}, found.body.replace(b'"opened"', b'"clicked"'))
    assert other.body != found.body
    statuses = [(await post(api, "mailgun", one)).status_code for one in (found, found, other, found)]
    assert statuses == [200, 200, 406, 200]
    alert = 'webhooks_total{org="acme",outcome="token_reused",source="mailgun"} 1.0'
    assert alert in (await api.http.get("/metrics")).text
    async with Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=0.1) as away:
        real, api.context.redis = api.context.redis, away
        assert (await post(api, "mailgun", other)).status_code == 200, "without Redis it is skipped"
        api.context.redis = real
    assert len(remembering.stored) == 4


async def test_row_13_kafka_takes_nothing(redis_db: str) -> None:
    async with running(redis_db) as api:

        async def one(esp: str) -> tuple[str, int, int, float]:
            began = time.monotonic()
            answer = await post(api, esp, locks.request(esp, first_sample(esp)))
            return esp, answer.status_code, int(answer.headers["retry-after"]), time.monotonic() - began

        for esp, status, retry_after_s, took_s in await asyncio.gather(*map(one, sorted(ESPS))):
            assert status == (429 if esp == "brevo" else 503), esp
            assert retry_after_s >= 1
            assert took_s < 6, "two seconds, and a busy machine's slack"
        event = {"type": "sent", "campaign": "spring", "recipient": "a@example.com", "at": 1_790_000_000_000}
        answer = await api.http.post("/api/v1/events", json={"events": [event]}, headers=bearer("acme-all"))
        assert (answer.status_code, answer.json()["error"]) == (503, "try_later")
        assert "retry-after" in answer.headers


@every_esp
async def test_row_13_a_bug_of_ours_and_a_slow_body(
    api: Api, remembering: Remembering, monkeypatch: pytest.MonkeyPatch, esp: str
) -> None:
    """Brevo discards what is answered 500 or 408."""

    async def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    found = locks.request(esp, first_sample(esp))
    with monkeypatch.context() as patch:
        patch.setattr(remembering, "send", broken)
        answer = await post(api, esp, found)
    assert (answer.status_code, answer.json()["error"]) == (429 if esp == "brevo" else 503, "internal")
    assert "retry-after" in answer.headers
    assert (await post(api, esp, found)).status_code == 200

    async def slow(*arguments: object) -> None:
        raise RejectRequest(408, "too_slow", "the body was not complete within 8 seconds")

    monkeypatch.setattr("api.webhooks.read_body", slow)
    answer = await post(api, esp, found)
    assert (answer.status_code, answer.json()["error"]) == (429 if esp == "brevo" else 408, "too_slow")


@every_esp
async def test_row_14_a_source_s_limit(redis_db: str, remembering: Remembering, esp: str) -> None:
    limited = msgspec.structs.replace(locks.source(esp), name="limited", rate_limit=3)
    async with running(redis_db, limited, producer=remembering) as api:
        for _ in range(10):
            assert (await api.http.post("/webhooks/acme/limited", content=b"{}")).status_code == 401
        found = locks.request(esp, first_sample(esp))
        answers = [await post(api, "limited", found) for _ in range(6)]
        statuses = [answer.status_code for answer in answers]
        refused = 503 if esp == "amazon_ses" else 429
        assert statuses[:3] == [200] * 3, "what is not signed uses nothing up"
        assert set(statuses[3:]) <= {200, refused}
        assert refused in statuses
        last = answers[statuses.index(refused)]
        assert (last.json()["error"], last.headers["retry-after"]) == ("rate_limited", "1")
        assert (await post(api, esp, found)).status_code == 200, "the others' share is theirs"
        assert len(remembering.stored) == statuses.count(200) + 1
        await asyncio.sleep(0.5)
        assert (await post(api, "limited", found)).status_code == 200
        text = (await api.http.get("/metrics")).text
        count = statuses.count(refused)
        assert f'webhooks_total{{org="acme",outcome="rate_limited",source="limited"}} {count}.0' in text


async def test_row_14_events_of_one_s_own(redis_db: str, remembering: Remembering) -> None:
    own = msgspec.structs.replace(locks.source("generic"), rate_limit=1)
    async with running(redis_db, own, producer=remembering) as api:
        event = {"type": "sent", "campaign": "spring", "recipient": "a@example.com", "at": 1_790_000_000_000}
        answers = [
            await api.http.post("/api/v1/events", json={"events": [event]}, headers=bearer("acme-all"))
            for _ in "12"
        ]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[1].json()["error"] == "rate_limited"
        assert "retry-after" in answers[1].headers


@every_esp
async def test_row_15_head_and_get(api: Api, remembering: Remembering, esp: str) -> None:
    allowed = {"mandrill": "HEAD", "unisender_go": "GET"}.get(esp)
    for method in ("HEAD", "GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await api.http.request(method, f"/webhooks/acme/{esp}")
        assert answer.status_code == (200 if method == allowed else 405), method
        assert method == allowed or answer.headers["allow"] == "POST"
    assert remembering.stored == []


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"])
async def test_row_16_a_topic_of_somebody_else(
    api: Api, remembering: Remembering, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    connections = loopback_only(monkeypatch)
    made = envelope("{}") if kind == "Notification" else confirmation(Type=kind)
    found = locks.SNS.sign({**made, "TopicArn": OTHER_TOPIC})
    answer = await post(api, "amazon_ses", locks.Request(headers(found), body(found)))
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert [*vars(api)["outside"].asked, *connections.refused, *remembering.stored] == []


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE_URL.replace("sns.eu-west-1.amazonaws.com", host)
        for host in (
            "sns.s3-us-west-2.amazonaws.com",
            "sns.eu-west-1.amazonaws.com.attacker.example",
            "sns.eu-west-1.amazonaws.com@attacker.example",
            "attacker.example/sns.eu-west-1.amazonaws.com",
            "sns.eu-west-1.amazonaws.com:8443",
            "sns.eu-west-1.amazonaws.com\n",
            "SNS.eu-west-1.amazonaws.com",
            "127.0.0.1",
            "localhost",
        )
    ]
    + [
        CERTIFICATE_URL.replace("https", "http"),
        CERTIFICATE_URL + "?a",
        CERTIFICATE_URL + "#a",
        "",
        "file:///etc/x",
    ],
)
async def test_row_17_a_certificate_of_somebody_else(
    api: Api, remembering: Remembering, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    connections = loopback_only(monkeypatch)
    found = locks.SNS.sign(envelope("{}", SigningCertURL=url))
    answer = await post(api, "amazon_ses", locks.Request(headers(found), body(found)))
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert [*vars(api)["outside"].asked, *connections.refused, *remembering.stored] == []


# Reports and streams


async def test_row_18_keys_sessions_and_other_tenants(api: Api) -> None:
    for end in ("summary", "timeline", "report", "live"):
        path = f"{SPRING}/{end}"
        assert (await api.http.get(path)).status_code == 401
        assert (await api.get(path, "unknown-key")).status_code == 401
        theirs, nobodys = (
            await api.get(path, "globex-read"),
            await api.get(f"/api/v1/campaigns/nothing/{end}"),
        )
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.content == nobodys.content, "which campaigns others have does not show"
    await api.http.post("/session", data={"key": "acme-read"})
    assert (await api.http.get(f"{SPRING}/summary")).status_code == 200
    now = api.context.clock()
    api.context.clock = lambda: now + SESSION_S + 1
    assert (await api.http.get(f"{SPRING}/summary")).status_code == 401, "expired"


PATHS = [
    b"/api/v1/campaigns/../../../etc/passwd/summary",
    b"/api/v1/campaigns/..%2f..%2fetc%2fpasswd/summary",
    b"/api/v1/campaigns/%2e%2e/summary",
    b"/api/v1/campaigns/a%00b/summary",
    b"/api/v1/campaigns/a%0d%0aSet-Cookie:%20x=1/summary",
    b"/api/v1/campaigns/%1b%5b31m/summary",
    b"/api/v1/campaigns/" + b"x" * 10_240 + b"/summary",
    b"/api/v1/campaigns/" + quote("Ünïcödé✓\u202e").encode() + b"/summary",
    b"/api/v1/campaigns/\xc3\xa4/summary",
    b"/api/v1/campaigns/%ff%fe/live",
    b"/api/v1/campaigns/%/report",
    b"/webhooks/acme/..%2fsendgrid",
    b"/webhooks/../acme/sendgrid",
    b"/webhooks/acme/a%00b",
    b"/webhooks/acme/%0a%1b%5b31m",
    b"/webhooks/acme/" + b"x" * 10_240,
    b"/webhooks/acme/" + quote("✓").encode(),
    b"/../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/static/..%5c..%5cwin.ini",
    b"/\x00",
    b"//evil.example/",
]


async def exchange(api: Api, request: bytes) -> tuple[int, bytes]:
    """Over a plain socket, since a client would put it right. Status and the whole answer."""
    host, _, port = api.address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize("path", PATHS)
async def test_row_19_ids_in_paths(api: Api, caplog: pytest.LogCaptureFixture, path: bytes) -> None:
    method = b"POST" if path.startswith(b"/webhooks") else b"GET"
    lines = [
        method + b" " + path + b" HTTP/1.1",
        b"Host: x",
        b"Authorization: Bearer acme-read",
        b"Content-Length: 2",
    ]
    with caplog.at_level(logging.DEBUG):
        status, answer = await exchange(api, b"\r\n".join([*lines, b"Connection: close", b"", b"{}"]))
    assert status in (400, 404)
    assert b"set-cookie" not in answer.lower()
    assert b"passwd" not in answer
    assert not [
        record for record in caplog.records if re.search(r"[\x00-\x1f\x7f-\x9f]", record.getMessage())
    ]


async def test_row_19_no_campaign_has_such_a_name(api: Api) -> None:
    for name in ("%00", "a%0Ab", "%1b", "%C2%85", "%E2%80%A8", "x" * 201, "%20"):
        answer = await api.http.put(
            f"/api/v1/campaigns/{name}", json={"name": "x"}, headers=bearer("acme-all")
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_campaign"), name


@pytest.mark.parametrize("name", ["token", "access_token", "key", "api_key", "authorization"])
async def test_row_20_tokens_in_the_query(api: Api, caplog: pytest.LogCaptureFixture, name: str) -> None:
    with caplog.at_level(logging.DEBUG):
        for secret in ("", "acme-read"):
            answer = await api.http.get(
                f"{SPRING}/live?{name}=acme-read", headers=bearer(secret) if secret else {}
            )
            assert (answer.status_code, answer.json()["error"]) == (401, "credential_in_query")
            assert answer.headers["referrer-policy"] == "no-referrer"
    # The server's log of requests is off in the process (row 27 looks at its log); here pytest listens to it.
    others = ("httpx", "httpcore", "uvicorn.access")
    ours = [record for record in caplog.records if not record.name.startswith(others)]
    assert not [record for record in ours if "acme-read" in record.getMessage()]


async def test_row_20_one_time_tickets(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await api.http.post(f"{SPRING}/live/tickets", headers=bearer())
        assert answer.headers["referrer-policy"] == "no-referrer"
        ticket = answer.json()["ticket"]
        for expected in (200, 401):
            async with api.http.stream("GET", f"{SPRING}/live?ticket={ticket}") as response:
                assert response.status_code == expected
                assert response.headers["referrer-policy"] == "no-referrer"
    assert TICKET_S <= 60
    # Here the server's own log of requests is looked at as well: the ticket is out of the address before it.
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not [record for record in ours if ticket in record.getMessage()]


@pytest.mark.parametrize("how", ["the key is removed", "the session expires"])
async def test_row_21_a_stream_whose_key_ends(api: Api, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    assert live_module.RECHECK_S <= 30, "and the look-up comes at most as much again later"
    monkeypatch.setattr(live_module, "RECHECK_S", 0.3)
    await api.http.post("/session", data={"key": "acme-read"})
    given = {"Cookie": f"{COOKIE}={api.http.cookies[COOKIE]}"} if "session" in how else bearer()
    api.http.cookies.clear()
    async with api.http.stream("GET", f"{SPRING}/live", headers=given, timeout=10) as response:
        assert response.status_code == 200
        chunks = response.aiter_bytes()
        assert b"retry" in await anext(chunks)
        if "session" in how:
            now = api.context.clock()
            api.context.clock = lambda: now + SESSION_S + 1
        else:
            api.context.organisations = Organisations({})
        async with asyncio.timeout(5):
            async for _ in chunks:
                pass
    assert 'sse_closed_total{reason="unauthorised"} 1.0' in (await api.http.get("/metrics")).text


async def test_row_23_a_stream_of_a_foreign_page(api: Api) -> None:
    await api.http.post("/session", data={"key": "acme-read"})
    for foreign in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": api.address + ".evil.example"},
        {"Origin": api.address.replace("http", "https") + "0"},
        {"Origin": api.address, "Host": "evil.example"},
    ):
        answer = await api.http.get(f"{SPRING}/live", headers=foreign)
        assert answer.status_code == 403, foreign
        assert not [name for name in answer.headers if name.startswith("access-control")]
    async with api.http.stream("GET", f"{SPRING}/live", headers={"Origin": api.address}) as response:
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("access-control")]


EVIL = "a\rb\nc\r\nid: 9-9\nevent: evil\ndata: {}\n\n\0\x1b\x85\u2028\u2029\x7f"


async def test_row_24_control_characters_in_events(api: Api) -> None:
    labels = Labels(EVIL, EVIL, {EVIL: {EVIL: EVIL}})
    await api.worker.publish("spring", sent=4, opened=1, labels=labels)
    ids = ["1-1\u2028", "1-1x", "1-1 1-1", "a-1", "1-1\x00", "9" * 25 + "-1", "-", "\u0663-\u0661"]
    for last in ["", *ids]:
        query = "?" + urlencode({"last_event_id": last}) if last else ""
        async with api.http.stream("GET", f"{SPRING}/live{query}", headers=bearer(), timeout=10) as response:
            assert response.status_code == 200
            seen = b""
            async with asyncio.timeout(5):
                async for chunk in response.aiter_bytes():
                    seen += chunk
                    if b"event: snapshot" in seen and seen.endswith(b"\n\n"):
                        break
        text = seen.decode()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
        allowed = r"|id: [0-9]+-[0-9]+|event: (snapshot|change|ping|reset)|data: \{.*\}|retry: [0-9]+"
        assert [line for line in text.split("\n") if not re.fullmatch(allowed, line)] == []
        (data,) = re.findall(r"^data: (.*)$", text.partition("event: snapshot")[2], re.MULTILINE)
        assert json.loads(data)["name"] == EVIL, "split nowhere, lost nowhere"


async def test_row_25_what_people_wrote_is_text(api: Api) -> None:
    evil = '"><svg onload=alert(1)>'
    await api.worker.publish(evil, sent=1, labels=Labels(evil, "javascript:alert(1)", {}))
    answer = await api.get(f"/api/v1/campaigns/{quote(evil, safe='')}/summary")
    assert answer.json()["name"] == evil
    for path in (
        "/",
        f"/campaigns/{quote(evil, safe='')}",
        "/assets/x",
        "/api/v1/campaigns",
        "/nothing",
        "/healthz",
    ):
        answer = await api.get(path)
        assert answer.headers["content-security-policy"].split(";")[0] == "default-src 'self'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind = answer.headers["content-type"].partition(";")[0]
        assert evil not in answer.text or kind == "application/json", (
            "nothing that people wrote is sent as a page"
        )


async def test_row_25_links_and_addresses_are_text(redis_db: str, tmp_path: Path) -> None:
    """What the pages are given is JSON that says what it is; what becomes a link there is the pages' part."""
    links = [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        'https://x.example/"><svg onload>',
    ]
    who = '"><svg onload=alert(1)>@example.com'
    async with reading(redis_db, tmp_path) as one:
        await one.world.count(
            event("sent", who, START_MS),
            *(event("clicked", who, START_MS + n, number=n, link=link) for n, link in enumerate(links, 1)),
        )
        for end in ("report", "links", "recipients", "events", f"recipients/{quote(who, safe='')}"):
            answer = await one.api.get(f"{SPRING}/{end}")
            assert answer.status_code == 200, end
            assert answer.headers["content-type"].partition(";")[0] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert {"report": "javascript:alert(1)", "links": "javascript:alert(1)"}.get(
                end, "svg"
            ) in answer.text
        rows = (await one.get("/links"))["links"]["rows"]
        assert sorted(row["link"] for row in rows) == sorted(links), (
            "as they were sent: nothing is lost or cut"
        )
        async with one.api.http.stream("GET", f"{SPRING}/live", headers=bearer(), timeout=10) as response:
            assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
            assert response.headers["x-content-type-options"] == "nosniff"


async def test_row_26_csv(redis_db: str, tmp_path: Path) -> None:
    """Through the API and its query process: what people wrote is never a formula of the one who opens the file."""
    formulas = ['=HYPERLINK("https://evil.example";"x")', "\t=1", "-1+1", "\r=1"]
    async with reading(redis_db, tmp_path) as running:
        await running.world.count(
            *(
                event("bounced", f"r{n}@example.com", START_MS + n, reason=text)
                for n, text in enumerate(formulas)
            )
        )
        answer = await running.api.http.get(f"{SPRING}/exports/events.csv", headers=bearer(), timeout=30)
        people = await running.api.http.get(f"{SPRING}/exports/recipients.csv", headers=bearer(), timeout=30)
    for export in (answer, people):
        assert export.status_code == 200
        assert export.headers["content-disposition"].startswith("attachment; ")
        assert export.headers["x-content-type-options"] == "nosniff"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))
    assert [row["reason"] for row in rows] == [f"'{text}" for text in formulas]
    quoted = '"' + formulas[0].replace('"', '""').replace("=", "'=", 1) + '"'
    assert quoted in answer.text
    assert '"\'\r=1"' in answer.text, "a carriage return in a cell is quoted"


async def test_row_28_errors(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*arguments: object, **more: object) -> None:
        raise RuntimeError("redis.internal.example: acme-read 0x7f00deadbeef")

    with monkeypatch.context() as patch:
        patch.setattr(type(api.context.views), "load_packed", broken)
        failed = [await api.get(f"{SPRING}/summary")]
    assert (failed[0].status_code, failed[0].json()["error"]) == (500, "internal")
    writer = bearer("acme-all")
    failed += [
        await api.http.get(f"{SPRING}/summary"),
        await api.get("/ops/lag"),
        await api.get("/api/v1/campaigns/nothing/summary"),
        await api.get(f"{SPRING}/summary?timezone=../../etc/passwd"),
        await api.get(f"{SPRING}/summary?acme-read=1"),
        await api.get("/nothing/acme-read"),
        await api.http.delete(f"{SPRING}/summary", headers=writer),
        await api.http.post("/webhooks/acme/acme-read", content=b"{}"),
        await api.http.post("/webhooks/acme/sendgrid", content=b"{}"),
        await api.http.post("/api/v1/events", content=b"{acme-read", headers=writer),
        await api.http.post(
            "/api/v1/events", content=b"x", headers={**writer, "Content-Encoding": "acme-read"}
        ),
        await api.http.put(f"{SPRING}", content=b'{"acme-read": 1', headers=writer),
        await api.http.post("/session", data={"key": "acme-rea"}),
        await api.http.post("/session", data={"acme-read": "x"}),
    ]
    for answer in failed:
        assert answer.status_code >= 400
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
        assert set(document) == {"error", "message"}
        assert re.fullmatch("[a-z_]+", document["error"])
        assert not re.search(
            r"acme-read|Traceback|\.py|0x[0-9a-f]|internal\.example|passwd|127\.0\.0\.1", answer.text
        )
        assert "server" not in answer.headers


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1;proto=https;host=evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/admin",
}


async def test_row_29_the_client_s_address(api: Api, remembering: Remembering) -> None:
    for esp in sorted(ESPS):
        answer = await api.http.post(f"/webhooks/acme/{esp}", content=b"{}", headers=FORWARDED)
        assert answer.status_code == 401
    assert (await api.http.get(f"{SPRING}/summary", headers=FORWARDED)).status_code == 401
    answer = await api.http.post("/session", data={"key": "acme-read"}, headers=FORWARDED)
    assert "Secure" not in answer.headers["set-cookie"], (
        "only REPORTS_PUBLIC_URL says that the outside is https"
    )
    foreign = {**FORWARDED, "Origin": "https://evil.example"}
    assert (await api.http.get(f"{SPRING}/live", headers=foreign)).status_code == 403
    mentions = [
        path.name
        for part in ("api", "app")
        for path in (ROOT / part).rglob("*.py")
        if re.search(LOOKS_AT_AN_ADDRESS, path.read_text(), re.IGNORECASE)
    ]
    assert mentions == [], "who looks at an address has to count the configured proxies"
    assert "proxy_headers=False" in (ROOT / "cli" / "api.py").read_text()


LOOKS_AT_AN_ADDRESS = r"x-forwarded|x-real-ip|(request|connection)\.client\b|scope\[.client.\]"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_row_30_outgoing_requests() -> None:
    clients = {"httpx", "requests", "aiohttp", "urllib3", "urllib.request", "http.client", "boto3"}
    who = [
        path.relative_to(ROOT).as_posix()
        for part in ("api", "app", "agents", "tables")
        for path in (ROOT / part).rglob("*.py")
        if clients & imported(path)
    ]
    # Exports ask our own query processes, where these announce themselves; nobody outside gives an address.
    assert sorted(who) == ["api/exports.py", "api/outgoing.py", "api/query/export_process.py"]
    exports = (ROOT / "api" / "exports.py").read_text()
    assert "follow_redirects" not in exports, "httpx follows none unless it is told to"
    assert exports.count("AsyncClient(") == exports.count("trust_env=False") == 1
    text = (ROOT / "api" / "outgoing.py").read_text()
    assert "follow_redirects=False" in text
    assert "trust_env=False" in text


# Secrets, configuration, versions


CONFIG = """
[orgs.acme.keys.dashboard]
secret = "env:ACME_KEY"
scopes = ["read"]
[orgs.acme.sources.news]
esp = "sendgrid"
secrets = ["env:ACME_PUBLIC"]
"""


@pytest.mark.parametrize(
    ("old", "new", "setting"),
    [
        ('"sendgrid"', '"sendgird"', "orgs.acme.sources.news.esp"),
        ('secrets = ["env:ACME_PUBLIC"]', "", "orgs.acme.sources.news.secrets"),
        ('["env:ACME_PUBLIC"]', '["plain-text-secret"]', "orgs.acme.sources.news.secrets[0]"),
        ('["env:ACME_PUBLIC"]', '["env:ACME_KEY"]', "orgs.acme.sources.news.secrets[0]"),
        ('["env:ACME_PUBLIC"]', '["env:NOT_THERE"]', "orgs.acme.sources.news.secrets[0]"),
        ('["env:ACME_PUBLIC"]', '["file:not-there"]', "orgs.acme.sources.news.secrets[0]"),
        ("secrets", "secret", "orgs.acme.sources.news.secret"),
    ],
)
def test_row_31_a_wrong_configuration_does_not_start(
    tmp_path: Path, old: str, new: str, setting: str
) -> None:
    path = tmp_path / "reports.toml"
    path.write_text(CONFIG.replace(old, new))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REPORTS_")}
    environ = clean | {
        "REPORTS_CONFIG": str(path),
        "REPORTS_DATA": str(tmp_path / "data"),
        "REPORTS_HTTP": "127.0.0.1:0",
        "REPORTS_KAFKA": "127.0.0.1:9",
        "REPORTS_REDIS": "redis://127.0.0.1:9/0",
        "ACME_KEY": "the-key-of-acme",
        "ACME_PUBLIC": locks.SENDGRID.public.decode(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "api"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert said.startswith(f"reports: {setting}: ")
    assert said.count("\n") == 1
    assert "plain-text-secret" not in said
    assert "the-key-of-acme" not in said


def test_row_31_nothing_shows_a_secret() -> None:
    found = organisations()
    secrets = [secret for source in SOURCES for secret in (*source.secrets, *source.basic, *source.bearer)]
    secrets += [key.secret for organisation in found.by_id.values() for key in organisation.keys]
    shown = repr(found) + repr(
        msgspec.structs.replace(SETTINGS, secret=b"never shown", redis="redis://:word@h/0")
    )
    for secret in (*secrets, b"never shown", b":word@"):
        assert secret.decode() not in shown
    assert all(isinstance(source.secrets, tuple) for source in SOURCES), "several of each, for rotation"


def version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in importlib.metadata.version(name).split(".")[:3])


def test_row_32_versions() -> None:
    assert version("starlette") >= (1, 3, 1), "limits for forms"
    assert version("cryptography") >= (46,)
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[a-z0-9,]+\])?==(\S+)", lock, re.MULTILINE))
    for name in (
        "starlette",
        "uvicorn",
        "httptools",
        "sse-starlette",
        "cryptography",
        "msgspec",
        "confluent-kafka",
    ):
        assert pinned[name] == importlib.metadata.version(name), (
            "what is tested is what is installed elsewhere"
        )
    assert lock.count("==") <= lock.count("--hash=sha256:"), "each with its hash"
