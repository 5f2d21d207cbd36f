from __future__ import annotations

import hmac
import json
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import documents, mailersend
from app.facts import Event, Poison
from tests.support import samples
from tests.support.samples import (
    JSON_VALUES,
    ODD_VALUES,
    RECEIVED_MS,
    check_promises,
    identities,
    one,
    source,
)

KEY, OLD_KEY, PUBLIC_KEY = b"key-current", b"key-former", mailersend.PUBLIC_KEY
BODY = samples.sample("mailersend", "opened")
TEST = samples.sample("mailersend", "webhook_test")
IDS = {
    "domain_id": "yv69oxl5kl785kw2",
    "email_id": "6892766a8d52ba62543d5e71",
}


def signed(body: bytes, key: bytes = KEY) -> dict[bytes, bytes]:
    return {b"signature": hmac.new(key, body, sha256).hexdigest().encode()}


def refused(headers: dict[bytes, bytes], body: bytes, *secrets: bytes) -> None:
    with pytest.raises(RejectRequest) as caught:
        mailersend.verify(source("mailersend", *(secrets or (KEY,))), headers, body)
    assert caught.value.status == 401


def event_of(word: object = "activity.opened", **data: object) -> Event:
    item = {"type": word, "created_at": "2025-08-05T21:23:54Z", "data": {"email": "a@example.com", **data}}
    return one("mailersend", json.dumps(item).encode())


# Signatures


def test_a_signature_over_the_raw_body_is_accepted_under_any_key() -> None:
    mailersend.verify(source("mailersend", KEY), signed(BODY), BODY)
    mailersend.verify(source("mailersend", OLD_KEY, KEY), signed(BODY), BODY)
    escaped = b'{"type":"activity.opened","url":"https:\\/\\/example.com"}'
    mailersend.verify(source("mailersend", KEY), signed(escaped), escaped)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"0" * 64,
        b"z" * 64,
        "é".encode() * 32,
        signed(BODY, OLD_KEY)[b"signature"],
        signed(BODY)[b"signature"][:-2],
        signed(BODY)[b"signature"] + b"\n",
        b"sha256=" + signed(BODY)[b"signature"],
        b"A" * 1_000_000,
    ],
)
def test_any_other_signature_is_refused(signature: bytes) -> None:
    refused({b"signature": signature}, BODY)


def test_a_missing_signature_and_another_body_are_refused() -> None:
    refused({}, BODY)
    refused(signed(BODY), BODY + b" ")


def test_a_source_without_anything_to_check_takes_nothing_unless_it_says_insecure() -> None:
    with pytest.raises(RejectRequest):
        mailersend.verify(source("mailersend"), signed(BODY), BODY)
    mailersend.verify(source("mailersend", insecure=True), {}, BODY)
    both = source("mailersend", KEY, basic=(b"user:word",))
    with pytest.raises(RejectRequest):
        mailersend.verify(both, signed(BODY), BODY)
    mailersend.verify(both, {**signed(BODY), b"authorization": b"Basic " + b64encode(b"user:word")}, BODY)


def test_the_address_s_test_is_taken_under_the_public_key_and_is_no_event() -> None:
    mailersend.verify(source("mailersend", KEY), signed(TEST, PUBLIC_KEY), TEST)
    mailersend.verify(source("mailersend", KEY), signed(TEST), TEST)
    refused(signed(TEST, OLD_KEY), TEST)
    assert mailersend.parse(TEST, {}) == []
    assert mailersend.split(TEST, {}) == []


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        b"[" + BODY + b"]",
        b"[" + TEST + b"," + BODY + b"]",
        b'{"type":"activity.opened","type":"webhook.test"}',
        b'{"type":"webhook.test","type":"activity.opened"}',
        b'{"type":["webhook.test"]}',
        b'{"type":"webhook.test"}' + b" " * 5_000,
        b'{"type":"webhook.test"',
        b'"webhook.test"',
        b"[]",
        b"",
    ],
)
def test_the_public_key_vouches_for_nothing_else(body: bytes) -> None:
    refused(signed(body, PUBLIC_KEY), body)
    refused(signed(body, PUBLIC_KEY), body, PUBLIC_KEY)


