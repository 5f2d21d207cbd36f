from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import documents, sendgrid
from app.facts import TYPE_NUMBERS, Event, Poison
from app.organisations import Source
from app.topics import MAX_EVENTS
from tests.support.intake import SendgridKey
from tests.support.samples import BROKEN_MEMBERS

SAMPLES = Path(__file__).parent / "samples" / "sendgrid"
AGENT = "Mozilla/4.0 (compatible; MSIE 6.1; Windows XP; .NET CLR 1.1.4322; .NET CLR 2.0.50727)"

KEY = SendgridKey()
OLD_KEY = SendgridKey()
BODY = b'[{"email":"a@example.com","event":"open","timestamp":1790000000}]'


def source(*secrets: bytes, **more: object) -> Source:
    return msgspec.structs.replace(Source(org="acme", name="news", esp="sendgrid", secrets=secrets), **more)


def wire(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in headers.items()}


def parse(body: bytes) -> list[Event | Poison]:
    return sendgrid.parse(body, {})


def events(body: bytes) -> list[Event]:
    return [item for item in parse(body) if isinstance(item, Event)]


def poison(body: bytes) -> list[tuple[str, int | None]]:
    return [(item.reason, item.index) for item in parse(body) if isinstance(item, Poison)]


def one(**fields: object) -> Event:
    item = {"email": "a@example.com", "event": "open", "timestamp": 1790000000, **fields}
    (event,) = parse(msgspec.json.encode([item]))
    assert isinstance(event, Event)
    return event


# Signatures


def test_a_signature_over_timestamp_and_raw_body_is_accepted() -> None:
    sendgrid.verify(source(KEY.public), wire(KEY.headers(BODY)), BODY)


def test_any_of_several_keys_fits_and_one_that_is_no_key_is_passed_over() -> None:
    sendgrid.verify(source(OLD_KEY.public, b"no key", KEY.public), wire(KEY.headers(BODY)), BODY)


def test_a_key_may_be_pem() -> None:
    lines = KEY.public.decode()
    pem = f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n".encode()
    sendgrid.verify(source(pem), wire(KEY.headers(BODY)), BODY)


SIGNATURE = sendgrid.SIGNATURE
TIMESTAMP = sendgrid.TIMESTAMP


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"AAAA",
        b"not base64 at all",
        "é".encode(),
        b"=" * 8,
        b"A" * 1_000_000,
        OLD_KEY.headers(BODY)["X-Twilio-Email-Event-Webhook-Signature"].encode(),
        KEY.headers(BODY)["X-Twilio-Email-Event-Webhook-Signature"].encode()[:-8],
        KEY.headers(BODY)["X-Twilio-Email-Event-Webhook-Signature"].encode() + b"\n!",
    ],
)
def test_any_other_signature_is_refused(signature: bytes) -> None:
    headers = {**wire(KEY.headers(BODY)), SIGNATURE: signature}
    with pytest.raises(RejectRequest) as refused:
        sendgrid.verify(source(KEY.public), headers, BODY)
    assert refused.value.status == 401


@pytest.mark.parametrize("missing", [SIGNATURE, TIMESTAMP])
def test_a_missing_header_is_refused(missing: bytes) -> None:
    headers = wire(KEY.headers(BODY))
    del headers[missing]
    with pytest.raises(RejectRequest):
        sendgrid.verify(source(KEY.public), headers, BODY)


def test_another_body_and_another_timestamp_are_refused() -> None:
    headers = wire(KEY.headers(BODY))
    with pytest.raises(RejectRequest):
        sendgrid.verify(source(KEY.public), headers, BODY + b" ")
    with pytest.raises(RejectRequest):
        sendgrid.verify(source(KEY.public), {**headers, TIMESTAMP: b"1790000001"}, BODY)


def test_a_source_without_anything_to_check_takes_nothing_unless_it_says_insecure() -> None:
    with pytest.raises(RejectRequest):
        sendgrid.verify(source(), wire(KEY.headers(BODY)), BODY)
    sendgrid.verify(source(insecure=True), {}, BODY)


def test_a_password_beside_the_key_is_needed_too() -> None:
    both = source(KEY.public, basic=(b"user:word",))
    with pytest.raises(RejectRequest):
        sendgrid.verify(both, wire(KEY.headers(BODY)), BODY)
    sendgrid.verify(both, {**wire(KEY.headers(BODY)), b"authorization": b"Basic dXNlcjp3b3Jk"}, BODY)
    alone = source(basic=(b"other:word", b"user:word"))
    sendgrid.verify(alone, {b"authorization": b"basic dXNlcjp3b3Jk"}, BODY)
    for header in (b"", b"Basic", b"Basic dXNlcjp3b3Jl", b"Basic !", b"Bearer user:word", b"Basic \xff"):
        with pytest.raises(RejectRequest):
            sendgrid.verify(alone, {b"authorization": header}, BODY)


