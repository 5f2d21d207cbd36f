"""Amazon SNS' envelope: what is signed, by which certificate, and for which topics a source takes it.

Source: "Verifying the signatures of Amazon SNS messages" and the three pages "HTTP/HTTPS … JSON format" of the SNS
developer guide, docs.aws.amazon.com/sns/latest/dg, read 2026-11-24. Rules:
- Amazon's signature says no more than that it is Amazon's: anybody can point a topic of their own at us. So each
  source names its topics, and a message of any other topic is refused before its certificate is even looked for.
- The certificate's address is believed only as an exact one of SNS: what AWS published as a pattern lets an S3 bucket
  named `sns` through (DEF CON 30, spaceraccoon.dev, "Exploiting improper validation of Amazon SNS SigningCertURL").
- The headers that name type, id and topic must agree with what is signed.
- Raw message delivery has no envelope and no signature: refused.
- Version 1 signs a SHA-1 hash. Version 2 is a setting of the topic; only a source with `sns_sha1` takes version 1.
- `SubscribeURL` is never called: what is confirmed is a topic of the source, by its ARN and the message's token.
- A replay brings the same events again, which the fold drops, so the age of a message is not looked at.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import Certificate, InvalidVersion, load_pem_x509_certificate

from app.errors import ConfigError, RejectRequest
from app.esps.credentials import check_authorization
from app.esps.esp import CERTIFICATE, Confirmation, WireHeaders, refused
from app.organisations import Source

MESSAGE_TYPE: Final = b"x-amz-sns-message-type"
MESSAGE_ID: Final = b"x-amz-sns-message-id"
TOPIC: Final = b"x-amz-sns-topic-arn"
MAX_SIGNATURE_CHARACTERS: Final = 2_048

ARN: Final = re.compile(
    r"arn:aws(?:-cn|-us-gov)?:sns:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)
_HOST: Final = re.compile(r"sns\.[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?")
_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{32}\.pem")

_CONFIRM: Final = "SubscriptionConfirmation"
# What of each type of message is signed, in this order, each as its name and its value on lines of their own.
SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    _CONFIRM: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip


class Envelope(msgspec.Struct, frozen=True, rename="pascal"):
    """What SNS sends around an event."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature: str
    signature_version: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)


_decode: Final = msgspec.json.Decoder(Envelope).decode


def _envelope(body: bytes) -> Envelope:
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        raise refused() from None


def certificate_url(source: Source, body: bytes) -> str | None:
    """Raises RejectRequest 403 for a topic that isn't the source's, 401 where there is no signature."""
    envelope = _envelope(body)
    if envelope.topic_arn not in source.topics:
        raise RejectRequest(403, "forbidden", "this source takes nothing of that topic")
    address = envelope.signing_cert_url
    if not address.isascii() or not address.isprintable():
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    exact = f"https://{parts.netloc}{parts.path}" == address
    if exact and _HOST.fullmatch(parts.netloc) and _PATH.fullmatch(parts.path):
        return address
    return None


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """RSA (PKCS #1 v1.5) over the envelope's fields, by the certificate that the API fetched (`CERTIFICATE`)."""
    if source.insecure:
        return
    envelope = _envelope(body)
    if envelope.topic_arn not in source.topics:
        raise refused()
    same = (
        headers.get(MESSAGE_TYPE) == envelope.type.encode()
        and headers.get(MESSAGE_ID) == envelope.message_id.encode()
        and headers.get(TOPIC, envelope.topic_arn.encode()) == envelope.topic_arn.encode()
    )
    names = SIGNED.get(envelope.type)
    algorithm = _algorithm(envelope.signature_version, source.sns_sha1)
    key = _public_key(headers.get(CERTIFICATE, b""))
    if not same or names is None or algorithm is None or key is None:
        raise refused()
    if len(envelope.signature) > MAX_SIGNATURE_CHARACTERS:
        raise refused()
    try:
        signature = b64decode(envelope.signature, validate=True)
        key.verify(signature, _text_to_sign(envelope, names), padding.PKCS1v15(), algorithm)
    except (binascii.Error, ValueError, InvalidSignature, UnsupportedAlgorithm):
        raise refused() from None
    check_authorization(source, headers)


def _algorithm(version: str, sha1: bool) -> SHA1 | SHA256 | None:
    if version == "2":
        return SHA256()
    return SHA1() if version == "1" and sha1 else None  # noqa: S303  # only where the source's owner says so


def _text_to_sign(envelope: Envelope, names: tuple[str, ...]) -> bytes:
    values = {
        "Message": envelope.message,
        "MessageId": envelope.message_id,
        "Subject": envelope.subject,
        "SubscribeURL": envelope.subscribe_url,
        "Timestamp": envelope.timestamp,
        "Token": envelope.token,
        "TopicArn": envelope.topic_arn,
        "Type": envelope.type,
    }
    return "".join(f"{name}\n{values[name]}\n" for name in names if values[name] is not None).encode()


@lru_cache(maxsize=64)
def _public_key(pem: bytes) -> rsa.RSAPublicKey | None:
    certificate = read_certificate(pem)
    if certificate is None:
        return None
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPublicKey) else None


def read_certificate(pem: bytes) -> Certificate | None:
    """None for anything that is no certificate."""
    try:
        return load_pem_x509_certificate(pem)
    except (ValueError, TypeError, InvalidVersion, UnsupportedAlgorithm):
        return None


def check(source: Source) -> None:
    where = f"orgs.{source.org}.sources.{source.name}"
    if source.secrets:
        raise ConfigError(f"{where}.secrets", "SNS has no secret: name your topics (topics) instead")
    if not source.topics and not source.insecure:
        raise ConfigError(
            f"{where}.topics", "is missing: a signature of SNS counts only for topics named here"
        )
    for number, topic in enumerate(source.topics):
        if not ARN.fullmatch(topic):
            raise ConfigError(
                f"{where}.topics[{number}]", "is no ARN of a topic (arn:aws:sns:REGION:ACCOUNT:NAME)"
            )


def confirmation(source: Source, body: bytes) -> Confirmation | None:
    """Raises RejectRequest 403 for a topic that isn't the source's."""
    try:
        envelope = _decode(body)
    except (ValueError, RecursionError):
        return None  # of an insecure source
    if envelope.type != _CONFIRM:
        return None
    if envelope.topic_arn not in source.topics:
        raise RejectRequest(403, "forbidden", "this source takes nothing of that topic")
    if not envelope.token:
        return None
    return Confirmation(envelope.topic_arn, envelope.token)
