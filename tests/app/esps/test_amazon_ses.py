from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError, RejectRequest
from app.esps import ESPS, amazon_ses, sns
from app.esps.amazon_ses import ESP
from app.esps.esp import CERTIFICATE, Confirmation
from app.facts import Event
from app.organisations import Source, parse_organisations
from tests.support import samples
from tests.support.samples import is_refused
from tests.support.sns import (
    CERTIFICATE_URL,
    OTHER_TOPIC,
    TOPIC,
    Signer,
    body,
    confirmation,
    envelope,
    headers,
)

NAME = "amazon_ses"
SIGNER = Signer()
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 10_3_3 like Mac OS X) AppleWebKit/603.3.8 (KHTML, like Gecko) Mobile/14G60"
DESKTOP = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/60.0.3112.90 Safari/537.36"
)
MESSAGE = samples.sample(NAME, "open").decode()
SIGNED = SIGNER.sign(envelope(MESSAGE))


def source(**more: object) -> Source:
    return samples.source(NAME, **{"topics": (TOPIC,), **more})


def wire(found: dict[str, Any], pem: bytes = SIGNER.pem) -> dict[bytes, bytes]:
    ours = {name.lower().encode(): value.encode() for name, value in headers(found).items()}
    return {**ours, CERTIFICATE: pem}


def refused(found: dict[str, Any], given: dict[bytes, bytes] | None = None, **more: object) -> bool:
    return is_refused(source(**more), wire(found) if given is None else given, body(found))


# Signatures


@pytest.mark.parametrize(
    "found",
    [
        envelope(MESSAGE),
        envelope("with\nlines and \u00e9 and \U0001f600"),
        {name: value for name, value in envelope(MESSAGE).items() if name != "Subject"},
        confirmation(),
        confirmation(Type="UnsubscribeConfirmation"),
    ],
)
def test_what_amazon_signed_is_accepted(found: dict[str, Any]) -> None:
    assert not refused(SIGNER.sign(found))


def test_the_older_signature_only_where_the_source_says_so() -> None:
    old = SIGNER.sign(envelope(MESSAGE, SignatureVersion="1"))
    assert refused(old)
    assert not refused(old, sns_sha1=True)
    assert not refused(SIGNED, sns_sha1=True)
    assert refused({**old, "SignatureVersion": "2"}, sns_sha1=True)
    assert refused({**SIGNED, "SignatureVersion": "1"}, sns_sha1=True)
    assert refused({**SIGNED, "SignatureVersion": "3"}, sns_sha1=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"Message": MESSAGE + " "},
        {"Subject": "another"},
        {"Timestamp": "2026-11-24T10:00:00.001Z"},
        {"Signature": ""},
        {"Signature": SIGNED["Signature"][:-8]},
        {"Signature": SIGNED["Signature"] + "\n"},
        {"Signature": "é"},
        {"Signature": "A" * 1_000_000},
        {"Signature": SIGNER.sign(envelope("another"))["Signature"]},
        {"Signature": Signer().sign(envelope(MESSAGE))["Signature"]},
        {"Type": "Note"},
        {"Type": "UnsubscribeConfirmation"},
        {"TopicArn": OTHER_TOPIC},
        {"TopicArn": 7},
        {"Message": None},
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any]) -> None:
    found = {**SIGNED, **changes}
    given = wire(SIGNED) | ({b"x-amz-sns-message-type": found["Type"].encode()} if "Type" in changes else {})
    assert refused(found, given)


def test_the_headers_agree_with_what_is_signed() -> None:
    good = wire(SIGNED)
    for name in (sns.MESSAGE_TYPE, sns.MESSAGE_ID, sns.TOPIC):
        assert refused(SIGNED, {**good, name: b"another"})
    for name in (sns.MESSAGE_TYPE, sns.MESSAGE_ID):
        assert refused(SIGNED, {key: value for key, value in good.items() if key != name})
    assert not refused(SIGNED, {key: value for key, value in good.items() if key != sns.TOPIC})


@pytest.mark.parametrize(
    "pem", [b"", b"none", b"\xff" * 20_000, SIGNER.pem[:-100], SIGNER.pem_of_version(54), Signer().pem]
)
def test_without_amazon_s_certificate_nothing_is_accepted(pem: bytes) -> None:
    assert refused(SIGNED, wire(SIGNED, pem))


