"""Query parameters that several requests share. A wrong one is 400 and named; its value is never repeated."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Final, TypeVar, cast

from starlette.datastructures import QueryParams

from app.errors import RejectRequest
from app.experiment import DEFAULT_RATE, RATES
from app.report import SECTIONS, Section
from app.summary import Count
from app.timeline import UNITS, Unit, zone_of

COUNTS: Final[tuple[Count, ...]] = ("all", "people")
MAX_LIMIT: Final = 500
MAX_MS: Final = 253_402_300_799_999

_Choice = TypeVar("_Choice", bound=str)


def bad(name: str, message: str) -> RejectRequest:
    return RejectRequest(400, "bad_parameter", f"{name}: {message}")


def only(query: QueryParams, known: Collection[str], several: str | None = None) -> None:
    """Refuses parameters that are not known or (but for `several`) stand twice: a slip of the pen is no silent
    default."""
    seen: set[str] = set()
    for name, _ in query.multi_items():
        if name not in known:
            raise RejectRequest(400, "unknown_parameter", f"known parameters: {', '.join(sorted(known))}")
        if name in seen and name != several:
            raise bad(name, "given twice")
        seen.add(name)


def campaigns_of(query: QueryParams, most: int) -> list[str]:
    """`campaign=` of each, in the order given."""
    names = query.getlist("campaign")
    if not names:
        raise bad("campaign", "give one for each campaign")
    if len(names) > most:
        raise bad("campaign", f"at most {most} of them")
    if len(set(names)) < len(names):
        raise bad("campaign", "the same one is given twice")
    return names


def choice_of(query: QueryParams, name: str, choices: Collection[_Choice], default: _Choice) -> _Choice:
    """One of `choices`, in the order in which a refusal names them."""
    value = query.get(name)
    if value is None:
        return default
    if value not in choices:
        raise bad(name, f"must be one of {', '.join(choices)}")
    return cast(_Choice, value)


def count_of(query: QueryParams) -> Count:
    return choice_of(query, "count", COUNTS, "all")


def unit_of(query: QueryParams) -> Unit | None:
    return None if "unit" not in query else choice_of(query, "unit", UNITS, "hour")


def rate_of(query: QueryParams) -> str:
    """What A/B verdicts are about."""
    return choice_of(query, "rate", tuple(RATES), DEFAULT_RATE)


def timezone_of(query: QueryParams, default: str) -> str:
    name = query.get("timezone", default)
    try:
        zone_of(name)
    except ValueError:
        raise bad("timezone", "must be an IANA timezone such as Europe/Berlin") from None
    return name


def sections_of(query: QueryParams) -> frozenset[Section]:
    if "sections" not in query:
        return frozenset(SECTIONS)
    names = [name.strip() for name in query["sections"].split(",")]
    found = frozenset(section for section in SECTIONS if section in names)
    if not names or len(found) != len(set(names)):
        raise bad("sections", f"must be a list of {', '.join(SECTIONS)}")
    return found


def whole_of(query: QueryParams, name: str, default: int, low: int, high: int) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) or not low <= int(value) <= high:
        raise bad(name, f"must be a whole number from {low} to {high}")
    return int(value)


def time_of(query: QueryParams, name: str) -> int | None:
    """RFC 3339, or milliseconds since 1970 → ms."""
    value = query.get(name)
    if value is None:
        return None
    moment_ms = moment_of(value)
    if moment_ms is None:
        # A plus sign that was not encoded arrives as a space.
        raise bad(
            name, "must be RFC 3339 with its offset (+ is %2B in an address), or milliseconds since 1970"
        )
    return moment_ms


def moment_of(value: str) -> int | None:
    """RFC 3339 with its offset, or milliseconds since 1970 → ms; None for anything else."""
    if re.fullmatch(r"[0-9]{1,15}", value, re.ASCII) and int(value) <= MAX_MS:
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