def test_a_test_with_an_event_in_it_is_no_event() -> None:
    body = json.dumps({**json.loads(BODY), "type": "webhook.test"}).encode()
    mailersend.verify(source("mailersend", KEY), signed(body, PUBLIC_KEY), body)
    assert mailersend.parse(body, {}) == []


def test_the_key_that_everybody_knows_is_none() -> None:
    assert mailersend.unusable(KEY) is None
    assert "documentation" in (mailersend.unusable(PUBLIC_KEY) or "")


@given(st.binary(max_size=80) | st.binary(min_size=64, max_size=64), st.binary(max_size=100))
def test_verify_raises_nothing_but_a_refusal(signature: bytes, body: bytes) -> None:
    refused({b"signature": signature}, body)


@given(samples.mutations(TEST))
def test_what_the_public_key_lets_in_gives_no_event(body: bytes) -> None:
    try:
        mailersend.verify(source("mailersend", KEY), signed(body, PUBLIC_KEY), body)
    except RejectRequest:
        return
    assert mailersend.parse(body, {}) == []


# Events


WHERE = {"ip": "198.51.100.7", "user_agent": "Mozilla/5.0 (iPhone)"}
LINK = {**WHERE, "link": "https://example.com/sale"}
VERSION_2: dict[str, dict[str, object]] = {
    "sent": {"type": "sent"},
    "delivered": {"type": "delivered"},
    "deferred": {"type": "deferred", "reason": "421 4.7.0", "smtp_reply": "421 4.7.0 try again later"},
    "soft_bounced": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "452 4.2.2",
        "smtp_reply": "452 4.2.2 mailbox full",
    },
    "hard_bounced": {"type": "bounced", "bounce": "hard", "reason": "Host or domain name not found"},
    "opened": {"type": "opened", **WHERE},
    "opened_unique": {"type": "opened", **WHERE},
    "clicked": {"type": "clicked", **LINK},
    "clicked_unique": {"type": "clicked", **LINK},
    "unsubscribed": {"type": "unsubscribed", "reason": "I never signed up for this"},
    "spam_complaint": {"type": "complained"},
    "survey_opened": {"type": "unknown", "metadata": {**IDS, "event": "activity.survey_opened"}},
    "survey_submitted": {
        "type": "unknown",
        "metadata": {**IDS, "event": "activity.survey_submitted", "survey": "s1"},
    },
}
VERSION_1: dict[str, dict[str, object]] = {
    "v1_sent": {"type": "sent"},
    "v1_opened": {"type": "opened", "ip": "198.51.100.7"},
    "v1_clicked": {"type": "clicked", "ip": "198.51.100.7", "link": "https://example.com/sale"},
    "v1_hard_bounced": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "550 5.1.1",
        "smtp_reply": "550 5.1.1 no such user",
    },
}
OF_THE_ACCOUNT = ("sender_identity_verified", "maintenance_start")


@pytest.mark.parametrize("name", VERSION_2)
def test_the_documentation_s_event_of_version_2(name: str) -> None:
    expected = {
        "recipient": "test@example.com",
        "at_ms": 1754429034000,
        "esp_event_id": "6892766a5b66e2daf3dc9155",
        "message_id": "6892766ae78995a317577aa1",
        "tags": ("test", "test2"),
        "metadata": IDS,
        **VERSION_2[name],
    }
    assert samples.differences(one("mailersend", samples.sample("mailersend", name)), expected) == {}


