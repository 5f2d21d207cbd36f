"""A table of the parsed reports.toml that knows its path, so that every complaint can name it.

Rules:
- Each question gives a value of the type it is named after, or raises ConfigError with the path of what is wrong.
- Ids (the names of tables in tables) are `[A-Za-z0-9_.-]{1,64}`: they stand in addresses and keys of databases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from app.errors import ConfigError

_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Table:
    def __init__(self, path: str, values: Mapping[str, object]) -> None:
        self.path = path
        self._values = values

    def _where(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def known(self, *names: str) -> None:
        for name in self._values:
            if name not in names:
                raise ConfigError(self._where(name), f"unknown key (known: {', '.join(sorted(names))})")

    def tables(self, name: str) -> Iterator[tuple[str, Table]]:
        group = self._values.get(name, {})
        if not isinstance(group, Mapping):
            raise ConfigError(self._where(name), "must be a table")
        for key, value in group.items():
            where = f"{self._where(name)}.{key}"
            if not _ID.fullmatch(key) or key in (".", ".."):
                raise ConfigError(where, "an id has 1 to 64 of the characters A-Z a-z 0-9 _ . -")
            if not isinstance(value, Mapping):
                raise ConfigError(where, "must be a table")
            yield key, Table(where, value)

    def text(self, name: str, default: str) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise ConfigError(self._where(name), "must be a string")
        return value

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(self._where(name), "must be a list of strings")
        return tuple(value)

    def flag(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise ConfigError(self._where(name), "must be true or false")
        return value

    def whole(self, name: str, default: int, highest: int) -> int:
        value = self._values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            raise ConfigError(self._where(name), f"must be a whole number from 0 to {highest}")
        return value
