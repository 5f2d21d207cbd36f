from __future__ import annotations

import hmac
import json
from base64 import b64encode
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import ESPS, mailgun
from app.esps.esp import NOW
from app.esps.forms import MAX_FIELDS
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

KEY, OLD_KEY = b"key-current", b"key-former"
TOKEN = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"
TIMESTAMP = "1770920772"
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/121.0.0.0 Safari/537.36"
)
FORMS = {name for name in samples.names_of("mailgun") if name.startswith("legacy_")}


def signature(key: bytes = KEY, timestamp: str = TIMESTAMP, token: str = TOKEN) -> str:
    return hmac.new(key, f"{timestamp}{token}".encode(), sha256).hexdigest()


def envelope(data: object = None, **more: object) -> bytes:
    triple = {"timestamp": TIMESTAMP, "token": TOKEN, "signature": signature(), **more}
    return json.dumps({"signature": triple, "event-data": data or {"event": "opened"}}).encode()


def urlencoded(pairs: list[list[str]]) -> bytes:
    return urlencode([(name, value) for name, value in pairs]).encode()


def multipart(pairs: list[list[str]], boundary: str = "x1y2", newline: str = "\r\n") -> bytes:
    parts = [
        f'--{boundary}{newline}Content-Disposition: form-data; name="{name}"{newline}{newline}{value}'
        for name, value in pairs
    ]
    return (newline.join([*parts, f"--{boundary}--"]) + newline).encode()


def fields(name: str) -> list[list[str]]:
    return cast(list[list[str]], samples.document("mailgun", name))


def signed_form(*pairs: list[str]) -> list[list[str]]:
    return [*pairs, ["timestamp", TIMESTAMP], ["token", TOKEN], ["signature", signature()]]


def form(**named: str) -> Event:
    pairs = [["event", "opened"], ["recipient", "a@example.com"], *map(list, named.items())]
    event = one("mailgun", urlencoded(pairs))
    assert event == one("mailgun", multipart(pairs))
    return event


def current(**data: object) -> Event:
    return one("mailgun", envelope({"event": "opened", "recipient": "a@example.com", **data}))


def refused(body: bytes, *secrets: bytes) -> None:
    with pytest.raises(RejectRequest) as caught:
        mailgun.verify(source("mailgun", *(secrets or (KEY,))), {}, body)
    assert caught.value.status == 401


# Signatures


def test_the_signature_in_the_body_is_accepted_under_any_key() -> None:
    mailgun.verify(source("mailgun", KEY), {}, envelope())
    mailgun.verify(source("mailgun", OLD_KEY, KEY), {}, envelope())
    mailgun.verify(source("mailgun", KEY), {}, envelope(timestamp=int(TIMESTAMP)))


@pytest.mark.parametrize("encode", [urlencoded, multipart])
def test_a_form_s_signature_is_accepted_and_its_last_value_counts(encode: Any) -> None:
    own = [["signature", "mine"], ["token", "mine"], ["timestamp", "then"]]
    mailgun.verify(source("mailgun", OLD_KEY, KEY), {}, encode(signed_form(*own)))
    refused(encode([*signed_form(), ["signature", "mine"]]))
    refused(encode(signed_form(*own)), OLD_KEY)
    refused(encode(signed_form()[:2]))


def test_a_subaccount_s_webhook_fits_the_main_account_s_key() -> None:
    body = envelope(**{"signature": signature(b"the subaccount's"), "parent-signature": signature()})
    mailgun.verify(source("mailgun", KEY), {}, body)
    mailgun.verify(source("mailgun", b"the subaccount's"), {}, body)
    refused(body, OLD_KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"signature": signature(OLD_KEY)},
        {"signature": signature()[:-2]},
        {"signature": ""},
        {"signature": "é" * 64},
        {"signature": "A" * 1_000_000},
        {"signature": None},
        {"signature": 5},
        {"token": TOKEN[:-1] + "4"},
        {"timestamp": "1770920773"},
        {"timestamp": 1.5},
        {"timestamp": "", "signature": signature(timestamp="")},
        {"timestamp": "-5", "signature": signature(timestamp="-5")},
        {"token": ["x"]},
        {"parent-signature": {}},
    ],
)
def test_any_other_signature_is_refused(wrong: dict[str, object]) -> None:
    refused(envelope(**wrong))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"signature":' * 50_000,
        b"{",
        b"&" * 5_000,
        b"--\r\n",
        b"\xff",
        b"--x\r\n--x",
    ],
)
def test_a_body_without_an_envelope_is_refused(body: bytes) -> None:
    refused(body)


