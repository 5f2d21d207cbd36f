"""Server-sent events: lines in, events out."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from client.errors import Unreadable

_T = TypeVar("_T")


class LiveEvent(msgspec.Struct, Generic[_T], frozen=True):
    name: str
    """Of a report: `snapshot` (all), `change` (the sections that moved); of the lag: `lag`."""
    id: str | None
    """What to give as `last_event_id` to go on from here."""
    data: _T


class Lines(Generic[_T]):
    """Takes a stream's lines one by one. `ping`, `reset` (a snapshot follows) and what has no data are passed over."""

    def __init__(self, shape: type[_T]) -> None:
        self._decode = msgspec.json.Decoder(shape).decode
        self._name = "message"
        self._id: str | None = None
        self._data: list[str] = []

    def take(self, line: str) -> LiveEvent[_T] | None:
        """The event that this line ends. Raises Unreadable."""
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._name = value
            elif field == "id":
                self._id = value
            elif field == "data":
                self._data.append(value)
            return None
        name, data = self._name, "\n".join(self._data)
        self._name, self._data = "message", []
        if not data or name in ("ping", "reset"):
            return None
        try:
            return LiveEvent(name, self._id, self._decode(data))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise Unreadable(f"event {name}: {error}") from None
