from __future__ import annotations

import hmac
import json
from base64 import b64encode
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps.esp import NOW
from app.esps.resend import ESP, ID, SIGNATURE, TIMESTAMP, WINDOW_S
from app.facts import Event
from app.settings import Settings
from tests.support.intake import context, intake_app, organisations, serving
from tests.support.samples import (
    check_promises,
    identities,
    is_refused,
    names_of,
    poison,
    read,
    sample,
    source,
)

NAME = "resend"
KEY = b"twenty-four bytes of key"
OLD_KEY = b"twenty-four bytes before"
SECRET = b"whsec_" + b64encode(KEY)
OLD_SECRET = b"whsec_" + b64encode(OLD_KEY)
AT = 1_795_166_150
BODY = sample(NAME, "email_clicked")
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.6 Safari/605.1.15"
)


def signature(key: bytes, body: bytes, at: int = AT, message_id: bytes = b"msg_1") -> bytes:
    return b64encode(hmac.digest(key, b"%b.%d.%b" % (message_id, at, body), sha256))


def signed(*keys: bytes, body: bytes = BODY, at: int = AT, now: int = AT) -> dict[bytes, bytes]:
    signatures = b" ".join(b"v1," + signature(key, body, at) for key in keys)
    return {ID: b"msg_1", TIMESTAMP: b"%d" % at, SIGNATURE: signatures, NOW: b"%d" % now}


def refused(headers: dict[bytes, bytes], body: bytes = BODY, *secrets: bytes) -> bool:
    return is_refused(source(NAME, *(secrets or (SECRET,))), headers, body)


# Signatures


def test_a_signature_over_id_timestamp_and_raw_body_is_accepted() -> None:
    assert not refused(signed(KEY))
    assert not refused(signed(KEY), BODY, b64encode(KEY)), "a secret without its prefix"


def test_while_a_secret_changes_any_signature_fits_any_secret() -> None:
    assert not refused(signed(KEY), BODY, OLD_SECRET, b"no secret!", SECRET)
    assert not refused(signed(OLD_KEY, KEY))
    headers = signed(KEY)
    headers[SIGNATURE] = b"v1a,abc v1,\xc3\xa9 v1, v2," + signature(KEY, BODY) + b"  " + headers[SIGNATURE]
    assert not refused(headers)


def test_another_version_s_signature_does_not_count() -> None:
    headers = signed(KEY)
    headers[SIGNATURE] = headers[SIGNATURE].replace(b"v1,", b"v1a,")
    assert refused(headers)


@pytest.mark.parametrize("late_s", [-WINDOW_S - 1, WINDOW_S + 1, 86_400, -AT])
def test_a_timestamp_that_is_minutes_away_is_refused(late_s: int) -> None:
    assert refused(signed(KEY, now=AT + late_s))


@pytest.mark.parametrize("late_s", [-WINDOW_S, 0, WINDOW_S])
def test_a_timestamp_within_the_window_is_accepted(late_s: int) -> None:
    assert not refused(signed(KEY, now=AT + late_s))


@pytest.mark.parametrize("missing", [ID, TIMESTAMP, SIGNATURE, NOW])
def test_a_missing_header_is_refused(missing: bytes) -> None:
    headers = signed(KEY)
    del headers[missing]
    assert refused(headers)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"garbage",
        b"v1,a,b",
        b"v1,",
        "v1,é".encode(),
        b"v1," + signature(OLD_KEY, BODY),
        b"v1," + signature(KEY, BODY)[:-4],
        b"v1," + signature(KEY, BODY).rstrip(b"="),
        b"v1," + signature(KEY, BODY) + b"\n",
        signature(KEY, BODY),
        b"v1," * 400_000,
    ],
)
def test_any_other_signature_is_refused(given: bytes) -> None:
    assert refused({**signed(KEY), SIGNATURE: given})


@pytest.mark.parametrize(
    "at", [b"", b"-1", b"1e9", b" 1795166150", b"1795166150.0", b"\xef\xbc\x91", b"9" * 5_000]
)
def test_a_timestamp_that_is_no_number_is_refused(at: bytes) -> None:
    assert refused({**signed(KEY), TIMESTAMP: at})