def test_the_event_is_not_signed_so_one_token_vouches_for_one_event() -> None:
    opened, clicked = envelope({"event": "opened"}), envelope({"event": "clicked"})
    mailgun.verify(source("mailgun", KEY), {}, clicked)
    once = ESPS["mailgun"].once
    assert once is not None
    first, second = once(opened), once(clicked)
    assert first and second
    assert first.token == second.token == (TIMESTAMP + TOKEN).encode()
    assert first.digest != second.digest
    assert once(opened) == first
    assert once(b"{}") is None


def test_a_digit_moved_between_timestamp_and_token_is_the_same_token() -> None:
    moved = envelope(timestamp=TIMESTAMP[:-1], token=TIMESTAMP[-1] + TOKEN)
    mailgun.verify(source("mailgun", KEY), {}, moved)
    first, second = mailgun.once(envelope()), mailgun.once(moved)
    assert first and second
    assert first.token == second.token


def test_a_form_s_digest_is_that_of_its_fields_whatever_the_boundary() -> None:
    pairs = signed_form(["event", "opened"], ["recipient", "a@example.com"])
    digests = {once.digest for body in (
        multipart(pairs), multipart(pairs, "other"), urlencoded(pairs)
    ) if (once := mailgun.once(body))}  # fmt: skip
    assert len(digests) == 1
    for more in (["url", "https://example.com"], ["timestamp", "x" * 5_000]):
        other = mailgun.once(multipart([*pairs, more]))
        assert other
        assert other.digest not in digests


def test_an_event_beside_the_envelope_is_part_of_the_digest() -> None:
    bare = json.dumps({"signature": {"timestamp": TIMESTAMP, "token": TOKEN, "signature": signature()}})
    digests = set()
    for word in ("opened", "clicked"):
        body = f'{bare[:-1]}, "event": "{word}", "recipient": "a@example.com"}}'.encode()
        mailgun.verify(source("mailgun", KEY), {}, body)
        assert one("mailgun", body).type == word
        once = mailgun.once(body)
        assert once
        digests.add(once.digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("age_s", "taken"),
    [(0, True), (8 * 3600, True), (86_400, True), (86_401, False), (-3_600, True), (-3_601, False)],
)
def test_a_signature_is_good_for_a_day(age_s: int, taken: bool) -> None:
    headers = {NOW: b"%d" % (int(TIMESTAMP) + age_s)}
    if taken:
        mailgun.verify(source("mailgun", KEY), headers, envelope())
    else:
        with pytest.raises(RejectRequest):
            mailgun.verify(source("mailgun", KEY), headers, envelope())
    moved = envelope(timestamp=TIMESTAMP[:-1], token=TIMESTAMP[-1] + TOKEN)
    with pytest.raises(RejectRequest):
        mailgun.verify(source("mailgun", KEY), headers, moved)


@given(st.binary(max_size=300) | samples.mutations(envelope()) | samples.mutations(multipart(signed_form())))
def test_verify_raises_nothing_but_a_refusal(body: bytes) -> None:
    try:
        mailgun.verify(source("mailgun", KEY), {}, body)
    except RejectRequest:
        return
    assert mailgun.once(body)


# Events


CURRENT: dict[str, dict[str, object]] = {
    "accepted": {"type": "queued", "metadata": {}},
    "rejected": {"type": "rejected", "reason": "rejected"},
    "delivered": {"type": "delivered", "smtp_reply": "250 OK", "provider": "Gmail"},
    "failed_temporary": {
        "type": "deferred",
        "reason": "generic",
        "smtp_reply": "452 4.2.2 The email account that you tried to reach is over quota",
    },
    "failed_permanent": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "bounce",
        "smtp_reply": "550 5.1.1 The email account that you tried to reach does not exist",
    },
    "failed_old": {"type": "bounced", "bounce": "soft", "reason": "old", "smtp_reply": "Too old"},
    "failed_suppressed": {
        "type": "rejected",
        "reason": "suppress-bounce",
        "smtp_reply": "Not delivering to previously bounced address",
    },
    "opened": {
        "type": "opened",
        "ip": "198.51.100.7",
        "country": "US",
        "city": "Austin",
        "client": "Apple Mail",
        "device": "mobile",
        "user_agent": "Mozilla/5.0",
        "machine": True,
    },
    "clicked": {
        "type": "clicked",
        "link": "https://example.com/sale?id=1",
        "ip": "198.51.100.7",
        "country": "US",
        "city": "Austin",
        "device": "desktop",
        "user_agent": AGENT,
        "machine": False,
    },
    "unsubscribed": {"type": "unsubscribed", "ip": "198.51.100.7", "user_agent": "Mozilla/5.0 (iPhone)"},
    "complained": {"type": "complained", "metadata": {"campaign_id": "c1"}},
    "stored": {
        "type": "unknown",
        "metadata": {"campaign_id": "spring", "ab_subject": "a", "event": "stored"},
    },
}


