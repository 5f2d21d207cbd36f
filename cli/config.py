"""The composition root's configuration: reports.toml and the environment, read once, with every secret resolved.

Rules:
- `env:NAME` is a variable of the environment. `file:PATH` is a file, relative to the folder of reports.toml, without
  the white space at its ends; `{data}` at the start of PATH stands for the data folder.
- A file `{data}/keys/NAME` that isn't there is made with a random secret (hexadecimal, so that it is base64 too:
  Resend's are), `{data}/keys/NAME.basic` as `webhook:` and a random password. `{data}/keys/NAME.pub` is
  made as an ECDSA P-256 public key (base64 of its SubjectPublicKeyInfo, as SendGrid shows it), `NAME.rsa.pub` as an RSA
  one (Postal's), the private half beside it as `NAME.key` or `NAME.rsa.key` (PEM), for the traffic of `reports demo`
  and `reports load`. Only in that folder, and only by a role whose data folder made the installation (`Missing`): on
  any other host the keys would be others than those of the senders. Any other missing file is an error.
- The installation's secret is `REPORTS_SECRET` or stands in `{data}/secret`; `cli.identity` makes and fills it in.
- What is made has mode 0600 and appears at once (a link), so that roles that start together agree on it.
"""

from __future__ import annotations

import base64
import logging
import os
import secrets
import tomllib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.errors import ConfigError
from app.esps import ESPS
from app.organisations import Organisations, parse_organisations
from app.settings import PREFIX, Settings, settings_from

log = logging.getLogger("reports.config")

DATA_MARK = "{data}/"
SECRET_FILE = "secret"  # noqa: S105


class Missing(Enum):
    """What becomes of a key file of the data folder that is named and isn't there."""

    PRETEND = "pretend"
    """It is made up for this call only, and nothing is written: for who needs to know all but the secrets."""
    REFUSE = "refuse"
    MAKE = "make"


class ConfigFile(NamedTuple):
    """A file's bytes, and what messages call it."""

    path: Path
    text: bytes


def load_configuration(
    environ: Mapping[str, str] | None = None,
    *,
    missing: Missing = Missing.PRETEND,
    file: ConfigFile | None = None,
) -> tuple[Settings, Organisations]:
    """Settings and organisations.

    `file`: taken as if it stood in the place of the one that the settings name. Raises ConfigError, one line that
    names the setting.
    """
    environ = os.environ if environ is None else environ
    settings, document = _load(environ, file)
    return settings, read_organisations(document, SecretResolver(environ, settings, missing))


def read_organisations(
    document: Mapping[str, object], resolve_secret: Callable[[str], bytes]
) -> Organisations:
    """The organisations of a document, their sources' keys checked to be keys. Raises ConfigError."""
    organisations = parse_organisations(document, resolve_secret, ESPS)
    for organisation in organisations.by_id.values():
        for source in organisation.sources.values():
            ESPS[source.esp].check(source)
    return organisations


def load_settings(environ: Mapping[str, str] | None = None, *, file: ConfigFile | None = None) -> Settings:
    """Only the settings. Nothing is written; whoever needs the data folder makes it (`ensure_data_folder`)."""
    return _load(os.environ if environ is None else environ, file)[0]


