"""How large the parts of an event may be. What is larger is no event but a mistake, and would be carried everywhere."""

from __future__ import annotations

import re
from typing import Final

from app.facts import Event

MAX_CAMPAIGN: Final = 200
"""Characters: a name stands in addresses, titles and on every record."""
MAX_ADDRESS: Final = 320
"""Characters: 64 of the local part, @, 255 of the domain (RFC 5321, 4.5.3.1)."""
MAX_DETAIL_BYTES: Final = 65_536
"""Of everything else together. SendGrid allows 10,000 bytes of arguments, browsers 2,000 characters of a link; a
record of the log with many events stays below Kafka's 1 MiB."""

# C0, DEL, C1, and the separators that break a line in a log or a stream.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def campaign_problem(name: str) -> str | None:
    """Why it can't be a campaign's name; None where it can."""
    if not name or name.isspace():
        return "campaign: is empty"
    if len(name) > MAX_CAMPAIGN:
        return f"campaign: longer than {MAX_CAMPAIGN} characters"
    if _CONTROL.search(name):
        return "campaign: has control characters"
    return None


def address_problem(address: str) -> str | None:
    """`address` trimmed."""
    if not address:
        return "recipient: is empty"
    if len(address) > MAX_ADDRESS:
        return f"recipient: longer than {MAX_ADDRESS} characters"
    if not address.isprintable() and _CONTROL.search(address):
        return "recipient: has control characters"
    return None


def detail_problem(size: int) -> str | None:
    """`size` in bytes, of the encoded `Detail`."""
    return f"larger than {MAX_DETAIL_BYTES} bytes" if size > MAX_DETAIL_BYTES else None


def problem(event: Event) -> str | None:
    """What the log's reader will refuse in an event that names its campaign itself.

    The size is that of all texts in UTF-8 plus what their encoding adds at most, so it errs to the safe side.
    """
    reason = address_problem(event.recipient.strip()) or campaign_problem(event.campaign or "")
    if reason:
        return reason
    texts = [
        *(value for name in event.__struct_fields__ if isinstance(value := getattr(event, name), str)),
        *event.tags,
        *event.metadata,
        *event.metadata.values(),
        *(event.variant or {}),
        *(event.variant or {}).values(),
    ]
    return detail_problem(sum(len(value.encode("utf-8", "replace")) + 5 for value in texts) + 1024)
