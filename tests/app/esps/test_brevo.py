from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import ESPS, brevo, documents
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

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 13_2_3 like Mac OS X)"
CUSTOM = {"campaign_id": "spring", "ab_subject": "a", "template_id": "22"}
READER = {"user_agent": AGENT, "device": "mobile", "metadata": {**CUSTOM, "contact_id": "8"}}


def event_of(**fields: object) -> Event:
    item = {"event": "opened", "ts_event": 1604933654, "email": "a@example.com", **fields}
    return one("brevo", json.dumps(item).encode())


def test_busy_is_429_since_brevo_discards_the_event_on_anything_else() -> None:
    assert ESPS["brevo"].busy.status == 429
    assert ESPS["brevo"].busy.retry_after_s > 0


# Events


TRANSACTIONAL: dict[str, dict[str, object]] = {
    "request": {"type": "queued", "metadata": {**CUSTOM, "contact_id": "8"}},
    "delivered": {"type": "delivered"},
    "deferred": {"type": "deferred", "reason": "421 4.7.0", "smtp_reply": "421 4.7.0 try again later"},
    "soft_bounce": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "452 4.2.2",
        "smtp_reply": "452 4.2.2 mailbox full",
    },
    "hard_bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "550 5.1.1",
        "smtp_reply": "550 5.1.1 <example@example.com> no such user",
    },
    "invalid_email": {"type": "rejected"},
    "blocked": {"type": "rejected", "reason": "blocked : due to blacklist user"},
    "error": {"type": "failed", "reason": "template could not be rendered"},
    "click": {"type": "clicked", "link": "https://example.com/sale", **READER},
    "opened": {"type": "opened", **READER},
    "unique_opened": {"type": "opened", **READER, "device": "desktop"},
    "proxy_open": {"type": "opened", "machine": True, **READER},
    "unique_proxy_open": {"type": "opened", "machine": True, **READER},
    "spam": {"type": "complained"},
    "unsubscribed": {"type": "unsubscribed", **READER},
}
MARKETING: dict[str, dict[str, object]] = {
    "marketing_spam": {"type": "complained", "reason": "undesired"},
    "marketing_opened": {"type": "opened", "tags": ("spring",)},
    "marketing_click": {"type": "clicked", "link": "https://example.com/sale"},
    "marketing_hard_bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "550",
        "smtp_reply": "550 no such user",
    },
    "marketing_soft_bounce": {"type": "bounced", "bounce": "soft", "reason": "deferred"},
    "marketing_delivered": {"type": "delivered"},
    "marketing_unsubscribe": {"type": "unsubscribed"},
    "marketing_proxy_open": {"type": "opened", "machine": True},
}
OF_CONTACTS = ("contact_updated", "contact_deleted", "list_addition")


@pytest.mark.parametrize("name", TRANSACTIONAL)
def test_the_documentation_s_transactional_event(name: str) -> None:
    expected = {
        "recipient": "example@example.com",
        "at_ms": 1604933654000,
        "message_id": "<201798300811.5787683@relay.domain.com>",
        "tags": ("transac_messages",),
        "metadata": CUSTOM,
        **TRANSACTIONAL[name],
    }
    assert samples.differences(one("brevo", samples.sample("brevo", name)), expected) == {}


@pytest.mark.parametrize("name", MARKETING)
def test_the_documentation_s_marketing_event(name: str) -> None:
    expected = {
        "recipient": "example@example.com",
        "at_ms": 1604933737000,
        "metadata": {"camp_id": "17", "campaign name": "My First Campaign", "campaign_id": "17"},
        **MARKETING[name],
    }
    assert samples.differences(one("brevo", samples.sample("brevo", name)), expected) == {}


@pytest.mark.parametrize("name", OF_CONTACTS)
def test_what_is_about_a_contact_is_no_mailing_s(name: str) -> None:
    assert samples.poison("brevo", samples.sample("brevo", name)) == [("about a contact, not a mailing", 0)]


def test_a_batch_is_an_array() -> None:
    found = samples.events("brevo", samples.sample("brevo", "batch"))
    assert [(event.type, event.at_ms) for event in found] == [
        ("queued", 1604933654000),
        ("delivered", 1604933660000),
    ]


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of("brevo") == {*TRANSACTIONAL, *MARKETING, *OF_CONTACTS, "batch"}


