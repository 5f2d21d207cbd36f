"""For every ESP a source as it should be configured, and requests that open it: signed by each ESP's own scheme, as
its documentation describes it, with none of the project's code."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import md5, sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.organisations import Source
from tests.support import samples
from tests.support.intake import SendgridKey
from tests.support.sns import TOPIC, Signer, envelope
from tests.support.sns import body as sns_body
from tests.support.sns import headers as sns_headers

SNS = Signer("sns.eu-west-1.amazonaws.com")
SENDGRID = SendgridKey()
POSTAL = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SVIX = b"twenty-four bytes of key"
SECRET = b"0123456789abcdef0123456789abcdef"
PUBLIC_URL = "https://reports.example.com/webhooks/acme/mandrill"
NO_AUTH = b"0" * 32
"""What stands for Unisender's `auth` in its samples."""


_KEYS = """
[orgs.acme.keys.loader]
secret = "file:{data}/keys/acme"
scopes = ["read", "write", "ops"]
"""


class Request(NamedTuple):
    headers: dict[str, str]
    body: bytes


def source(esp: str, **more: object) -> Source:
    """Named as its ESP."""
    return samples.source(esp, **{"name": esp, **LOCKS[esp], **more})


def request(esp: str, body: bytes, at_s: int | None = None) -> Request:
    """`body`, what a sample holds, as its ESP would send and sign it at this time."""
    return _SIGN[esp](body, int(time.time()) if at_s is None else at_s)


def configuration(folder: Path, esps: Iterable[str]) -> str:
    """reports.toml with a source of each, as `source` makes it, its secrets in files of the folder."""
    lines = [_KEYS]
    for esp in esps:
        found = source(esp)
        lines.append(f'[orgs.acme.sources.{esp}]\nesp = "{esp}"\ncampaign = ["{{metadata.campaign_id}}"]')
        for setting in ("secrets", "basic", "bearer"):
            for secret in getattr(found, setting):
                (folder / f"{esp}.{setting}").write_bytes(secret)
                lines.append(f'{setting} = ["file:{esp}.{setting}"]')
        if found.public_url:
            lines.append(f'public_url = "{found.public_url}"')
    return "\n".join(lines)


def wire_headers(found: Request) -> dict[bytes, bytes]:
    """As `Esp.verify` takes them."""
    return {name.lower().encode(): value.encode() for name, value in found.headers.items()}


LOCKS: dict[str, dict[str, object]] = {
    "amazon_ses": {"topics": (TOPIC,)},
    "brevo": {"basic": (b"user:word",)},
    "generic": {"bearer": (b"token",)},
    "mailersend": {"secrets": (SECRET,)},
    "mailgun": {"secrets": (SECRET,)},
    "mailjet": {"basic": (b"user:word",)},
    "mailtrap": {"secrets": (SECRET,)},
    "mandrill": {"secrets": (SECRET,), "public_url": PUBLIC_URL},
    "postal": {
        "secrets": (POSTAL.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),)
    },
    "postmark": {"basic": (b"user:word",)},
    "resend": {"secrets": (b"whsec_" + b64encode(SVIX),)},
    "sendgrid": {"secrets": (SENDGRID.public,)},
    "sparkpost": {"bearer": (b"token",)},
    "unisender_go": {"secrets": (SECRET,)},
}


def _basic(body: bytes, at_s: int) -> Request:
    return Request({"Authorization": "Basic " + b64encode(b"user:word").decode()}, body)


def _bearer(body: bytes, at_s: int) -> Request:
    return Request({"Authorization": "Bearer token"}, body)


def _hex(name: str) -> Callable[[bytes, int], Request]:
    def sign(body: bytes, at_s: int) -> Request:
        return Request({name: hmac.new(SECRET, body, sha256).hexdigest()}, body)

    return sign


def _amazon_ses(body: bytes, at_s: int) -> Request:
    found = SNS.sign(envelope(body.decode("utf-8", "replace")))
    return Request(sns_headers(found), sns_body(found))


def _mailgun(body: bytes, at_s: int) -> Request:
    """A sample of the current form with a signature of ours; of the legacy one (pairs), a form."""
    token = sha256(body + b"%d" % at_s).hexdigest()[:50]
    triple = {
        "timestamp": str(at_s),
        "token": token,
        "signature": hmac.new(SECRET, f"{at_s}{token}".encode(), sha256).hexdigest(),
    }
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        signature = json.dumps(triple).encode()
        return Request({}, b'{"signature":' + signature + b',"event-data":' + body + b"}")
    if isinstance(found, list):
        pairs = [(name, value) for name, value in found if name not in triple]
        return Request({}, urlencode([*pairs, *triple.items()]).encode())
    return Request({}, json.dumps({**found, "signature": triple}).encode())


def _mandrill(body: bytes, at_s: int) -> Request:
    text = body.decode("utf-8", "replace")
    signature = hmac.digest(SECRET, f"{PUBLIC_URL}mandrill_events{text}".encode(), "sha1")
    headers = {"X-Mandrill-Signature": b64encode(signature).decode()}
    return Request(headers, urlencode({"mandrill_events": text}).encode())


def _postal(body: bytes, at_s: int) -> Request:
    signature = POSTAL.sign(body, padding.PKCS1v15(), SHA256())
    return Request({"X-Postal-Signature-256": b64encode(signature).decode()}, body)


def _resend(body: bytes, at_s: int) -> Request:
    signature = hmac.digest(SVIX, b"msg_1.%d.%b" % (at_s, body), sha256)
    return Request(
        {
            "svix-id": "msg_1",
            "svix-timestamp": str(at_s),
            "svix-signature": "v1," + b64encode(signature).decode(),
        },
        body,
    )


def _sendgrid(body: bytes, at_s: int) -> Request:
    return Request(SENDGRID.headers(body, str(at_s)), body)


def _unisender_go(body: bytes, at_s: int) -> Request:
    if NO_AUTH not in body:
        body = b'{"auth":"' + NO_AUTH + b'","events_by_user":[{"events":[' + body + b"]}]}"
    before, _, behind = body.partition(NO_AUTH)
    return Request({}, before + md5(before + SECRET + behind).hexdigest().encode() + behind)


_SIGN: dict[str, Callable[[bytes, int], Request]] = {
    "amazon_ses": _amazon_ses,
    "brevo": _basic,
    "generic": _bearer,
    "mailersend": _hex("Signature"),
    "mailgun": _mailgun,
    "mailjet": _basic,
    "mailtrap": _hex("Mailtrap-Signature"),
    "mandrill": _mandrill,
    "postal": _postal,
    "postmark": _basic,
    "resend": _resend,
    "sendgrid": _sendgrid,
    "sparkpost": _bearer,
    "unisender_go": _unisender_go,
}
