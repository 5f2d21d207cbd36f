"""The generic source: events in our own words, for senders without one of the ESPs and for everything self-made.

A body is `{"events": [{…}, …]}`; an event's fields and which of them are needed stand in the docs ("Events of your
own"). Rules:
- What is wrong with a needed field refuses the event, in words for its sender; a field beyond them that is of an
  unexpected type is dropped.
- `POST /api/v1/events` asks `check_events` before it answers, the log's reader asks `parse`: both are the same code.
- `id` is the sender's own and stable over resends: it makes the identity.
- Through `/webhooks/{org}/{source}` it is let in by `basic`, `bearer` or `secrets` (which are bearer tokens here).
"""

from __future__ import annotations

from typing import Final

import msgspec

from app.esps import documents, fields, limits
from app.esps.credentials import check_authorization
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import TYPE_NUMBERS, Event, Poison
from app.organisations import Organisation, Source

IMPLICIT_SOURCE: Final = "api"
"""Name of the source of an organisation that has no generic source of its own in its configuration."""

_BOUNCES: Final = frozenset({"hard", "soft"})
_encode = msgspec.json.Encoder().encode


def events_source(organisation: Organisation) -> Source:
    """The source that `POST /api/v1/events` feeds."""
    return organisation.generic_source() or Source(org=organisation.id, name=IMPLICIT_SOURCE, esp="generic")


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    if source.insecure:
        return
    bearer = source.bearer + source.secrets
    if not bearer and not source.basic:
        raise refused()
    check_authorization(source, headers, bearer)


class Refused(msgspec.Struct, frozen=True):
    index: int
    error: str


class Checked(msgspec.Struct, frozen=True):
    """What to keep of a body and what to tell its sender."""

    accepted: int
    refused: list[Refused]
    body: bytes
    """A body with the accepted events alone."""
    error: str | None = None
    """Why the body as a whole is no list of events; then the rest is empty."""
    too_many: bool = False


def check_events(body: bytes) -> Checked:
    accepted: list[bytes] = []
    refused_events: list[Refused] = []
    for index, item in enumerate(documents.read_wrapped(body)):
        if isinstance(item, Poison):
            if item.reason == documents.TOO_MANY:
                return Checked(0, [], b"", item.reason, too_many=True)
            if item.index is None:
                return Checked(0, [], b"", item.reason)
            refused_events.append(Refused(item.index, item.reason))
            continue
        event = _event(item)
        error = event if isinstance(event, str) else limits.problem(event)
        if error is None:
            accepted.append(_encode(item))
        else:
            refused_events.append(Refused(index, error))
    kept = body if not refused_events else documents.body_of(accepted, wrapped=True)
    return Checked(len(accepted), refused_events, kept)


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    result: list[Event | Poison] = []
    for index, item in enumerate(documents.read_wrapped(body)):
        if isinstance(item, Poison):
            result.append(item)
            continue
        event = _event(item)
        if isinstance(event, str):
            result.append(documents.poison(event, index, item, wrapped=True))
        else:
            result.append(event)
    return result


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_wrapped(body), wrapped=True)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or what is wrong with it."""
    get = item.get
    for name in ("type", "campaign", "recipient"):
        if fields.text(get(name)) is None:
            return f"{name}: is missing" if get(name) is None else f"{name}: must be a text"
    if get("at") is None:
        return "at: is missing"
    at_ms = fields.time_ms(get("at"))
    if at_ms is None:
        return "at: must be RFC 3339 or milliseconds since 1970"
    word = str(item["type"])
    bounce = get("bounce")
    machine = get("machine")
    metadata = fields.strings(get("metadata"))
    if word not in TYPE_NUMBERS:
        metadata = {**metadata, "event": word}
    return Event(
        type=word if word in TYPE_NUMBERS else "unknown",
        recipient=str(item["recipient"]),
        campaign=str(item["campaign"]),
        at_ms=at_ms,
        event_id=fields.plain(get("id")) or None,
        esp_event_id=fields.plain(get("id")) or None,
        link=fields.text(get("link")),
        position=fields.whole(get("position")),
        ip=fields.text(get("ip")),
        user_agent=fields.text(get("user_agent")),
        country=fields.text(get("country")),
        city=fields.text(get("city")),
        bounce=bounce if isinstance(bounce, str) and bounce in _BOUNCES else None,
        reason=fields.text(get("reason")),
        smtp_reply=fields.text(get("smtp_reply")),
        message_id=fields.text(get("message_id")),
        provider=fields.text(get("provider")),
        variant=fields.strings(get("variant")) or None,
        machine=machine if isinstance(machine, bool) else None,
        tags=fields.texts(get("tags")),
        metadata=metadata,
    )


ESP: Final = Esp(name="generic", verify=verify, parse=parse, split=split)