@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(max_size=100), st.binary(max_size=200))
def test_verify_raises_nothing_but_a_refusal(
    signature: bytes, stamp: bytes, body: bytes, secret: bytes
) -> None:
    with pytest.raises(RejectRequest):
        sendgrid.verify(source(KEY.public, secret), {SIGNATURE: signature, TIMESTAMP: stamp}, body)


def test_a_secret_that_is_no_key() -> None:
    assert sendgrid.unusable(KEY.public) is None
    assert "of SendGrid" in (sendgrid.unusable(b64decode(KEY.public)[:20]) or "")


# Events


EXPECTED: dict[str, dict[str, object]] = {
    "processed": {"type": "queued"},
    "delivered": {"type": "delivered", "smtp_reply": "250 OK", "reason": None},
    "deferred": {"type": "deferred", "smtp_reply": "400 try again later"},
    "bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "Invalid Address",
        "smtp_reply": "500 unknown recipient",
    },
    "blocked": {"type": "bounced", "bounce": "soft", "reason": "Invalid Address"},
    "dropped": {"type": "rejected", "reason": "Bounced Address", "bounce": None},
    "open": {"type": "opened", "machine": False, "ip": "255.255.255.255", "user_agent": AGENT},
    "click": {
        "type": "clicked",
        "link": "http://example.com/blog/news.html",
        "position": 1,
        "tags": ("category1", "category2"),
        "recipient": "email@example.com",
        "at_ms": 1249948800000,
        "metadata": {
            "unique_arg_key": "unique_arg_value",
            "asm_group_id": "1",
            "newsletter_user_list_id": "10557865",
            "newsletter_id": "1943530",
            "newsletter_send_id": "2308608",
        },
    },
    "spamreport": {"type": "complained", "tags": ()},
    "unsubscribe": {"type": "unsubscribed"},
    "group_unsubscribe": {
        "type": "unsubscribed",
        "ip": "255.255.255.255",
        "metadata": {"asm_group_id": "10"},
    },
    "group_resubscribe": {"type": "subscribed"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_documentation_s_example(name: str) -> None:
    (event,) = parse((SAMPLES / f"{name}.json").read_bytes())
    assert isinstance(event, Event)
    sample = json.loads((SAMPLES / f"{name}.json").read_text())[0]
    assert event.recipient == sample["email"]
    assert event.at_ms == sample["timestamp"] * 1000
    assert event.esp_event_id == sample["sg_event_id"]
    assert event.message_id == sample["sg_message_id"].strip()
    assert event.event_id is None, "SendGrid's id changes when it sends again"
    assert {field: getattr(event, field) for field in EXPECTED[name]} == EXPECTED[name]


def test_no_sample_is_forgotten() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == {*EXPECTED, "account_status_change"}


def test_an_account_s_event_is_no_recipient_s() -> None:
    body = (SAMPLES / "account_status_change.json").read_bytes()
    assert poison(body) == [("about the account, not a recipient", 0)]


def test_the_sending_address_of_a_delivery_is_not_the_recipient_s() -> None:
    assert one(event="delivered", ip="192.0.2.1").ip is None
    assert one(event="click", ip="192.0.2.1").ip == "192.0.2.1"


def test_an_unknown_type_is_kept_with_its_name() -> None:
    event = one(event="read_aloud", extra="x")
    assert event.type == "unknown"
    assert event.metadata == {"event": "read_aloud", "extra": "x"}
    assert one(event=7).type == "unknown"


@pytest.mark.parametrize("email", [None, "", "  ", 5, ["a@example.com"], {}])
def test_an_event_without_recipient_is_poison_and_can_be_sent_again(email: object) -> None:
    good = {"email": "a@example.com", "event": "open", "timestamp": 1}
    body = msgspec.json.encode([good, {**good, "email": email}, good])
    result = parse(body)
    assert [type(item) for item in result] == [Event, Poison, Event]
    bad = result[1]
    assert isinstance(bad, Poison)
    assert (bad.reason, bad.index) == ("no recipient", 1)
    mended = bad.raw.replace(msgspec.json.encode({"email": email})[1:-1], b'"email":"b@example.com"')
    assert [event.recipient for event in events(mended)] == ["b@example.com"]


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        (1790000000, 1790000000000),
        (1790000000123, 1790000000123),
        (1790000000123456, 1790000000123),
        (1790000000.25, 1790000000250),
        ("1790000000", 1790000000000),
        (" 1790000000.5 ", 1790000000500),
        ("2026-09-21T13:33:20Z", 1789997600000),
        ("2026-09-21 15:33:20+02:00", 1789997600000),
        (0, None),
        (-5, None),
        (None, None),
        ("soon", None),
        ("1" * 60, None),
        ("9999-99-99T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        (1e300, None),
        (10**30, None),
        (True, None),
        ([1790000000], None),
    ],
)
def test_times_in_all_their_shapes(timestamp: object, at_ms: int | None) -> None:
    assert one(timestamp=timestamp).at_ms == at_ms