@pytest.mark.parametrize("name", CURRENT)
def test_the_documentation_s_event(name: str) -> None:
    expected = {
        "recipient": "recipient@sample.mailgun.com",
        "at_ms": 1770146798373,
        "esp_event_id": "CCXMjJ7nQi2N3BPigGOdgQ",
        "message_id": "20260203192638.000be97f99f8cea1@sample.mailgun.com",
        "tags": ("webhook_payload",),
        "metadata": {"campaign_id": "spring", "ab_subject": "a"},
        **CURRENT[name],
    }
    assert samples.differences(one("mailgun", samples.sample("mailgun", name)), expected) == {}


ENGAGEMENT = {
    "ip": "198.51.100.7",
    "country": "US",
    "city": "San Francisco",
    "user_agent": AGENT,
    "device": "desktop",
    "tags": ("newsletter", "spring"),
}
MESSAGE = {"message_id": "<20130503192659.13651.20287@sample.mailgun.com>"}
LEGACY: dict[str, dict[str, object]] = {
    "legacy_delivered": {"type": "delivered", **MESSAGE},
    "legacy_opened": {"type": "opened", **ENGAGEMENT},
    "legacy_clicked": {"type": "clicked", "link": "https://example.com/?a=1&b=2", **ENGAGEMENT},
    "legacy_unsubscribed": {"type": "unsubscribed", **ENGAGEMENT},
    "legacy_complained": {"type": "complained", **MESSAGE},
    "legacy_bounced": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "bounce",
        "smtp_reply": "5.1.1 The email account that you tried to reach does not exist.",
        **MESSAGE,
    },
    "legacy_dropped": {
        "type": "rejected",
        "reason": "hardfail",
        "smtp_reply": "Not delivering to previously bounced address",
        **MESSAGE,
    },
    "legacy_dropped_old": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "old",
        "smtp_reply": "Too old",
        **MESSAGE,
    },
}


@pytest.mark.parametrize("encode", [urlencoded, multipart])
@pytest.mark.parametrize("name", LEGACY)
def test_the_documentation_s_form(name: str, encode: Any) -> None:
    expected = {
        "recipient": "alice@example.com",
        "at_ms": 1770920772000,
        "metadata": {"campaign_id": "spring", "my-var-2": "awesome"},
        **LEGACY[name],
    }
    assert samples.differences(one("mailgun", encode(fields(name))), expected) == {}


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of("mailgun") == {*CURRENT, *LEGACY}
    assert set(LEGACY) == FORMS


def test_a_dropped_form_with_a_server_s_answer_bounced() -> None:
    assert form(event="dropped", reason="hardfail", code="550").bounce == "hard"
    assert form(event="dropped", reason="hardfail", code="550").smtp_reply == "550"
    assert form(event="dropped", reason="hardfail").type == "rejected"


def test_the_hardness_of_a_failure_without_class() -> None:
    def bounce(code: object, reason: str = "generic") -> str | None:
        event = current(
            event="failed", severity="permanent", reason=reason, **{"delivery-status": {"code": code}}
        )
        return event.bounce

    assert [bounce(550), bounce(450), bounce(602), bounce(None), bounce("421"), bounce(550, "old")] == [
        "hard", "soft", "soft", "hard", "soft", "soft",
    ]  # fmt: skip


def test_the_last_value_of_a_field_counts_and_files_are_passed_over() -> None:
    pairs = [
        ["event", "mine"],
        ["recipient", "me@example.com"],
        ["event", "opened"],
        ["recipient", "a@example.com"],
    ]
    for body in (urlencoded(pairs), multipart(pairs), multipart(pairs, newline="\n")):
        assert (one("mailgun", body).type, one("mailgun", body).recipient) == ("opened", "a@example.com")
    upload = (
        b'--b\r\nContent-Disposition: form-data; name="recipient"; filename="recipient"\r\n\r\nx@example.com\r\n'
        b'--b\r\nContent-Disposition: form-data; name="recipient"\r\n\r\na@example.com\r\n--b--\r\n'
    )
    assert one("mailgun", upload).recipient == "a@example.com"
    assert one("mailgun", upload).type == "unknown"


