from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import documents, mailjet
from app.facts import Event
from tests.support import samples
from tests.support.samples import (
    JSON_VALUES,
    ODD_VALUES,
    RECEIVED_MS,
    check_promises,
    identities,
    one,
)

AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_0) AppleWebKit/537.36"
GUID = "1ab23cd4-e567-8901-2345-6789f0gh1i2j"
ACCOUNT = {"mj_campaign_id": "7257", "mj_contact_id": "4", "CustomID": "helloworld", "Message_GUID": GUID}
PLACE = {"ip": "127.0.0.1", "country": "FR", "user_agent": AGENT}


def event_of(**fields: object) -> Event:
    item = {"event": "open", "time": 1433333949, "email": "a@example.com", **fields}
    return one("mailjet", json.dumps(item).encode())


# Events


EXPECTED: dict[str, dict[str, object]] = {
    "sent": {
        "type": "delivered",
        "smtp_reply": "sent (250 2.0.0 OK 1433333948 fa5si855896wjc.199 - gsmtp)",
    },
    "open": {
        "type": "opened",
        **PLACE,
        "country": "US",
        "metadata": {**ACCOUNT, "customcampaign": "spring", "campaign_id": "spring"},
    },
    "click": {
        "type": "clicked",
        **PLACE,
        "link": "https://example.com/sale",
        "metadata": {**ACCOUNT, "campaign_id": "summer", "ab_subject": "a", "run": "7"},
    },
    "bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "user unknown",
        "smtp_reply": "550 5.1.1 no such user",
        "metadata": {**ACCOUNT, "campaign_id": "7257", "blocked": "false", "error_related_to": "recipient"},
    },
    "bounce_soft": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "quota exceeded",
        "metadata": {**ACCOUNT, "campaign_id": "7257", "blocked": "false", "error_related_to": "recipient"},
    },
    "bounce_greylisted": {
        "type": "deferred",
        "reason": "greylisted",
        "metadata": {**ACCOUNT, "campaign_id": "7257", "blocked": "false", "error_related_to": "domain"},
    },
    "blocked": {
        "type": "rejected",
        "reason": "preblocked",
        "metadata": {
            "mj_contact_id": "4",
            "CustomID": "helloworld",
            "Message_GUID": GUID,
            "error_related_to": "mailjet",
        },
    },
    "spam": {"type": "complained", "metadata": {**ACCOUNT, "campaign_id": "7257", "source": "JMRPP"}},
    "unsub": {
        "type": "unsubscribed",
        **PLACE,
        "metadata": {**ACCOUNT, "campaign_id": "7257", "mj_list_id": "1"},
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_documentation_s_event(name: str) -> None:
    expected = {
        "recipient": "recipient@example.com",
        "at_ms": 1433333949000,
        "message_id": "19421777835146490",
        "metadata": {**ACCOUNT, "campaign_id": "7257"},
        **EXPECTED[name],
    }
    assert samples.differences(one("mailjet", samples.sample("mailjet", name)), expected) == {}


def test_version_2_groups_events_of_mixed_types() -> None:
    found = samples.events("mailjet", samples.sample("mailjet", "version_2"))
    assert [event.type for event in found] == ["delivered", "opened"]
    assert found[1].country is None
    assert samples.events("mailjet", b"[]") == []


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of("mailjet") == {*EXPECTED, "version_2"}


@pytest.mark.parametrize(
    ("flag", "bounce"),
    [
        (True, "hard"),
        (False, "soft"),
        (1, "hard"),
        ("0", "soft"),
        ("true", "hard"),
        (None, None),
        (2, None),
        ([], None),
    ],
)
def test_hardness_in_all_its_shapes(flag: object, bounce: str | None) -> None:
    assert event_of(event="bounce", hard_bounce=flag).bounce == bounce


def test_an_id_of_a_message_in_its_older_form() -> None:
    assert event_of(mj_message_id="18858825588804172").message_id == "18858825588804172"
    assert event_of(MessageID=18858825588804172, mj_message_id="1").message_id == "18858825588804172"


@pytest.mark.parametrize("payload", ["plain", "{", "[1]", "5", "{" * 50_000, '{"a":"\\ud800"}'])
def test_a_payload_that_is_no_object_is_kept_as_it_is(payload: str) -> None:
    assert event_of(Payload=payload).metadata == {"Payload": payload}


def test_an_unknown_type_is_kept_with_its_name() -> None:
    event = event_of(event="typofix", new_address="b@example.com")
    assert (event.type, event.metadata) == ("unknown", {"event": "typofix", "new_address": "b@example.com"})
    assert event_of(event=7).type == "unknown"


@pytest.mark.parametrize("email", [None, "", " ", 5, ["a@example.com"]])
def test_one_bad_event_costs_only_itself_and_can_be_sent_again(email: object) -> None:
    good = cast(list[object], samples.document("mailjet", "version_2"))
    body = json.dumps([good[0], {"event": "open", "email": email}, good[1]]).encode()
    assert samples.poison("mailjet", body) == [("no recipient", 1)]
    assert len(samples.events("mailjet", body)) == 2
    assert samples.repaired("mailjet", mailjet.parse(body, {})[1], "email").recipient == "b@example.com"


def test_broken_bodies_are_poison() -> None:
    assert samples.poison("mailjet", b"") == [(documents.NOT_JSON, None)]
    assert samples.poison("mailjet", b'{"email":"a@example.com","email":"b@example.com"}') == [
        (documents.TWICE, 0)
    ]


def test_fields_of_unexpected_types_are_dropped_and_the_event_stays() -> None:
    names = ("time", "MessageID", "mj_message_id", "url", "ip", "agent", "geo", "error", "hard_bounce", "smtp_reply",
             "comment", "Payload", "customcampaign", "mj_campaign_id")  # fmt: skip
    for value in ODD_VALUES:
        for word in ("bounce", "click"):
            assert event_of(event=word, **dict.fromkeys(names, value)).recipient == "a@example.com"


def test_a_webhook_that_is_sent_again_is_the_same_fact_alone_or_grouped() -> None:
    body = samples.sample("mailjet", "click")
    assert identities("mailjet", body) == identities("mailjet", b"[" + body + b"]", RECEIVED_MS + 86_400_000)
    later = body.replace(b"1433333949", b"1433333950")
    assert identities("mailjet", body) != identities("mailjet", later)


# Any bytes

NAMES = st.sampled_from(
    ["event", "email", "time", "MessageID", "mj_message_id", "hard_bounce", "error", "Payload", "customcampaign", "geo",
     "mj_campaign_id", "x"]
)  # fmt: skip


@given(st.lists(st.dictionaries(NAMES, JSON_VALUES, max_size=8) | JSON_VALUES, max_size=4))
def test_any_json_gives_one_event_or_poison_for_each_element(items: list[object]) -> None:
    body = json.dumps(items, allow_nan=False).encode()
    check_promises("mailjet", body)
    assert len(mailjet.parse(body, {})) == len(items)