def load_for_settings(
    environ: Mapping[str, str] | None = None, *, file: ConfigFile | None = None
) -> tuple[Settings, bool]:
    """The settings, and whether all of the file could be judged; for roles that know no organisation and heed SIGHUP.

    They judge the organisations too, so that all roles of a host hold the same file for a good one; but the secrets
    of webhooks need not be on their host, and they make none. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    settings, document = _load(environ, file)
    resolver = SecretResolver(environ, settings, Missing.PRETEND)
    absent: list[str] = []

    def resolve(reference: str) -> bytes:
        try:
            return resolver(reference)
        except LookupError:
            absent.append(reference)
            return f"absent:{reference}".encode()

    parse_organisations(document, resolve, ESPS)
    if not absent:
        read_organisations(document, resolver)
    return settings, not absent


def _load(environ: Mapping[str, str], file: ConfigFile | None) -> tuple[Settings, dict[str, object]]:
    path = config_path(environ)
    document = parse_toml(file or read_file(path))
    table = document.get("settings", {})
    if not isinstance(table, dict):
        raise ConfigError("settings", "must be a table")
    settings = settings_from(environ, table)
    return msgspec.structs.replace(settings, data=settings.data.absolute(), config=path.absolute()), document


def stored_secret(settings: Settings) -> bytes:
    """The installation's secret as this host knows it; empty where it doesn't. Raises ConfigError."""
    path = settings.data / SECRET_FILE
    if settings.secret:
        return settings.secret
    try:
        secret = path.read_bytes().strip()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{PREFIX}DATA", f"{path} can't be read: {_reason(error)}") from None
    if not secret:
        raise ConfigError(f"{PREFIX}DATA", f"{path} is empty")
    return secret


def config_path(environ: Mapping[str, str]) -> Path:
    """Where reports.toml is. Raises ConfigError where the environment is wrong."""
    return settings_from(environ, {}).config


def read_file(path: Path) -> ConfigFile:
    """Raises ConfigError."""
    try:
        return ConfigFile(path, path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{PREFIX}CONFIG", f"{path} is not there") from None
    except OSError as error:
        raise ConfigError(f"{PREFIX}CONFIG", f"{path} can't be read: {_reason(error)}") from None


def parse_toml(file: ConfigFile) -> dict[str, object]:
    """Raises ConfigError."""
    try:
        return tomllib.loads(file.text.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{PREFIX}CONFIG", f"{file.path} can't be read: {_reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(file.path), f"is not TOML: {error}") from None


def ensure_data_folder(data: Path) -> None:
    """Make the data folder and see that it can be written to; ConfigError if not."""
    probe = data / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{PREFIX}DATA", f"{data} can't be written to: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class SecretResolver:
    """Gives the bytes behind `env:…` and `file:…`; LookupError says what is missing."""

    def __init__(self, environ: Mapping[str, str], settings: Settings, missing: Missing) -> None:
        self._environ = environ
        self._folder = settings.config.parent
        self._data = settings.data
        self._missing = missing

    def __call__(self, reference: str) -> bytes:
        scheme, _, rest = reference.partition(":")
        if scheme == "env":
            value = self._environ.get(rest, "").strip()
            if not value:
                raise LookupError(f"the environment has no {rest}")
            return value.encode()
        return self._file(rest)

    def _file(self, name: str) -> bytes:
        folder = self._data if name.startswith(DATA_MARK) else self._folder
        path = folder / name.removeprefix(DATA_MARK)
        try:
            return path.read_bytes().strip()
        except (FileNotFoundError, NotADirectoryError):
            if path.parent != self._data / "keys":
                raise LookupError(f"the file {path} is not there") from None
        except OSError as error:
            raise LookupError(f"the file {path} can't be read: {_reason(error)}") from None
        if self._missing is Missing.REFUSE:
            raise LookupError(
                f"the file {path} is not there, and only the host that made the installation makes it: copy it from "
                "there, or name the secret as env:… or another file"
            )
        return _made_key(path, self._missing is Missing.MAKE)


def _made_key(path: Path, make: bool) -> bytes:
    if path.suffix != ".pub":
        user = "webhook:" if path.suffix == ".basic" else ""
        return _made_once(path, lambda: f"{user}{secrets.token_hex(24)}".encode(), make)
    # Imported here: only the very first start needs it.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def new_private() -> bytes:
        is_rsa = path.name.endswith(".rsa.pub")
        key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    pem = _made_once(path.with_suffix(".key"), new_private, make)
    try:
        private = serialization.load_pem_private_key(pem, None)
    except ValueError:
        raise LookupError(
            f"{path.with_suffix('.key')} is no private key: delete it, or put {path} there"
        ) from None
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _made_once(path, lambda: base64.b64encode(public), make)


def _made_once(path: Path, new: Callable[[], bytes], make: bool) -> bytes:
    """What the file holds; if it isn't there, `new()`, written with mode 0600. The first of several writers wins."""
    try:
        if not path.exists():
            if not make:
                return new()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
            try:
                with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(new() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, path)
                log.warning("the key %s was not there and is made now", path)
            except FileExistsError:
                pass
            finally:
                draft.unlink(missing_ok=True)
        made = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{PREFIX}DATA", f"{path} can't be made or read: {_reason(error)}") from None
    if not made:
        raise ConfigError(f"{PREFIX}DATA", f"{path} is empty")
    return made