def test_fields_of_unexpected_types_are_dropped_and_the_event_stays() -> None:
    odd: list[object] = [None, 5, 1.5, True, [], {}, [{}], {"a": []}]
    for value in odd:
        names = (
            "ip",
            "useragent",
            "url",
            "reason",
            "response",
            "sg_event_id",
            "sg_message_id",
            "category",
            "type",
        )
        event = one(event="click", url_offset=value, **dict.fromkeys(names, value), sg_machine_open="yes")
        assert event.recipient == "a@example.com"
        assert event.machine is None
        assert event.link is None
        assert event.ip is None


def test_position_counts_from_one_in_both_shapes_of_the_documentation() -> None:
    assert one(event="click", url_offset={"index": 4, "type": "html"}).position == 5
    assert one(event="click", url_offset=4).position == 5
    assert one(event="click", url_offset={"index": -1}).position is None


def test_arguments_are_metadata_nested_or_not() -> None:
    event = one(
        campaign_id="spring", run=7, vip=True, share=0.5, unique_args={"a": "1"}, custom_args={"b": 2}, c=[1]
    )
    assert event.metadata == {
        "campaign_id": "spring",
        "run": "7",
        "vip": "true",
        "share": "0.5",
        "a": "1",
        "b": "2",
    }


def test_one_object_stands_for_a_list_of_one() -> None:
    assert len(events(BODY[1:-1])) == 1
    assert len(events(b"\xef\xbb\xbf" + BODY)) == 1


# Broken bodies

GOOD = b'{"email":"a@example.com","event":"open","timestamp":1790000000}'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        *((b'{"email":"b@example.com",' + member + b"}", reason) for member, reason in BROKEN_MEMBERS),
        (b'{"email":"b@example.com",}', documents.NOT_JSON),
        (b"{'email': 1}", documents.NOT_JSON),
        (b"7", documents.NOT_AN_OBJECT),
        (b"null", documents.NOT_AN_OBJECT),
        (b"", documents.NOT_JSON),
    ],
)
def test_one_broken_event_costs_only_itself(bad: bytes, reason: str) -> None:
    body = b"[" + b",".join([GOOD, bad, GOOD]) + b"]"
    assert len(events(body)) == 2
    assert poison(body) == [(reason, 1)]
    (item,) = (item for item in parse(body) if isinstance(item, Poison))
    assert item.raw == b"[" + bad + b"]"


@pytest.mark.parametrize(
    ("body", "good", "reasons"),
    [
        (b"", 0, [(documents.NOT_JSON, None)]),
        (b"hello", 0, [(documents.NOT_JSON, None)]),
        (b"7", 0, [(documents.NOT_AN_OBJECT, None)]),
        (b"\xff\xfe", 0, [(documents.NOT_JSON, None)]),
        (b"[" * 100_000, 0, [(documents.CUT_SHORT, 0)]),
        (b"[" + GOOD + b"," + GOOD[:20], 1, [(documents.CUT_SHORT, 1)]),
        (b"[" + GOOD + b"] and more", 1, [(documents.NOT_JSON, None)]),
        (b"[]", 0, []),
        (b'[{"a\\\\": "\\":", "email": "x"}]', 1, []),
    ],
)
def test_broken_bodies(body: bytes, good: int, reasons: list[tuple[str, int | None]]) -> None:
    assert len(events(body)) == good
    assert poison(body) == reasons


def test_what_stands_behind_the_last_event_that_is_read_is_one_poison_and_a_body_of_its_own() -> None:
    body = b"[" + b",".join([GOOD] * (MAX_EVENTS + 7)) + b"]"
    result = parse(body)
    assert len(events(body)) == MAX_EVENTS
    rest = result[-1]
    assert isinstance(rest, Poison)
    assert (rest.reason, rest.index) == (documents.TOO_MANY, MAX_EVENTS)
    assert len(events(rest.raw)) == 7
    broken = b"[" + b",".join([b"NaN"] + [GOOD] * (MAX_EVENTS + 6)) + b"]"
    assert len(events(broken)) == MAX_EVENTS - 1
    (first, last) = (item for item in parse(broken) if isinstance(item, Poison))
    assert first.index == 0
    assert len(events(last.raw)) == 7


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["email", "event", "timestamp", "ip", "url", "url_offset", "category", "reason", "type", "sg_machine_open",
     "unique_args", "newsletter", "x"]
)  # fmt: skip


@given(st.lists(st.dictionaries(NAMES, JSON_VALUES, max_size=8) | JSON_VALUES, max_size=5))
def test_any_json_gives_one_event_or_poison_for_each_element(items: list[object]) -> None:
    body = json.dumps(items, allow_nan=False).encode()
    result = parse(body)
    assert len(result) == len(items)
    for index, item in enumerate(result):
        if isinstance(item, Poison):
            assert item.index == index
        else:
            assert item.type in TYPE_NUMBERS
            assert item.at_ms is None or item.at_ms > 0
    for index, alone in enumerate(sendgrid.split(body, {})):
        assert parse(alone)[0] == result[index] or isinstance(result[index], Poison)
