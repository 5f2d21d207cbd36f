from __future__ import annotations

import json
from base64 import b64encode

import pytest

from app.errors import ConfigError, RejectRequest
from app.esps import postmark
from app.esps.esp import QUERY_KEY
from app.facts import Event
from tests.support import samples

NAME = "postmark"
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_2) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/35.0.1916.153 Safari/537.36"
)
MESSAGE = "883953f4-6105-42a2-a16a-77a8eac79483"
OWN = {"example": "value", "example_2": "value"}
PLACE = {"ip": "188.2.95.4", "country": "RS", "city": "Novi Sad"}


def one(sample: str, **changes: object) -> Event:
    document = {**json.loads(samples.sample(NAME, sample)), **changes}
    return samples.one(NAME, json.dumps(document).encode())


# Credentials


def test_a_password_a_token_or_a_secret_in_the_address_lets_in() -> None:
    source = samples.source(NAME, basic=(b"user:old", b"user:word"), bearer=(b"token",))
    for headers in (
        {b"authorization": b"Basic " + b64encode(b"user:word")},
        {b"authorization": b"Basic " + b64encode(b"user:old")},
        {b"authorization": b"Bearer token"},
        {QUERY_KEY: b"token"},
    ):
        postmark.ESP.verify(source, headers, b"{}")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Basic " + b64encode(b"user:words")},
        {b"authorization": b"Basic user:word"},
        {b"authorization": b"Bearer user:word"},
        {b"authorization": b"Bearer "},
        {QUERY_KEY: b""},
        {QUERY_KEY: b"user:word"},
        {QUERY_KEY: b"\xff" * 100_000},
    ],
)
def test_anything_else_is_refused(headers: dict[bytes, bytes]) -> None:
    source = samples.source(NAME, basic=(b"user:word",), bearer=(b"token",))
    with pytest.raises(RejectRequest) as refused:
        postmark.ESP.verify(source, headers, b"{}")
    assert refused.value.status == 401


def test_a_signing_secret_is_a_mistake_and_no_lock() -> None:
    with pytest.raises(ConfigError, match=r"orgs\.acme\.sources\.news\.secrets: postmark signs nothing"):
        postmark.ESP.check(samples.source(NAME, b"secret"))
    with pytest.raises(RejectRequest):
        postmark.ESP.verify(samples.source(NAME, b"secret"), {b"authorization": b"Bearer secret"}, b"{}")
    postmark.ESP.check(samples.source(NAME, basic=(b"user:word",)))


# Events


EXPECTED: dict[str, dict[str, object]] = {
    "delivery": {
        "type": "delivered",
        "at_ms": 1_406_914_090_274,
        "message_id": MESSAGE,
        "smtp_reply": "Test delivery webhook details",
        "tags": ("welcome-email",),
        "metadata": {**OWN, "MessageStream": "outbound", "ServerID": "23"},
    },
    "bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "Hard bounce",
        "at_ms": 1_406_914_090_274,
        "message_id": MESSAGE,
        "esp_event_id": "42",
        "smtp_reply": "Test bounce details",
        "tags": ("Test",),
        "metadata": {
            "user_id": "43",
            "MessageStream": "outbound",
            "ServerID": "23",
            "Subject": "Test subject",
        },
    },
    "spam_complaint": {
        "type": "complained",
        "at_ms": 1_406_914_090_274,
        "message_id": "00000000-0000-0000-0000-000000000000",
        "esp_event_id": "42",
        "smtp_reply": "Test spam complaint details",
        "tags": ("Test",),
        "metadata": {
            **OWN,
            "MessageStream": "outbound",
            "ServerID": "1234",
            "Subject": "Test subject",
        },
    },
    "open": {
        "type": "opened",
        "at_ms": 1_572_971_634_907,
        "message_id": MESSAGE,
        "user_agent": AGENT,
        "tags": ("welcome-email",),
        "metadata": {**OWN, "MessageStream": "outbound", "FirstOpen": "true"},
        **PLACE,
    },
    "click": {
        "type": "clicked",
        "at_ms": 1_508_944_871_907,
        "message_id": "00000000-0000-0000-0000-000000000000",
        "link": "https://example.com",
        "user_agent": AGENT,
        "device": "desktop",
        "tags": ("welcome-email",),
        "metadata": {**OWN, "MessageStream": "outbound", "ClickLocation": "HTML"},
        **PLACE,
    },
    "subscription_change": {
        "type": "unknown",
        "recipient": "bounced-address@example.com",
        "reason": "HardBounce",
        "at_ms": 1_580_554_414_416,
        "message_id": MESSAGE,
        "tags": ("my-tag",),
        "metadata": {
            **OWN,
            "MessageStream": "outbound",
            "ServerID": "123456",
            "event": "SubscriptionChange: HardBounce",
        },
    },
}


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of(NAME) == set(EXPECTED)


