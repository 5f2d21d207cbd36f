from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from app.esps.postal import ESP, OLD_SIGNATURE, SIGNATURE
from app.facts import Event
from tests.support.samples import (
    identities,
    is_refused,
    names_of,
    poison,
    read,
    sample,
    source,
)

NAME = "postal"
KEY = rsa.generate_private_key(65537, 2048)
OLD_KEY = rsa.generate_private_key(65537, 2048)
BODY = sample(NAME, "MessageLinkClicked")
AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.6 Safari/605.1.15"
)


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encoding: Encoding = Encoding.PEM) -> bytes:
    return key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def signature(key: rsa.RSAPrivateKey, body: bytes = BODY, digest: SHA1 | SHA256 | None = None) -> bytes:
    return b64encode(key.sign(body, PKCS1v15(), digest or SHA256()))


def jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    parts = {"e": numbers.e.to_bytes(3), "n": numbers.n.to_bytes(256)}
    encoded = {name: urlsafe_b64encode(part).decode().rstrip("=") for name, part in parts.items()}
    return {"kty": "RSA", "kid": "x", "use": "sig", **encoded}


SECRET = public(KEY)
SIGNED = {SIGNATURE: signature(KEY), OLD_SIGNATURE: signature(KEY, digest=SHA1())}


def refused(headers: dict[bytes, bytes], body: bytes = BODY, *secrets: bytes, **more: object) -> bool:
    return is_refused(source(NAME, *(secrets or (SECRET,)), **more), headers, body)


# Signatures


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        b"\n" + SECRET + b"\n",
        b64encode(public(KEY, Encoding.DER)),
        json.dumps({"keys": [jwk(OLD_KEY), jwk(KEY)]}).encode(),
    ],
)
def test_a_signature_over_the_raw_body_is_accepted_with_a_key_in_each_form(secret: bytes) -> None:
    assert not refused(SIGNED, BODY, secret)
    assert refused({SIGNATURE: signature(rsa.generate_private_key(65537, 2048))}, BODY, secret)


def test_any_of_several_keys_fits_and_one_that_is_no_key_is_passed_over() -> None:
    assert not refused(SIGNED, BODY, public(OLD_KEY), b"no key", b"{}", SECRET)


def test_the_older_signature_counts_only_where_the_source_says_so_and_there_is_no_newer_one() -> None:
    old = {OLD_SIGNATURE: SIGNED[OLD_SIGNATURE]}
    assert refused(old)
    assert not refused(old, postal_sha1=True)
    assert refused({**SIGNED, SIGNATURE: b"AAAA"}, postal_sha1=True)
    assert refused({**SIGNED, SIGNATURE: b""}, postal_sha1=True)
    assert refused({SIGNATURE: SIGNED[OLD_SIGNATURE]}, postal_sha1=True), "SHA-1 under the newer name"
    assert refused({OLD_SIGNATURE: SIGNED[SIGNATURE]}, postal_sha1=True)
    assert refused({OLD_SIGNATURE: signature(OLD_KEY, digest=SHA1())}, postal_sha1=True)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"AAAA",
        b"not base64",
        "é".encode(),
        b"=" * 8,
        b"A" * 1_000_000,
        signature(OLD_KEY),
        SIGNED[SIGNATURE][:-8],
        SIGNED[SIGNATURE].rstrip(b"="),
        SIGNED[SIGNATURE] + b"\n",
    ],
)
def test_any_other_signature_is_refused(given: bytes) -> None:
    assert refused({SIGNATURE: given})


def test_a_missing_signature_and_another_body_are_refused() -> None:
    assert refused({})
    assert refused(SIGNED, BODY + b" ")
    assert refused(SIGNED, b"")


def test_without_anything_to_check_nothing_is_taken_unless_the_source_says_insecure() -> None:
    assert is_refused(source(NAME), SIGNED, BODY)
    assert not is_refused(source(NAME, insecure=True), {}, BODY)
    assert refused(SIGNED, basic=(b"user:word",))
    assert not refused({**SIGNED, b"authorization": b"Basic dXNlcjp3b3Jk"}, basic=(b"user:word",))


@given(st.binary(max_size=400), st.binary(max_size=100), st.binary(max_size=200))
def test_verify_raises_nothing_but_a_refusal(given_: bytes, body: bytes, secret: bytes) -> None:
    assert refused({SIGNATURE: given_}, body, SECRET, secret)
    assert refused({OLD_SIGNATURE: b64encode(given_)}, body, secret, postal_sha1=True)


@pytest.mark.parametrize(
    "secret",
    [
        b"no key",
        b64encode(b"no key"),
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "EC"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQ", "e": "AQAB"}]}',
        b'{"keys": [{"kty": "RSA", "n": "\xc3\xa9", "e": "AQAB"}]}',
        public(ec.generate_private_key(ec.SECP256R1())),
        SECRET[:-40],
    ],
)
def test_a_secret_that_is_no_key(secret: bytes) -> None:
    assert ESP.unusable(SECRET) is None
    assert "of Postal" in (ESP.unusable(secret) or "")


