"""What the API shows: JSON answers, and the snapshot that an event stream begins with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from app.errors import UNDECODABLE
from client import Client, ClientError, calls
from client.calls import Call

TIMEOUT_S: Final = 20.0

Json = dict[str, object]
_decode = msgspec.json.Decoder(Json).decode


def utc(at_ms: int) -> str | None:
    """A time as JSON says it; -1: none."""
    if at_ms < 0:
        return None
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Unreadable(Exception):
    """An answer that is not what was asked for; one line."""


class Pages:
    """One organisation's view of the API: the answers as they are, whatever their shape says."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._client = Client(base_url, api_key, timeout_s=TIMEOUT_S)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def _get(self, call: Call[Any]) -> Json:
        try:
            return _decode(self._client.raw(call))
        except (ClientError, *UNDECODABLE) as error:
            raise Unreadable(f"{call.path}: {error}") from None

    def campaigns(self) -> list[Json]:
        """All pages of the list. Raises Unreadable."""
        items: list[Json] = []
        call = calls.campaigns(limit=100)
        while True:
            page = self._get(call)
            items += msgspec.convert(page["items"], list[Json])
            cursor = page.get("next")
            if not cursor:
                return items
            call = call.asking("cursor", str(cursor))

    def section(self, campaign: str, name: str, **parameters: str) -> Json:
        """Raises Unreadable."""
        call = calls.section(campaign, name)
        for parameter, value in parameters.items():
            call = call.asking(parameter, value)
        return self._get(call)

    def snapshot(self, campaign: str, **parameters: str) -> Json:
        """The data of the first event `snapshot` of the campaign's stream. Raises Unreadable."""
        call = calls.section(campaign, "live")
        for parameter, value in parameters.items():
            call = call.asking(parameter, value)
        try:
            for event in self._client.watch(call):
                if event.name == "snapshot":
                    return event.data
        except ClientError as error:
            raise Unreadable(f"{call.path}: {error}") from None
        raise Unreadable(f"{call.path}: the stream ended without a snapshot")
