"""`Authorization` of a webhook (`Bearer`, `Basic`) or a secret in its address, for ESPs that sign nothing and as a
second lock for others.

One of all that a source has (`basic`, `bearer`) must fit. A secret in the address (`?key=…`) is one of `bearer`; it is
for ESPs that can send no header, since addresses are written into logs by whatever stands in front of us.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Callable, Iterable

from app.errors import ConfigError
from app.esps.esp import QUERY_KEY, WireHeaders, refused
from app.organisations import Source


def fits(secrets: Iterable[bytes], given: bytes) -> bool:
    """Whether it is one of them. Each is compared, each in constant time."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(secret, given)
    return found


def check_authorization(
    source: Source, headers: WireHeaders, bearer: tuple[bytes, ...] | None = None
) -> None:
    """Raises RejectRequest 401 unless the header fits what the source has; `bearer` in place of the source's own."""
    bearer = source.bearer if bearer is None else bearer
    if not bearer and not source.basic:
        return
    scheme, _, credential = headers.get(b"authorization", b"").partition(b" ")
    credential = credential.strip()
    kind = scheme.lower()
    if kind == b"bearer" and bearer and fits(bearer, credential):
        return
    if kind == b"basic" and source.basic and fits(source.basic, _decoded(credential)):
        return
    in_address = headers.get(QUERY_KEY)
    if in_address is not None and bearer and fits(bearer, in_address):
        return
    raise refused()


def verify_signed(
    source: Source,
    headers: WireHeaders,
    body: bytes,
    check_signature: Callable[[Source, WireHeaders, bytes], None],
) -> None:
    """`Esp.verify` of an ESP that signs: by its secrets, and what else the source has; or by that alone.

    `check_signature` raises RejectRequest 401 unless it fits one of the source's secrets.
    """
    if source.insecure:
        return
    if source.secrets:
        check_signature(source, headers, body)
    elif not source.basic and not source.bearer:
        raise refused()
    check_authorization(source, headers)


def verify_unsigned(source: Source, headers: WireHeaders, body: bytes) -> None:
    """`Esp.verify` of an ESP that signs nothing."""
    if source.insecure:
        return
    if not source.basic and not source.bearer:
        raise refused()
    check_authorization(source, headers)


def check_unsigned(source: Source) -> None:
    """`Esp.check` of an ESP that signs nothing: a secret that nobody would ever look at is a mistake."""
    if source.secrets:
        where = f"orgs.{source.org}.sources.{source.name}.secrets"
        raise ConfigError(where, f"{source.esp} signs nothing: say basic (user:password) or bearer instead")


def _decoded(credential: bytes) -> bytes:
    try:
        return b64decode(credential, validate=True)
    except (binascii.Error, ValueError):
        return b""
