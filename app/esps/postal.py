"""Postal's webhooks: one object for each event, from the sender's own installation.

Sources: "Webhooks" (docs.postalserver.io/developer/webhooks) and "Mail Server Settings" (below …/features, for the
reasons why a message is held), read 2026-11-24 as content/4.developer/4.webhooks.md and
content/3.features/mail-server-settings.md of github.com/postalserver/docs. What is not plain from them:
- `uuid` is the same in all attempts and meant for telling repeats: it makes the identity.
- `MessageSent` means that the receiving server took it: our `delivered`. `MessageDelayed` (`SoftFail`) comes with each
  attempt that is put off: `deferred`.
- `MessageDeliveryFailed` is given up: soft where the last attempts failed for a time (a reply 4xx; "maximum number of
  delivery attempts", a text from memory), else hard.
- `MessageHeld` is kept back (suppressed, send limit, development mode) and dropped after days unless someone releases
  it: `rejected`, which a later delivery undoes.
- `MessageBounced` is a bounce that came in as mail, after the delivery: hard; its time is that mail's.
- Opens and clicks have no time of their own but the envelope's, when Postal queued the webhook. Places, clients and
  machines are not given; of a campaign there is the message's one `tag`.
- Messages of direction `incoming`, `DomainDNSError` and `SendLimit…` are not about a sent message's recipient: dead
  letters that say so.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, urlsafe_b64decode
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from app.esps import documents, fields
from app.esps.credentials import verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

SIGNATURE: Final = b"x-postal-signature-256"
OLD_SIGNATURE: Final = b"x-postal-signature"
MAX_SIGNATURE_BYTES: Final = 1_400
"""Base64 of a signature by a key of 8,192 bits has 1,368 characters."""

_TYPES: Final = {
    "MessageSent": "delivered",
    "MessageDelayed": "deferred",
    "MessageDeliveryFailed": "bounced",
    "MessageHeld": "rejected",
    "MessageBounced": "bounced",
    "MessageLinkClicked": "clicked",
    "MessageLoaded": "opened",
}
_ABOUT_OTHERS: Final = frozenset({"DomainDNSError", "SendLimitApproaching", "SendLimitExceeded"})
_GAVE_UP: Final = "maximum number of delivery attempts"
_IN_BRACKETS: Final = re.compile(r"\s*\([^()]*\)")


class _Jwk(msgspec.Struct):
    kty: str
    n: str = ""
    e: str = ""


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """RSA (PKCS #1 v1.5) over the raw body under any of the keys: SHA-256, or SHA-1 where the source allows it and
    there is no other."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    encoded = headers.get(SIGNATURE)
    digest: SHA1 | SHA256 = SHA256()
    if encoded is None and source.postal_sha1:
        encoded, digest = headers.get(OLD_SIGNATURE), SHA1()  # noqa: S303  # only where the source says so
    if not encoded or len(encoded) > MAX_SIGNATURE_BYTES:
        raise refused()
    try:
        signature = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise refused() from None
    for secret in source.secrets:
        for key in _public_keys(secret):
            try:
                key.verify(signature, body, PKCS1v15(), digest)
            except (InvalidSignature, ValueError, UnsupportedAlgorithm):
                continue
            return
    raise refused()


@lru_cache(maxsize=256)
def _public_keys(secret: bytes) -> tuple[RSAPublicKey, ...]:
    """The keys of a PEM, of base64 of a DER, or of what `/.well-known/jwks.json` answers. Empty: there is none."""
    stripped = secret.strip()
    try:
        if stripped.startswith(b"{"):
            return tuple(_from_jwk(jwk) for jwk in msgspec.json.decode(stripped, type=_Jwks).keys)
        if stripped.startswith(b"-----BEGIN"):
            key = load_pem_public_key(stripped)
        else:
            key = load_der_public_key(b64decode(b"".join(stripped.split()), validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ()
    return (key,) if isinstance(key, RSAPublicKey) else ()


def _from_jwk(jwk: _Jwk) -> RSAPublicKey:
    if jwk.kty != "RSA":
        raise ValueError("not an RSA key")
    numbers = (int.from_bytes(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (jwk.e, jwk.n))
    return RSAPublicNumbers(*numbers).public_key()


def unusable(secret: bytes) -> str | None:
    if not _public_keys(secret):
        return "is not a public key of Postal (PEM, base64 of the DER, or its jwks.json)"
    return None


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(documents.read_list(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    word = fields.text(item.get("event"))
    if word in _ABOUT_OTHERS:
        return f"{word}: not about a sent message"
    payload = fields.members(item.get("payload"))
    message = fields.members(payload.get("message") or payload.get("original_message"))
    if message.get("direction") == "incoming":
        return "about incoming mail"
    recipient = message.get("to")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    kind = _TYPES.get(word, "unknown") if word else "unknown"
    bounced = fields.members(payload.get("bounce"))
    at_ms = fields.time_ms(payload.get("timestamp")) or fields.time_ms(bounced.get("timestamp"))
    uuid = fields.text(item.get("uuid"))
    bounce, reason, reply = _outcome(kind, payload)
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=at_ms or fields.time_ms(item.get("timestamp")),
        event_id=uuid,
        esp_event_id=uuid,
        message_id=fields.text(message.get("message_id")),
        link=fields.text(payload.get("url")),
        ip=fields.text(payload.get("ip_address")),
        user_agent=fields.text(payload.get("user_agent")),
        bounce=bounce,
        reason=reason,
        smtp_reply=reply,
        tags=fields.texts(message.get("tag")),
        metadata={"event": word} if word and kind == "unknown" else {},
    )


def _outcome(kind: str, payload: documents.JsonObject) -> tuple[str | None, str | None, str | None]:
    """(hard or soft, reason, the server's reply)."""
    output = fields.text(payload.get("output"))
    if kind == "delivered":
        return None, None, output
    details = fields.text(payload.get("details")) or ""
    reason, reply = fields.reason_and_reply(output)
    # In brackets stand addresses and numbers, by which every recipient would be a row of its own.
    reason = (reason if reply else None) or _IN_BRACKETS.sub("", details) or None
    bounce = None
    if kind == "bounced":
        temporary = (reply or "").lstrip().startswith("4") or _GAVE_UP in details.lower()
        bounce = "soft" if temporary else "hard"
    return bounce, reason, reply or output


ESP: Final = Esp(name="postal", verify=verify, parse=parse, split=split, unusable=unusable)