def test_a_form_with_what_is_no_text_loses_that_field_alone() -> None:
    event = one("mailgun", b"event=opened&recipient=a%40example.com&city=%ff&x=\xff&country=US&y=%zz")
    assert (event.city, event.country) == (None, "US")
    assert event.metadata == {"y": "%zz"}


@pytest.mark.parametrize(
    "body",
    [b"", b"hello", b"recipient=", b"event=opened&recipient=+", b"--b\r\n\r\n--b--", b"a=1&" * MAX_FIELDS],
)
def test_a_form_without_recipient_is_poison_as_it_is(body: bytes) -> None:
    assert samples.poison("mailgun", body) == [("no recipient", None)]
    assert mailgun.split(body, {}) == [body]


@pytest.mark.parametrize(
    "headers", ["", "{", "[]", "[1]", '[["Message-Id"]]', "[" * 50_000, '[["Message-Id", 5]]']
)
def test_headers_that_are_no_list_of_pairs_are_dropped(headers: str) -> None:
    assert form(**{"message-headers": headers}).message_id is None


def test_fields_of_unexpected_types_are_dropped_and_the_event_stays() -> None:
    names = ("timestamp", "id", "message", "url", "ip", "client-info", "geolocation", "reason", "delivery-status",
             "recipient-provider", "tags", "user-variables", "campaigns", "severity")  # fmt: skip
    for value in ODD_VALUES:
        for word in ("failed", "opened"):
            event = current(event=word, **dict.fromkeys(names, value))
            assert event.recipient == "a@example.com"
            assert event.machine is None
            assert event.message_id is None
        inner = dict.fromkeys(
            ("bot", "device-type", "client-name", "user-agent", "country", "code", "id"), value
        )
        current(**dict.fromkeys(("client-info", "geolocation", "delivery-status"), inner), campaigns=[inner])
    assert current(event=["opened"]).type == "unknown"


@pytest.mark.parametrize("recipient", [None, "", " ", 5, ["a@example.com"]])
def test_an_event_without_recipient_is_poison_and_can_be_sent_again(recipient: object) -> None:
    body = envelope({"event": "opened", "recipient": recipient})
    assert samples.poison("mailgun", body) == [("no recipient", 0)]
    (item,) = mailgun.parse(body, {})
    assert isinstance(item, Poison)
    assert mailgun.split(body, {}) == [item.raw]
    assert samples.repaired("mailgun", item, "event-data", "recipient").recipient == "b@example.com"


def test_event_data_that_is_no_object_is_poison() -> None:
    assert samples.poison("mailgun", b'{"signature":{},"event-data":[]}') == [("no event-data", 0)]


@pytest.mark.parametrize("name", ["clicked", "legacy_clicked"])
def test_a_webhook_that_is_sent_again_is_the_same_fact(name: str) -> None:
    if name in FORMS:
        first, again = multipart(fields(name)), multipart(fields(name), "another")
    else:
        first = samples.sample("mailgun", name)
        again = first.replace(TOKEN.encode(), b"another token").replace(
            b"CCXMjJ7nQi2N3BPigGOdgQ", b"another id"
        )
    assert first != again
    assert identities("mailgun", first) == identities("mailgun", again, RECEIVED_MS + 3_600_000)


# Any bytes

NAMES = st.sampled_from(
    ["event", "recipient", "timestamp", "severity", "reason", "delivery-status", "client-info", "geolocation", "tags",
     "user-variables", "message", "campaigns", "event-data"]
)  # fmt: skip


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=8) | JSON_VALUES)
def test_any_event_gives_an_event_or_poison(data: object) -> None:
    body = json.dumps({"event-data": data}, allow_nan=False).encode()
    check_promises("mailgun", body)
    assert len(mailgun.parse(body, {})) == 1


def test_a_password_beside_the_key_is_needed_too() -> None:
    both = source("mailgun", KEY, basic=(b"user:word",))
    with pytest.raises(RejectRequest):
        mailgun.verify(both, {}, envelope())
    mailgun.verify(both, {b"authorization": b"Basic " + b64encode(b"user:word")}, envelope())
    with pytest.raises(RejectRequest):
        mailgun.verify(source("mailgun"), {}, envelope())
    mailgun.verify(source("mailgun", insecure=True), {}, b"")
