from __future__ import annotations

import gzip
import json
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import documents
from app.esps.esp import QUERY_KEY
from app.esps.unisender_go import ESP
from app.facts import Event, Poison
from app.topics import MAX_EVENTS
from tests.support.samples import (
    BROKEN_MEMBERS,
    JSON_VALUES,
    all_samples,
    check_promises,
    identities,
    is_refused,
    mutations,
    names_of,
    poison,
    read,
    sample,
    source,
)

NAME = "unisender_go"
KEY = b"6a1f0c9e8d7b5a4c3e2f1d0b9a8c7e6f5d4b3a2c"
OLD_KEY = b"the key before it"
EMPTY = b"0" * 32
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.6 Safari/605.1.15"
)


def signed(key: bytes, body: bytes) -> bytes:
    """The body with its `auth` filled in."""
    before, behind = body.split(EMPTY)
    return before + md5(before + key + behind).hexdigest().encode() + behind


BODY = signed(KEY, sample(NAME, "clicked"))


def refused(body: bytes, *keys: bytes, headers: dict[bytes, bytes] | None = None, **more: object) -> bool:
    return is_refused(source(NAME, *(keys or (KEY,)), **more), headers or {}, body)


# Signatures


def test_the_body_s_own_hash_under_any_key_is_accepted() -> None:
    assert not refused(BODY)
    assert not refused(BODY, OLD_KEY, b"\xff", KEY)
    compact = signed(KEY, b'{"auth":"' + EMPTY + b'","events_by_user":[]}')
    assert not refused(compact)
    last = signed(KEY, b'{"events_by_user":[],"x":"\\"auth\\": 1","auth" :\n "' + EMPTY + b'"}')
    assert not refused(last)


def test_a_compressed_body_is_hashed_as_what_it_holds() -> None:
    packed = gzip.compress(BODY)
    assert not refused(packed, headers={b"content-encoding": b"gzip"})
    assert refused(packed)
    assert refused(packed[:-9], headers={b"content-encoding": b"gzip"})
    assert refused(BODY, headers={b"content-encoding": b"gzip"})
    assert refused(packed, headers={b"content-encoding": b"br"})
    assert refused(packed, headers={b"content-encoding": b"gzip, gzip\xff"})
    bomb = gzip.compress(b" " * 30_000_000)
    assert refused(bomb, headers={b"content-encoding": b"gzip"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"auth":null}',
        b'{"auth":""}',
        b'{"auth":"%b"}' % EMPTY,
        '{"auth":"é"}'.encode(),
        b'{"auth":"' + b"0" * 1_000_000 + b'"}',
        b'{"auth":' + b"[" * 100_000,
        b'{"x":{"auth":"%b"}}' % EMPTY,
        signed(OLD_KEY, sample(NAME, "clicked")),
        BODY + b" ",
        BODY.replace(b"ann@", b"bob@"),
        BODY.replace(b'"auth"', b'"a\\u0075th"'),
        sample(NAME, "clicked"),
    ],
)
def test_any_other_body_is_refused(body: bytes) -> None:
    assert refused(body)


def test_bytes_behind_a_body_are_refused_though_their_hash_can_be_made_without_the_key() -> None:
    body = sample(NAME, "clicked")
    for behind in (b"\x80" + b"\0" * 40 + b'{"events":[]}', b"\0", b"{}"):
        assert refused(signed(KEY, body + behind))


def test_a_secret_in_the_address_beside_the_key_is_needed_too() -> None:
    assert is_refused(source(NAME), {}, BODY)
    assert not is_refused(source(NAME, insecure=True), {}, b"")
    assert refused(BODY, bearer=(b"token",))
    assert not refused(BODY, bearer=(b"token",), headers={QUERY_KEY: b"token"})
    assert refused(BODY, bearer=(b"token",), headers={QUERY_KEY: b"tokem"})
    assert refused(BODY + b" ", bearer=(b"token",), headers={QUERY_KEY: b"token"})
    assert not is_refused(source(NAME, bearer=(b"token",)), {QUERY_KEY: b"token"}, b"")


