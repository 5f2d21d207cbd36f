"""What holds for the lock of every ESP, whatever its scheme. A new ESP inherits all of it by standing in `ESPS`."""

from __future__ import annotations

import importlib
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError, RejectRequest
from app.esps import ESPS
from app.esps.esp import CERTIFICATE, COMMON_HEADERS, NOW, QUERY_KEY, refused
from app.organisations import Source
from tests.support import samples
from tests.support.intake import SendgridKey
from tests.support.samples import is_refused
from tests.support.sns import TOPIC, Signer

SIGNER = Signer()
AT = b"1795514400"

# Where any bytes are no key.
KEYS = {
    "postal": SIGNER.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "resend": b"whsec_" + b64encode(b"twenty-four bytes of key"),
    "sendgrid": SendgridKey().public,
}
ANY_KEY = b"0123456789abcdef0123456789abcdef"
BY_SIGNATURE_ALONE = frozenset({"amazon_ses"})
"""ESPs for which a password is never enough."""

GARBAGE = (
    b"",
    b" ",
    b"\0",
    b"\xff" * 50,
    "é".encode(),
    b"garbage",
    b"=" * 8,
    b"A" * 28,
    b"A" * 27 + b"=",
    b"0" * 32,
    b"0" * 40,
    b"0" * 64,
    b"-1",
    b"9" * 30,
    b"nan",
    b"v1",
    b"v1,",
    b"v1,a,b",
    b"v1,\xc3\xa9 v2,",
    b"t=1,v1=2",
    b"Basic",
    b"Basic ",
    b"Basic \xff",
    b"Basic " + b64encode(b"\xff\xfe"),
    b"Basic " + b64encode(b"user"),
    b"Basic " + b64encode(b"user:wrong"),
    b"Basic " + b64encode(b"user:wor"),
    b"Basic " + b64encode(b"user:word")[:-1],
    b"Basic " + b64encode(b"token"),
    b"Basic Basic " + b64encode(b"user:word"),
    b"Bearer",
    b"Bearer \xff",
    b"Bearer wrong",
    b"Bearer toke",
    b"Bearer tokens",
    b"Bearer user:word",
    b"Bearer token token",
    b"Digest user:word",
    b"A" * 1_000_000,
    b"Bearer " + b"A" * 1_000_000,
)
BODIES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"{}",
    b"[]",
    b"null",
    b"[" * 50_000,
    b'{"signature":' * 5_000,
    b'{"auth":"","signature":{"timestamp":"","token":"","signature":""}}',
    b'{"auth":null,"signature":{"timestamp":null,"token":7,"signature":[]}}',
    b'{"signature":{"timestamp":"1795514400","token":"\\ud800","signature":"\\ud800"}}',
    b"timestamp=&token=&signature=",
    b"timestamp=%FF&token=%&signature=%00",
    b'--x\r\nContent-Disposition: form-data; name="signature"\r\n\r\n\xff\r\n--x--',
    b"&" * 5_000,
    b"A" * 1_000_000,
)


def key(esp: str) -> bytes:
    return KEYS.get(esp, ANY_KEY)


def signed(esp: str) -> Source:
    """A source that wants the ESP's signature, or a password where the ESP signs nothing."""
    source = samples.source(esp, key(esp), topics=(TOPIC,), public_url="https://a.example/")
    try:
        ESPS[esp].check(source)
    except ConfigError:
        plain = () if esp in BY_SIGNATURE_ALONE else (b"user:word",)
        source = samples.source(esp, topics=(TOPIC,), basic=plain)
    return source


def by_password(esp: str) -> Source:
    return samples.source(esp, basic=(b"old:word", b"user:word"), bearer=(b"old", b"token"), topics=(TOPIC,))


def header_names(esp: str) -> set[bytes]:
    """Those that the ESP's module names in a constant, and those that count for all."""
    modules = [importlib.import_module(f"app.esps.{esp}")]
    if esp in BY_SIGNATURE_ALONE:
        modules.append(importlib.import_module("app.esps.sns"))
    constants = [value for module in modules for name, value in vars(module).items() if name.isupper()]
    named = {value for value in constants if type(value) is bytes and _is_header(value)}
    return named | {b"authorization", b"content-encoding", QUERY_KEY}


def _is_header(value: bytes) -> bool:
    return value == value.lower() and len(value) < 60 and not {32, 58} & set(value)


def bodies(esp: str) -> list[bytes]:
    return [*BODIES, *(samples.sample(esp, name) for name in sorted(samples.names_of(esp)))]


every_esp = pytest.mark.parametrize("esp", sorted(ESPS))


@every_esp
def test_garbage_in_any_header_is_refused_and_nothing_else(esp: str) -> None:
    body = samples.sample(esp, min(samples.names_of(esp)))
    for source in (signed(esp), by_password(esp)):
        for name in header_names(esp):
            for value in GARBAGE:
                assert is_refused(source, {NOW: AT, name: value}, body), (name, value[:40])


@every_esp
def test_the_same_garbage_in_all_headers_at_once(esp: str) -> None:
    names = [*header_names(esp), CERTIFICATE]
    for source in (signed(esp), by_password(esp)):
        for value in GARBAGE:
            assert is_refused(source, {**dict.fromkeys(names, value), NOW: AT}, b"{}"), value[:40]


@every_esp
def test_an_unsigned_body_is_refused_whatever_it_is(esp: str) -> None:
    for source in (signed(esp), by_password(esp)):
        for body in bodies(esp):
            assert is_refused(source, {NOW: AT}, body), body[:60]


