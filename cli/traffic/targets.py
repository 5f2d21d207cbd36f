"""Where the traffic goes and with which keys: what `reports.toml` says of the organisations.

Only sources that cannot be a real ESP's get any: those whose secrets were all made here (`file:{data}/keys/…`, see
`cli.config`), and those that say `insecure = true`.
"""

from __future__ import annotations

import base64
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization

from app.errors import ConfigError
from app.organisations import Organisation, Organisations, Source
from app.settings import Settings
from cli.traffic.esps.writer import Credentials
from cli.traffic.requests import Target

MIXED: Final = "mixed"
PERSONAL: Final = "rid"
"""The parameter of links that differs per recipient, where a source says so."""
_BY_KEY_PAIR: Final = frozenset({"sendgrid", "postal"})


class OrgAccess(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation's ways in."""

    org: str
    timezone: str
    api_key: str
    targets: tuple[Target, ...]

    def __repr__(self) -> str:
        return f"OrgAccess(org={self.org!r})"


def access_of(
    settings: Settings, organisations: Organisations, names: tuple[str, ...], esp: str = MIXED
) -> list[OrgAccess]:
    """The named organisations, or the first one; `esp`: only its sources. Raises ConfigError where there is none."""
    chosen = names or tuple(organisations.by_id)[:1]
    if not chosen:
        raise ConfigError("orgs", "there is no organisation to send traffic to")
    found = []
    for name in chosen:
        organisation = organisations.by_id.get(name)
        if organisation is None:
            raise ConfigError(f"orgs.{name}", "there is no such organisation")
        found.append(_access(settings, organisation, esp))
    return found


def _access(settings: Settings, organisation: Organisation, esp: str) -> OrgAccess:
    def is_excluded(address: str) -> bool:
        lowered = address.strip().lower()
        return any(fnmatchcase(lowered, pattern.lower()) for pattern in organisation.exclude)

    api_key = next((key for key in organisation.keys if {"read", "write"} <= key.scopes), None)
    if api_key is None:
        raise ConfigError(
            f"orgs.{organisation.id}.keys", "traffic needs a key with the scopes read and write"
        )
    keys = _Keys(settings.data / "keys")
    targets: dict[str, Target] = {}
    for source in organisation.sources.values():
        if source.esp in targets or esp not in (MIXED, source.esp):
            continue
        path = f"/webhooks/{organisation.id}/{source.name}"
        credentials = keys.of(source)
        if source.esp == "generic":
            path, credentials = "/api/v1/events", Credentials(bearer=api_key.secret)
        if credentials is not None:
            targets[source.esp] = Target(
                org=organisation.id,
                esp=source.esp,
                path=path,
                is_excluded=is_excluded,
                is_hidden=partial(_matches, source.hidden_links),
                personal=PERSONAL if _matches(source.strip_query, PERSONAL) else "",
                credentials=credentials,
            )
    if not targets:
        wanted = "no source" if esp == MIXED else f"no source of {esp}"
        raise ConfigError(
            f"orgs.{organisation.id}.sources",
            f"{wanted} whose secrets were made here (file:{{data}}/keys/…) or that says insecure = true: see "
            "examples/all-esps.toml",
        )
    return OrgAccess(
        org=organisation.id,
        timezone=organisation.timezone,
        api_key=api_key.secret.decode(),
        targets=tuple(targets.values()),
    )


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


class _Keys:
    """What was made in the folder of keys."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*")) if folder.is_dir() else []
        self._made = {path.read_bytes().strip() for path in files if path.is_file()}
        self._private = {
            public: pem for pem in self._made if b"PRIVATE KEY" in pem and (public := _public_half(pem))
        }

    def of(self, source: Source) -> Credentials | None:
        """What signs as this source's ESP would; None where a secret comes from elsewhere."""
        given = (*source.secrets, *source.basic, *source.bearer)
        if source.insecure:
            return Credentials()
        if not given or not self._made.issuperset(given):
            return None
        secret = source.secrets[0] if source.secrets else b""
        private = self._private.get(secret, b"")
        if source.esp in _BY_KEY_PAIR and source.secrets and not private:
            return None
        return Credentials(
            secret=b"" if private else secret,
            private_key=private,
            basic=source.basic[0] if source.basic else b"",
            bearer=source.bearer[0] if source.bearer and not source.basic else b"",
            public_url=source.public_url,
        )


def _public_half(pem: bytes) -> bytes | None:
    """Base64 of the public key, as `cli.config` wrote it beside the private one."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except ValueError:
        return None
    return base64.b64encode(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
