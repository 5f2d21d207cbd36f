from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import documents, generic
from app.facts import Event, Poison
from app.organisations import Organisation, Source
from app.topics import MAX_EVENTS

SAMPLES = Path(__file__).parent / "samples" / "generic"

GOOD: dict[str, object] = {
    "type": "opened",
    "campaign": "spring",
    "recipient": "a@example.com",
    "at": 1790000000123,
}


def body_of(*events: object) -> bytes:
    return msgspec.json.encode({"events": events})


def one(**fields: object) -> Event | Poison:
    (item,) = generic.parse(body_of({**GOOD, **fields}), {})
    return item


def test_the_example() -> None:
    sent, opened, clicked, bounced = generic.parse((SAMPLES / "events.json").read_bytes(), {})
    assert sent == Event(
        type="sent",
        recipient="ann@example.com",
        campaign="spring",
        at_ms=1795428902120,
        variant={"subject": "A"},
    )
    assert isinstance(opened, Event)
    assert (opened.event_id, opened.esp_event_id, opened.ip) == ("o-1", "o-1", "192.0.2.7")
    assert (opened.country, opened.city, opened.at_ms) == ("DE", "Berlin", 1795428900000)
    assert isinstance(clicked, Event)
    assert (clicked.link, clicked.position, clicked.machine) == ("https://example.com/a", 2, True)
    assert clicked.at_ms == 1795428962000
    assert isinstance(bounced, Event)
    assert (bounced.bounce, bounced.reason, bounced.provider) == ("soft", "mailbox full", "Example Mail")
    assert (bounced.tags, bounced.metadata, bounced.at_ms) == (("news",), {"run": "7"}, 1795428900000)


@pytest.mark.parametrize("name", ["type", "campaign", "recipient", "at"])
def test_what_is_needed_is_asked_for(name: str) -> None:
    event = {field: value for field, value in GOOD.items() if field != name}
    checked = generic.check_events(body_of(GOOD, event))
    assert checked.accepted == 1
    assert checked.refused == [generic.Refused(1, f"{name}: is missing")]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("recipient", "", "recipient: must be a text"),
        ("recipient", "   ", "recipient: is empty"),
        ("recipient", 7, "recipient: must be a text"),
        ("recipient", "a" * 321, "recipient: longer than 320 characters"),
        ("recipient", "a\nb@example.com", "recipient: has control characters"),
        ("campaign", " ", "campaign: is empty"),
        ("campaign", "x" * 201, "campaign: longer than 200 characters"),
        ("campaign", "spring\r\n", "campaign: has control characters"),
        ("campaign", "spring\u2028", "campaign: has control characters"),
        ("at", "yesterday", "at: must be RFC 3339 or milliseconds since 1970"),
        ("at", -1, "at: must be RFC 3339 or milliseconds since 1970"),
        ("reason", "x" * 2_000_000, "larger than 65536 bytes"),
        ("metadata", {"x": "é" * 40_000}, "larger than 65536 bytes"),
    ],
)
def test_what_is_refused_is_named_and_not_kept(field: str, value: object, error: str) -> None:
    checked = generic.check_events(body_of({**GOOD, field: value}, GOOD))
    assert checked.refused == [generic.Refused(0, error)]
    assert checked.accepted == 1
    assert len(generic.parse(checked.body, {})) == 1


def test_a_body_without_refused_events_is_kept_as_it_came() -> None:
    body = b' {"events" : [ %s ] } ' % msgspec.json.encode(GOOD)
    checked = generic.check_events(body)
    assert (checked.accepted, checked.refused, checked.body) == (1, [], body)


def test_a_broken_event_is_refused_and_the_others_kept() -> None:
    body = b'{"events":[' + msgspec.json.encode(GOOD) + b',{"at":NaN},"x"]}'
    checked = generic.check_events(body)
    assert checked.accepted == 1
    assert [(item.index, item.error) for item in checked.refused] == [
        (1, documents.NOT_JSON),
        (2, documents.NOT_AN_OBJECT),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"events":{}}', b'{"events":1}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_list_of_events_is_an_error_as_a_whole(body: bytes) -> None:
    checked = generic.check_events(body)
    assert checked.error is not None
    assert checked.accepted == 0
    assert all(isinstance(item, Poison) for item in generic.parse(body, {}))


def test_too_many_events_are_an_error_as_a_whole() -> None:
    assert generic.check_events(body_of(*[GOOD] * MAX_EVENTS)).accepted == MAX_EVENTS
    checked = generic.check_events(body_of(*[GOOD] * (MAX_EVENTS + 1)))
    assert checked.too_many
    assert checked.accepted == 0


def test_fields_of_unexpected_types_are_dropped() -> None:
    event = one(
        ip=4, position="x", variant=[1], tags="news", metadata=5, machine="yes", bounce="fatal", id=77
    )
    assert isinstance(event, Event)
    assert (event.ip, event.position, event.variant, event.machine, event.bounce) == (None,) * 5
    assert (event.tags, event.metadata, event.event_id) == (("news",), {}, "77")


def test_an_unknown_type_is_kept_with_its_name() -> None:
    event = one(type="read_aloud")
    assert isinstance(event, Event)
    assert (event.type, event.metadata) == ("unknown", {"event": "read_aloud"})


def test_tokens_and_passwords_let_in_and_nothing_else_does() -> None:
    source = Source(
        org="acme", name="own", esp="generic", secrets=(b"one",), bearer=(b"two",), basic=(b"user:word",)
    )
    for header in (b"Bearer one", b"bearer two", b"Basic dXNlcjp3b3Jk"):
        generic.verify(source, {b"authorization": header}, b"")
    for header in (b"", b"Bearer", b"Bearer three", b"Basic one", b"Bearer one two", "Bearer é".encode()):
        with pytest.raises(RejectRequest):
            generic.verify(source, {b"authorization": header}, b"")
    with pytest.raises(RejectRequest):
        generic.verify(Source(org="acme", name="own", esp="generic"), {b"authorization": b"Bearer "}, b"")


def test_events_belong_to_the_configured_generic_source_or_to_an_implicit_one() -> None:
    bare = Organisation(id="acme", name="Acme", timezone="UTC")
    assert generic.events_source(bare).name == "api"
    own = Source(org="acme", name="own", esp="generic")
    assert generic.events_source(msgspec.structs.replace(bare, sources={"own": own})) is own


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda inner: b'{"events":[' + inner + b"]}"))
def test_any_bytes_give_events_or_poison_and_the_check_says_the_same(body: bytes) -> None:
    result = generic.parse(body, {})
    assert all(isinstance(item, Event | Poison) for item in result)
    checked = generic.check_events(body)
    assert checked.accepted <= sum(isinstance(item, Event) for item in result)
    assert len(generic.split(body, {})) == len(result)