def test_a_perfect_signature_for_a_topic_of_somebody_else_is_refused() -> None:
    theirs = SIGNER.sign(envelope(MESSAGE, TopicArn=OTHER_TOPIC))
    assert refused(theirs)
    assert not refused(theirs, topics=(OTHER_TOPIC,))
    with pytest.raises(RejectRequest) as error:
        sns.certificate_url(source(), body(theirs))
    assert error.value.status == 403, "before anything is fetched"


def test_a_raw_delivery_is_not_signed() -> None:
    with pytest.raises(RejectRequest):
        ESP.verify(source(), wire(SIGNED) | {b"x-amz-sns-rawdelivery": b"true"}, MESSAGE.encode())
    with pytest.raises(RejectRequest):
        sns.certificate_url(source(), MESSAGE.encode())


def test_a_password_beside_it_is_needed_too() -> None:
    assert refused(SIGNED, basic=(b"user:word",))
    assert not refused(
        SIGNED, wire(SIGNED) | {b"authorization": b"Basic dXNlcjp3b3Jk"}, basic=(b"user:word",)
    )


def test_insecure_takes_what_nobody_signed() -> None:
    ESP.verify(source(insecure=True, topics=()), {}, MESSAGE.encode())


@given(st.binary(max_size=300))
def test_verify_raises_nothing_but_a_refusal(raw: bytes) -> None:
    with pytest.raises(RejectRequest):
        ESP.verify(source(), wire(SIGNED), raw)
    with pytest.raises(RejectRequest):
        sns.certificate_url(source(), raw)


# Certificates


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE_URL,
        CERTIFICATE_URL.replace("eu-west-1", "us-gov-west-1"),
        CERTIFICATE_URL.replace("eu-west-1", "ap-southeast-4"),
        CERTIFICATE_URL.replace("eu-west-1.amazonaws.com", "cn-northwest-1.amazonaws.com.cn"),
    ],
)
def test_a_certificate_of_amazon_s_is_fetched(url: str) -> None:
    assert sns.certificate_url(source(), body(envelope(MESSAGE, SigningCertURL=url))) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        CERTIFICATE_URL.replace("https", "http"),
        CERTIFICATE_URL.replace("https", "HTTPS"),
        CERTIFICATE_URL.replace("sns.eu-west-1", "sns.s3-us-west-2"),
        CERTIFICATE_URL.replace("sns.eu-west-1", "sns.s3"),
        CERTIFICATE_URL.replace("sns.eu-west-1", "sns.eu-west-1.s3"),
        CERTIFICATE_URL.replace("sns.eu-west-1", "xsns.eu-west-1"),
        CERTIFICATE_URL.replace("sns.eu-west-1", "SNS.eu-west-1"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com:443"),
        CERTIFICATE_URL.replace("amazonaws.com", "amazonaws.com."),
        CERTIFICATE_URL.replace("https://", "https://user@"),
        CERTIFICATE_URL.replace("https://", "https://evil.example/@"),
        CERTIFICATE_URL.replace("https://", "https://evil.example\\@"),
        CERTIFICATE_URL.replace("/Simple", "//Simple"),
        CERTIFICATE_URL.replace("/Simple", "/../Simple"),
        CERTIFICATE_URL.replace("/Simple", "/%53imple"),
        CERTIFICATE_URL + "?x=1",
        CERTIFICATE_URL + "#x",
        CERTIFICATE_URL + "\n",
        " " + CERTIFICATE_URL,
        CERTIFICATE_URL.replace("amazonaws", "amazonaws\n"),
        CERTIFICATE_URL.replace("amazonaws", "аmazonaws"),  # noqa: RUF001  # a Cyrillic letter
        CERTIFICATE_URL.replace("0a", "0A"),
        CERTIFICATE_URL.replace("0a0a", "0a"),
        "https://[::1",
        "https://169.254.169.254/SimpleNotificationService-" + "0a" * 16 + ".pem",
    ],
)
def test_a_certificate_of_anybody_else_is_not(url: str) -> None:
    assert sns.certificate_url(source(), body(envelope(MESSAGE, SigningCertURL=url))) is None


# Configuration and confirmation


@pytest.mark.parametrize(
    ("more", "setting"),
    [
        ({"topics": ()}, "topics"),
        ({"topics": ("ses-events",)}, r"topics\[0\]"),
        ({"topics": (TOPIC, TOPIC + "\n")}, r"topics\[1\]"),
        ({"topics": (TOPIC.replace("eu-west-1", "s3"),)}, r"topics\[0\]"),
        ({"secrets": (b"secret",)}, "secrets"),
    ],
)
def test_check_names_what_is_missing(more: dict[str, object], setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"orgs\.acme\.sources\.news\.{setting}"):
        ESP.check(source(**more))


