"""Bodies and events that cannot be understood: correctly signed, and never to be counted.

Each carries a word of its own, so that every one of them can be found among the dead letters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cli.traffic.esps import WRITERS
from cli.traffic.happening import Happening, Mail
from cli.traffic.world import NOBODY

BODIES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "truncated": lambda word: b'[{"email": "' + word + b'@example.com", "event": "open", "timest',
    "bad UTF-8": lambda word: (
        b'[{"email": "' + word + b'\xff\xfe@example.com", "event": "open", "timestamp": 1}]'
    ),
    "deep nesting": lambda word: (
        b'[{"email": "' + word + b'", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]"
    ),
    "NaN": lambda word: b'[{"email": "' + word + b'@example.com", "event": "open", "timestamp": NaN}]',
    "not an array": lambda word: b'"' + word + b'"',
    "control characters": lambda word: b'[{"email": "' + word + b'\x00\x01"}]',
    "empty": lambda word: b" " * (1 + len(word)),
}
"""Name → a body made of a word. A body as a whole is one dead letter."""

_At = Callable[[str, str], dict[str, object]]
"""Of a word and the ESP's name."""


def _no_recipient(word: str, esp: str) -> dict[str, object]:
    """A delivery of that ESP to nobody."""
    mail = Mail(
        campaign=word, number=0, recipient=" ", variant={"subject": "A", "content": "1"}, provider="", country="",
        city="", ip="", agent=NOBODY,
    )  # fmt: skip
    return WRITERS[esp].event(Happening(mail=mail, type="delivered", at_ms=1_700_000_000_000), word)[0]


NO_RECIPIENT: Final[dict[str, _At]] = {"recipient is empty": _no_recipient}
"""Name → one event that is broken: it alone is the dead letter."""

EVENTS: Final[dict[str, dict[str, _At]]] = {
    "sendgrid": {
        **NO_RECIPIENT,
        "no recipient": lambda word, esp: {"event": "open", "timestamp": 1_700_000_000, "sg_event_id": word},
        "recipient is a list": lambda word, esp: {
            "email": [word],
            "event": "open",
            "timestamp": 1_700_000_000,
        },
    },
    # `POST /api/v1/events` names these as refused and does not store them.
    "generic": {
        "no recipient": lambda word, esp: {"type": "opened", "campaign": word, "at": 1_700_000_000_000},
        "no time": lambda word, esp: {"type": "opened", "campaign": word, "recipient": "x@example.com"},
        "time is a word": lambda word, esp: {
            "type": "opened",
            "campaign": word,
            "recipient": "x@example.com",
            "at": "now",
        },
    },
}
"""ESP → name → such an event; for all others there is `NO_RECIPIENT`."""
