"""Twilio SendGrid's Event Webhook.

Source: "Event Webhook Reference", twilio.com/docs/sendgrid/for-developers/tracking-events/event, and "Getting Started
with the Event Webhook Security Features" beside it, read 2026-11-24. What is not plain from them:
- `sg_event_id` is named there as the id for deduplication, but a resend of the same event carries another one
  (github.com/sendgrid/sendgrid-nodejs/issues/1435, open 2026-11), so it is shown and never makes the identity.
- `processed` means that SendGrid has accepted the message: our `queued`. There is no event of handing over.
- A bounce of `type` `blocked` is "temporary", the same recipient may take later mail: soft. Any other is hard.
- `ip` of a delivery event is the address that sent the mail, not the recipient's: only engagement events have one here.
- `url_offset.index` counts links from 0; a `position` counts from 1.
- Unique and custom arguments stand among the event's own fields, so every name that isn't SendGrid's is metadata.
- `account_status_change` is about the account and has no recipient: a dead letter that says so.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from app.esps import documents, fields
from app.esps.credentials import verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

SIGNATURE: Final = b"x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = b"x-twilio-email-event-webhook-timestamp"
MAX_SIGNATURE_BYTES: Final = 256
"""Base64 of a DER signature over P-256 has at most 96 characters."""

_ECDSA: Final = ec.ECDSA(SHA256())

# SendGrid's word → ours, and whether a person's (or a machine's) address and agent stand in it.
_TYPES: Final = {
    "processed": ("queued", False),
    "delivered": ("delivered", False),
    "deferred": ("deferred", False),
    "bounce": ("bounced", False),
    "blocked": ("bounced", False),
    "dropped": ("rejected", False),
    "open": ("opened", True),
    "click": ("clicked", True),
    "spamreport": ("complained", True),
    "spam report": ("complained", True),
    "unsubscribe": ("unsubscribed", True),
    "group_unsubscribe": ("unsubscribed", True),
    "group_resubscribe": ("subscribed", True),
}

# SendGrid's own fields that nothing is made of; the others are taken one by one.
_NOISE: Final = (
    "smtp-id",
    "tls",
    "cert_err",
    "attempt",
    "status",
    "pool",
    "domain",
    "from",
    "url_offset",
    "type",
)
_NESTED: Final = ("unique_args", "custom_args", "newsletter")


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """ECDSA (P-256, SHA-256) over the timestamp header's bytes and the raw body, under any of the source's keys."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    encoded = headers.get(SIGNATURE, b"")
    timestamp = headers.get(TIMESTAMP, b"")
    if (
        not encoded
        or not timestamp
        or len(encoded) > MAX_SIGNATURE_BYTES
        or len(timestamp) > MAX_SIGNATURE_BYTES
    ):
        raise refused()
    try:
        signature = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise refused() from None
    signed = timestamp + body
    for secret in source.secrets:
        key = _public_key(secret)
        if key is None:
            continue
        try:
            key.verify(signature, signed, _ECDSA)
        except (InvalidSignature, ValueError):
            continue
        return
    raise refused()


@lru_cache(maxsize=1024)
def _public_key(secret: bytes) -> ec.EllipticCurvePublicKey | None:
    """A verification key as the dashboard shows it (base64 of the DER), or as PEM. None: it is no such key."""
    try:
        if secret.lstrip().startswith(b"-----BEGIN"):
            key = load_pem_public_key(secret)
        else:
            key = load_der_public_key(b64decode(b"".join(secret.split()), validate=True))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def unusable(secret: bytes) -> str | None:
    if _public_key(secret) is None:
        return "is not a verification key of SendGrid (base64 of an ECDSA public key)"
    return None


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    result: list[Event | Poison] = []
    for index, item in enumerate(documents.read_list(body)):
        if type(item) is dict:
            event = _event(item)
            if type(event) is str:
                result.append(documents.poison(event, index, item, wrapped=False))
            else:
                result.append(event)  # type: ignore[arg-type]  # mypy doesn't narrow by `type() is`
        else:
            result.append(item)  # type: ignore[arg-type]
    return result


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none. `item` stays as it is."""
    rest = item.copy()
    take = rest.pop
    word = take("event", None)
    recipient = take("email", None)
    if type(recipient) is not str or not recipient.strip():
        return "about the account, not a recipient" if word == "account_status_change" else "no recipient"
    found = _TYPES.get(word) if type(word) is str else None
    at_ms = fields.time_ms(take("timestamp", None))
    reason = fields.text(take("reason", None))
    response = fields.text(take("response", None))
    classification = fields.text(take("bounce_classification", None))
    ip = fields.text(take("ip", None))
    user_agent = fields.text(take("useragent", None))
    machine = take("sg_machine_open", None)
    esp_event_id = fields.text(take("sg_event_id", None))
    message_id = fields.text(take("sg_message_id", None))
    tags = fields.texts(take("category", None))
    link = fields.text(take("url", None))
    if found is None:
        kind, engagement = "unknown", True
    else:
        kind, engagement = found
    bounce = None
    if kind == "bounced":
        bounce = "soft" if word == "blocked" or item.get("type") == "blocked" else "hard"
        # The receiving server's words stand in `reason`; by them every recipient would be a row of its own.
        response = response or reason
        reason = classification or reason
    position = _position(item.get("url_offset")) if kind == "clicked" else None
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=at_ms,
        esp_event_id=esp_event_id,
        message_id=message_id.strip() if message_id else None,
        link=link,
        position=position,
        ip=ip if engagement else None,
        user_agent=user_agent if engagement else None,
        bounce=bounce,
        reason=reason,
        smtp_reply=response,
        machine=machine if type(machine) is bool else None,
        tags=tags,
        metadata=_metadata(rest, word if found is None else None),
    )


def _position(offset: object) -> int | None:
    index = fields.whole(offset.get("index") if type(offset) is dict else offset)
    return None if index is None else index + 1


def _metadata(rest: documents.JsonObject, word: object) -> dict[str, str]:
    for name in _NOISE:
        if name in rest:
            del rest[name]
    metadata: dict[str, str] = {}
    for name, value in rest.items():
        if type(value) is str:
            metadata[name] = value
        elif name in _NESTED:
            metadata |= fields.strings(value)
        elif (found := fields.plain(value)) is not None:
            metadata[name] = found
    if type(word) is str:
        metadata["event"] = word
    return metadata


ESP: Final = Esp(name="sendgrid", verify=verify, parse=parse, split=split, unusable=unusable)