@given(st.binary(max_size=100) | mutations(*all_samples(NAME)), st.binary(max_size=40), st.booleans())
def test_verify_raises_nothing_but_a_refusal(body: bytes, key: bytes, packed: bool) -> None:
    headers = {b"content-encoding": b"gzip"} if packed else {}
    assert refused(body, KEY, key, headers=headers)


def test_the_address_may_be_tried_with_get() -> None:
    assert ESP.probes == {"GET"}


# Events

EXPECTED: dict[str, dict[str, object]] = {
    "sent": {"type": "sent"},
    "delivered": {"type": "delivered", "smtp_reply": "250 2.0.0 OK queued as 8F2C"},
    "opened": {"type": "opened", "ip": "192.0.2.7", "user_agent": AGENT},
    "clicked": {
        "type": "clicked",
        "ip": "192.0.2.7",
        "user_agent": AGENT,
        "link": "https://acme.example/spring",
    },
    "unsubscribed": {"type": "unsubscribed", "ip": "192.0.2.7", "user_agent": AGENT},
    "subscribed": {"type": "subscribed", "ip": "192.0.2.7", "user_agent": AGENT},
    "spam": {"type": "complained"},
    "soft_bounced": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "err_mailbox_full",
        "smtp_reply": "452 4.2.2 the mailbox is full",
    },
    "soft_bounced_retried": {
        "type": "deferred",
        "reason": "err_will_retry",
        "smtp_reply": "451 4.7.1 greylisted",
    },
    "hard_bounced": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "err_user_unknown",
        "smtp_reply": "550 5.1.1 no mailbox of that name",
    },
    "hard_bounced_not_sent": {"type": "rejected", "reason": "err_unsubscribed"},
    "hard_bounced_lost": {"type": "failed", "reason": "err_lost"},
}
COMMON = Event(
    type="",
    recipient="ann@example.com",
    at_ms=1_795_166_142_000,
    message_id="1wXy7K-0004aB-Q2",
    metadata={"campaign_id": "spring"},
)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_status_field_by_field(name: str) -> None:
    (event,) = read(NAME, sample(NAME, f"{name}"))
    for field in Event.__struct_fields__:
        assert getattr(event, field) == EXPECTED[name].get(field, getattr(COMMON, field)), field


def test_no_sample_is_forgotten() -> None:
    assert names_of(NAME) == {*EXPECTED, "spam_block"}


def test_what_is_not_about_a_recipient_is_a_dead_letter() -> None:
    assert poison(NAME, sample(NAME, "spam_block")) == [("about servers, not a recipient", 0)]


def event(**data: object) -> dict[str, object]:
    return {
        "event_name": "transactional_email_status",
        "event_data": {
            "email": "ann@example.com",
            "status": "opened",
            "event_time": "2026-11-20 09:15:42",
            **data,
        },
    }


def body_of(*lists: list[object]) -> bytes:
    users = [{"user_id": number, "events": events} for number, events in enumerate(lists)]
    return json.dumps({"auth": "x", "events_by_user": users}).encode()


def one(**data: object) -> Event:
    (found,) = read(NAME, body_of([event(**data)]))
    return found


def test_the_events_of_several_users_and_those_of_a_bare_list() -> None:
    found = read(NAME, body_of([event(email="a@example.com"), event(email="b@example.com")], [], [event()]))
    assert [item.recipient for item in found] == ["a@example.com", "b@example.com", "ann@example.com"]
    assert len(read(NAME, json.dumps({"events": [event()]}).encode())) == 1
    assert read(NAME, body_of()) == []


def test_an_unknown_status_is_kept_with_its_name() -> None:
    found = one(status="read_aloud", metadata={"a": 1, "b": []})
    assert (found.type, found.metadata) == ("unknown", {"a": "1", "event": "read_aloud"})
    assert one(status=None).metadata == {"event": "transactional_email_status"}
    assert one(status=7).type == "unknown"


@pytest.mark.parametrize("email", [None, "", " ", 5, [], {}])
def test_without_a_recipient_it_is_a_dead_letter_and_can_be_sent_again(email: object) -> None:
    body = body_of([event(), event(email=email), event()])
    result = ESP.parse(body, {})
    assert [type(item) for item in result] == [Event, Poison, Event]
    bad = result[1]
    assert isinstance(bad, Poison)
    assert (bad.reason, bad.index) == ("no recipient", 1)
    mended = json.loads(bad.raw)
    mended["events"][0]["event_data"]["email"] = "b@example.com"
    assert [found.recipient for found in read(NAME, json.dumps(mended).encode())] == ["b@example.com"]