# Events

EXPECTED: dict[str, dict[str, object]] = {
    "MessageSent": {"type": "delivered", "smtp_reply": "250 2.0.0 OK queued as 8F2C"},
    "MessageDelayed": {
        "type": "deferred",
        "reason": "451 4.7.1",
        "smtp_reply": "451 4.7.1 greylisted, come back in five minutes",
    },
    "MessageDeliveryFailed": {
        "type": "bounced",
        "bounce": "hard",
        "reason": "550 5.1.1",
        "smtp_reply": "550 5.1.1 ann@example.com: no mailbox of that name",
    },
    "MessageHeld": {"type": "rejected", "reason": "Recipient is on the suppression list"},
    "MessageBounced": {"type": "bounced", "bounce": "hard", "at_ms": 1_795_166_139_125},
    "MessageLinkClicked": {
        "type": "clicked",
        "link": "https://acme.example/spring",
        "ip": "192.0.2.7",
        "user_agent": AGENT,
        "at_ms": 1_795_166_142_500,
    },
    "MessageLoaded": {
        "type": "opened",
        "ip": "192.0.2.7",
        "user_agent": AGENT,
        "at_ms": 1_795_166_142_500,
    },
}
NO_RECIPIENT = ("DomainDNSError", "SendLimitApproaching", "SendLimitExceeded")
COMMON = Event(
    type="",
    recipient="ann@example.com",
    at_ms=1_795_166_141_750,
    message_id="5f0c1a2b3c4d@rp.postal.acme.example",
    tags=("spring",),
)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_event_field_by_field(name: str) -> None:
    body = sample(NAME, f"{name}")
    (event,) = read(NAME, body)
    uuid = json.loads(body)["uuid"]
    expected = {"event_id": uuid, "esp_event_id": uuid, **EXPECTED[name]}
    for field in Event.__struct_fields__:
        assert getattr(event, field) == expected.get(field, getattr(COMMON, field)), field


def test_no_sample_is_forgotten() -> None:
    assert names_of(NAME) == {*EXPECTED, *NO_RECIPIENT}


@pytest.mark.parametrize("name", NO_RECIPIENT)
def test_what_is_not_about_a_sent_message_is_a_dead_letter(name: str) -> None:
    assert poison(NAME, sample(NAME, f"{name}")) == [(f"{name}: not about a sent message", 0)]


def changed(name: str, **payload: object) -> bytes:
    item = json.loads(sample(NAME, f"{name}"))
    item["payload"] |= payload
    return json.dumps(item).encode()


def test_incoming_mail_is_a_dead_letter() -> None:
    message = {"to": "support@acme.example", "direction": "incoming"}
    assert poison(NAME, changed("MessageSent", message=message)) == [("about incoming mail", 0)]


@pytest.mark.parametrize("message", [None, {}, 5, [], {"to": None}, {"to": " "}, {"to": ["ann@example.com"]}])
def test_without_a_recipient_it_is_a_dead_letter(message: object) -> None:
    assert poison(NAME, changed("MessageSent", message=message)) == [("no recipient", 0)]


@pytest.mark.parametrize(
    ("output", "details", "bounce", "reason", "reply"),
    [
        ("552 5.2.2 full", "Permanent error", "hard", "552 5.2.2", "552 5.2.2 full"),
        ("451 try again", "Temporary error", "soft", "451", "451 try again"),
        (
            "",
            "Maximum number of delivery attempts (18) has been reached.",
            "soft",
            "Maximum number of delivery attempts has been reached.",
            None,
        ),
        ("", "No SMTP servers for example.com", "hard", "No SMTP servers for example.com", None),
        ("Connection reset", "", "hard", None, "Connection reset"),
        (None, None, "hard", None, None),
    ],
)
def test_hard_and_soft_failures(
    output: object, details: object, bounce: str, reason: str | None, reply: str | None
) -> None:
    (event,) = read(NAME, changed("MessageDeliveryFailed", output=output, details=details))
    assert (event.bounce, event.reason, event.smtp_reply) == (bounce, reason, reply)


def test_an_unknown_event_is_kept_with_its_name() -> None:
    (event,) = read(NAME, BODY.replace(b"MessageLinkClicked", b"MessageRead"))
    assert (event.type, event.metadata) == ("unknown", {"event": "MessageRead"})


def test_the_same_event_sent_again_is_the_same_fact() -> None:
    first = identities(NAME, BODY)
    assert identities(NAME, BODY, 1_795_290_000_000) == first
    assert identities(NAME, BODY.replace(b"d46", b"d47")) != first