@pytest.mark.parametrize("name", VERSION_1)
def test_the_documentation_s_event_of_version_1(name: str) -> None:
    expected = {
        "recipient": "test@example.com",
        "at_ms": 1606471686258,
        "esp_event_id": "5fc0d006b42c3e16e1774882",
        "message_id": "5fc0d003f718c90162341852",
        "metadata": {"domain_id": "yv69oxl5kl785kw2", "template_id": "7nxe3yjmeq28vp0k"},
        **VERSION_1[name],
    }
    assert samples.differences(one("mailersend", samples.sample("mailersend", name)), expected) == {}


@pytest.mark.parametrize("name", OF_THE_ACCOUNT)
def test_what_is_about_the_account_is_no_recipient_s(name: str) -> None:
    body = samples.sample("mailersend", name)
    assert samples.poison("mailersend", body) == [("about the account, not a recipient", 0)]


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of("mailersend") == {*VERSION_2, *VERSION_1, *OF_THE_ACCOUNT, "webhook_test"}


def test_an_unknown_activity_is_kept_with_its_name() -> None:
    assert event_of("activity.read_aloud").metadata == {"event": "activity.read_aloud"}
    assert event_of(7).type == "unknown"


@pytest.mark.parametrize("email", [None, "", " ", 5, [], {}, {"recipient": {}}, {"recipient": {"email": 5}}])
def test_an_event_without_recipient_is_poison_and_can_be_sent_again(email: object) -> None:
    body = json.dumps({"type": "activity.sent", "data": {"email": email}}).encode()
    (bad,) = mailersend.parse(body, {})
    assert isinstance(bad, Poison)
    assert (bad.reason, bad.index) == ("no recipient", 0)
    assert samples.repaired("mailersend", bad, "data", "email").recipient == "b@example.com"


def test_broken_bodies_are_poison() -> None:
    assert samples.poison("mailersend", b"") == [(documents.NOT_JSON, None)]
    assert samples.poison("mailersend", b'{"type":"activity.sent","data":[]}') == [("no recipient", 0)]


def test_fields_of_unexpected_types_are_dropped_and_the_event_stays() -> None:
    names = (
        "id",
        "created_at",
        "message_id",
        "tags",
        "morph",
        "meta",
        "domain_id",
        "template_id",
        "email_id",
    )
    inner = ("ip", "url", "user_agent", "reason", "readable_reason", "x")
    for value in ODD_VALUES:
        for word in ("activity.hard_bounced", "activity.clicked"):
            assert event_of(word, **dict.fromkeys(names, value)).recipient == "a@example.com"
            event_of(word, meta=dict.fromkeys(inner, value))
            email = {"recipient": {"email": "a@example.com"}, "message": value, "tags": value}
            assert event_of(word, email=email, morph=dict.fromkeys(inner, value)).recipient == "a@example.com"


def test_a_webhook_that_is_sent_again_is_the_same_fact() -> None:
    body = samples.sample("mailersend", "v1_clicked")
    again = body.replace(b"2020-11-27T10:08:08.298647Z", b"2020-11-27T11:08:08.298647Z")
    assert again != body
    assert identities("mailersend", body) == identities("mailersend", again, RECEIVED_MS + 259_200_000)


def test_the_first_open_reported_under_both_names_is_one_fact() -> None:
    first = identities("mailersend", samples.sample("mailersend", "opened"))
    assert first == identities("mailersend", samples.sample("mailersend", "opened_unique"))


# Any bytes

NAMES = st.sampled_from(
    ["id", "created_at", "email", "message_id", "tags", "morph", "meta", "template_id", "type"]
)


@given(
    st.sampled_from(["activity.sent", "activity.clicked", "activity.x", "sms.sent", "webhook.test"])
    | JSON_VALUES,
    st.dictionaries(NAMES, JSON_VALUES, max_size=8) | JSON_VALUES,
)
def test_any_event_gives_an_event_or_poison(word: object, data: object) -> None:
    body = json.dumps({"type": word, "data": data}, allow_nan=False).encode()
    check_promises("mailersend", body)
    assert len(mailersend.parse(body, {})) == (word != "webhook.test")
