"""Reading single fields of an event: a value of any JSON type in, a value of ours or None out. Nothing is raised."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

MAX_MS: Final = 253_402_300_799_999
"""The end of the year 9999: behind it no time can be written in RFC 3339."""

# Numbers of this size and above are milliseconds, microseconds, nanoseconds: as seconds the first one is in the year
# 5138, as milliseconds it is in 1973. ESPs and senders mix these up, and no e-mail event is older.
_MS_FROM: Final = 100_000_000_000
_US_FROM: Final = 100_000_000_000_000
_NS_FROM: Final = 100_000_000_000_000_000

_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,12})?", re.ASCII)
# "550 5.1.1 …", "550-5.1.1 …", "smtp; 421 …"
_SMTP_REPLY: Final = re.compile(
    r"\s*(?:smtp;\s*)?([245][0-9]{2})\b(?:[ -]+#?([245]\.[0-9]{1,3}\.[0-9]{1,3})\b)?",
    re.ASCII | re.IGNORECASE,
)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,12})?)?"
    r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)

_DEVICES: Final = {
    "desktop": "desktop",
    "computer": "desktop",
    "mobile": "mobile",
    "phone": "mobile",
    "smartphone": "mobile",
    "tablet": "tablet",
}


def text(value: object) -> str | None:
    """A text that says something."""
    return value if type(value) is str and value else None


def plain(value: object) -> str | None:
    """A single value as text: what metadata holds. Lists, objects and null are none."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return repr(value)
    return None


def texts(value: object) -> tuple[str, ...]:
    """One text or a list of them (numbers are taken for texts) as a tuple."""
    if type(value) is str:
        return (value,) if value else ()
    if type(value) is not list:
        return ()
    return tuple(found for item in value if (found := plain(item)))


def strings(value: object) -> dict[str, str]:
    """An object's plain values as texts."""
    if type(value) is not dict:
        return {}
    return {key: found for key, item in value.items() if (found := plain(item)) is not None}


def metadata(own: object, item: Mapping[str, object], names: tuple[str, ...], word: object) -> dict[str, str]:
    """The sender's own values, of the ESP's fields `names` those whose names it doesn't use, and the ESP's word for
    what we have no type for."""
    found = strings(own)
    for name in names:
        if name not in found and (value := plain(item.get(name))):
            found[name] = value
    if type(word) is str:
        found["event"] = word
    return found


def members(value: object) -> dict[str, object]:
    """An object as it is; of anything else, an empty one."""
    return value if type(value) is dict else {}


def device(value: object) -> str | None:
    """An ESP's word for a kind of device → ours, where it has one."""
    return _DEVICES.get(value.lower()) if type(value) is str else None


def whole(value: object) -> int | None:
    """A number from 0 to 2³¹ - 1, also as text."""
    if type(value) is str and len(value) <= 10 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 31 else None


def time_ms(value: object) -> int | None:
    """Seconds, milliseconds, micro- or nanoseconds since 1970, as number or text, or RFC 3339 → milliseconds.

    None for what is no time, and for times before 1970, which no clock means.
    """
    kind = type(value)
    if kind is int:
        return _scaled(value)  # type: ignore[arg-type]
    if kind is float:
        return _scaled(value) if math.isfinite(value) else None  # type: ignore[arg-type]
    if kind is str:
        stripped = value.strip()[:64]  # type: ignore[attr-defined]
        if _NUMBER.fullmatch(stripped):
            return _scaled(float(stripped) if "." in stripped else int(stripped))
        if _RFC3339.fullmatch(stripped):
            return _from_text(stripped)
    return None


def _scaled(number: int | float) -> int | None:
    if number <= 0:
        return None
    if number < _MS_FROM:
        at_ms = round(number * 1000)
    elif number < _US_FROM:
        at_ms = int(number)
    elif number < _NS_FROM:
        at_ms = int(number // 1000)
    else:
        at_ms = int(number // 1_000_000)
    return at_ms if 0 < at_ms <= MAX_MS else None


def _from_text(stripped: str) -> int | None:
    try:
        parsed = datetime.fromisoformat(stripped.upper().replace(" ", "T"))
    except ValueError:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    try:
        at_ms = round(parsed.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return at_ms if 0 < at_ms <= MAX_MS else None


def reason_and_reply(value: object) -> tuple[str | None, str | None]:
    """Why it failed, of an ESP that has one field for its own words and those of the receiving server.

    A server's reply becomes ("550 5.1.1", the reply): its words name the recipient, so each would be a row of its own.
    Anything else stays a reason.
    """
    words = text(value)
    found = _SMTP_REPLY.match(words) if words else None
    if not found:
        return words, None
    return (f"{found[1]} {found[2]}" if found[2] else found[1]), words
