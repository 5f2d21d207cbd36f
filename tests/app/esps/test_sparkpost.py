from __future__ import annotations

import json

import pytest

from app.errors import ConfigError
from app.esps import sparkpost
from app.facts import Event
from tests.support import samples

NAME = "sparkpost"
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_10_3) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/41.0.2272.118 Safari/537.36"
)
METADATA = {
    "customKey": "customValue",
    "campaign_id": "Example Campaign Name",
    "subject": "Summer deals are here!",
    "template_id": "my-template",
    "template_version": "1",
    "transmission_id": "65832150921904138",
    "subaccount_id": "101",
    "ip_pool": "Example-Ip-Pool",
    "mailbox_provider_region": "Europe - UK",
}
COMMON: dict[str, object] = {
    "recipient": "recipient@example.com",
    "at_ms": 1_460_989_507_000,
    "esp_event_id": "92356927693813856",
    "message_id": "000443ee14578172be22",
    "provider": "Gsuite",
    "tags": ("male", "US"),
    "metadata": METADATA,
}
ENGAGED: dict[str, object] = {
    "ip": "203.0.113.7",
    "user_agent": AGENT,
    "country": "US",
    "city": "Columbia",
    "machine": False,
}
REFUSAL = "MAIL REFUSED - IP (17.99.99.99) is in black list"
LINK: dict[str, object] = {
    "link": "http://example.com",
    "metadata": {**METADATA, "target_link_name": "Example Link Name"},
}

EXPECTED: dict[str, dict[str, object]] = {
    "injection": {"type": "queued"},
    "delivery": {"type": "delivered"},
    "delay": {
        "type": "deferred",
        "reason": "DNS Failure",
        "smtp_reply": "454 4.4.4 [internal] no MX or A for domain",
    },
    "bounce": {"type": "bounced", "bounce": "hard", "reason": "Invalid Recipient", "smtp_reply": REFUSAL},
    "out_of_band": {"type": "bounced", "bounce": "soft", "reason": "Mailbox Full", "smtp_reply": REFUSAL},
    "spam_complaint": {"type": "complained", "reason": "abuse"},
    "policy_rejection": {"type": "rejected", "reason": REFUSAL},
    "generation_rejection": {"type": "rejected", "reason": REFUSAL},
    "generation_failure": {
        "type": "failed",
        "reason": "Error while rendering part html: line 4: syntax error",
    },
    "open": {"type": "opened", **ENGAGED},
    "initial_open": {"type": "opened", **ENGAGED},
    "amp_open": {"type": "opened", **ENGAGED},
    "amp_initial_open": {"type": "opened", **ENGAGED},
    "click": {"type": "clicked", **ENGAGED, **LINK},
    "amp_click": {"type": "clicked", **ENGAGED, **LINK},
    # The address of an unsubscribe by mail is that of the example's base.
    "list_unsubscribe": {"type": "unsubscribed", "ip": "18.236.253.72"},
    "link_unsubscribe": {"type": "unsubscribed", **ENGAGED, **LINK},
}
NO_EVENTS = {
    "relay_delivery": "relay_event: not about a sent message's recipient",
    "ab_test_completed": "ab_test_event: not about a sent message's recipient",
    "ingest_success": "ingest_event: not about a sent message's recipient",
}


def one(sample: str, **changes: object) -> Event:
    ((group, fact),) = json.loads(samples.sample(NAME, sample))[0]["msys"].items()
    return samples.one(NAME, json.dumps([{"msys": {group: {**fact, **changes}}}]).encode())


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of(NAME) == {*EXPECTED, *NO_EVENTS, "test"}


@pytest.mark.parametrize("sample", EXPECTED)
def test_the_documentation_s_example(sample: str) -> None:
    event = samples.one(NAME, samples.sample(NAME, sample))
    assert samples.differences(event, {**COMMON, **EXPECTED[sample]}) == {}


@pytest.mark.parametrize("sample", NO_EVENTS)
def test_what_is_about_no_recipient_is_a_dead_letter(sample: str) -> None:
    assert samples.poison(NAME, samples.sample(NAME, sample)) == [(NO_EVENTS[sample], 0)]


def test_the_batch_that_tests_the_address_is_nothing_at_all() -> None:
    body = samples.sample(NAME, "test")
    assert sparkpost.parse(body, {}) == []
    assert sparkpost.split(body, {}) == []