def test_check_takes_what_is_complete() -> None:
    ESP.check(source(topics=(TOPIC, TOPIC + ".fifo", TOPIC.replace("aws:", "aws-cn:", 1))))
    ESP.check(source(topics=(), insecure=True))


def test_only_a_request_for_a_topic_of_the_source_is_confirmed() -> None:
    found = SIGNER.sign(confirmation())
    assert sns.confirmation(source(), body(found)) == Confirmation(TOPIC, "t" * 64)
    assert sns.confirmation(source(), body(SIGNED)) is None
    assert sns.confirmation(source(), b"no JSON") is None
    with pytest.raises(RejectRequest) as error:
        sns.confirmation(source(), body(confirmation(TopicArn=OTHER_TOPIC)))
    assert error.value.status == 403


# Events


COMMON: dict[str, object] = {
    "recipient": "recipient@example.com",
    "message_id": "EXAMPLE7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
    "esp_event_id": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "metadata": {
        "configuration_set": "ConfigSet",
        "myCustomTag1": "myCustomTagValue1",
        "myCustomTag2": "myCustomTagValue2",
        "subject": "Message sent from Amazon SES",
    },
}
FEEDBACK = "01000157c44f053b-61b59c11-9236-11e6-8f96-7be8aexample-000000"
PLAIN = {"configuration_set": "ConfigSet"}
EXPECTED: dict[str, dict[str, object]] = {
    "send": {"type": "queued", "at_ms": 1_476_421_336_645},
    "delivery": {
        "type": "delivered",
        "at_ms": 1_476_919_264_133,
        "smtp_reply": "250 2.6.0 Message received",
    },
    "delivery_delay": {
        "type": "deferred",
        "at_ms": 1_592_267_140_095,
        "reason": "TransientCommunicationFailure",
        "smtp_reply": "smtp; 421 4.4.1 Unable to connect to remote host",
        "metadata": PLAIN,
    },
    "bounce": {
        "type": "bounced",
        "bounce": "hard",
        "at_ms": 1_501_893_662_669,
        "reason": "Permanent",
        "smtp_reply": "smtp; 550 5.1.1 user unknown",
        "esp_event_id": FEEDBACK,
    },
    "complaint": {
        "type": "complained",
        "at_ms": 1_501_893_662_669,
        "reason": "abuse",
        "esp_event_id": FEEDBACK,
    },
    "reject": {"type": "rejected", "at_ms": 1_476_466_695_211, "reason": "Bad content"},
    "rendering_failure": {
        "type": "failed",
        "at_ms": 1_516_646_586_197,
        "reason": "Attribute 'attributeName' is not present in the rendering data.",
        "metadata": PLAIN,
    },
    "open": {"type": "opened", "at_ms": 1_502_316_019_652, "ip": "192.0.2.1", "user_agent": PHONE},
    "click": {
        "type": "clicked",
        "at_ms": 1_502_322_685_570,
        "ip": "192.0.2.1",
        "user_agent": DESKTOP,
        "link": "http://docs.aws.amazon.com/ses/latest/DeveloperGuide/send-email-smtp.html",
        "metadata": {
            **COMMON["metadata"],  # type: ignore[dict-item]
            "link.samplekey0": "samplevalue0",
            "link.samplekey1": "samplevalue1",
        },
    },
    "subscription": {"type": "unsubscribed", "at_ms": 1_641_949_217_910, "reason": "UnsubscribeHeader"},
    "notification_bounce": {
        "type": "bounced",
        "bounce": "hard",
        "recipient": "jane@example.com",
        "at_ms": 1_453_906_778_237,
        "reason": "Permanent",
        "smtp_reply": "smtp; 550 5.1.1 <jane@example.com>... User",
        "message_id": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
        "esp_event_id": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa068a-000000",
        "metadata": {},
    },
    "notification_complaint": {
        "type": "complained",
        "recipient": "richard@example.com",
        "at_ms": 1_453_906_778_237,
        "reason": "abuse",
        "message_id": "00000138111222aa-33322211-cccc-cccc-cccc-ddddaaaa0680-000000",
        "esp_event_id": "000001378603177f-18c07c78-fa81-4a58-9dd1-fedc3cb8f49a-000000",
        "metadata": {},
    },
}
NO_EVENTS = {
    "subscription_confirmation": [("SNS: SubscriptionConfirmation", 0)],
    "unsubscribe_confirmation": [("SNS: UnsubscribeConfirmation", 0)],
    "topic_connected": [],
}


