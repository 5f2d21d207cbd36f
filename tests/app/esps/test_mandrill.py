from __future__ import annotations

import hmac
import json
from base64 import b64encode
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.esps import mandrill
from app.facts import Event
from app.organisations import Source
from tests.support import samples
from tests.support.samples import is_refused

NAME = "mandrill"
KEY = b"gplJ8yOnDkIdeBjyv3ZJAQ"
OLD_KEY = b"another key of the same"
ADDRESS = "https://reports.example.com/webhooks/acme/news?a=1"
AGENT = "Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; en-US; rv:1.9.1.8) Gecko/20100317 Postbox/1.1.3"


def form(document: object) -> bytes:
    return urlencode({"mandrill_events": json.dumps(document)}).encode()


BODY = form(samples.document(NAME, "open"))


def signed(key: bytes, address: str = ADDRESS, **fields: str) -> dict[bytes, bytes]:
    """The signature as the documentation describes it, made by itself."""
    text = address + "".join(name + fields[name] for name in sorted(fields))
    return {mandrill.SIGNATURE: b64encode(hmac.digest(key, text.encode(), "sha1"))}


GOOD = signed(KEY, mandrill_events=json.dumps(samples.document(NAME, "open")))


def source(*secrets: bytes, **more: object) -> Source:
    return samples.source(NAME, *secrets, **{"public_url": ADDRESS, **more})


def refused(found: Source, headers: dict[bytes, bytes], body: bytes = BODY) -> bool:
    return is_refused(found, headers, body)


# Signatures


def test_a_signature_over_the_address_and_the_form_is_accepted() -> None:
    assert not refused(source(KEY), GOOD)
    assert not refused(source(OLD_KEY, KEY), GOOD), "any of several keys"


def test_fields_are_signed_in_order_of_their_names_and_as_they_are_after_decoding() -> None:
    fields = {"mandrill_events": '[{"é":"a+b %"}]', "another": "ä&=", "Zero": ""}
    for names in (sorted(fields), sorted(fields, reverse=True)):
        body = "&".join(f"{name}={quote_plus(fields[name])}" for name in names).encode()
        assert not refused(source(KEY), signed(KEY, **fields), body)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"AAAA",
        b"not base64",
        "é".encode(),
        b"A" * 1_000_000,
        GOOD[mandrill.SIGNATURE][:-4],
        GOOD[mandrill.SIGNATURE] + b"\n",
        signed(OLD_KEY, mandrill_events=json.dumps(samples.document(NAME, "open")))[mandrill.SIGNATURE],
        hmac.digest(KEY, ADDRESS.encode(), "sha1").hex().encode(),
    ],
)
def test_any_other_signature_is_refused(signature: bytes) -> None:
    assert refused(source(KEY), {mandrill.SIGNATURE: signature})


@pytest.mark.parametrize(
    "address", ["", ADDRESS + "/", ADDRESS.replace("https", "http"), ADDRESS.replace("?a=1", "")]
)
def test_the_address_counts_to_the_last_character(address: str) -> None:
    assert refused(source(KEY, public_url=address), GOOD)


def test_another_body_is_refused_and_so_is_none() -> None:
    assert refused(source(KEY), GOOD, BODY + b"&x=1")
    assert refused(source(KEY), GOOD, b"")
    assert refused(source(KEY), GOOD, b"&" * 2_000)
    assert refused(source(KEY), {})


def test_the_key_that_everybody_knows_opens_nothing() -> None:
    headers = signed(b"test-webhook", mandrill_events="[]")
    assert refused(source(KEY), headers, b"mandrill_events=%5B%5D")


def test_the_address_is_needed_where_there_is_a_key() -> None:
    mandrill.check(source(KEY))
    mandrill.check(source(basic=(b"user:word",), public_url=""))
    for address in ("", "reports.example.com/webhooks", "ftp://example.com/", "https://", "http://[::1"):
        with pytest.raises(ConfigError, match=r"orgs\.acme\.sources\.news\.public_url"):
            mandrill.check(source(KEY, public_url=address))


def test_a_password_beside_the_key_is_needed_too() -> None:
    both = source(KEY, basic=(b"user:word",))
    assert refused(both, GOOD)
    assert not refused(both, {**GOOD, b"authorization": b"Basic " + b64encode(b"user:word")})


@given(st.binary(max_size=60), st.binary(max_size=100))
def test_verify_raises_nothing_but_a_refusal(signature: bytes, body: bytes) -> None:
    assert refused(source(KEY), {mandrill.SIGNATURE: signature}, body)


# Events


