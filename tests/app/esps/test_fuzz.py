"""Any bytes, given to every ESP's parser and lock: events, poison or a refusal, nothing else. A new ESP inherits all of
it by standing in `ESPS`.

Two fuzzers: hypothesis, which shrinks what it finds, and a fast one of seeded byte-level mutations for large numbers
(`FUZZ_SEED` in the environment repeats a run; a failure prints seed and number).
"""

from __future__ import annotations

import os
import secrets
import time
from functools import cache
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import ESPS
from app.esps.esp import CERTIFICATE, NOW
from tests.support import locks, samples

# A broken certificate that is read all the same: it has signed nothing, and is never one that Amazon shows.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")

AT_S = 1_795_514_400
LONG = 1_000_000
SHORT = 1_500
"""For each ESP in the ordinary suite."""

OURS = {NOW: b"%d" % AT_S, CERTIFICATE: locks.SNS.pem}
"""What the API puts beside the request's headers."""
SOURCES = {esp: locks.source(esp) for esp in ESPS}

ODD_VALUES: tuple[object, ...] = (None, 5, True, "", "\0", [], {}, [{}])

# What tends to matter somewhere: ends of strings, brackets, numbers and texts that are none, and much of one thing.
TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"-Infinity", b"-1", b"0", b"1e999",
    b"9" * 25, b"9" * 5_000, b"0.1", b'""', b"[]", b"{}", b'{"":{}}', b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\0",
    b"\\ud800", b"\\u0000", b"\\", b"\r\n", b"\n", b"\xe2\x80\xa8", b"&", b"=", b"%", b"%00", b"%ff", b"%zz", b"+",
    b";", b"--", b"\r\n\r\n", b"1970-01-01T00:00:00Z", b"9999-12-31T23:59:59+23:59", b"0001-01-01 00:00", b"@", b"<>",
    b" ", b"[" * 2_000, b'{"a":' * 2_000, b"\xef\xbb\xbf", b'"email":"b@example.com",', b'"events":[',
    b'"event":"open",',
)  # fmt: skip

every_esp = pytest.mark.parametrize("esp", sorted(ESPS))


@cache
def signed(esp: str) -> list[locks.Request]:
    """Once: some signatures are other bytes each time."""
    return [locks.request(esp, body, AT_S) for body in samples.all_samples(esp)]


@cache
def seeds(esp: str) -> list[bytes]:
    """The ESP's samples, as they are and as they come over the wire."""
    return [*samples.all_samples(esp), *(request.body for request in signed(esp))]


def mutated(rng: Random, bodies: list[bytes]) -> bytes:
    """One of the bodies with one to four things done to it."""
    body = bodies[int(rng.random() * len(bodies))]
    for _ in range(1 + int(rng.random() * rng.random() * 4)):
        size = len(body)
        place = int(rng.random() * (size + 1))
        what = int(rng.random() * 8)
        if what == 0:
            body = body[:place] + rng.randbytes(1 + int(rng.random() * 4)) + body[place:]
        elif what == 1:
            body = body[:place] + body[place + 1 + int(rng.random() * 30) :]
        elif what == 2:
            body = body[:place] + rng.randbytes(1) + body[place + 1 :]
        elif what == 3:
            body = body[:place] + TOKENS[int(rng.random() * len(TOKENS))] + body[place:]
        elif what == 4:
            token = TOKENS[int(rng.random() * len(TOKENS))]
            body = body[:place] + token + body[place + len(token) :]
        elif what == 5:
            # A value's place: from one colon, comma or bracket on.
            start = body.find(b":" if rng.random() < 0.7 else b",", place)
            if start >= 0:
                token = TOKENS[int(rng.random() * len(TOKENS))]
                body = body[: start + 1] + token + body[start + 1 + int(rng.random() * 12) :]
        elif what == 6:
            other = bodies[int(rng.random() * len(bodies))]
            body = body[:place] + other[int(rng.random() * len(other)) :]
        else:
            body = body[:place]
    return body