def test_another_body_id_or_time_is_refused() -> None:
    assert refused(signed(KEY), BODY + b" ")
    assert refused({**signed(KEY), ID: b"msg_2"})
    assert refused({**signed(KEY), TIMESTAMP: b"%d" % (AT + 1)})
    assert refused({**signed(KEY), ID: b""})
    assert refused({**signed(KEY), ID: b"x" * 100_000})


def test_without_anything_to_check_nothing_is_taken_unless_the_source_says_insecure() -> None:
    assert is_refused(source(NAME), signed(KEY), BODY)
    assert not is_refused(source(NAME, insecure=True), {}, BODY)
    both = source(NAME, SECRET, basic=(b"user:word",))
    assert is_refused(both, signed(KEY), BODY)
    assert not is_refused(both, {**signed(KEY), b"authorization": b"Basic dXNlcjp3b3Jk"}, BODY)


@given(st.binary(max_size=80), st.binary(max_size=20), st.binary(max_size=120), st.binary(max_size=40))
def test_verify_raises_nothing_but_a_refusal(name: bytes, at: bytes, given_: bytes, secret: bytes) -> None:
    headers = {ID: name, TIMESTAMP: at, SIGNATURE: given_, NOW: b"%d" % AT}
    assert refused(headers, BODY, SECRET, secret)


class Taking:
    """Stands where webhooks are stored, and stores none."""

    async def send(self, topic: str, value: bytes, headers: object, partition: int | None = None) -> None:
        pass


async def test_the_api_s_clock_is_the_one_that_counts_whatever_the_request_says() -> None:
    found = organisations(source(NAME, SECRET))
    parts = context(Settings(), found, Taking())  # type: ignore[arg-type]
    parts.clock = lambda: AT + 0.9
    statuses = []
    async with (
        serving(intake_app(parts)) as base,
        httpx.AsyncClient(base_url=base, timeout=20, verify=False) as client,
    ):
        for at in (AT, AT - WINDOW_S, AT - WINDOW_S - 1):
            headers = {
                name.decode(): value.decode() for name, value in signed(KEY, at=at).items() if name != NOW
            }
            answer = await client.post("/webhooks/acme/news", content=BODY, headers=headers)
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 401]


def test_a_secret_that_is_none() -> None:
    assert ESP.unusable(SECRET) is None
    for wrong in (b"whsec_", b"whsec_!!!", b"re_123"):
        assert "of Resend" in (ESP.unusable(wrong) or "")


# Events

EXPECTED: dict[str, dict[str, object]] = {
    "email_sent": {"type": "queued"},
    "email_delivered": {"type": "delivered"},
    "email_delivery_delayed": {"type": "deferred"},
    "email_bounced": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "NoEmail",
        "smtp_reply": "smtp; 550 5.1.1 no mailbox of that name",
    },
    "email_suppressed": {"type": "rejected", "reason": "OnAccountSuppressionList"},
    "email_failed": {"type": "failed", "reason": "reached_daily_quota"},
    "email_opened": {"type": "opened"},
    "email_clicked": {
        "type": "clicked",
        "link": "https://acme.example/spring",
        "ip": "192.0.2.7",
        "user_agent": AGENT,
        "at_ms": 1_795_172_577_163,
    },
    "email_complained": {"type": "complained"},
    "email_scheduled": {
        "type": "unknown",
        "metadata": {
            "broadcast_id": "5c1f9d9e-3f0c-4d0b-9d5e-0c3a5f1f7c11",
            "template_id": "b1d5c9f2-2f7e-4b8e-9c36-0d7c3f7e2a10",
            "campaign_id": "spring",
            "event": "email.scheduled",
        },
    },
}
NO_RECIPIENT = {
    "email_received": "email.received: not about a sent message",
    "contact_updated": "contact.updated: not about a sent message",
    "domain_updated": "domain.updated: not about a sent message",
}
COMMON = Event(
    type="",
    recipient="ann@example.com",
    at_ms=1_795_166_142_126,
    esp_event_id="msg_1",
    message_id="0f7d2a7e-6a55-4be4-8a0a-7f2f6c0b9a41",
    metadata={
        "broadcast_id": "5c1f9d9e-3f0c-4d0b-9d5e-0c3a5f1f7c11",
        "template_id": "b1d5c9f2-2f7e-4b8e-9c36-0d7c3f7e2a10",
        "campaign_id": "spring",
    },
)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_event_field_by_field(name: str) -> None:
    (event,) = read(NAME, sample(NAME, f"{name}"), {"svix-id": "msg_1"})
    for field in Event.__struct_fields__:
        assert getattr(event, field) == EXPECTED[name].get(field, getattr(COMMON, field)), field


