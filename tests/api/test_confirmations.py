from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.confirmations import Confirmations
from api.outgoing import Outgoing
from app.errors import RejectRequest, TryLater
from app.esps.esp import Confirmation
from app.organisations import Source
from tests.support.sns import OTHER_TOPIC, TOPIC, Amazon

CHINA = "arn:aws-cn:sns:cn-north-1:123456789012:ses-events"
SOURCE = Source(org="acme", name="news", esp="amazon_ses", topics=(TOPIC, CHINA, "no arn"))
TOKEN = "2336412f37f" + "0" * 200


@pytest.fixture
async def amazon(tmp_path: Path) -> AsyncIterator[Amazon]:
    async with Amazon(tmp_path).running() as found:
        yield found


@pytest.fixture
async def confirmations(amazon: Amazon) -> AsyncIterator[Confirmations]:
    found = Confirmations(Outgoing(amazon.transport()))
    yield found
    await found.close()


@pytest.mark.parametrize(
    ("topic", "host"),
    [(TOPIC, "sns.eu-west-1.amazonaws.com"), (CHINA, "sns.cn-north-1.amazonaws.com.cn")],
)
async def test_a_topic_of_the_source_is_confirmed_where_its_region_is(
    amazon: Amazon,
    confirmations: Confirmations,
    caplog: pytest.LogCaptureFixture,
    topic: str,
    host: str,
) -> None:
    with caplog.at_level(logging.DEBUG):
        await confirmations.confirm(SOURCE, Confirmation(topic, TOKEN))
    arn = topic.replace(":", "%3A")
    assert amazon.requests == [f"{host}/?Action=ConfirmSubscription&TopicArn={arn}&Token={TOKEN}"]
    assert "confirmed" in caplog.text
    assert not [record for record in caplog.records if record.name == "httpx"], "it would show the token"


@pytest.mark.parametrize("topic", [OTHER_TOPIC, TOPIC + "x", "no arn", ""])
async def test_of_any_other_topic_nobody_is_told(
    amazon: Amazon, confirmations: Confirmations, topic: str
) -> None:
    with pytest.raises(RejectRequest) as error:
        await confirmations.confirm(SOURCE, Confirmation(topic, TOKEN))
    assert error.value.status == 403
    assert amazon.requests == []


async def test_a_token_cannot_change_the_request(amazon: Amazon, confirmations: Confirmations) -> None:
    await confirmations.confirm(SOURCE, Confirmation(TOPIC, "x&Action=Unsubscribe#\r\nHost: evil"))
    assert amazon.requests[0].count("Action=") == 1
    assert amazon.requests[0].endswith("&Token=x%26Action%3DUnsubscribe%23%0D%0AHost%3A+evil")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_amazon_is_try_later(amazon: Amazon, confirmations: Confirmations, status: int) -> None:
    amazon.status = status
    with pytest.raises(TryLater):
        await confirmations.confirm(SOURCE, Confirmation(TOPIC, TOKEN))


@pytest.mark.parametrize("status", [302, 400, 403, 404])
async def test_a_refused_token_is_refused(amazon: Amazon, confirmations: Confirmations, status: int) -> None:
    amazon.status = status
    amazon.headers = "Location: https://sns.eu-west-1.amazonaws.com/again\r\n"
    with pytest.raises(RejectRequest) as error:
        await confirmations.confirm(SOURCE, Confirmation(TOPIC, TOKEN))
    assert error.value.code == "not_confirmed"
    assert len(amazon.requests) == 1