def test_utc_comes_before_the_account_s_zone() -> None:
    assert event_of(ts=1604937254, ts_epoch=1604933654123).at_ms == 1604933654000
    assert event_of(ts=1604937254, ts_epoch=1604933654123, ts_event=None).at_ms == 1604933654123
    assert event_of(ts=1604937254, ts_event="soon").at_ms == 1604937254000
    assert event_of(date="2020-10-09 00:00:00", ts_event=None).at_ms is None


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"tags": ["a", "b"], "tag": '["c"]'}, ("a", "b")),
        ({"tag": '["a","b"]'}, ("a", "b")),
        ({"tag": "a"}, ("a",)),
        ({"tag": "[a"}, ("[a",)),
        ({"tag": ""}, ()),
        ({"tag": "[" * 50_000}, ("[" * 50_000,)),
        ({"tag": ["a"]}, ("a",)),
        ({"tag": {}, "tags": 5}, ()),
    ],
)
def test_tags_in_all_their_shapes(fields: dict[str, object], tags: tuple[str, ...]) -> None:
    assert event_of(**fields).tags == tags


@pytest.mark.parametrize(
    ("custom", "metadata"),
    [
        ("campaign_id:spring|run: 7 ", {"campaign_id": "spring", "run": "7"}),
        ('{"campaign_id": "spring", "run": 7, "x": []}', {"campaign_id": "spring", "run": "7"}),
        ("some_custom_header", {"X-Mailin-custom": "some_custom_header"}),
        ("https://example.com", {"X-Mailin-custom": "https://example.com"}),
        ("a:1|b", {"X-Mailin-custom": "a:1|b"}),
        ("{a:1", {"{a": "1"}),
        ("", {}),
        (5, {}),
    ],
)
def test_the_custom_header(custom: object, metadata: dict[str, str]) -> None:
    assert event_of(**{"X-Mailin-custom": custom}).metadata == metadata


def test_an_unknown_type_is_kept_with_its_name_and_sms_has_no_recipient() -> None:
    assert event_of(event="read_aloud").metadata == {"event": "read_aloud"}
    assert event_of(event=["x"]).type == "unknown"
    assert samples.poison("brevo", b'{"id":1,"to":"4917012345","msg_status":"sent"}') == [("no recipient", 0)]


@pytest.mark.parametrize("email", [None, "", " ", 5, ["a@example.com"]])
def test_one_bad_event_costs_only_itself_and_can_be_sent_again(email: object) -> None:
    good = {"event": "opened", "email": "a@example.com"}
    body = json.dumps([good, {**good, "email": email}, good]).encode()
    assert samples.poison("brevo", body) == [("no recipient", 1)]
    assert samples.repaired("brevo", brevo.parse(body, {})[1], "email").recipient == "b@example.com"


def test_broken_bodies_are_poison() -> None:
    assert samples.poison("brevo", b"") == [(documents.NOT_JSON, None)]
    assert samples.poison("brevo", b"hello") == [(documents.NOT_JSON, None)]


def test_fields_of_unexpected_types_are_dropped_and_the_event_stays() -> None:
    names = ("ts_event", "ts_epoch", "ts", "message-id", "link", "URL", "ip", "user_agent", "device_used", "reason",
             "tag", "tags", "camp_id", "X-Mailin-custom")  # fmt: skip
    for value in ODD_VALUES:
        for word in ("hard_bounce", "click"):
            assert event_of(event=word, **dict.fromkeys(names, value)).recipient == "a@example.com"


def test_a_webhook_that_is_sent_again_is_the_same_fact_alone_or_in_a_batch() -> None:
    body = samples.sample("brevo", "click")
    again = b"[" + body.replace(b'"ts": 1604937254', b'"ts": 1604940854').replace(b"26224", b"26225") + b"]"
    assert identities("brevo", body) == identities("brevo", again, RECEIVED_MS + 40_000_000)
    later = body.replace(b'"ts_event": 1604933654', b'"ts_event": 1604933655')
    assert identities("brevo", body) != identities("brevo", later)


# Any bytes

NAMES = st.sampled_from(
    [
        "event",
        "email",
        "ts_event",
        "ts",
        "reason",
        "tag",
        "tags",
        "link",
        "device_used",
        "X-Mailin-custom",
        "camp_id",
    ]
)


@given(st.lists(st.dictionaries(NAMES, JSON_VALUES, max_size=8) | JSON_VALUES, max_size=4))
def test_any_json_gives_one_event_or_poison_for_each_element(items: list[object]) -> None:
    body = json.dumps(items, allow_nan=False).encode()
    check_promises("brevo", body)
    assert len(brevo.parse(body, {})) == len(items)
