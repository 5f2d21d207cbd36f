"""Settings: what an installation can be told, from the environment and from `[settings]` in reports.toml.

Rules:
- The environment (`REPORTS_` and the name in capitals) wins over the file; both win over the default.
- A name that is not known is an error, so that a slip of the pen is never a silent default.
- An empty value in the environment is the same as none.
- Pure: `cli/config.py` reads the file and fills in what has to be made (the installation's secret).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from app.errors import ConfigError
from app.verdicts import DEFAULT_RULES, Rules

PREFIX = "REPORTS_"
LOG_LEVELS = ("debug", "info", "warning", "error")
SECRET_MIN_CHARACTERS = 16

_HOST_PORT = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One installation's settings, all checked. Change a field with `msgspec.structs.replace`."""

    kafka: str = ""
    """Bootstrap servers, `host:port[,host:port…]`; empty: the own node."""
    redis: str = ""
    """URL; empty: the own server."""
    http: str = "127.0.0.1:8000"
    """Where the API listens, `host:port`; port 0: any free one."""
    query: str = "127.0.0.1:0"
    """Where the query process listens, `host:port`, an address that the API can reach; port 0: any free one."""
    data: Path = Path("var")
    config: Path = Path("reports.toml")
    partitions: int = 8
    """Of the topic `facts`; fixed when it is created."""
    geoip: str = ""
    public_url: str = ""
    """How the outside reaches the API, without a slash at the end; empty: from the request."""
    snapshots: str = ""
    log_level: str = "info"
    max_body: int = 5 * 1024 * 1024
    """Bytes of a webhook's body, after decompression. 5,000 events of 1 KiB."""
    secret: bytes = b""
    """Keys the recipient hashes, signs cookies and links; never empty once `cli/config.py` has loaded it."""
    installation: str = ""
    """Its id, under which its keys in Redis stand; not set by anybody but `cli/identity.py`, as it finds it."""
    kafka_port: int = 0
    redis_port: int = 0
    session_timeout_s: float = 10.0
    """Kafka's group session; a broker refuses one below its `group.min.session.timeout.ms` (6 s by default)."""
    burst_links: int = DEFAULT_RULES.burst_links
    burst_ms: int = DEFAULT_RULES.burst_ms
    click_after_ms: int = DEFAULT_RULES.click_after_ms
    open_after_ms: int = DEFAULT_RULES.open_after_ms

    @property
    def rules(self) -> Rules:
        """The verdicts' thresholds; their reasons stand in `app.verdicts.Rules`."""
        return Rules(
            burst_links=self.burst_links,
            burst_ms=self.burst_ms,
            click_after_ms=self.click_after_ms,
            open_after_ms=self.open_after_ms,
        )

    @property
    def http_host(self) -> str:
        return self.http.rpartition(":")[0].strip("[]")

    @property
    def http_port(self) -> int:
        return int(self.http.rpartition(":")[2])

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return f"Settings({', '.join(f'{name}={_masked(name, value)}' for name, value in shown)})"


def _masked(name: str, value: object) -> str:
    if name == "secret":
        return "***" if value else "b''"
    if name == "redis":
        return repr(re.sub(r"//[^@/]*@", "//***@", str(value)))
    return repr(value)


def settings_from(environ: Mapping[str, str], file_settings: Mapping[str, object]) -> Settings:
    """The settings from the environment's variables and the file's table `[settings]`.

    Raises ConfigError, whose `setting` is `REPORTS_NAME` or `settings.name`: whichever said the wrong thing.
    """
    values: dict[str, object] = {}
    for key, raw in file_settings.items():
        where = f"settings.{key}"
        if key not in _READERS:
            raise ConfigError(where, f"unknown setting (known: {', '.join(sorted(_READERS))})")
        if key in _ENVIRONMENT_ONLY:
            raise ConfigError(where, _ENVIRONMENT_ONLY[key])
        values[key] = _READERS[key](where, raw)
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in _READERS or variable != variable.upper():
            known = ", ".join(sorted(PREFIX + known.upper() for known in _READERS))
            raise ConfigError(variable, f"unknown setting (known: {known})")
        if text.strip():
            values[name] = _READERS[name](variable, text)
    return msgspec.structs.replace(Settings(), **values)


