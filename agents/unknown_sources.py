"""Webhooks of sources that this process's configuration doesn't know: counted, and said where people look."""

from __future__ import annotations

from typing import Final

from app.normalize import find_source
from app.organisations import Organisations
from tables.conditions import Conditions

CODE: Final = "unknown_source"
MAX_NAMED: Final = 5
MAX_KEPT: Final = 1_000


class UnknownSources:
    """Of one process, since it began or its configuration came to know them all."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._names: dict[tuple[str, str], None] = {}
        self._count = 0

    def note(self, org: str, source: str) -> None:
        """One webhook that has become a dead letter."""
        if len(self._names) < MAX_KEPT:
            self._names.setdefault((org, source))
        self._count += 1
        self._say()

    def reloaded(self, organisations: Organisations) -> None:
        """What is known now is no longer told of; its dead letters can be replayed."""
        self._names = {
            (org, source): None
            for org, source in self._names
            if find_source(organisations, org, source) is None
        }
        if self._names:
            self._say()
        else:
            self._count = 0
            self._conditions.clear(CODE)

    def _say(self) -> None:
        named = [f"{org}/{source}" for org, source in list(self._names)[:MAX_NAMED]]
        more = f" and {len(self._names) - MAX_NAMED} more" if len(self._names) > MAX_NAMED else ""
        self._conditions.set(
            CODE,
            f"this host's reports.toml doesn't know {', '.join(named)}{more}: their webhooks are dead letters. Add the "
            "sources, the same on all hosts, send SIGHUP, then `reports dead replay --reason 'unknown source'`",
            count=self._count,
        )
