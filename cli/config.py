"""The composition root's configuration: reports.toml and the environment, read once, with every secret resolved.

Rules:
- `env:NAME` is a variable of the environment. `file:PATH` is a file, relative to the folder of reports.toml, without
  the white space at its ends; `{data}` at the start of PATH stands for the data folder.
- A file `{data}/keys/NAME` that isn't there is made, or what needs it waits (`cli.keys`). Any other file or variable
  that is missing is an error, and so is one that can't be the secret that it should be; where reading is lenient, what
  needs it waits.
- The installation's secret is `REPORTS_SECRET` or stands in `{data}/secret`; `cli.identity` makes and fills it in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.errors import ConfigError
from app.esps import ESPS
from app.organisations import (
    ApiKey,
    Organisations,
    Unusable,
    parse_organisations,
    same_secrets,
    without_secrets,
)
from app.settings import PREFIX, Settings, settings_from
from cli.keys import FOLDER, Absent, Held, KeyFiles, Missing, describe_absent

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
    read_as = Missing.LEAVE_OUT if missing is Missing.REFUSE else missing
    settings, organisations, keys = load_with_keys(environ, missing=read_as, file=file)
    if missing is Missing.REFUSE:
        refuse_absent(keys.absent)
    return settings, organisations


def load_with_keys(
    environ: Mapping[str, str] | None = None,
    *,
    missing: Missing,
    file: ConfigFile | None = None,
    held: Held | None = None,
    lenient: bool = False,
) -> tuple[Settings, Organisations, KeyFiles]:
    """The same, and what was found of the secrets. `held` and `lenient`: `KeyFiles`."""
    environ = os.environ if environ is None else environ
    settings, document = _load(environ, file)
    keys = KeyFiles(settings.data, missing, held, lenient=lenient)
    with _in_file(settings.config):
        organisations = read_organisations(document, environ, settings, keys)
    keys.keep_list()
    return settings, organisations, keys


def refuse_absent(absent: Absent) -> None:
    """Raises ConfigError where key files are absent."""
    if absent:
        raise ConfigError(f"{PREFIX}DATA", f"{describe_absent(absent)}: {COPY_KEYS}")


def read_organisations(
    document: Mapping[str, object], environ: Mapping[str, str], settings: Settings, keys: KeyFiles
) -> Organisations:
    """The organisations of a document, their sources' keys checked to be keys. Raises ConfigError."""
    organisations = parse_organisations(document, SecretResolver(environ, settings, keys), ESPS)
    for organisation in organisations.by_id.values():
        for source in organisation.sources.values():
            if not source.absent:
                ESPS[source.esp].check(source)
    # Either may be the one that was overwritten with the other: it would let one's owner in for the other's.
    shared: set[ApiKey] = set()
    for key, other in same_secrets(organisations):
        problem = f"is the same as that of {_place(other)}"
        if not keys.lenient:
            raise ConfigError(f"{_place(key)}.secret", problem)
        keys.spoilt[f"{_place(key)}.secret"] = problem
        shared |= {key, other}
    return without_secrets(organisations, shared) if shared else organisations


def _place(key: ApiKey) -> str:
    return f"orgs.{key.org}.keys.{key.name}"


def load_settings(environ: Mapping[str, str] | None = None, *, file: ConfigFile | None = None) -> Settings:
    """Only the settings. Nothing is written; whoever needs the data folder makes it (`ensure_data_folder`)."""
    return _load(os.environ if environ is None else environ, file)[0]


def load_for_settings(
    environ: Mapping[str, str] | None = None, *, file: ConfigFile | None = None
) -> tuple[Settings, bool]:
    """The settings, and whether all of the file could be judged; for roles that know no organisation and heed SIGHUP.

    They judge the organisations too, so that all roles of a host hold the same file for a good one; but no secret of
    these need be on their host, or be right, and they make none. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    settings, document = _load(environ, file)
    with _in_file(settings.config):
        return settings, judge_organisations(document, environ, settings, with_secrets=False)


def judge_organisations(
    document: Mapping[str, object], environ: Mapping[str, str], settings: Settings, *, with_secrets: bool
) -> bool:
    """Raises ConfigError where something is wrong. Gives whether all is right: `with_secrets` False, secrets that are
    not on this host or can't be used are no fault."""
    keys = KeyFiles(settings.data, Missing.PRETEND, lenient=not with_secrets)
    read_organisations(document, environ, settings, keys)
    return not keys.spoilt


def _load(environ: Mapping[str, str], file: ConfigFile | None) -> tuple[Settings, dict[str, object]]:
    path = config_path(environ)
    document = parse_toml(file or read_file(path))
    with _in_file(path.absolute()):
        table = document.get("settings", {})
        if not isinstance(table, dict):
            raise ConfigError("settings", "must be a table")
        settings = settings_from(environ, table)
    return msgspec.structs.replace(settings, data=settings.data.absolute(), config=path.absolute()), document


@contextlib.contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """What is found wrong inside is wrong in this file, unless it is a variable's."""
    try:
        yield
    except ConfigError as error:
        if not error.setting.startswith(PREFIX):
            error.in_file = str(path)
        raise


def stored_secret(settings: Settings) -> bytes:
    """The installation's secret as this host knows it; empty where it doesn't. Raises ConfigError."""
    path = settings.data / SECRET_FILE
    if settings.secret:
        return settings.secret
    try:
        secret = path.read_bytes().strip()
    except (FileNotFoundError, NotADirectoryError):
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
    """Gives the bytes behind `env:…` and `file:…`; LookupError says what is wrong, AbsentSecret what to leave out."""

    def __init__(self, environ: Mapping[str, str], settings: Settings, keys: KeyFiles) -> None:
        self._environ = environ
        self._folder = settings.config.parent
        self._data = settings.data
        self._keys = keys

    def __call__(self, reference: str, unusable: Unusable) -> bytes:
        scheme, _, rest = reference.partition(":")
        if scheme == "env":
            value = self._environ.get(rest, "").strip()
            if not value:
                return self._keys.spoil(f"the environment's {rest}", "is not set")
            return self._keys.judge(f"the environment's {rest}", value.encode(), unusable)
        return self._file(rest, unusable)

    def _file(self, name: str, unusable: Unusable) -> bytes:
        folder = self._data if name.startswith(DATA_MARK) else self._folder
        path = folder / name.removeprefix(DATA_MARK)
        if path.parent == self._data / FOLDER:
            return self._keys.read(path, unusable)
        try:
            content = path.read_bytes().strip()
        except (FileNotFoundError, NotADirectoryError):
            return self._keys.spoil(path, "is not there")
        except OSError as error:
            return self._keys.spoil(path, f"can't be read: {_reason(error)}")
        return self._keys.judge(path, content, unusable)