# Each reader takes the setting's name as the operator wrote it and the value, a string from the environment
# or whatever type the file has, and gives the checked value.
_Reader = Callable[[str, object], object]


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(where, f"must be a string, not {type(value).__name__}")
    if any(ord(character) < 32 for character in value):
        raise ConfigError(where, "must not contain control characters")
    return value.strip()


def _whole(low: int, high: int) -> _Reader:
    def read(where: str, value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip(), re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(where, "must be a whole number")
        if not low <= value <= high:
            raise ConfigError(where, f"must be between {low} and {high}, not {value}")
        return value

    return read


def _seconds(low: float, high: float) -> _Reader:
    def read(where: str, value: object) -> float:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value.strip(), re.ASCII):
            value = float(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigError(where, "must be a number of seconds")
        if not low <= value <= high:
            raise ConfigError(where, f"must be between {low:g} and {high:g} seconds, not {value:g}")
        return float(value)

    return read


def _path(where: str, value: object) -> Path:
    text = _text(where, value)
    if not text:
        raise ConfigError(where, "must be a path")
    return Path(text)


def _port_of(where: str, address: str, lowest: int) -> None:
    found = _HOST_PORT.fullmatch(address)
    if not found or not lowest <= int(found[1]) <= 65535:
        raise ConfigError(where, f"must be host:port, not {address!r}")


def _bootstrap(where: str, value: object) -> str:
    addresses = [address.strip() for address in _text(where, value).split(",")]
    if addresses == [""]:
        return ""
    for address in addresses:
        _port_of(where, address, 1)
    return ",".join(addresses)


def _http(where: str, value: object) -> str:
    text = _text(where, value)
    _port_of(where, text, 0)
    return text


def _query(where: str, value: object) -> str:
    text = _http(where, value)
    if text.rpartition(":")[0].strip("[]") in ("0.0.0.0", "::"):  # noqa: S104
        raise ConfigError(where, "must name one address: the API is told to ask there")
    return text


def _url(*schemes: str) -> _Reader:
    def read(where: str, value: object) -> str:
        text = _text(where, value)
        if not text:
            return ""
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise ConfigError(where, f"must be a URL of {' or '.join(schemes)}") from None
        if parts.scheme not in schemes or not (parts.netloc or parts.scheme == "unix"):
            raise ConfigError(where, f"must be a URL of {' or '.join(schemes)}")
        return text.rstrip("/")

    return read


def _log_level(where: str, value: object) -> str:
    level = _text(where, value).lower()
    if level not in LOG_LEVELS:
        raise ConfigError(where, f"must be one of {', '.join(LOG_LEVELS)}")
    return level


def _secret(where: str, value: object) -> bytes:
    secret = _text(where, value)
    if len(secret) < SECRET_MIN_CHARACTERS:
        raise ConfigError(where, f"must have at least {SECRET_MIN_CHARACTERS} characters")
    return secret.encode()


_ENVIRONMENT_ONLY = {
    "config": "a file can't name itself; set REPORTS_CONFIG",
    "secret": "never in the file itself; set REPORTS_SECRET, or leave it: it is made once in the data folder",
}

_READERS: dict[str, _Reader] = {
    "kafka": _bootstrap,
    "redis": _url("redis", "rediss", "unix"),
    "http": _http,
    "query": _query,
    "data": _path,
    "config": _path,
    "partitions": _whole(1, 1024),
    "geoip": _text,
    "public_url": _url("http", "https"),
    "snapshots": _text,
    "log_level": _log_level,
    "max_body": _whole(1024, 100 * 1024 * 1024),
    "secret": _secret,
    "kafka_port": _whole(0, 65535),
    "redis_port": _whole(0, 65535),
    "session_timeout_s": _seconds(1.0, 1800.0),
    "burst_links": _whole(0, 100),
    "burst_ms": _whole(0, 60_000),
    "click_after_ms": _whole(0, 60_000),
    "open_after_ms": _whole(0, 60_000),
}
