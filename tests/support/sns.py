"""What Amazon SNS sends, signed with a key of our own: envelopes, a certificate, and a server in Amazon's place."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
OTHER_TOPIC = "arn:aws:sns:eu-west-1:210987654321:ses-events"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-" + "0a" * 16 + ".pem"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


class Signer:
    """A key with a certificate, as Amazon has one for a region."""

    def __init__(
        self,
        *names: str,
        not_before: datetime.datetime = NOW - datetime.timedelta(days=1),
        not_after: datetime.datetime = NOW + datetime.timedelta(days=365),
    ) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        alternatives: list[x509.GeneralName] = [x509.DNSName(found) for found in names]
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)

    def pem_of_version(self, version: int) -> bytes:
        """The certificate with a version of X.509 that there isn't; `version` as in its file, 2 is X.509v3."""
        der = x509.load_pem_x509_certificate(self.pem).public_bytes(Encoding.DER)
        changed = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01%c" % version, 1)
        return b"-----BEGIN CERTIFICATE-----\n" + b64encode(changed) + b"\n-----END CERTIFICATE-----\n"

    def private_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """The envelope with a signature of the version that it names, made as Amazon's page describes it."""
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        if envelope["Type"] != "Notification":
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
        algorithm = SHA1() if envelope["SignatureVersion"] == "1" else SHA256()
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), algorithm)
        return {**envelope, "Signature": b64encode(signature).decode()}


def envelope(message: str, **changes: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "Amazon SES Email Event Notification",
        "Message": message,
        "Timestamp": "2026-11-24T10:00:00.000Z",
        "SignatureVersion": "2",
        "Signature": "",
        "SigningCertURL": CERTIFICATE_URL,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        **changes,
    }


def confirmation(**changes: Any) -> dict[str, Any]:
    """A request to confirm a subscription whose own link leads to somebody else."""
    found = envelope(
        "You have chosen to subscribe to the topic.", Type="SubscriptionConfirmation", Token="t" * 64
    )
    del found["Subject"], found["UnsubscribeURL"]
    return {**found, "SubscribeURL": "https://attacker.example/?Action=ConfirmSubscription", **changes}


def headers(found: dict[str, Any]) -> dict[str, str]:
    return {
        "x-amz-sns-message-type": found["Type"],
        "x-amz-sns-message-id": found["MessageId"],
        "x-amz-sns-topic-arn": found["TopicArn"],
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
    }


def body(found: dict[str, Any]) -> bytes:
    return json.dumps(found, indent=2).encode()


class Amazon:
    """A TLS server on loopback that answers what it is told, and remembers who asked for what."""

    def __init__(self, folder: Path) -> None:
        self.signer = Signer("sns.eu-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn")
        self.requests: list[str] = []
        self.answer = b""
        self.status = 200
        self.headers = ""
        self.delay_s = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._key = folder / "key.pem"
        self._key.write_bytes(self.signer.pem + self.signer.private_pem())
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = next(line[6:] for line in head.split("\r\n") if line.lower().startswith("host: "))
            self.requests.append(host + head.split(" ")[1])
            await asyncio.sleep(self.delay_s)
            start = f"HTTP/1.1 {self.status} X\r\n{self.headers}Connection: close\r\n\r\n"
            writer.write(start.encode() + self.answer)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Amazon]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._key)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Leads every request to this server, which has to prove the name that was asked for."""
        trusted = ssl.create_default_context(cadata=self.signer.pem.decode())
        return _Detour(self, httpx.AsyncHTTPTransport(verify=trusted, trust_env=False))


class _Detour(httpx.AsyncBaseTransport):
    def __init__(self, amazon: Amazon, inner: httpx.AsyncHTTPTransport) -> None:
        self._amazon = amazon
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._amazon.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