COMMON: dict[str, object] = {
    "recipient": "example.webhook@mandrillapp.com",
    "at_ms": 1_384_954_004_000,
    "message_id": "exampleaaaaaaaaaaaaaaaaaaaaaaaaa",
    "tags": ("webhook-example",),
    "metadata": {
        "user_id": "111",
        "subject": "This an example webhook message",
        "sender": "example.sender@mandrillapp.com",
    },
}
ENGAGED: dict[str, object] = {
    "ip": "127.0.0.1",
    "user_agent": AGENT,
    "country": "US",
    "city": "Oklahoma City",
}
EXPECTED: dict[str, dict[str, object]] = {
    "send": {"type": "sent"},
    "delivered": {"type": "delivered", "smtp_reply": "250 OK"},
    "deferral": {"type": "deferred", "smtp_reply": "451 4.3.5 Temporarily unavailable, try again later."},
    "hard_bounce": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "bad_mailbox",
        "smtp_reply": "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
    },
    "soft_bounce": {
        "type": "bounced",
        "bounce": "soft",
        "reason": "mailbox_full",
        "smtp_reply": "smtp;552 5.2.2 Over Quota",
    },
    "open": {"type": "opened", **ENGAGED},
    "click": {"type": "clicked", "link": "http://mandrill.com", **ENGAGED},
    "spam": {"type": "complained"},
    "unsub": {"type": "unsubscribed"},
    "reject": {"type": "rejected", "reason": "rejected"},
}
NO_EVENTS = {
    "sync_denylist": "about the allowlist or denylist, not a message",
    "inbound": "a received message, not an event of a sent one",
}


def one(sample: str, message: dict[str, object] | None = None, **changes: object) -> Event:
    (item,) = json.loads(samples.sample(NAME, sample))
    item |= changes
    item["msg"] |= message or {}
    return samples.one(NAME, form([item]))


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of(NAME) == {*EXPECTED, *NO_EVENTS}


@pytest.mark.parametrize("sample", EXPECTED)
def test_the_documentation_s_example(sample: str) -> None:
    event = samples.one(NAME, form(samples.document(NAME, sample)))
    assert samples.differences(event, {**COMMON, **EXPECTED[sample]}) == {}
    assert samples.one(NAME, samples.sample(NAME, sample)) == event, "the JSON alone is read too"


@pytest.mark.parametrize("sample", NO_EVENTS)
def test_what_is_no_event_of_a_message_is_a_dead_letter(sample: str) -> None:
    assert samples.poison(NAME, form(samples.document(NAME, sample))) == [(NO_EVENTS[sample], 0)]


def test_a_batch_with_a_bad_one_whose_dead_letter_can_be_mended() -> None:
    (good,) = json.loads(samples.sample(NAME, "open"))
    body = form([good, {**good, "msg": {}}, good])
    assert [item.type for item in samples.events(NAME, body)] == ["opened", "opened"]
    assert samples.poison(NAME, body) == [("no recipient", 1)]
    mended = mandrill.split(body, {})[1].replace(b'"msg":{}', b'"msg":{"email":"a@example.com"}')
    assert samples.one(NAME, mended).recipient == "a@example.com"


@pytest.mark.parametrize("body", [b"", b"hello", b"other=1", b"--x\r\n", b"mandrill_events"])
def test_what_is_no_such_form_is_poison(body: bytes) -> None:
    assert len(samples.poison(NAME, body)) == 1


def test_an_empty_batch_is_nothing() -> None:
    assert mandrill.parse(b"mandrill_events=%5B%5D", {}) == []


def test_names_are_read_with_dashes_too_and_unknown_ones_are_kept() -> None:
    assert one("hard_bounce", event="hard-bounce").type == "bounced"
    event = one("open", event="read_aloud")
    assert (event.type, event.metadata["event"]) == ("unknown", "read_aloud")


def test_what_the_parsed_agent_says() -> None:
    parsed = {"type": "robot", "mobile": True, "ua_family": "Apple Mail"}
    event = one("open", user_agent=None, user_agent_parsed=parsed, location=None)
    assert (event.machine, event.device, event.client, event.country) == (True, "mobile", "Apple Mail", None)
    assert one("open", user_agent_parsed=[], location=[]).machine is None


def test_why_a_message_was_rejected() -> None:
    event = one("reject", {"reject": {"reason": "hard-bounce"}})
    assert (event.type, event.reason) == ("rejected", "hard-bounce")


@pytest.mark.parametrize("odd", samples.ODD_VALUES)
def test_fields_of_unexpected_types_are_dropped_and_the_event_stays(odd: object) -> None:
    names = ("ip", "location", "user_agent", "user_agent_parsed", "url", "ts", "_id")
    inner = ("_id", "tags", "metadata", "diag", "smtp_events", "bounce_description", "subject", "template")
    event = one("click", dict.fromkeys(inner, odd), **dict.fromkeys(names, odd))
    assert (event.type, event.recipient) == ("clicked", "example.webhook@mandrillapp.com")
    assert one("reject", {"reject": odd, "state": odd}).type == "rejected"


def test_the_same_event_again_is_the_same_fact() -> None:
    again = form(samples.document(NAME, "open")).replace(b"+", b"%20")
    assert samples.identities(NAME, BODY) == samples.identities(NAME, again, 1_800_000_900_000)
    other = BODY.replace(b"1384954004", b"1384954005")
    assert samples.identities(NAME, BODY) != samples.identities(NAME, other)