@pytest.mark.parametrize("sample", EXPECTED)
def test_the_documentation_s_example(sample: str) -> None:
    event = samples.one(NAME, samples.sample(NAME, sample))
    assert samples.differences(event, {"recipient": "john@example.com", **EXPECTED[sample]}) == {}


@pytest.mark.parametrize(
    ("word", "kind", "bounce"),
    [(word, kind, bounce) for word, (kind, bounce) in postmark._BOUNCES.items()]
    + [("SomethingNew", "bounced", "soft")],
)
def test_every_type_of_bounce_has_its_meaning(word: str, kind: str, bounce: str | None) -> None:
    event = one("bounce", Type=word, Name=word)
    assert (event.type, event.bounce, event.reason) == (kind, bounce, word)


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"SuppressionReason": "ManualSuppression"}, "unsubscribed", "Recipient"),
        ({"SuppressionReason": None, "Origin": "Customer"}, "unsubscribed", "Customer"),
        ({"SuppressSending": False, "SuppressionReason": None}, "subscribed", "Recipient"),
        ({"SuppressionReason": "SpamComplaint"}, "unknown", "SpamComplaint"),
    ],
)
def test_a_changed_subscription(changes: dict[str, object], kind: str, reason: str) -> None:
    event = one("subscription_change", **changes)
    assert (event.type, event.reason) == (kind, reason)


def test_the_client_stands_in_for_an_agent_that_is_not_told() -> None:
    event = one(
        "open", UserAgent="", Client={"Name": "Apple Mail 9", "Family": "Apple Mail"}, Platform="Mobile"
    )
    assert (event.user_agent, event.client, event.device) == (None, "Apple Mail", "mobile")


@pytest.mark.parametrize("odd", samples.ODD_VALUES)
def test_fields_of_unexpected_types_are_dropped_and_the_event_stays(odd: object) -> None:
    names = ("Geo", "Client", "OS", "Platform", "UserAgent", "Metadata", "Tag", "ReceivedAt", "OriginalLink",
             "MessageID")  # fmt: skip
    event = one("click", **dict.fromkeys(names, odd))
    assert (event.type, event.recipient) == ("clicked", "john@example.com")
    assert one("bounce", **dict.fromkeys(("Type", "Name", "ID", "Details"), odd)).type == "bounced"
    assert one("subscription_change", SuppressionReason=odd, Origin=odd).type == "unsubscribed"


@pytest.mark.parametrize("recipient", [None, "", " ", 5, ["a@example.com"], {}])
def test_an_event_without_recipient_is_poison(recipient: object) -> None:
    body = json.dumps({"RecordType": "Open", "Recipient": recipient, "Email": recipient}).encode()
    assert samples.poison(NAME, body) == [("no recipient", 0)]


def test_unknown_records_are_kept_and_received_mail_is_not_one() -> None:
    event = one("open", RecordType="ReadAloud")
    assert (event.type, event.metadata["event"]) == ("unknown", "ReadAloud")
    assert one("open", RecordType=7).type == "unknown"
    body = b'{"RecordType": "Inbound", "Recipient": "a@example.com"}'
    assert samples.poison(NAME, body) == [("a received message, not an event of a sent one", 0)]


def test_the_same_event_again_is_the_same_fact() -> None:
    body = samples.sample(NAME, "open")
    again = body.replace(b"\n", b"").replace(b'"ReadSeconds"', b'"Other"')
    assert samples.identities(NAME, body) == samples.identities(NAME, again, 1_800_000_900_000)
    other = body.replace(b"54.9070259Z", b"55.9070259Z")
    assert samples.identities(NAME, body) != samples.identities(NAME, other)
