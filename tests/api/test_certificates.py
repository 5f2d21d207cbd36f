from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.certificates import FAILED_S, MAX_KEPT, Certificates
from api.outgoing import MAX_BYTES, TIMEOUT_S, Outgoing
from app.errors import TryLater
from tests.support.sns import CERTIFICATE_URL, NOW, Amazon, Signer
from tests.support.sockets import loopback_only


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW.timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def amazon(tmp_path: Path) -> AsyncIterator[Amazon]:
    found = Amazon(tmp_path)
    found.answer = found.signer.pem
    async with found.running():
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def certificates(amazon: Amazon, clock: Clock) -> AsyncIterator[Certificates]:
    found = Certificates(Outgoing(amazon.transport()), clock)
    yield found
    await found.close()


def url(number: int) -> str:
    return f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{number:032x}.pem"


async def test_a_certificate_is_fetched_once_and_kept(amazon: Amazon, certificates: Certificates) -> None:
    for _ in range(3):
        assert await certificates.get(CERTIFICATE_URL) == amazon.signer.pem
    assert amazon.requests == [CERTIFICATE_URL.removeprefix("https://")]


async def test_many_at_once_are_one_request(amazon: Amazon, certificates: Certificates) -> None:
    amazon.delay_s = 0.1
    found = await asyncio.gather(*(certificates.get(CERTIFICATE_URL) for _ in range(50)))
    assert set(found) == {amazon.signer.pem}
    assert len(amazon.requests) == 1


async def test_who_leaves_does_not_take_it_from_the_others(
    amazon: Amazon, certificates: Certificates
) -> None:
    amazon.delay_s = 0.1
    first = asyncio.create_task(certificates.get(CERTIFICATE_URL))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(certificates.get(CERTIFICATE_URL))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == amazon.signer.pem
    assert len(amazon.requests) == 1


@pytest.mark.parametrize("status", [204, 301, 302, 307, 403, 404, 500, 503])
async def test_any_other_answer_is_try_later_and_no_redirect_is_followed(
    amazon: Amazon, certificates: Certificates, status: int
) -> None:
    amazon.status = status
    amazon.headers = "Location: https://sns.eu-west-1.amazonaws.com/elsewhere.pem\r\n"
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)
    assert len(amazon.requests) == 1


async def test_a_failure_is_remembered_for_a_while(
    amazon: Amazon, certificates: Certificates, clock: Clock
) -> None:
    amazon.status = 500
    for _ in range(5):
        with pytest.raises(TryLater):
            await certificates.get(CERTIFICATE_URL)
    assert len(amazon.requests) == 1
    amazon.status = 200
    clock.now_s += FAILED_S + 0.1
    assert await certificates.get(CERTIFICATE_URL) == amazon.signer.pem


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 8 << 20])
async def test_a_long_answer_is_not_read(amazon: Amazon, certificates: Certificates, size: int) -> None:
    amazon.answer = amazon.signer.pem + b" " * size
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)


@pytest.mark.parametrize(
    "answer", [b"", b"no certificate", b"\xff" * 100, Signer().private_pem(), Signer().pem_of_version(54)]
)
async def test_what_is_no_certificate_is_not_kept(
    amazon: Amazon, certificates: Certificates, answer: bytes
) -> None:
    amazon.answer = answer
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)


async def test_who_answers_slowly_is_not_waited_for(amazon: Amazon, certificates: Certificates) -> None:
    amazon.delay_s = 10
    started = asyncio.get_running_loop().time()
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)
    assert asyncio.get_running_loop().time() - started < TIMEOUT_S + 1


@pytest.mark.parametrize(
    ("not_before", "not_after"),
    [
        (NOW - datetime.timedelta(days=9), NOW - datetime.timedelta(seconds=1)),
        (NOW + datetime.timedelta(seconds=1), NOW + datetime.timedelta(days=9)),
    ],
)
async def test_a_certificate_that_is_not_valid_now_is_none(
    amazon: Amazon,
    certificates: Certificates,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> None:
    amazon.answer = Signer(not_before=not_before, not_after=not_after).pem
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)


async def test_one_that_has_run_out_while_it_was_kept_is_fetched_anew(
    amazon: Amazon, certificates: Certificates, clock: Clock
) -> None:
    await certificates.get(CERTIFICATE_URL)
    clock.now_s += 400 * 86_400
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)
    amazon.answer = Signer(not_after=NOW + datetime.timedelta(days=900)).pem
    clock.now_s += FAILED_S + 1
    assert await certificates.get(CERTIFICATE_URL) == amazon.answer
    assert len(amazon.requests) == 3


async def test_only_so_many_are_kept(amazon: Amazon, certificates: Certificates) -> None:
    for number in range(MAX_KEPT + 1):
        await certificates.get(url(number))
    await certificates.get(url(MAX_KEPT))
    assert len(amazon.requests) == MAX_KEPT + 1
    await certificates.get(url(0))
    assert len(amazon.requests) == MAX_KEPT + 2


async def test_a_server_that_cannot_prove_its_name_is_not_believed(amazon: Amazon, clock: Clock) -> None:
    certificates = Certificates(Outgoing(amazon.transport()), clock)
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL.replace("eu-west-1", "us-east-1"))
    assert amazon.requests == []
    await certificates.close()


async def test_plain_http_does_not_go_out(amazon: Amazon) -> None:
    outgoing = Outgoing(amazon.transport())
    with pytest.raises(ValueError, match="https"):
        await outgoing.get(CERTIFICATE_URL.replace("https", "http"))
    await outgoing.close()


async def test_without_a_way_out_it_is_try_later_and_only_amazon_was_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    connections = loopback_only(monkeypatch)
    certificates = Certificates()
    with pytest.raises(TryLater):
        await certificates.get(CERTIFICATE_URL)
    await certificates.close()
    assert set(connections.refused) == {"sns.eu-west-1.amazonaws.com"}


async def test_the_transport_s_errors_are_try_later() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("nonsense")

    outgoing = Outgoing(httpx.MockTransport(fail))
    with pytest.raises(TryLater):
        await outgoing.get(CERTIFICATE_URL)
    await outgoing.close()
