"""What remains of an erased person's facts: everything that numbers are made of, and nothing that says who it was.

Kept are type, time, verdict's evidence, link, place, client, provider, variant and bounce reason, because the report's
rows count them; they are shared by many. Blanked are the address, IP address, user agent, the ESP's ids, the SMTP
reply, tags and metadata. A link or reason in which the address itself stands is blanked too, and so is its name in the
report. A fact that comes (again) later is blanked on its way in: a resend or a rebuild brings nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

import msgspec

from app import facts as f
from app.errors import UNDECODABLE
from app.facts import FACTS_VERSION, Detail, Entry, ErasedRecord
from app.keys import (
    campaign_key,
    normalise_address,
    recipient_key,
    recipient_partition,
    secret_fingerprint,
)

ERASED: Final = "erased"
"""The name of a link or reason that told who the person was."""


def tells(text: str | None, address: str) -> bool:
    """Whether an address (as anybody spells it, encoded or not) stands in a text."""
    wanted = normalise_address(address)
    return bool(text and wanted and (wanted in text.lower() or wanted in unquote(text).lower()))


def blank(entry: Entry) -> Entry:
    """The entry without what identifies the person. Idempotent."""
    try:
        detail = f.decode_detail(entry.detail)
    except UNDECODABLE:
        detail = Detail("")
    kept = Detail(
        detail.esp,
        link=None if tells(detail.link, entry.address) else detail.link,
        reason=None if tells(detail.reason, entry.address) else detail.reason,
        client=detail.client,
        device=detail.device,
        system=detail.system,
        browser=detail.browser,
        country=detail.country,
        city=detail.city,
        provider=detail.provider,
        variant=detail.variant,
    )
    return msgspec.structs.replace(entry, address="", detail=f.encode(kept))


def erased_records(
    secret: bytes, org: str, campaigns: Iterable[str], address: str, *, now_ms: int, partitions: int
) -> Iterator[tuple[int, ErasedRecord]]:
    """(partition of topic `facts`, record) of each campaign: what erases a person there. `address` in any spelling."""
    normalised = normalise_address(address)
    fingerprint = secret_fingerprint(secret)
    for campaign in campaigns:
        recipient = recipient_key(secret, campaign_key(secret, org, campaign), normalised)
        record = ErasedRecord(FACTS_VERSION, org, campaign, now_ms, [recipient], fingerprint)
        yield recipient_partition(recipient, partitions), record