@pytest.mark.parametrize(
    ("status", "outcome", "expected"),
    [
        ("soft_bounced", None, ("bounced", "soft")),
        ("soft_bounced", "err_will_retry", ("deferred", None)),
        ("soft_bounced", 5, ("bounced", "soft")),
        ("hard_bounced", None, ("bounced", "hard")),
        ("hard_bounced", "err_unreachable", ("rejected", None)),
        ("hard_bounced", "err_spam_rejected", ("bounced", "hard")),
    ],
)
def test_bounces(status: str, outcome: object, expected: tuple[str, str | None]) -> None:
    found = one(status=status, delivery_info={"delivery_status": outcome})
    assert (found.type, found.bounce) == expected


GOOD = json.dumps(event()).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        *(
            (b'{"event_data":{"email":"b@example.com",' + member + b"}}", reason)
            for member, reason in BROKEN_MEMBERS
        ),
        (b"7", documents.NOT_AN_OBJECT),
    ],
)
def test_one_broken_event_costs_only_itself(bad: bytes, reason: str) -> None:
    lists = b'{"events":[' + GOOD + b"," + bad + b'],"user_id":1},{"user_id":2,"events":[' + GOOD + b"]}"
    body = b'{"auth":"x","events_by_user":[' + lists + b"]}"
    assert [type(item) for item in ESP.parse(body, {})] == [Event, Poison, Event]
    assert poison(NAME, body) == [(reason, 1)]


@pytest.mark.parametrize(
    ("body", "good", "found"),
    [
        (b"", 0, [(documents.NOT_JSON, None)]),
        (b"7", 0, [(documents.NOT_AN_OBJECT, None)]),
        (b"[" * 100_000, 0, [(documents.TOO_DEEP, None)]),
        (b'{"auth":"x"}', 0, [(documents.NO_LIST, None)]),
        (b'{"events_by_user":{}}', 0, [(documents.NO_LIST, None)]),
        (b'{"events_by_user":[5,{"events":5}]}', 0, [(documents.NO_LIST, None)] * 2),
        (b'{"events_by_user":[{"events":[' + GOOD + b"," + GOOD[:30], 1, [(documents.CUT_SHORT, 1)]),
        (b'{"events_by_user":[{"events":[' + GOOD + b"]}]} and", 1, [(documents.NOT_JSON, None)]),
        (b'{"events_by_user":[{"user_id":NaN,"events":[' + GOOD + b"]}]}", 1, [(documents.NOT_JSON, None)]),
    ],
)
def test_broken_bodies(body: bytes, good: int, found: list[tuple[str, int | None]]) -> None:
    assert sum(isinstance(item, Event) for item in ESP.parse(body, {})) == good
    assert poison(NAME, body) == found


@pytest.mark.parametrize("first", [GOOD, b"NaN"])
def test_what_stands_behind_the_last_event_that_is_read_is_a_body_of_its_own(first: bytes) -> None:
    body = b'{"events_by_user":[{"events":[' + b",".join([first] + [GOOD] * (MAX_EVENTS + 6)) + b"]}]}"
    rest = ESP.parse(body, {})[-1]
    assert isinstance(rest, Poison)
    assert (rest.reason, rest.index) == (documents.TOO_MANY, MAX_EVENTS)
    assert len(read(NAME, rest.raw)) == 7


def test_the_same_event_sent_again_is_the_same_fact() -> None:
    first = identities(NAME, BODY)
    assert identities(NAME, BODY, 1_795_290_000_000) == first
    together = body_of([event(), json.loads(BODY)["events_by_user"][0]["events"][0]])
    assert first[0] in identities(NAME, together)
    assert identities(NAME, BODY.replace(b"09:15:42", b"09:15:43")) != first


@given(st.lists(st.lists(JSON_VALUES, max_size=3), max_size=3))
def test_any_json_gives_one_event_or_poison_for_each_element(lists: list[list[object]]) -> None:
    body = body_of(*lists)
    assert len(ESP.parse(body, {})) == sum(map(len, lists))
    check_promises(NAME, body)