def wrapped(sample: str, **changes: object) -> bytes:
    document = {**json.loads(samples.sample(NAME, sample)), **changes}
    return body(envelope(json.dumps(document)))


def one(sample: str, **changes: object) -> Event:
    return samples.one(NAME, wrapped(sample, **changes))


def part(sample: str, member: str, **changes: object) -> Event:
    document = json.loads(samples.sample(NAME, sample))
    return one(sample, **{member: {**document[member], **changes}})


def test_no_sample_is_forgotten() -> None:
    assert samples.names_of(NAME) == {*EXPECTED, *NO_EVENTS, "notification_delivery"}


@pytest.mark.parametrize("sample", EXPECTED)
def test_the_documentation_s_example(sample: str) -> None:
    assert samples.differences(one(sample), {**COMMON, **EXPECTED[sample]}) == {}


@pytest.mark.parametrize("sample", NO_EVENTS)
def test_what_is_no_event(sample: str) -> None:
    assert samples.poison(NAME, samples.sample(NAME, sample)) == NO_EVENTS[sample]
    assert samples.events(NAME, samples.sample(NAME, sample)) == []


def test_one_notification_about_several_recipients() -> None:
    found = samples.events(NAME, wrapped("notification_delivery"))
    assert [event.recipient for event in found] == ["jane@example.com", "mary@example.com"]
    assert {event.type for event in found} == {"delivered"}
    alone = amazon_ses.split(wrapped("notification_delivery"), {})
    assert [samples.one(NAME, raw) for raw in alone] == found


@pytest.mark.parametrize("sample", ["open", "click", "subscription"])
def test_an_open_of_several_recipients_is_nobody_s(sample: str) -> None:
    document = json.loads(samples.sample(NAME, sample))
    document["mail"]["destination"].append("other@example.com")
    reason = f"SES does not say which recipient {EXPECTED[sample]['type']}".replace("unsub", "sub")
    assert samples.poison(NAME, body(envelope(json.dumps(document)))) == [(reason, 0)]


def test_what_tells_that_a_topic_was_connected_is_no_event() -> None:
    told = "Successfully validated SNS topic for Amazon SES event publishing."
    for message in (told, samples.sample(NAME, "topic_connected").decode()):
        assert amazon_ses.parse(body(envelope(message)), {}) == []
        assert amazon_ses.split(body(envelope(message)), {}) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "the message is no event of SES"),
        ("", "the message is no event of SES"),
        ("[]", "the message is no event of SES"),
        ('{"a":', "not JSON"),
        ('{"a":1,"a":2}', "a name twice in one object"),
        ("{}", "no recipient"),
        ('{"eventType": "Open", "mail": {"destination": [7, "", {}]}}', "no recipient"),
    ],
)
def test_another_message_is_a_dead_letter_that_keeps_its_envelope(message: str, reason: str) -> None:
    raw = body(envelope(message))
    assert samples.poison(NAME, raw) == [(reason, 0)]
    assert TOPIC.encode() in amazon_ses.split(raw, {})[0]


@pytest.mark.parametrize(
    ("changes", "kind", "bounce", "reason"),
    [
        ({"bounceType": "Transient", "bounceSubType": "MailboxFull"}, "bounced", "soft", "MailboxFull"),
        ({"bounceType": "Transient", "bounceSubType": "General"}, "bounced", "soft", "Transient"),
        ({"bounceType": "Undetermined", "bounceSubType": "Undetermined"}, "bounced", "soft", "Undetermined"),
        ({"bounceSubType": "NoEmail"}, "bounced", "hard", "NoEmail"),
        ({"bounceSubType": "Suppressed"}, "rejected", None, "Suppressed"),
        ({"bounceSubType": "OnAccountSuppressionList"}, "rejected", None, "OnAccountSuppressionList"),
        ({"bounceSubType": "UnsubscribedRecipient"}, "rejected", None, "UnsubscribedRecipient"),
        ({"bounceType": 5, "bounceSubType": []}, "bounced", "soft", None),
    ],
)
def test_every_bounce_has_its_meaning(
    changes: dict[str, object], kind: str, bounce: str | None, reason: str | None
) -> None:
    event = part("bounce", "bounce", **changes)
    assert (event.type, event.bounce, event.reason) == (kind, bounce, reason)


