"""What the tests of ESPs' modules share: sample payloads by name, what becomes of a body, and what must hold of any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from app.errors import RejectRequest
from app.esps import ESPS, documents
from app.facts import TYPE_NUMBERS, Event, Identity, Poison
from app.normalize import Normalized, normalize
from app.organisations import Organisation, Source
from app.topics import Webhook
from app.user_agents import look_up_agent

SAMPLES = Path(__file__).parents[1] / "app" / "esps" / "samples"
RECEIVED_MS = 1_795_200_000_000

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BROKEN_MEMBERS = [
    (b'"x":NaN', documents.NOT_JSON),
    (b'"x":-Infinity', documents.NOT_JSON),
    (b'"x":"\\ud800"', documents.NOT_JSON),
    (b'"x":"\xff"', documents.NOT_UTF8),
    (b'"\xed\xa0\x80":1', documents.NOT_UTF8),
    (b'"x":' + b"9" * 5_000, documents.BIG_NUMBER),
    (b'"x":1e999', documents.BIG_NUMBER),
    (b'"x":' + b"[" * 50_000 + b"]" * 50_000, documents.TOO_DEEP),
    (b'"x":1,"x":2', documents.TWICE),
    (b'"x":{"y":1,"y" : 2}', documents.TWICE),
    (b'"x"', documents.NOT_JSON),
]
"""What an object can't be read with, and why."""
ODD_VALUES: list[object] = [None, 5, -1, 1.5, True, "", " ", [], [[]], [None, 7], {}, [{}], {"a": []}, "\0"]


def source(esp: str, *secrets: bytes, **more: object) -> Source:
    return msgspec.structs.replace(Source(org="acme", name="news", esp=esp, secrets=secrets), **more)


# Samples


def names_of(esp: str) -> set[str]:
    return {path.stem for path in (SAMPLES / esp).glob("*.json")}


def sample(esp: str, name: str) -> bytes:
    """`name`: of a file, where it is no `.json` with what stands behind its dot."""
    return (SAMPLES / esp / (name if "." in name else f"{name}.json")).read_bytes()


def all_samples(esp: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((SAMPLES / esp).iterdir()) if path.suffix != ".md"]


def document(esp: str, name: str) -> object:
    return json.loads(sample(esp, name))


# What becomes of a body


def is_refused(found: Source, headers: Mapping[bytes, bytes], body: bytes) -> bool:
    """Whether it is refused with 401. Any other exception than a refusal passes through."""
    try:
        ESPS[found.esp].verify(found, headers, body)
    except RejectRequest as error:
        if error.status != 401:
            raise
        return True
    return False


def events(esp: str, body: bytes) -> list[Event]:
    return [item for item in ESPS[esp].parse(body, {}) if isinstance(item, Event)]


def poison(esp: str, body: bytes) -> list[tuple[str, int | None]]:
    return [(item.reason, item.index) for item in ESPS[esp].parse(body, {}) if isinstance(item, Poison)]


def read(esp: str, body: bytes, headers: Mapping[str, str] | None = None) -> list[Event]:
    """The body's events; there must be no poison."""
    result = ESPS[esp].parse(body, headers or {})
    assert not [item for item in result if isinstance(item, Poison)], result
    return [item for item in result if isinstance(item, Event)]


def one(esp: str, body: bytes) -> Event:
    (event,) = read(esp, body)
    return event


def repaired(esp: str, item: object, *place: str) -> Event:
    """What becomes of a poison's own body once there is an address at the place."""
    assert isinstance(item, Poison)
    whole = json.loads(item.raw)
    found = whole[0]
    for name in place[:-1]:
        found = found[name]
    found[place[-1]] = "b@example.com"
    return one(esp, json.dumps(whole).encode())


def differences(event: Event, expected: dict[str, object]) -> dict[str, tuple[object, object]]:
    """Every field in which the event is not as expected; a field that `expected` lacks is to have its default."""
    plain = Event(type="", recipient="")
    wanted = {name: expected.get(name, getattr(plain, name)) for name in event.__struct_fields__}
    return {
        name: (getattr(event, name), value) for name, value in wanted.items() if getattr(event, name) != value
    }


def normalized(
    esp: str,
    body: bytes,
    received_at_ms: int = RECEIVED_MS,
    headers: Mapping[str, str] | None = None,
    secret: bytes = b"secret",
) -> Normalized:
    """What the log's reader makes of it, without places."""
    found = source(esp)
    kept = tuple((headers or {}).items())
    webhook = Webhook(
        org="acme", source="news", esp=esp, received_at_ms=received_at_ms, headers=kept, body=body
    )
    acme = Organisation(id="acme", name="Acme", timezone="UTC", sources={"news": found})
    return normalize(webhook, found, acme, secret, 4, look_up_agent, lambda ip: None)


def identities(
    esp: str, body: bytes, received_at_ms: int = RECEIVED_MS, headers: Mapping[str, str] | None = None
) -> list[Identity]:
    """Of each fact that the webhook gives, in any order; there must be no dead letter."""
    made = normalized(esp, body, received_at_ms, headers)
    assert not made.dead, made.dead
    return sorted(entry.fact.identity for _, record in made.records for entry in record.entries)


# What must hold of any body


def check_promises(esp: str, body: bytes) -> None:
    """What `Esp` promises of any bytes: events or poison, and `split` beside `parse`; and of each event or poison the
    log's reader makes one fact or one dead letter."""
    parse, split = ESPS[esp].parse, ESPS[esp].split
    result = parse(body, {})
    bodies = split(body, {})
    assert len(bodies) == len(result)
    for item, alone in zip(result, bodies, strict=True):
        if isinstance(item, Poison):
            assert item.reason
            continue
        assert item.type in TYPE_NUMBERS
        assert item.at_ms is None or item.at_ms > 0
        assert item.bounce in (None, "hard", "soft")
        assert parse(alone, {}) == [item]
    made = normalized(esp, body)
    facts = sum(len(record.entries) for _, record in made.records)
    assert facts + len(made.dead) == len(result)
    assert all(dead.reason for dead in made.dead)


@st.composite
def mutations(draw: st.DrawFn, *bodies: bytes) -> bytes:
    """One of the bodies, with a few bytes replaced in one to three places."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=8)) + body[place + draw(st.integers(0, 20)) :]
    return body


def with_odd_values(body: bytes, values: Iterable[object]) -> Iterator[bytes]:
    """The JSON body with each of the values in the place of each of its own, and without each of them."""
    found = json.loads(body)

    def places(container: object) -> Iterator[tuple[Any, Any]]:
        keys = (
            container
            if isinstance(container, dict)
            else range(len(container) if isinstance(container, list) else 0)
        )
        for key in list(keys):
            yield container, key
            yield from places(container[key])  # type: ignore[index]

    for container, key in list(places(found)):
        before = container[key]
        for value in values:
            container[key] = value
            yield json.dumps(found).encode()
        container[key] = before
        if isinstance(container, dict):
            without = container.pop(key)
            yield json.dumps(found).encode()
            container[key] = without