@every_esp
def test_without_anything_to_check_nothing_is_let_in(esp: str) -> None:
    headers = {NOW: AT, b"authorization": b"Bearer ", QUERY_KEY: b"", CERTIFICATE: SIGNER.pem}
    for body in bodies(esp):
        assert is_refused(samples.source(esp), headers, body)
        assert is_refused(samples.source(esp), {}, body)


@every_esp
def test_an_empty_secret_opens_nothing(esp: str) -> None:
    """The configuration takes none; were one to come through, it would not be a key for who sends nothing."""
    source = samples.source(esp, b"", topics=(TOPIC,), public_url="https://a.example/")
    for body in bodies(esp):
        assert is_refused(source, {NOW: AT}, body)


@every_esp
def test_insecure_takes_anything_and_says_so_by_one_flag(esp: str) -> None:
    source = samples.source(esp, insecure=True)
    for body in bodies(esp):
        ESPS[esp].verify(source, {}, body)
        ESPS[esp].verify(source, dict.fromkeys(header_names(esp), b"\xff"), body)
    ESPS[esp].check(source)


PASSWORDS = (
    {b"authorization": b"Basic " + b64encode(b"user:word")},
    {b"authorization": b"basic " + b64encode(b"old:word")},
    {b"authorization": b"Bearer token"},
    {b"authorization": b"BEARER old"},
    {QUERY_KEY: b"token"},
)


@every_esp
@pytest.mark.parametrize("headers", PASSWORDS)
def test_a_source_s_own_password_opens_it_and_no_other_source(esp: str, headers: dict[bytes, bytes]) -> None:
    body = samples.sample(esp, min(samples.names_of(esp)))
    given = {**headers, NOW: AT}
    assert is_refused(by_password(esp), given, body) == (esp in BY_SIGNATURE_ALONE)
    theirs = samples.source(esp, basic=(b"their:word",), bearer=(b"theirs",), topics=(TOPIC,))
    assert is_refused(theirs, given, body)
    if signed(esp).secrets:
        assert is_refused(signed(esp), given, body), "a password in place of a signature"


@every_esp
def test_a_secret_itself_in_place_of_a_signature_opens_nothing(esp: str) -> None:
    source = signed(esp)
    body = samples.sample(esp, min(samples.names_of(esp)))
    ways = [{name: secret} for name in header_names(esp) for secret in source.secrets]
    ways += [{b"authorization": b"Bearer " + secret} for secret in source.secrets]
    for headers in ways:
        if esp == "generic" and {b"authorization", QUERY_KEY} & set(headers):
            continue  # its secrets are tokens
        assert is_refused(source, {**headers, NOW: AT}, body), headers


@every_esp
def test_every_refusal_says_the_same(esp: str) -> None:
    said = set()
    for source in (signed(esp), by_password(esp), samples.source(esp)):
        for headers in ({}, {b"authorization": b"Basic !"}, dict.fromkeys(header_names(esp), b"garbage")):
            with pytest.raises(RejectRequest) as error:
                ESPS[esp].verify(source, {**headers, NOW: AT}, b"{}")
            said.add((error.value.status, error.value.code, error.value.message))
    assert said == {(401, refused().code, refused().message)}


@every_esp
@given(data=st.data())
def test_any_headers_and_any_body_are_refused_and_nothing_else(esp: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(header_names(esp)))
    headers = data.draw(st.dictionaries(names, st.binary(max_size=60)))
    body = data.draw(st.binary(max_size=120) | st.sampled_from(bodies(esp)))
    assert is_refused(data.draw(st.sampled_from([signed(esp), by_password(esp)])), {**headers, NOW: AT}, body)


@every_esp
def test_no_credential_is_kept_with_the_body(esp: str) -> None:
    kept = ESPS[esp].headers | COMMON_HEADERS
    assert not {"authorization", "cookie", "proxy-authorization"} & kept
    assert not [name for name in kept if "signature" in name or "token" in name or ":" in name]
    assert all(name == name.lower() for name in kept)


@every_esp
def test_its_answers_are_ones_that_the_api_gives(esp: str) -> None:
    assert ESPS[esp].busy.status in (429, 503)
    assert ESPS[esp].busy.retry_after_s > 0
    assert ESPS[esp].probes <= {"GET", "HEAD"}
    assert (esp == "brevo") == (ESPS[esp].busy.status == 429), "Brevo throws away what is answered 5xx"


@every_esp
def test_a_source_shows_no_secret(esp: str) -> None:
    shown = repr(samples.source(esp, b"hidden-1", basic=(b"hidden-2:x",), bearer=(b"hidden-3",)))
    assert "hidden" not in shown


@pytest.mark.parametrize("esp", ["brevo", "mailjet", "postmark", "sparkpost"])
def test_a_secret_is_a_mistake_where_nothing_is_signed(esp: str) -> None:
    ESPS[esp].check(samples.source(esp, basic=(b"user:word",)))
    with pytest.raises(ConfigError, match=r"orgs\.acme\.sources\.news\.secrets"):
        ESPS[esp].check(samples.source(esp, b"secret"))


@every_esp
def test_a_check_complains_with_the_setting_s_name_or_not_at_all(esp: str) -> None:
    for secret in (b"no key at all", b"\xff\x00", b"A" * 10_000, b"whsec_!", b"-----BEGIN PUBLIC KEY-----"):
        problem = ESPS[esp].unusable(secret)
        assert problem is None or secret.decode("latin-1") not in problem
        try:
            ESPS[esp].check(samples.source(esp, secret))
        except ConfigError as error:
            assert error.setting.startswith("orgs.acme.sources.news.")  # noqa: PT017
            assert secret.decode("latin-1") not in str(error)  # noqa: PT017