def test_no_sample_is_forgotten() -> None:
    assert names_of(NAME) == {*EXPECTED, *NO_RECIPIENT}


@pytest.mark.parametrize("name", NO_RECIPIENT)
def test_what_is_not_about_a_sent_message_is_a_dead_letter(name: str) -> None:
    assert poison(NAME, sample(NAME, f"{name}")) == [(NO_RECIPIENT[name], 0)]


def one(word: str = "email.opened", **data: object) -> Event:
    item = {"type": word, "created_at": "2026-11-20T09:15:42Z", "data": {"to": ["ann@example.com"], **data}}
    (event,) = read(NAME, json.dumps(item).encode())
    return event


def test_each_recipient_is_an_event_and_a_body_of_its_own() -> None:
    item = {"type": "email.sent", "data": {"to": ["a@example.com", "Bo <b@example.com>", 5, "c@example.com"]}}
    body = json.dumps(item).encode()
    found = [item.recipient if isinstance(item, Event) else item.reason for item in ESP.parse(body, {})]
    assert found == ["a@example.com", "b@example.com", "no recipient", "c@example.com"]
    check_promises(NAME, body)


@pytest.mark.parametrize(
    ("to", "recipient"),
    [
        ("ann@example.com", "ann@example.com"),
        (["Ann <Lee> <ann@example.com>"], "ann@example.com"),
        (["ann@example.com "], "ann@example.com "),
    ],
)
def test_an_address_in_its_shapes(to: object, recipient: str) -> None:
    assert one(to=to).recipient == recipient


@pytest.mark.parametrize("to", [None, [], {}, 5, "", " ", ["<>"], [None], [["a@example.com"]]])
def test_without_a_recipient_it_is_a_dead_letter(to: object) -> None:
    body = json.dumps({"type": "email.sent", "data": {"to": to}}).encode()
    assert poison(NAME, body) == [("no recipient", 0)]


@pytest.mark.parametrize(
    ("bounce", "expected"),
    [
        ({"type": "Permanent"}, "hard"),
        ({"type": "Transient", "subType": "MailboxFull"}, "soft"),
        ({"type": "Undetermined"}, "soft"),
        ({}, "hard"),
        (["x"], "hard"),
    ],
)
def test_hard_and_soft_bounces(bounce: object, expected: str) -> None:
    assert one("email.bounced", bounce=bounce).bounce == expected


def test_tags_are_metadata_in_both_shapes() -> None:
    assert one(tags={"a": "1", "b": 2, "c": None}).metadata == {"a": "1", "b": "2"}
    assert one(tags=[{"name": "a", "value": "1"}, {"name": 5, "value": "x"}, "c"]).metadata == {"a": "1"}


def test_a_broadcast_is_the_campaign_unless_a_tag_names_one() -> None:
    assert one(broadcast_id="b").metadata == {"broadcast_id": "b", "campaign_id": "b"}
    assert one(broadcast_id="b", tags={"campaign_id": "c"}).metadata["campaign_id"] == "c"


def test_a_time_before_1970_by_its_first_millisecond_is_none() -> None:
    body = json.dumps({"type": "email.sent", "created_at": 1e-9, "data": {"to": ["a@example.com"]}}).encode()
    assert [event.at_ms for event in read(NAME, body)] == [None]


def test_an_unknown_type_is_kept_with_its_name() -> None:
    event = one("email.read_aloud")
    assert (event.type, event.metadata) == ("unknown", {"event": "email.read_aloud"})


def test_the_same_event_sent_again_is_the_same_fact_also_without_its_headers() -> None:
    first = identities(NAME, BODY, headers={"svix-id": "msg_1"})
    assert identities(NAME, BODY, 1_795_290_000_000, {"svix-id": "msg_1"}) == first
    assert identities(NAME, BODY) == first
    later = BODY.replace(b"11:02:57.163Z", b"11:02:57.164Z")
    assert identities(NAME, later) != first
