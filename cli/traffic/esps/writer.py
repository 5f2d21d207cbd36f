"""The shape that every ESP's writer has: one constant `WRITER` of this type, made of pure functions.

Rules:
- What an ESP has no word for is left out: a type that is missing in `types` is not sent at all, a field that it can't
  express is not said, and `Meant` says what is meant by what is left. Written from the ESP's documentation, by the
  pages that stand at the head of `app/esps/<esp>.py`, and without a look at what the parser makes of it.
- `body` makes one request's body of events, `sign` makes it ready for one attempt: times are signed anew with each.
- Same event, same bytes. Only `renew` gives an event another id, for ESPs whose ids do not survive a resend.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from cli.traffic.happening import Happening, Mail
from cli.traffic.world import NOBODY, OTHER_DOMAINS

Event = dict[str, object]
Signed = tuple[dict[str, str], bytes]
"""Headers and body of one attempt."""

ENGAGEMENT: Final = frozenset({"opened", "clicked"})
encode: Final = msgspec.json.Encoder().encode


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's webhooks are signed with; empty where it needs none."""

    secret: bytes = b""
    private_key: bytes = b""
    """PEM, for those that sign with RSA or ECDSA."""
    basic: bytes = b""
    """`user:password`."""
    bearer: bytes = b""
    public_url: str = ""
    topic: str = "arn:aws:sns:eu-west-1:123456789012:ses-events"
    """Of SNS."""

    def __repr__(self) -> str:
        return "Credentials(***)"


class Meant(msgspec.Struct, gc=False, kw_only=True):
    """What an event says, read by a person who knows the ESP: for the ledger."""

    at_ms: int
    own_id: str | None = None
    """The sender's own id where it makes the identity."""
    position: int | None = None
    ip: str | None = None
    user_agent: str | None = None
    client: str | None = None
    device: str | None = None
    system: str | None = None
    browser: str | None = None
    country: str | None = None
    city: str | None = None
    provider: str | None = None
    variant: dict[str, str] | None = None
    bounce: str | None = None
    reason: str | None = None
    machine: bool = False
    verdict: str | None = None


Said = tuple[Event, Meant]


class Writer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    types: frozenset[str]
    """Ours that this ESP has words for."""
    event: Callable[[Happening, str], Said]
    """The event with this id; asked for `types` only."""
    body: Callable[[list[Event]], bytes]
    """A request's body; at least one event and at most `largest`."""
    sign: Callable[[Credentials, bytes, int], Signed]
    """A body at this time (s since 1970): the headers that vouch for it, and the body where the signature is in it."""
    largest: int = 1
    """Events of a request at most."""
    renew: Callable[[Event, str], None] | None = None
    """Changes the event's id, which this word is part of then."""


def meant(
    happening: Happening,
    *,
    precision_ms: int = 1000,
    own_id: str | None = None,
    agent: bool = True,
    place: bool = False,
    city: bool = True,
    position: bool = False,
    machine: bool = False,
    provider: bool = False,
    variant: bool = True,
    reason: str | None = None,
) -> Meant:
    """`agent`: address and agent are said; `place`: the country is, and the city with it; `machine`: that no person did
    it is said; `provider`: the mailbox provider is named, where there is one to name.
    """
    mail = happening.mail
    engaged = happening.type in ENGAGEMENT
    verdict = None
    if engaged:
        # The agents of this traffic say by themselves whose they are.
        verdict = happening.verdict if agent else "human"
        if machine and verdict == "human":
            verdict = "proxy" if happening.type == "opened" else "scanner"
    read = happening.agent if agent and happening.agent is not None else NOBODY
    placed = place and engaged
    return Meant(
        at_ms=happening.at_ms // precision_ms * precision_ms,
        own_id=own_id,
        position=happening.position if position else None,
        ip=happening.ip if agent else None,
        user_agent=happening.user_agent if agent else None,
        client=read.client,
        device=read.device,
        system=read.system,
        browser=read.browser,
        country=mail.country if placed else None,
        city=mail.city if placed and city else None,
        provider=(mail.provider if provider else "") or OTHER_DOMAINS,
        variant=mail.variant if variant else None,
        bounce=happening.bounce,
        reason=reason,
        machine=machine,
        verdict=verdict,
    )


def metadata(mail: Mail) -> dict[str, str]:
    """What a sender puts into the mail and gets back with each event."""
    return {
        "campaign_id": mail.campaign,
        "ab_subject": mail.variant["subject"],
        "ab_content": mail.variant["content"],
    }


def message_id(mail: Mail) -> str:
    return f"{mail.number:x}.{mail.campaign}"


def rfc3339(at_ms: int) -> str:
    """UTC, with milliseconds: `2026-11-24T10:00:00.125Z`."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def code_of(reply: str | None) -> str:
    """`550 5.1.1` of `550 5.1.1 The email account …`: what a report can group by."""
    return " ".join((reply or "").split()[:2])


def unsigned(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    """`Writer.sign` of an ESP that signs nothing."""
    return {"content-type": "application/json"}, body


def authorization(credentials: Credentials) -> dict[str, str]:
    """The header that goes with any ESP's request, where its source has `basic` or `bearer`."""
    if credentials.basic:
        return {"authorization": f"Basic {base64.b64encode(credentials.basic).decode()}"}
    if credentials.bearer:
        return {"authorization": f"Bearer {credentials.bearer.decode()}"}
    return {}


def one(events: list[Event]) -> bytes:
    """`Writer.body` of an ESP that posts each event by itself."""
    (event,) = events
    return encode(event)
