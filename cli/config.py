"""The composition root's configuration: reports.toml and the environment, read once, with every secret resolved.

Rules:
- `env:NAME` is a variable of the environment. `file:PATH` is a file, relative to the folder of reports.toml, without
  the white space at its ends; `{data}` at the start of PATH stands for the data folder.
- A file `{data}/keys/NAME` that isn't there is made, or what needs it waits (`cli.keys`). Any other file or variable
  that is missing is an error.
- The installation's secret is `REPORTS_SECRET` or stands in `{data}/secret`; `cli.identity` makes and fills it in.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.errors import ConfigError
from app.esps import ESPS
from app.organisations import Organisations, parse_organisations
from app.settings import PREFIX, Settings, settings_from
from cli.keys import FOLDER, KeyFiles, Missing, describe_absent

DATA_MARK = "{data}/"
SECRET_FILE = "secret"  # noqa: S105
COPY_KEYS = "copy them from a host that has them, or from a backup"


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
    lenient = Missing.LEAVE_OUT if missing is Missing.REFUSE else missing
    settings, organisations, absent = load_with_keys(environ, missing=lenient, file=file)
    if missing is Missing.REFUSE:
        refuse_absent(absent)
    return settings, organisations


def load_with_keys(
    environ: Mapping[str, str] | None = None,
    *,
    missing: Missing,
    file: ConfigFile | None = None,
    held: dict[Path, bytes] | None = None,
) -> tuple[Settings, Organisations, dict[Path, str]]:
    """The same, and the key files that can't be read → why not. `held`: `KeyFiles`."""
    environ = os.environ if environ is None else environ
    settings, document = _load(environ, file)
    keys = KeyFiles(settings.data, missing, held)
    organisations = read_organisations(document, SecretResolver(environ, settings, keys))
    keys.keep_list()
    return settings, organisations, keys.absent


def refuse_absent(absent: Mapping[Path, str]) -> None:
    """Raises ConfigError where key files are absent."""
    if absent:
        raise ConfigError(f"{PREFIX}DATA", f"{describe_absent(absent)}: {COPY_KEYS}")


def read_organisations(
    document: Mapping[str, object], resolve_secret: Callable[[str], bytes]
) -> Organisations:
    """The organisations of a document, their sources' keys checked to be keys. Raises ConfigError."""
    organisations = parse_organisations(document, resolve_secret, ESPS)
    for organisation in organisations.by_id.values():
        for source in organisation.sources.values():
            if not source.absent:
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
    return settings, judge_organisations(document, environ, settings, with_secrets=False)


def judge_organisations(
    document: Mapping[str, object], environ: Mapping[str, str], settings: Settings, *, with_secrets: bool
) -> bool:
    """Raises ConfigError where something is wrong. Gives whether all could be judged: `with_secrets` False, those that
    are not on this host are no fault, but then the others are not checked to be keys."""
    resolver = SecretResolver(environ, settings, KeyFiles(settings.data, Missing.PRETEND))
    if with_secrets:
        read_organisations(document, resolver)
        return True
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
    return not absent


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
        raise ConfigError(f"{PREFIX}CONFIG", f"{path.absolute()} is not there") from None
    except OSError as error:
        raise ConfigError(f"{PREFIX}CONFIG", f"{path.absolute()} can't be read: {_reason(error)}") from None


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
    """Gives the bytes behind `env:…` and `file:…`; LookupError says what is missing, AbsentSecret what to leave out."""

    def __init__(self, environ: Mapping[str, str], settings: Settings, keys: KeyFiles) -> None:
        self._environ = environ
        self._folder = settings.config.parent
        self._data = settings.data
        self._keys = keys

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
        if path.parent == self._data / FOLDER:
            return self._keys.read(path)
        try:
            return path.read_bytes().strip()
        except (FileNotFoundError, NotADirectoryError):
            raise LookupError(f"the file {path} is not there") from None
        except OSError as error:
            raise LookupError(f"the file {path} can't be read: {_reason(error)}") from None
