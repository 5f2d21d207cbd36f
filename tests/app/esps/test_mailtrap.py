from __future__ import annotations

import hmac
import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import documents
from app.esps.esp import QUERY_KEY
from app.esps.mailtrap import ESP, SIGNATURE
from app.facts import Event, Poison
from app.topics import MAX_EVENTS
from tests.support.samples import (
    BROKEN_MEMBERS,
    JSON_VALUES,
    check_promises,
    identities,
    is_refused,
    names_of,
    poison,
    read,
    sample,
    source,
)

NAME = "mailtrap"
SECRET = b"a secret of Mailtrap"
OLD_SECRET = b"the secret before it"
BODY = sample(NAME, "click")
LINES = sample(NAME, "lines.jsonl")
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.6 Safari/605.1.15"
)


def signature(secret: bytes, body: bytes = BODY) -> bytes:
    return hmac.digest(secret, body, sha256).hex().encode()


def refused(given_: bytes | None, body: bytes = BODY, *secrets: bytes, **more: object) -> bool:
    headers = {} if given_ is None else {SIGNATURE: given_}
    return is_refused(source(NAME, *(secrets or (SECRET,)), **more), headers, body)


# Signatures


def test_a_signature_over_the_raw_body_under_any_secret_is_accepted() -> None:
    assert not refused(signature(SECRET))
    assert not refused(signature(SECRET).upper())
    assert not refused(signature(SECRET), BODY, OLD_SECRET, b"\xff", SECRET)
    assert not refused(signature(SECRET, b"\xff"), b"\xff")


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"garbage",
        "é".encode(),
        b"0" * 64,
        b"0" * 1_000_000,
        signature(OLD_SECRET),
        signature(SECRET)[:-1],
        signature(SECRET)[:-2],
        signature(SECRET) + b"\n",
        b" " + signature(SECRET),
        hmac.digest(SECRET, BODY, sha256),
    ],
)
def test_any_other_signature_is_refused(given: bytes | None) -> None:
    assert refused(given)


def test_another_body_is_refused() -> None:
    assert refused(signature(SECRET), BODY + b" ")
    assert refused(signature(SECRET), b"")


def test_a_name_and_password_or_a_token_may_stand_beside_or_in_place_of_the_signature() -> None:
    basic = {b"authorization": b"Basic dXNlcjp3b3Jk"}
    assert is_refused(source(NAME), {}, BODY)
    assert not is_refused(source(NAME, insecure=True), {}, BODY)
    assert not is_refused(source(NAME, basic=(b"user:word",)), basic, BODY)
    assert is_refused(source(NAME, basic=(b"user:other",)), basic, BODY)
    assert refused(signature(SECRET), basic=(b"user:word",))
    in_address = source(NAME, bearer=(b"token",))
    assert not is_refused(in_address, {QUERY_KEY: b"token"}, BODY)
    assert is_refused(in_address, {QUERY_KEY: b"tokem"}, BODY)


@given(st.binary(max_size=80), st.binary(max_size=100), st.binary(max_size=40))
def test_verify_raises_nothing_but_a_refusal(given_: bytes, body: bytes, secret: bytes) -> None:
    assert refused(given_, body, SECRET, secret)


# Events

EXPECTED: dict[str, dict[str, object]] = {
    "delivery": {"type": "delivered"},
    "soft_bounce": {
        "type": "deferred",
        "reason": "overquota",
        "smtp_reply": "452 4.2.2 the mailbox is full for now",
    },
    "bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "badrecipient",
        "smtp_reply": "550 5.1.1 no mailbox of that name",
    },
    "suspension": {"type": "queued", "reason": "The account has reached its daily limit."},
    "reject": {"type": "rejected", "reason": "Recipient in suppression list. Reason: hard bounce"},
    "open": {"type": "opened", "ip": "192.0.2.7", "user_agent": AGENT},
    "click": {
        "type": "clicked",
        "ip": "192.0.2.7",
        "user_agent": AGENT,
        "link": "https://acme.example/spring",
    },
    "spam": {"type": "complained"},
    "unsubscribe": {"type": "unsubscribed", "ip": "192.0.2.7", "user_agent": AGENT},
}
COMMON = Event(
    type="",
    recipient="ann@example.com",
    at_ms=1_795_166_142_000,
    message_id="2d4f6a80-1c3e-4b5d-8f7a-9c0b1e2d3f44",
    tags=("Spring",),
    metadata={
        "campaign_id": "spring",
        "run": "7",
        "category": "Spring",
        "sending_stream": "bulk",
        "sending_domain_name": "acme.example",
    },
)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_event_field_by_field(name: str) -> None:
    (event,) = read(NAME, sample(NAME, f"{name}"))
    event_id = "c4a2e0f8-" + name.replace("_", "-")
    expected = {"event_id": event_id, "esp_event_id": event_id, **EXPECTED[name]}
    for field in Event.__struct_fields__:
        assert getattr(event, field) == expected.get(field, getattr(COMMON, field)), field