def check_parser(esp: str, body: bytes, *, whole: bool) -> None:
    """`whole`: all promises; else the two that cost least, for each of a million."""
    if whole:
        samples.check_promises(esp, body)
        return
    count = len(ESPS[esp].parse(body, {}))
    made = samples.normalized(esp, body)
    facts = sum(len(record.entries) for _, record in made.records)
    assert facts + len(made.dead) == count


def check_lock(esp: str, headers: dict[bytes, bytes], body: bytes) -> bool:
    """All that the API asks an ESP's module before a body is stored; gives whether it is let in."""
    found, source = ESPS[esp], SOURCES[esp]
    try:
        if found.certificate_url is not None:
            found.certificate_url(source, body)
        found.verify(source, headers, body)
    except RejectRequest as error:
        assert error.status == 401 or (error.status == 403 and found.certificate_url is not None)  # noqa: PT017
        return False
    if found.confirmation is not None:
        found.confirmation(source, body)
    if found.once is not None:
        found.once(body)
    return True


def run(esp: str, number: int) -> None:
    seed = int(os.environ.get("FUZZ_SEED", secrets.randbelow(1 << 32)))
    print(f"{esp}: {number} mutated bodies, FUZZ_SEED={seed}")
    rng = Random(seed)
    bodies = seeds(esp)
    given = [(locks.wire_headers(request) | OURS, request.body) for request in signed(esp)]
    began = time.monotonic()
    body, headers = b"", OURS
    done = -1
    try:
        for done in range(number):
            body = mutated(rng, bodies)
            check_parser(esp, body, whole=done % 16 == 0)
            headers, good = given[int(rng.random() * len(given))]
            if rng.random() < 0.5:
                body = mutated(rng, [good])
            else:
                name = rng.choice(list(headers))
                if name != NOW:  # ours: it is always a number
                    headers, body = {**headers, name: mutated(rng, [headers[name]])}, good
            check_lock(esp, headers, body)
    except BaseException:
        print(f"number {done} of seed {seed}: {headers!r} {body!r}"[:2_000])
        raise
    print(f"{number / (time.monotonic() - began):,.0f} a second")


@every_esp
def test_a_request_as_its_esp_sends_it_is_let_in(esp: str) -> None:
    """Otherwise the mutated ones would all be refused at the first look."""
    for found in signed(esp):
        assert check_lock(esp, locks.wire_headers(found) | OURS, found.body)


@every_esp
def test_mutated_bodies(esp: str) -> None:
    run(esp, SHORT)


@pytest.mark.long
@every_esp
def test_a_million_mutated_bodies(esp: str) -> None:
    run(esp, LONG)


@every_esp
def test_an_odd_value_in_every_place(esp: str) -> None:
    for name in sorted(samples.names_of(esp)):
        body = samples.sample(esp, name)
        for changed in samples.with_odd_values(body, ODD_VALUES):
            check_parser(esp, changed, whole=False)


@every_esp
@given(data=st.data())
def test_any_bytes_give_events_or_poison(esp: str, data: st.DataObject) -> None:
    bodies = st.binary(max_size=200) | samples.mutations(*seeds(esp))
    samples.check_promises(esp, data.draw(bodies))


@every_esp
@given(data=st.data())
def test_any_signed_request_broken_somewhere_is_let_in_or_refused(esp: str, data: st.DataObject) -> None:
    found = data.draw(st.sampled_from(signed(esp)))
    headers = locks.wire_headers(found) | OURS
    if headers.keys() > OURS.keys() and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(headers.keys() - OURS.keys())))
        headers[name] = data.draw(samples.mutations(headers[name]))
        check_lock(esp, headers, found.body)
    else:
        check_lock(esp, headers, data.draw(samples.mutations(found.body)))


def test_a_seed_gives_the_same_bodies_again() -> None:
    bodies = seeds("mailtrap")
    first, second = Random(7), Random(7)
    assert [mutated(first, bodies) for _ in range(500)] == [mutated(second, bodies) for _ in range(500)]
