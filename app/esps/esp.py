"""The shape that every ESP's module has: one constant `ESP` of this type, made of pure functions.

Rules:
- `verify` takes the body as it came over the wire, compressed or not. It returns, or raises RejectRequest 401, and
  nothing else, whatever the bytes; every secret is tried, each in constant time. Without anything to check against it
  refuses (only a source that says `insecure = true` takes what nobody vouches for).
- `parse` takes the body with its compression undone. Any bytes give events or poison, nothing is raised. It loses as
  little as possible: a field of an unexpected type is dropped, not its event; a bad event, not its neighbours.
- `Poison.raw` is a body of its own that holds that event alone, so that a repaired one can be sent through `parse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from app.errors import RejectRequest
from app.facts import Event, Poison
from app.organisations import Source

WireHeaders = Mapping[bytes, bytes]
"""A request's headers as they came, names in lower case."""
KeptHeaders = Mapping[str, str]
"""Those that are kept with the body (`COMMON_HEADERS` and the ESP's own)."""

COMMON_HEADERS: Final = frozenset({"content-type", "content-encoding", "user-agent"})


CERTIFICATE: Final = b":certificate"
"""Not a header of the request (no header's name has a colon): what `certificate_url` led to, as PEM."""
QUERY_KEY: Final = b":key"
"""Not a header either: the address's query parameter `key`, for ESPs that can send neither header nor signature."""
NOW: Final = b":now"
"""Nor is this: when the request came, in whole seconds since 1970, for the ESPs that are `timed`."""


class Busy(msgspec.Struct, frozen=True):
    """What to answer while nothing can be stored, so that this ESP comes again."""

    status: int = 503
    retry_after_s: int = 2


class Once(msgspec.Struct, frozen=True):
    """A signature that must not vouch for two bodies: `token` was signed, `digest` is the body's."""

    token: bytes
    digest: bytes


class Confirmation(msgspec.Struct, frozen=True):
    """A subscription that the sender asks us to confirm, for an allowed topic (Amazon SNS)."""

    topic_arn: str
    token: str


def _any_source(source: Source) -> None:
    return None


def _any_secret(secret: bytes) -> str | None:
    return None


class Esp(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    verify: Callable[[Source, WireHeaders, bytes], None]
    parse: Callable[[bytes, KeptHeaders], list[Event | Poison]]
    split: Callable[[bytes, KeptHeaders], list[bytes]]
    """Each event of a body as a body of its own, in the order in which `parse` gives them."""
    check: Callable[[Source], None] = _any_source
    """Whether the source says what it needs and nothing that contradicts it, whatever its secrets hold: raises
    ConfigError. For the start, not for each request."""
    unusable: Callable[[bytes], str | None] = _any_secret
    """Why this can't be one of `secrets`, in words that follow what it is called; None: it can be."""
    busy: Busy = Busy()
    limited_status: int = 429
    """What to answer one that sends more than its source's `rate_limit`, so that this ESP comes again."""
    headers: frozenset[str] = frozenset()
    """Names of headers that are kept with the body beside `COMMON_HEADERS`; never one that carries a credential."""
    timed: bool = False
    """Whether a signature expires: `verify` then needs `NOW`."""
    probes: frozenset[str] = frozenset()
    """Methods beside POST with which the ESP tries the address when it is set up: answered 200 and nothing else."""
    reading: int = 0
    """Raised by every mend of `parse` that makes something else of a body that could be read before: then
    `reports renormalize` brings it to what is stored. It never falls."""
    certificate_url: Callable[[Source, bytes], str | None] | None = None
    """Of a body: where the certificate is that it was signed with, checked to be the ESP's own; None: refuse. The API
    fetches it, and gives the PEM to `verify` as header `CERTIFICATE`. Raises RejectRequest 403 for a body that this
    source takes from nobody, so that no stranger's request makes us fetch anything."""
    confirmation: Callable[[Source, bytes], Confirmation | None] | None = None
    """Of a verified body: what is to be confirmed instead of stored."""
    once: Callable[[bytes], Once | None] | None = None
    """Of a verified body: the token that vouches for it and for no other one (406 where Redis knows better)."""


def refused() -> RejectRequest:
    """One text for every reason: who has no secret learns nothing of how near they were."""
    return RejectRequest(401, "unauthorized", "the webhook's signature or credentials are missing or wrong")