def test_no_sample_is_forgotten() -> None:
    assert names_of(NAME) == {*EXPECTED, "activity_log"}


def test_what_is_not_about_a_sent_message_is_a_dead_letter() -> None:
    body = sample(NAME, "activity_log")
    assert poison(NAME, body) == [("about the account, not a recipient", 0)]
    assert poison(NAME, b'{"event":"inbound.message_received"}') == [("about incoming mail", 0)]


def item(**more: object) -> dict[str, object]:
    return {"event": "open", "email": "ann@example.com", "timestamp": 1_795_166_142, **more}


def one(**more: object) -> Event:
    (event,) = read(NAME, json.dumps({"events": [item(**more)]}).encode())
    return event


def test_json_lines_a_list_and_the_wrapped_form_give_the_same_events() -> None:
    wrapped = b'{"events":[' + LINES.strip().replace(b"\n", b",") + b"]}"
    bare = b"[" + LINES.strip().replace(b"\n", b",") + b"]"
    expected = read(NAME, wrapped)
    assert len(expected) == len(EXPECTED)
    for body in (
        LINES,
        LINES.strip(),
        b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n"),
        bare,
        b" \n" + wrapped,
    ):
        assert read(NAME, body) == expected
        check_promises(NAME, body)


GOOD = json.dumps(item()).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        *((b'{"email":"b@example.com",' + member + b"}", reason) for member, reason in BROKEN_MEMBERS),
        (b"{", documents.NOT_JSON),
        (b"7", documents.NOT_AN_OBJECT),
        (b'{"event":"open"}', "no recipient"),
    ],
)
def test_one_broken_line_costs_only_itself(bad: bytes, reason: str) -> None:
    body = b"\n".join([GOOD, bad, GOOD])
    result = ESP.parse(body, {})
    assert [type(item) for item in result] == [Event, Poison, Event]
    assert poison(NAME, body) == [(reason, 1)]
    broken = result[1]
    assert isinstance(broken, Poison)
    assert broken.raw == b'{"events":[' + bad + b"]}"
    assert len(ESP.split(body, {})) == 3


@pytest.mark.parametrize("body", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_body_is_a_dead_letter(body: bytes) -> None:
    assert poison(NAME, body) == [(documents.NOT_JSON, None)]


def test_lines_behind_the_last_one_that_is_read_are_one_poison_and_a_body_of_its_own() -> None:
    result = ESP.parse(b"\n".join([GOOD] * (MAX_EVENTS + 7)), {})
    assert len(result) == MAX_EVENTS + 1
    rest = result[-1]
    assert isinstance(rest, Poison)
    assert (rest.reason, rest.index) == (documents.TOO_MANY, MAX_EVENTS)
    assert len(read(NAME, rest.raw)) == 7


@pytest.mark.parametrize(
    ("category", "bounce"),
    [
        ("badrecipient", "hard"),
        ("overquota", "soft"),
        ("dnsFail", "soft"),
        ("spam", "hard"),
        (None, "hard"),
        (5, "hard"),
    ],
)
def test_hard_and_soft_bounces(category: object, bounce: str) -> None:
    assert one(event="bounce", bounce_category=category).bounce == bounce


@pytest.mark.parametrize(
    ("code", "response", "reply"),
    [
        (550, "5.1.1 unknown", "550 5.1.1 unknown"),
        (550, "550 5.1.1 unknown", "550 5.1.1 unknown"),
        (550, None, "550"),
        (None, "unknown", "unknown"),
        ("550", "unknown", "550 unknown"),
        (0, None, None),
        ([], {}, None),
    ],
)
def test_the_server_s_reply(code: object, response: object, reply: str | None) -> None:
    assert one(event="bounce", response_code=code, response=response).smtp_reply == reply


def test_types_in_other_spellings_and_unknown_ones() -> None:
    assert one(event="soft_bounce").type == "deferred"
    assert one(event="Delivery").type == "delivered"
    event = one(event="read_aloud")
    assert (event.type, event.metadata) == ("unknown", {"event": "read_aloud"})
    assert one(event=7).type == "unknown"


def test_a_variable_of_the_sender_s_goes_before_mailtrap_s_own_field() -> None:
    assert one(category="News", custom_variables={"category": "mine"}).metadata == {"category": "mine"}


def test_the_same_event_sent_again_is_the_same_fact() -> None:
    first = identities(NAME, LINES)
    assert len(set(first)) == len(EXPECTED)
    assert identities(NAME, LINES, 1_795_290_000_000) == first
    assert identities(NAME, BODY)[0] in first
    assert identities(NAME, BODY.replace(b"c4a2e0f8", b"c4a2e0f9")) != identities(NAME, BODY)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*item(), "url", "x"]), JSON_VALUES, max_size=8) | JSON_VALUES,
        max_size=5,
    )
)
def test_any_json_gives_one_event_or_poison_for_each_line(items: list[object]) -> None:
    body = b"\n".join(json.dumps(value).encode() for value in [item(), *items])
    result = ESP.parse(body, {})
    assert len(result) == len(items) + 1
    check_promises(NAME, body)