def test_a_batch_of_several_with_a_bad_one() -> None:
    good = json.loads(samples.sample(NAME, "open"))
    body = json.dumps([*good, {"msys": {}}, {"msys": {"track_event": 7}}, 8, *good]).encode()
    assert len(samples.events(NAME, body)) == 2
    assert samples.poison(NAME, body) == [("no event within msys", 1), ("not an object", 3)]


@pytest.mark.parametrize(
    ("word", "number", "kind", "bounce"),
    [
        ("bounce", "10", "bounced", "hard"),
        ("bounce", 30, "bounced", "hard"),
        ("bounce", "90", "bounced", "hard"),
        ("bounce", "60", "bounced", "soft"),
        ("bounce", "25", "rejected", None),
        ("bounce", "26", "rejected", None),
        ("bounce", "51", "bounced", "soft"),
        ("bounce", "999", "bounced", "soft"),
        ("bounce", None, "bounced", "soft"),
        ("out_of_band", "10", "bounced", "hard"),
        ("out_of_band", "60", "autoresponded", None),
        ("out_of_band", "70", "deferred", None),
        ("out_of_band", "80", "subscribed", None),
        ("out_of_band", "90", "unsubscribed", None),
        ("out_of_band", "100", "autoresponded", None),
    ],
)
def test_a_bounce_s_class_says_what_it_is(word: str, number: object, kind: str, bounce: str | None) -> None:
    event = one("bounce", type=word, bounce_class=number)
    assert (event.type, event.bounce) == (kind, bounce)


@pytest.mark.parametrize(
    ("sample", "flags", "machine"),
    [
        ("open", {"is_prefetched": True}, True),
        ("open", {"is_proxy": True, "is_prefetched": False}, True),
        ("click", {"is_proxy": True, "is_prefetched": False}, False),
        ("click", {"is_prefetched": True}, True),
        ("open", {}, None),
        ("open", {"is_prefetched": "yes"}, None),
    ],
)
def test_the_bot_flag(sample: str, flags: dict[str, object], machine: bool | None) -> None:
    assert one(sample, user_agent_parsed=flags).machine is machine


@pytest.mark.parametrize("timestamp", ["1460989507", 1460989507, "2016-04-18T14:25:07.000+00:00"])
def test_times_in_both_shapes_of_the_documentation(timestamp: object) -> None:
    assert one("open", timestamp=timestamp).at_ms == 1_460_989_507_000


@pytest.mark.parametrize("odd", samples.ODD_VALUES)
def test_fields_of_unexpected_types_are_dropped_and_the_event_stays(odd: object) -> None:
    names = ("geo_ip", "user_agent", "user_agent_parsed", "ip_address", "rcpt_meta", "rcpt_tags", "timestamp",
             "target_link_url", "event_id", "message_id", "mailbox_provider", "campaign_id")  # fmt: skip
    event = one("click", **dict.fromkeys(names, odd))
    assert (event.type, event.recipient, event.machine) == ("clicked", "recipient@example.com", None)
    assert one("bounce", **dict.fromkeys(("bounce_class", "reason", "raw_reason"), odd)).type == "bounced"


@pytest.mark.parametrize("recipient", [None, "", " ", 5, {}])
def test_an_event_without_recipient_is_poison(recipient: object) -> None:
    fact = {"type": "open", "rcpt_to": recipient, "raw_rcpt_to": recipient}
    assert samples.poison(NAME, json.dumps({"msys": {"track_event": fact}}).encode()) == [("no recipient", 0)]


def test_an_unknown_type_is_kept_with_its_name() -> None:
    event = one("open", type="read_aloud")
    assert (event.type, event.metadata["event"], event.ip) == ("unknown", "read_aloud", "203.0.113.7")


def test_the_same_event_again_with_another_id_is_the_same_fact() -> None:
    body = samples.sample(NAME, "click")
    again = body.replace(b"92356927693813856", b"92356927693813857").replace(b"\n", b"")
    assert samples.identities(NAME, body) == samples.identities(NAME, again, 1_800_000_900_000)
    other = body.replace(b"1460989507", b"1460989508")
    assert samples.identities(NAME, body) != samples.identities(NAME, other)


def test_a_signing_secret_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="sparkpost signs nothing"):
        sparkpost.ESP.check(samples.source(NAME, b"secret"))
