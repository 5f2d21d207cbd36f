"""What is kept of a campaign whose links look personal (`app.personal_links`), so that a restart forgets nothing.

It tells operators something and no number goes by it: it is written when it is found, not with a batch.
"""

from __future__ import annotations

from typing import Final

import msgspec


class PersonalRow(msgspec.Struct, array_like=True, frozen=True):
    org: str
    campaign: str
    links: int
    """Of the partition."""
    parameters: tuple[str, ...]
    at_ms: int
    """When they were looked at."""


personal_decoder: Final = msgspec.msgpack.Decoder(PersonalRow)