def test_a_complaint_may_be_none() -> None:
    event = part("complaint", "complaint", complaintFeedbackType="not-spam")
    assert (event.type, event.metadata["event"]) == ("unknown", "Complaint: not-spam")
    event = part("complaint", "complaint", complaintSubType="OnAccountSuppressionList")
    assert (event.type, event.reason) == ("rejected", "OnAccountSuppressionList")


def topics(all_off: bool, **statuses: str) -> dict[str, object]:
    listed = [{"topicName": name, "subscriptionStatus": status} for name, status in statuses.items()]
    return {"unsubscribeAll": all_off, "topicSubscriptionStatus": listed}


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (topics(False, a="OptIn", b="OptIn"), topics(False, a="OptIn", b="OptOut"), "unsubscribed"),
        (topics(False, a="OptOut", b="OptOut"), topics(False, a="OptIn", b="OptOut"), "subscribed"),
        (topics(True, a="OptOut"), topics(False, a="OptIn"), "subscribed"),
        (topics(False, a="OptIn"), topics(True, a="OptIn"), "unsubscribed"),
        (None, topics(False, a="OptOut"), "unsubscribed"),
    ],
)
def test_which_way_a_subscription_changed(old: object, new: object, kind: str) -> None:
    event = part("subscription", "subscription", oldTopicPreferences=old, newTopicPreferences=new)
    assert event.type == kind


def test_without_a_time_of_its_own_the_event_has_the_envelope_s() -> None:
    event = one("open", open={}, mail={"destination": ["a@example.com"]})
    assert event.at_ms == 1_795_514_400_000


def test_a_recipient_may_carry_a_name() -> None:
    event = one("send", mail={"destination": ["Jane Doe <jane@example.com>"]})
    assert event.recipient == "jane@example.com"


def test_unknown_types_are_kept_with_their_name() -> None:
    event = one("open", eventType="Read Aloud")
    assert (event.type, event.metadata["event"]) == ("unknown", "Read Aloud")


@pytest.mark.parametrize("odd", samples.ODD_VALUES)
def test_fields_of_unexpected_types_are_dropped_and_the_event_stays(odd: object) -> None:
    names = ("ipAddress", "userAgent", "link", "linkTags", "timestamp")
    assert part("click", "click", **dict.fromkeys(names, odd)).type == "clicked"
    mail = {
        "timestamp": odd,
        "messageId": odd,
        "tags": odd,
        "commonHeaders": odd,
        "destination": ["a@example.com"],
    }
    assert one("click", mail=mail).recipient == "a@example.com"
    for sample, member in (("bounce", "bounce"), ("complaint", "complaint"), ("delivery", "delivery")):
        assert one(sample, **{member: odd}).recipient == "recipient@example.com"


def test_the_same_event_again_is_the_same_fact() -> None:
    first = wrapped("open")
    again = first.replace(b"22b80b92", b"33b80b92").replace(b"10:00:00", b"10:09:00")
    assert samples.identities(NAME, first) == samples.identities(NAME, again, 1_800_000_900_000)
    assert samples.identities(NAME, first) == samples.identities(NAME, samples.sample(NAME, "open"))
    other = first.replace(b"22:00:19.652Z", b"22:00:19.653Z")
    assert samples.identities(NAME, first) != samples.identities(NAME, other)


# The configuration


def configured(esp: str, **keys: object) -> Source:
    document = {"orgs": {"acme": {"sources": {"news": {"esp": esp, **keys}}}}}
    return (
        parse_organisations(document, lambda reference, unusable: b"secret", ESPS)
        .by_id["acme"]
        .sources["news"]
    )


def test_topics_are_what_vouches_for_a_source() -> None:
    found = configured(NAME, topics=[TOPIC], sns_sha1=True)
    assert (found.topics, found.sns_sha1, found.insecure) == ((TOPIC,), True, False)
    assert configured(NAME, topics=[TOPIC]).sns_sha1 is False
    for esp, keys in ((NAME, {}), ("sendgrid", {"topics": [TOPIC]})):
        with pytest.raises(ConfigError, match=r"orgs\.acme\.sources\.news\.secrets: is missing"):
            configured(esp, **keys)
